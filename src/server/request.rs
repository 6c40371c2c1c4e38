//! What a client sent, before any dialect looks at it: its header judged, its target taken apart, its labels for the log.

use bytes::Bytes;
use pingora::http::Version;
use pingora::protocols::http::ServerSession;

use crate::http::{Inbound, Verb};

/// Most headers of a request, and bytes of all of them. Real clients send below 20, and 2 kB.
const HEADERS_MAX: usize = 64;
pub(super) const HEADER_BYTES_MAX: usize = 96 * 1024;

/// Whether a header is one that means one thing to everybody. What is ambiguous, or asks for something else than a
/// request and a response, is refused and never repaired.
pub(super) fn is_acceptable(session: &ServerSession) -> bool {
    let header = session.req_header();
    let bytes: usize = header.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    let sizes_fit = header.headers.len() <= HEADERS_MAX && bytes + header.raw_path().len() <= HEADER_BYTES_MAX;
    // In HTTP/2 every target has an authority; in HTTP/1 only one that is meant for a proxy does.
    let is_for_a_proxy = !session.is_http2() && header.uri.authority().is_some();
    // Java's client offers h2c with each request in the clear; whoever ignores it is asked nothing more.
    let upgrades = header.headers.get_all("upgrade").iter().any(|offer| !offer.as_bytes().eq_ignore_ascii_case(b"h2c"));
    let asks_for_more = upgrades || matches!(header.method.as_str(), "CONNECT" | "TRACE");
    // Pingora drops the length of a message that has both, and goes on.
    let has_both = header.headers.contains_key("transfer-encoding")
        && session.as_http1().is_some_and(|session| {
            let raw = session.get_headers_raw_bytes().to_ascii_lowercase();
            memchr::memmem::find(&raw, b"\ncontent-length").is_some()
        });
    sizes_fit && !is_for_a_proxy && !asks_for_more && !has_both && header.raw_path().starts_with(b"/")
}

pub(super) fn received(session: &ServerSession) -> Inbound {
    let header = session.req_header();
    let content_type = session.get_header_bytes("content-type");
    parse_target(Verb::parse(header.method.as_str()), header.raw_path(), content_type, Bytes::new())
}

/// Takes a target apart.
pub(super) fn parse_target(verb: Verb, target: &[u8], content_type: &[u8], body: Bytes) -> Inbound {
    let (path, query) = match memchr::memchr(b'?', target) {
        Some(at) => (target.get(..at).unwrap_or_default(), target.get(at + 1..).unwrap_or_default()),
        None => (target, &b""[..]),
    };
    // The fragment is a browser's own business; a client that sends one means nothing by it.
    let query = query.split(|byte| *byte == b'#').next().unwrap_or_default();
    Inbound {
        verb,
        path: String::from_utf8_lossy(path).into_owned(),
        query: Bytes::copy_from_slice(query),
        content_type: Bytes::copy_from_slice(content_type),
        body,
    }
}

pub(super) fn version_label(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "1.0",
        Version::HTTP_11 => "1.1",
        Version::HTTP_2 => "2",
        _ => "other",
    }
}
