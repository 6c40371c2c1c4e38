//! Parts of a request that both HTTP/1 paths and HTTP/2 share: limits, checks of the header, the parsed target.

use bytes::Bytes;
use pingora::protocols::http::ServerSession;

use crate::http::{Inbound, Verb, Version};

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
    // Pingora drops the Content-Length of a message that has both framings, and goes on.
    let has_two_framings = header.headers.contains_key("transfer-encoding")
        && session.as_http1().is_some_and(|session| {
            let raw = session.get_headers_raw_bytes().to_ascii_lowercase();
            memchr::memmem::find(&raw, b"\ncontent-length").is_some()
        });
    let has_origin_form = header.raw_path().starts_with(b"/");
    is_within_limits && !is_for_a_proxy && !is_unsupported && !has_two_framings && has_origin_form
}

/// Converts the header of a session. The body is empty.
pub(super) fn to_inbound(session: &ServerSession) -> Inbound {
    let header = session.req_header();
    let content_type = session.get_header_bytes("content-type");
    new_inbound(Verb::parse(header.method.as_str()), header.raw_path(), content_type, Bytes::new())
}

/// Builds a request from its parts. Splits the target into path and query.
pub(super) fn new_inbound(verb: Verb, target: &[u8], content_type: &[u8], body: Bytes) -> Inbound {
    let (path, query) = match memchr::memchr(b'?', target) {
        Some(at) => (target.get(..at).unwrap_or_default(), target.get(at + 1..).unwrap_or_default()),
        None => (target, &b""[..]),
    };
    // A fragment is for the client alone (RFC 9110, section 4.2.5), so it is ignored if a client sends one.
    let query = query.split(|byte| *byte == b'#').next().unwrap_or_default();
    Inbound {
        verb,
        path: String::from_utf8_lossy(path).into_owned(),
        query: Bytes::copy_from_slice(query),
        content_type: Bytes::copy_from_slice(content_type),
        body,
    }
}

/// Converts an HTTP version.
pub(super) fn to_version(version: pingora::http::Version) -> Version {
    match version {
        pingora::http::Version::HTTP_10 => Version::Http10,
        pingora::http::Version::HTTP_11 => Version::Http11,
        pingora::http::Version::HTTP_2 => Version::Http2,
        _ => Version::Other,
    }
}
