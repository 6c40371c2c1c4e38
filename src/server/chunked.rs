//! A check of chunked bodies (RFC 9112, section 7.1) below Pingora's session. Its decoder takes an empty size for 0, any
//! byte in an extension, and anything for a trailer, where a server in front of the gateway may see the end of the body
//! elsewhere.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pingora::protocols::Stream;
use tokio::io::{AsyncRead, ReadBuf};

use super::delegate::delegate_to_inner;

/// Most bytes of a line with the size of a chunk, and of all trailers.
const SIZE_LINE_BYTES_MAX: usize = 1_024;
const TRAILER_BYTES_MAX: usize = 8 * 1_024;

/// The error of a read that brought a malformed chunk.
#[derive(Clone, Copy, Debug)]
pub(super) struct MalformedChunk;

impl fmt::Display for MalformedChunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("malformed chunk")
    }
}

impl std::error::Error for MalformedChunk {}

/// Checks the bytes of a chunked body, in pieces of any size.
#[derive(Debug, Default)]
pub(super) struct ChunkCheck {
    position: Position,
    /// Size of the chunk.
    size: u64,
    /// Digits of the size, then bytes of its line.
    line_bytes: usize,
    trailer_bytes: usize,
}

/// The part of the body that the next byte belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Position {
    #[default]
    Size,
    /// White space after the size.
    AfterSize,
    Extension,
    SizeLineFeed,
    Data {
        left: u64,
    },
    DataReturn,
    DataLineFeed,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLineFeed,
    LastLineFeed,
    /// Beyond the body.
    End,
}

impl ChunkCheck {
    /// Takes the next bytes. Bytes beyond the end of the body are ignored.
    ///
    /// # Errors
    /// [`MalformedChunk`].
    pub(super) fn check(&mut self, mut bytes: &[u8]) -> Result<(), MalformedChunk> {
        while let Some((&byte, rest)) = bytes.split_first() {
            match self.position {
                Position::End => return Ok(()),
                Position::Data { left } => {
                    let taken = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                    bytes = bytes.get(taken..).unwrap_or_default();
                    let left = left - taken as u64;
                    self.position = if left == 0 { Position::DataReturn } else { Position::Data { left } };
                }
                position => {
                    self.position = self.next(position, byte).ok_or(MalformedChunk)?;
                    bytes = rest;
                }
            }
        }
        Ok(())
    }

    /// Returns the position after a byte that belongs to no chunk's data.
    fn next(&mut self, position: Position, byte: u8) -> Option<Position> {
        /// A size of so many digits fits into 64 bits.
        const DIGITS_MAX: usize = 16;
        match position {
            Position::Size | Position::AfterSize | Position::Extension => {
                self.line_bytes += 1;
                if self.line_bytes > SIZE_LINE_BYTES_MAX {
                    return None;
                }
            }
            Position::TrailerStart | Position::TrailerName | Position::TrailerValue => {
                self.trailer_bytes += 1;
                if self.trailer_bytes > TRAILER_BYTES_MAX {
                    return None;
                }
            }
            _ => {}
        }
        match (position, byte) {
            (Position::Size, byte) if byte.is_ascii_hexdigit() && self.line_bytes <= DIGITS_MAX => {
                self.size = self.size << 4 | u64::from(char::from(byte).to_digit(16)?);
                Some(Position::Size)
            }
            (Position::Size, b' ' | b'\t' | b';' | b'\r') if self.line_bytes == 1 => None,
            (Position::Size | Position::AfterSize, b' ' | b'\t') => Some(Position::AfterSize),
            (Position::Size | Position::AfterSize, b';') => Some(Position::Extension),
            (Position::Size | Position::AfterSize | Position::Extension, b'\r') => Some(Position::SizeLineFeed),
            (Position::Extension, byte) if is_text(byte) => Some(Position::Extension),
            (Position::SizeLineFeed, b'\n') => {
                let size = std::mem::take(&mut self.size);
                self.line_bytes = 0;
                Some(if size == 0 { Position::TrailerStart } else { Position::Data { left: size } })
            }
            (Position::DataReturn, b'\r') => Some(Position::DataLineFeed),
            (Position::DataLineFeed, b'\n') => Some(Position::Size),
            (Position::TrailerStart, b'\r') => Some(Position::LastLineFeed),
            (Position::TrailerStart | Position::TrailerName, byte) if is_token(byte) => Some(Position::TrailerName),
            (Position::TrailerName, b':') => Some(Position::TrailerValue),
            (Position::TrailerValue, b'\r') => Some(Position::TrailerLineFeed),
            (Position::TrailerValue, byte) if is_text(byte) => Some(Position::TrailerValue),
            (Position::TrailerLineFeed, b'\n') => Some(Position::TrailerStart),
            (Position::LastLineFeed, b'\n') => Some(Position::End),
            _ => None,
        }
    }
}

/// Whether a byte may be part of a field value (RFC 9110, section 5.5).
fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

/// Whether a byte may be part of a token (RFC 9110, section 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// A connection whose next bytes are a chunked body. A malformed one ends the connection's input with
/// [`MalformedChunk`].
#[derive(Debug)]
pub(super) struct ChunkedStream {
    inner: Stream,
    check: ChunkCheck,
}

impl ChunkedStream {
    pub(super) fn new(inner: Stream, check: ChunkCheck) -> Self {
        Self { inner, check }
    }

    /// Returns the connection below, if `stream` is such a stream.
    pub(super) fn into_inner(stream: Stream) -> Option<Stream> {
        let stream = stream.into_any().downcast::<Self>().ok()?;
        Some(stream.inner)
    }
}

impl AsyncRead for ChunkedStream {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = out.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(context, out))?;
        let checked = self.check.check(out.filled().get(before..).unwrap_or_default());
        if let Err(malformed) = checked {
            out.set_filled(before);
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, malformed)));
        }
        Poll::Ready(Ok(()))
    }
}

delegate_to_inner!(ChunkedStream);

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a body is well-formed, in one piece and in single bytes, and whether it is complete.
    fn check(body: &[u8]) -> (bool, bool) {
        let mut whole = ChunkCheck::default();
        let mut pieces = ChunkCheck::default();
        let is_good = whole.check(body).is_ok();
        assert_eq!(is_good, body.chunks(1).all(|piece| pieces.check(piece).is_ok()), "{:?}", body.escape_ascii());
        (is_good, whole.position == Position::End)
    }

    #[test]
    fn a_body_is_followed_to_its_end() {
        for (body, is_complete) in [
            (&b"5\r\nhello\r\n0\r\n\r\nnext\0\n"[..], true),
            (b"5 ;a=\"b\"\r\n\0\r\n\r\n\r\n00\r\nA: b\r\nC:\r\n\r\n", true),
            (b"A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n", true),
            (b"ffffffffffffffff\r\nhello", false),
            (b"", false),
            (b"0\r\n\r", false),
        ] {
            assert_eq!(check(body), (true, is_complete), "{:?}", body.escape_ascii());
        }
    }

    #[test]
    fn a_malformed_body_is_recognised() {
        for body in [
            "\r\n",
            " 5\r\n",
            ";a\r\n",
            "5\n",
            "5;a\n",
            "5;\u{1}\r\n",
            "5\rX",
            "+5\r\n",
            "0x5\r\n",
            "11111111111111111\r\n",
            "1\r\nab",
            "1\r\na\n",
            "1\r\na\rX",
            "0\r\n\n",
            "0\r\na\r\n",
            "0\r\n: a\r\n",
            "0\r\n a: b\r\n",
            "0\r\na : b\r\n",
            "0\r\na: b\n",
        ] {
            assert!(!check(body.as_bytes()).0, "{body:?}");
        }
        assert!(check(format!("5;{}\r\n", "a".repeat(SIZE_LINE_BYTES_MAX - 3)).as_bytes()).0);
        assert!(!check(format!("5;{}\r\n", "a".repeat(SIZE_LINE_BYTES_MAX)).as_bytes()).0);
        assert!(!check(format!("0\r\n{}", "a: b\r\n".repeat(TRAILER_BYTES_MAX / 4)).as_bytes()).0);
    }
}
