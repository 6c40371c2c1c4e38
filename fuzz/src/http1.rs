//! Compares the two HTTP/1 paths: the same bytes must get the same responses and the same reports from a listener, however they
//! are cut, and from Pingora's session alone, which gets them in one piece. Input: the lengths of the pieces, one byte each,
//! up to the first line feed, then the bytes of the connection.

use std::iter;

use capgate::server::pipe::Protocol;

use super::checks;
use super::pipe::{Exchange, exchange};

/// Runs one input.
///
/// # Panics
/// If a check fails.
pub fn run(data: &[u8]) {
    let (cuts, bytes) = checks::split_line(data);
    // A listener takes this for HTTP/2, which has its own target.
    if bytes.starts_with(b"PRI") {
        return;
    }
    // Completes the last header. Pingora refuses some headers before they are complete, while the fast path waits for their
    // end, so that only complete headers get the same verdict.
    let bytes = [bytes, b"\r\n\r\n"].concat();
    let expected = without_dates(exchange(Protocol::Http1Session, iter::once(&*bytes)));
    let actual = without_dates(exchange(Protocol::Http1, pieces(cuts, &bytes)));
    if actual != expected {
        let show =
            |exchange: &Exchange| format!("{}{:#?}", String::from_utf8_lossy(&exchange.responses), exchange.reports);
        panic!("the listener: {}\n\nthe session: {}", show(&actual), show(&expected));
    }
}

/// Cuts bytes into pieces of these lengths, of which the last applies to all that is left.
fn pieces<'b>(cuts: &'b [u8], mut bytes: &'b [u8]) -> impl Iterator<Item = &'b [u8]> {
    let last = cuts.last().copied().unwrap_or_default();
    let mut cuts = cuts.iter().copied().chain(iter::repeat(last));
    iter::from_fn(move || {
        // 0 is all of it.
        let length = match cuts.next() {
            None | Some(0) => bytes.len(),
            Some(length) => bytes.len().min(length.into()),
        };
        let (piece, rest) = bytes.split_at(length);
        bytes = rest;
        (!piece.is_empty()).then_some(piece)
    })
}

/// Removes the values of `Date`, which may differ by a second.
fn without_dates(mut exchange: Exchange) -> Exchange {
    const NAME: &[u8] = b"\r\nDate: ";
    const VALUE_BYTES: usize = 29;
    let mut at = 0;
    while let Some(found) =
        exchange.responses.get(at..).and_then(|rest| rest.windows(NAME.len()).position(|w| w == NAME))
    {
        at += found + NAME.len();
        let end = (at + VALUE_BYTES).min(exchange.responses.len());
        exchange.responses.drain(at..end);
    }
    exchange
}
