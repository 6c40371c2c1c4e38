//! The parser of ordinary requests. It accepts only requests that every server interprets in the same way, and leaves
//! all others to Pingora's session, so that ambiguous requests are handled in one place.

use std::net::SocketAddr;

use bytes::{Buf, Bytes, BytesMut};

use crate::http::{Inbound, Verb};
use crate::server::http2;
use crate::server::request::{HEADER_BYTES_MAX, has_header_end, is_host, new_inbound};
use crate::server::trusted_proxies::TrustedProxies;

/// Most headers of such a request.
pub(super) const HEADERS_MAX: usize = 32;

/// Targets up to this length need no look at the limit of the application.
const SHORT_TARGET_BYTES: usize = 4_096;

/// How much of a request is in the buffer.
pub(super) enum Parsed {
    /// A whole request, which was removed from the buffer.
    Complete(Request),
    /// The beginning of a header.
    Partial,
    /// A complete header of a request that the fast path does not serve, or bytes that cannot become a request.
    Unsupported,
    /// The HTTP/2 preface.
    Http2,
}

/// A request.
pub(super) struct Request {
    pub(super) inbound: Inbound,
    /// The client that a trusted proxy names.
    pub(super) forwarded: Option<SocketAddr>,
    /// Whether the client asks to close the connection after the response.
    pub(super) is_last: bool,
}

/// Takes one request from the front of `buffer`.
///
/// A header is judged only once it is complete, so that the verdict does not depend on how its bytes were cut. `proxies` are
/// given if the connection is that of a trusted proxy.
pub(super) fn parse(
    buffer: &mut BytesMut,
    body_bytes_max: usize,
    proxies: Option<&TrustedProxies>,
    target_bytes_max: impl Fn(&[u8]) -> usize,
) -> Parsed {
    if buffer.is_empty() {
        return Parsed::Partial;
    }
    let first_bytes = buffer.get(..http2::PREFACE.len()).unwrap_or(buffer);
    if http2::PREFACE.starts_with(first_bytes) {
        return if first_bytes.len() == http2::PREFACE.len() { Parsed::Http2 } else { Parsed::Partial };
    }
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let header_bytes = match request.parse(buffer) {
        Ok(httparse::Status::Complete(bytes)) => bytes,
        Ok(httparse::Status::Partial) => return Parsed::Partial,
        Err(_) if may_become_header(buffer) => return Parsed::Partial,
        Err(_) => return Parsed::Unsupported,
    };
    let verb = match Verb::parse(request.method.unwrap_or_default()) {
        verb @ (Verb::Get | Verb::Post | Verb::Options) => verb,
        Verb::Head | Verb::Other => return Parsed::Unsupported,
    };
    let target = request.path.unwrap_or_default().as_bytes();
    let is_plain = target.first() == Some(&b'/')
        && target.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'#')
        // Pingora refuses these in a path.
        && !target.iter().take_while(|byte| **byte != b'?').any(|byte| matches!(byte, b'<' | b'>' | b'`'));
    // httparse accepts bare line feeds, and no bare carriage returns.
    let header = buffer.get(..header_bytes).unwrap_or_default();
    let lines = request.headers.len() + 2;
    let begins_with_line = header.first().is_some_and(u8::is_ascii_graphic);
    if !begins_with_line || memchr::memchr_iter(b'\r', header).count() != lines {
        return Parsed::Unsupported;
    }
    let is_target_short = target.len() <= SHORT_TARGET_BYTES || target.len() <= target_bytes_max(target);
    if !is_target_short || header_bytes - target.len() > HEADER_BYTES_MAX {
        return Parsed::Unsupported;
    }
    let Some(framing) = Framing::of(request.headers).filter(|_| is_plain && request.version == Some(1)) else {
        return Parsed::Unsupported;
    };
    let request_bytes = header_bytes.saturating_add(framing.body_bytes);
    // A body that has not arrived yet has its own deadline and limits.
    if request_bytes > buffer.len() || framing.body_bytes > body_bytes_max {
        return Parsed::Unsupported;
    }
    let body = match buffer.get(header_bytes..request_bytes) {
        Some(body) if !body.is_empty() => Bytes::copy_from_slice(body),
        _ => Bytes::new(),
    };
    let forwarded = proxies.and_then(|proxies| {
        let headers = request.headers.iter().filter(|header| header.name.eq_ignore_ascii_case("x-forwarded-for"));
        proxies.client(headers.map(|header| header.value))
    });
    let inbound = new_inbound(verb, target, framing.content_type, body);
    let is_last = framing.is_last;
    if request_bytes == buffer.len() {
        buffer.clear();
    } else {
        buffer.advance(request_bytes);
    }
    Parsed::Complete(Request { inbound, forwarded, is_last })
}

/// Whether bytes that are no valid header may still grow to a complete one, which is then refused as a whole. Bytes that no
/// request line begins with, such as a TLS handshake, cannot.
fn may_become_header(bytes: &[u8]) -> bool {
    // Empty lines in front of a request are ignored (RFC 9112, section 2.2).
    let start = bytes.iter().position(|byte| !matches!(byte, b'\r' | b'\n')).unwrap_or(bytes.len());
    let bytes = bytes.get(start..).unwrap_or_default();
    !has_header_end(bytes) && bytes.first().is_some_and(u8::is_ascii_graphic)
}

/// Returns the beginning of the target in the beginning of a request, if it is there.
pub(super) fn target_start(bytes: &[u8]) -> &[u8] {
    /// Longer than any method and any path that an application serves.
    const START_BYTES: usize = 64;
    let start = bytes.get(..START_BYTES).unwrap_or(bytes);
    start.splitn(2, |byte| *byte == b' ').nth(1).unwrap_or_default()
}

/// The framing of an ordinary request, according to its headers.
struct Framing<'h> {
    body_bytes: usize,
    content_type: &'h [u8],
    is_last: bool,
}

impl<'h> Framing<'h> {
    /// Reads the headers. Returns `None` if any of them is unusual.
    fn of(headers: &[httparse::Header<'h>]) -> Option<Self> {
        let mut framing = Self { body_bytes: 0, content_type: b"", is_last: false };
        let (mut hosts, mut lengths, mut types) = (0, 0, 0);
        for header in headers {
            let is = |name: &str| header.name.eq_ignore_ascii_case(name);
            match header.name.len() {
                4 if is("host") && !is_host(header.value) => return None,
                4 if is("host") => hosts += 1,
                6 if is("expect") => return None,
                7 if is("upgrade") => return None,
                10 if is("connection") => match header.value.trim_ascii() {
                    value if value.eq_ignore_ascii_case(b"keep-alive") => {}
                    value if value.eq_ignore_ascii_case(b"close") => framing.is_last = true,
                    _ => return None,
                },
                12 if is("content-type") => {
                    types += 1;
                    framing.content_type = header.value;
                }
                14 if is("content-length") => {
                    lengths += 1;
                    let digits = std::str::from_utf8(header.value).ok()?;
                    framing.body_bytes =
                        digits.parse().ok().filter(|_| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
                }
                17 if is("transfer-encoding") => return None,
                _ => {}
            }
        }
        (hosts == 1 && lengths <= 1 && types <= 1).then_some(framing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parses bytes. Returns path and body of a request, or the variant, and how many bytes are left.
    fn parsed(bytes: &str) -> (String, usize) {
        let mut buffer = BytesMut::from(bytes);
        let parsed = match parse(&mut buffer, 100, None, |_| 16 * 1024) {
            Parsed::Complete(Request { inbound, is_last, .. }) => {
                let last = if is_last { " last" } else { "" };
                format!("{} {}{last}", inbound.path, String::from_utf8_lossy(&inbound.body))
            }
            Parsed::Partial => "partial".to_owned(),
            Parsed::Unsupported => "unsupported".to_owned(),
            Parsed::Http2 => "h2".to_owned(),
        };
        (parsed, buffer.len())
    }

    fn post(headers: &str, body: &str) -> String {
        format!("POST /in.php?a=1 HTTP/1.1\r\nHost: x\r\n{headers}\r\n{body}")
    }

    #[test]
    fn an_ordinary_request_is_taken_and_the_rest_is_left() {
        assert_eq!(parsed("GET /res.php?id=1 HTTP/1.1\r\nhost: x\r\n\r\n"), ("/res.php ".to_owned(), 0));
        assert_eq!(
            parsed(&post("content-length: 3\r\nConnection: Close\r\n", "abcGET")),
            ("/in.php abc last".to_owned(), 3)
        );
        assert_eq!(parsed(&post("Connection: keep-alive\r\n", "")), ("/in.php ".to_owned(), 0));
    }

    #[test]
    fn an_incomplete_header_is_awaited_and_an_incomplete_body_left_to_the_session() {
        assert_eq!(parsed("GET /res.php HTTP/1.1\r\nHo").0, "partial");
        assert_eq!(parsed("P").0, "partial");
        assert_eq!(parsed(&post("Content-Length: 4\r\n", "abc")).0, "unsupported");
        assert_eq!(parsed(&post("Content-Length: 101\r\n", &"x".repeat(101))).0, "unsupported");
        assert_eq!(parsed(&format!("GET /{} HTTP/1.1\r\n", "x".repeat(100_000))).0, "partial");
        let long = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(16 * 1024));
        assert_eq!(parsed(&long).0, "unsupported");
        let large = format!("GET / HTTP/1.1\r\nHost: x\r\nA: {}\r\n\r\n", "x".repeat(HEADER_BYTES_MAX));
        assert_eq!(parsed(&large).0, "unsupported");
        assert_eq!(parsed("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").0, "h2");
        assert_eq!((parsed("PRI * HTTP/2.0\r\n").0, parsed("PR").0), ("partial".to_owned(), "partial".to_owned()));
    }

    #[test]
    fn a_malformed_header_is_left_to_the_session_once_it_is_complete() {
        for (partial, complete) in [
            ("GET /a b HTTP/1.1\r\nHo", "st: x\r\n\r\n"),
            ("\r\nGET /a b HTTP/1.1\r\nHo", "st: x\r\n\r\n"),
            ("nonsense\r\n", "\r\n"),
            ("G\0", "\n\n"),
        ] {
            assert_eq!(parsed(partial).0, "partial", "{partial:?}");
            assert_eq!(parsed(&format!("{partial}{complete}")).0, "unsupported", "{partial:?}");
        }
        // A TLS handshake on the plain port is answered at once.
        assert_eq!(parsed("\x16\x03\x01\x02").0, "unsupported");
    }

    #[test]
    fn an_ambiguous_request_is_left_to_the_session() {
        for headers in [
            "Transfer-Encoding: chunked\r\n",
            "Content-Length: 3\r\nContent-Length: 3\r\n",
            "Content-Length: +3\r\n",
            "Content-Length: \r\n",
            "Content-Length: 99999999999999999999\r\n",
            "Content-Type: a/b\r\nContent-Type: c/d\r\n",
            "Expect: 100-continue\r\n",
            "Upgrade: h2c\r\n",
            "Connection: keep-alive, Upgrade\r\n",
            "Host: y\r\n",
            "Host: u@y\r\n",
            "Content-Length : 3\r\n",
            " folded: 1\r\n",
        ] {
            assert_eq!(parsed(&post(headers, "abc")).0, "unsupported", "{headers}");
        }
        for head in [
            "HEAD / HTTP/1.1",
            "GET / HTTP/1.0",
            "GET http://x/ HTTP/1.1",
            "GET * HTTP/1.1",
            "GET /#a HTTP/1.1",
            "GET /\u{e9} HTTP/1.1",
        ] {
            assert_eq!(parsed(&format!("{head}\r\nHost: x\r\n\r\n")).0, "unsupported", "{head}");
        }
        assert_eq!(parsed("GET / HTTP/1.1\r\n\r\n").0, "unsupported");
        let many = "X: 1\r\n".repeat(HEADERS_MAX);
        assert_eq!(parsed(&post(&many, "")).0, "unsupported");
    }
}
