//! Compares the two HTTP/1 paths: the same bytes must get the same responses and the same reports from a listener, however they
//! are cut, and from Pingora's session alone, which gets them in one piece. Interim responses are not compared, because a
//! server need not send one once a part of the body has arrived (RFC 9110, section 10.1.1). Input: the lengths
//! of the pieces, one byte each, up to the first line feed, then the bytes of the connection.

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
    let expected = comparable(exchange(Protocol::Http1Session, iter::once(&*bytes)), &bytes);
    let actual = comparable(exchange(Protocol::Http1, pieces(cuts, &bytes)), &bytes);
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

/// Removes what two right exchanges may differ in: interim responses, and the values of `Date`, by a second.
fn comparable(exchange: Exchange, request: &[u8]) -> Exchange {
    const INTERIM: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
    const DATE: &[u8] = b"\r\nDate: ";
    const DATE_BYTES: usize = 29;
    let (responses, interim) = without(exchange.responses, INTERIM, 0, INTERIM.len());
    let expectations = request.to_ascii_lowercase().windows(12).filter(|bytes| bytes == b"100-continue").count();
    assert!(interim <= expectations, "{interim} interim responses to {expectations} expectations");
    Exchange { responses: without(responses, DATE, DATE.len(), DATE_BYTES).0, ..exchange }
}

/// Removes this many bytes at an offset from each occurrence of a mark. Returns how often the mark occurred.
fn without(mut bytes: Vec<u8>, mark: &[u8], offset: usize, length: usize) -> (Vec<u8>, usize) {
    let (mut at, mut count) = (0, 0);
    while let Some(found) = bytes.get(at..).and_then(|rest| rest.windows(mark.len()).position(|window| window == mark))
    {
        at += found + offset;
        let end = (at + length).min(bytes.len());
        bytes.drain(at..end);
        count += 1;
    }
    (bytes, count)
}
