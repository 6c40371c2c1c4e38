//! The encoder of responses, which writes what Pingora's session would write.

use pingora::http::StatusCode;
use pingora::protocols::http::date::get_cached_date;

use crate::server::handler::Response;

/// Appends a response to `out`.
pub(super) fn encode<L>(response: &Response<L>, is_last: bool, out: &mut Vec<u8>) {
    let status = StatusCode::from_u16(response.status).unwrap_or_default();
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
    let mut header = |name: &str, value: &[u8]| {
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value);
        out.extend_from_slice(b"\r\n");
    };
    for (name, value) in response.headers() {
        header(name, value.as_bytes());
    }
    if response.status != 204 {
        header("Content-Length", itoa::Buffer::new().format(response.body.len()).as_bytes());
    }
    header("Date", get_cached_date().as_bytes());
    header("Connection", if is_last { b"close" } else { b"keep-alive" });
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(&response.body);
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn a_response_is_written_as_pingora_would() {
        let response = Response {
            status: 200,
            content_type: Some("text/plain"),
            static_headers: &[("Access-Control-Allow-Origin", "*")],
            body: Bytes::from_static(b"OK|1"),
            ..Response::<()>::default()
        };
        let mut out = Vec::new();
        encode(&response, false, &mut out);
        let text = String::from_utf8(out).expect("text");
        let (before, after) = text.split_once("Date: ").expect("a date");
        assert_eq!(
            before,
            "HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\nContent-Type: text/plain\r\nCache-Control: no-store\r\n\
             Referrer-Policy: no-referrer\r\nX-Content-Type-Options: nosniff\r\nContent-Length: 4\r\n"
        );
        assert!(after.ends_with(" GMT\r\nConnection: keep-alive\r\n\r\nOK|1") && after.len() == 29 + 32, "{after}");
    }
}
