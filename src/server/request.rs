//! Parts of a request that both HTTP/1 paths and HTTP/2 share: limits, checks of the header, the parsed target.

use std::net::SocketAddr;
use std::ops::Range;

use bytes::{Bytes, BytesMut};
use pingora::http::Version;
use pingora::protocols::http::ServerSession;

use super::trusted_proxies::TrustedProxies;
use crate::http::{self, Inbound, Verb};

/// Most headers of a request, and most bytes of all of them. Real clients send fewer than 20, and 2 kB.
const HEADERS_MAX: usize = 64;
pub(super) const HEADER_BYTES_MAX: usize = 32 * 1024;

/// Whether a header has one meaning to every server. An ambiguous header, or one that asks for more than a request and
/// a response, is refused and never repaired.
pub(super) fn is_acceptable(session: &ServerSession, target_bytes_max: impl Fn(&[u8]) -> usize) -> bool {
    let header = session.req_header();
    let bytes: usize = header.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    let is_within_limits = header.headers.len() <= HEADERS_MAX
        && bytes <= HEADER_BYTES_MAX
        && header.raw_path().len() <= target_bytes_max(header.raw_path());
    // In HTTP/2 every target has an authority; in HTTP/1 only a request to a forward proxy has one.
    let is_for_a_proxy = !session.is_http2() && header.uri.authority().is_some();
    // Java's client offers h2c with each plaintext request. A server that ignores the offer loses nothing.
    let upgrades = header.headers.get_all("upgrade").iter().any(|offer| !offer.as_bytes().eq_ignore_ascii_case(b"h2c"));
    let is_unsupported = upgrades || matches!(header.method.as_str(), "CONNECT" | "TRACE");
    let has_one_meaning = session
        .as_http1()
        .is_none_or(|http1| has_one_meaning(&http1.get_headers_raw_bytes(), header.version == Version::HTTP_11));
    let has_hosts = header.headers.get_all("host").iter().all(|host| is_host(host.as_bytes()));
    let has_origin_form = header.raw_path().starts_with(b"/");
    is_within_limits && !is_for_a_proxy && !is_unsupported && has_one_meaning && has_hosts && has_origin_form
}

/// Whether every server reads the same framing and host from the header of an HTTP/1 request (RFC 9112, sections 2.2, 3.2, 5
/// and 6). A front proxy that reads them differently would let one request hide in another. nginx refuses the same.
fn has_one_meaning(header: &[u8], is_http11: bool) -> bool {
    let (mut hosts, mut lengths, mut encodings) = (0, 0, 0);
    for (number, line) in without_empty_lines(header).split_inclusive(|byte| *byte == b'\n').enumerate() {
        // A bare line feed, a bare carriage return, or a folded line.
        let Some(line) = line.strip_suffix(b"\r\n") else { return false };
        if line.is_empty() {
            break;
        }
        // The request line, which the parser has checked.
        if number == 0 {
            continue;
        }
        let Some(colon) = memchr::memchr(b':', line) else { return false };
        let (name, value) = (line.get(..colon).unwrap_or_default(), line.get(colon + 1..).unwrap_or_default());
        let value = value.trim_ascii();
        if name.iter().any(u8::is_ascii_whitespace) || line.contains(&b'\r') {
            return false;
        }
        if name.eq_ignore_ascii_case(b"host") {
            hosts += 1;
        } else if name.eq_ignore_ascii_case(b"content-length") {
            lengths += 1;
            if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
                return false;
            }
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            encodings += 1;
            if !value.eq_ignore_ascii_case(b"chunked") {
                return false;
            }
        }
    }
    let has_host = if is_http11 { hosts == 1 } else { hosts <= 1 };
    has_host && lengths + encodings <= 1 && (is_http11 || encodings == 0)
}

/// Whether a `Host` has a valid value, as far as its characters tell (RFC 9112, section 3.2; RFC 3986, section 3.2.2). Servers
/// disagree about a user in front of a host, and about what follows a slash or white space.
pub(super) fn is_host(value: &[u8]) -> bool {
    value.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:[]".contains(byte))
}

/// Returns the bytes of a request without the empty lines in front of it, which a server ignores (RFC 9112, section 2.2).
pub(super) fn without_empty_lines(mut bytes: &[u8]) -> &[u8] {
    while let Some(rest) = bytes.strip_prefix(b"\r\n") {
        bytes = rest;
    }
    bytes
}

/// Whether bytes contain the end of a header, with or without carriage returns.
pub(super) fn has_header_end(bytes: &[u8]) -> bool {
    memchr::memmem::find(bytes, b"\n\r\n").is_some() || memchr::memmem::find(bytes, b"\n\n").is_some()
}

/// What the header of an HTTP/1 request contains before Pingora reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RawHeader {
    /// Whether the request line contains a control character, or a target that is no path. Pingora would escape the former.
    pub(super) is_malformed: bool,
    /// Where the target is.
    pub(super) target: Range<usize>,
    /// Where a chunked body begins, if there is one.
    pub(super) chunks_at: Option<usize>,
}

impl RawHeader {
    /// Reads the bytes of a connection that begin with a complete header.
    pub(super) fn of(bytes: &[u8]) -> Self {
        let request = without_empty_lines(bytes);
        let header_bytes = memchr::memmem::find(request, b"\r\n\r\n").map_or(request.len(), |end| end + 4);
        let mut lines = request.get(..header_bytes).unwrap_or_default().split(|byte| *byte == b'\n');
        let request_line = lines.next().unwrap_or_default();
        let request_line = request_line.strip_suffix(b"\r").unwrap_or(request_line);
        let target_start = memchr::memchr(b' ', request_line).map_or(request_line.len(), |space| space + 1);
        let target_end = memchr::memrchr(b' ', request_line).unwrap_or_default().max(target_start);
        let target = request_line.get(target_start..target_end).unwrap_or_default();
        let skipped = bytes.len() - request.len();
        let is_chunked = lines.any(|line| {
            line.get(..TRANSFER_ENCODING.len()).is_some_and(|name| name.eq_ignore_ascii_case(TRANSFER_ENCODING))
        });
        Self {
            is_malformed: !target.starts_with(b"/") || request_line.iter().any(u8::is_ascii_control),
            target: skipped + target_start..skipped + target_end,
            chunks_at: is_chunked.then_some(skipped + header_bytes),
        }
    }

    /// Percent-encodes the characters of the target that are not allowed in URIs, but that clients such as curl send raw.
    /// Pingora refuses them. Returns `None` if there are none.
    pub(super) fn escape_target(&self, bytes: &[u8]) -> Option<BytesMut> {
        let is_escaped = |byte: &u8| matches!(byte, b' ' | b'"' | b'<' | b'>' | b'`');
        let target = bytes.get(self.target.clone()).filter(|target| target.iter().any(is_escaped))?;
        let mut escaped = BytesMut::with_capacity(bytes.len() + target.len());
        escaped.extend_from_slice(bytes.get(..self.target.start)?);
        for byte in target {
            if is_escaped(byte) {
                escaped.extend_from_slice(format!("%{byte:02X}").as_bytes());
            } else {
                escaped.extend_from_slice(&[*byte]);
            }
        }
        escaped.extend_from_slice(bytes.get(self.target.end..)?);
        Some(escaped)
    }
}

/// Any other transfer coding is refused.
const TRANSFER_ENCODING: &[u8] = b"transfer-encoding:";

/// Converts the header of a session. The body is empty, and the client unknown.
pub(super) fn to_inbound(session: &ServerSession) -> Inbound {
    let header = session.req_header();
    let content_type = session.get_header_bytes("content-type");
    new_inbound(Verb::parse(header.method.as_str()), header.raw_path(), content_type, Bytes::new())
}

/// Returns the client that a trusted proxy names in the header of a session.
pub(super) fn forwarded(session: &ServerSession, proxies: &TrustedProxies) -> Option<SocketAddr> {
    proxies.client(session.req_header().headers.get_all("x-forwarded-for").iter().map(AsRef::as_ref))
}

/// Builds a request of an unknown client from its parts. Splits the target into path and query.
pub(super) fn new_inbound(verb: Verb, target: &[u8], content_type: &[u8], body: Bytes) -> Inbound {
    let (path, query) = match memchr::memchr(b'?', target) {
        Some(at) => (target.get(..at).unwrap_or_default(), target.get(at + 1..).unwrap_or_default()),
        None => (target, &b""[..]),
    };
    // A fragment is for the client alone (RFC 9110, section 4.2.5), so it is ignored if a client sends one.
    let query = query.split(|byte| *byte == b'#').next().unwrap_or_default();
    Inbound {
        client: None,
        verb,
        path: String::from_utf8_lossy(path).into_owned(),
        query: Bytes::copy_from_slice(query),
        content_type: Bytes::copy_from_slice(content_type),
        body,
    }
}

/// Converts an HTTP version.
pub(super) fn to_version(version: Version) -> http::Version {
    match version {
        Version::HTTP_10 => http::Version::Http10,
        Version::HTTP_11 => http::Version::Http11,
        Version::HTTP_2 => http::Version::Http2,
        _ => http::Version::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_lines_that_servers_read_differently_are_refused() {
        let of = |lines: &str| has_one_meaning(format!("GET / HTTP/1.1\r\n{lines}").as_bytes(), true);
        assert!(
            of("Host: x\r\nContent-Length: 5\r\nX-A: b c\r\n\r\n") && of("host:x\r\nTransfer-Encoding: Chunked\r\n")
        );
        for lines in [
            "Host: x\nA: b\r\n",
            "Host: x\r\nA: b\rc\r\n",
            "Host: x\r\n folded: 1\r\n",
            "Host : x\r\n",
            "Host: x\r\nHost: x\r\n",
            "A: b\r\n",
            "Host: x\r\nno colon\r\n",
            "Host: x\r\nContent-Length: 5, 5\r\n",
            "Host: x\r\nContent-Length: +5\r\n",
            "Host: x\r\nContent-Length:\r\n",
            "Host: x\r\nContent-Length: 5\r\nContent-Length: 5\r\n",
            "Host: x\r\nTransfer-Encoding: gzip, chunked\r\n",
            "Host: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "Host: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        ] {
            assert!(!of(lines), "{lines:?}");
        }
        let old = |line: &str| has_one_meaning(format!("GET / HTTP/1.0\r\n{line}").as_bytes(), false);
        assert!(old("A: b\r\n") && !old("Transfer-Encoding: chunked\r\n") && !old("A: b\n"));
    }
}
