//! HTTP types that `server`, `apps`, `gateway` and the dialects share: a complete request, its client, verb and version,
//! and the result of trying to answer it at once. Pure data: this file knows neither Pingora nor a dialect.

use core::net::{IpAddr, Ipv6Addr};

use bytes::Bytes;

/// A complete request, before a dialect decodes it.
#[derive(Clone, Debug)]
pub struct Inbound {
    /// The client; `None` if no limit per client address applies.
    pub client: Option<ClientNetwork>,
    /// HTTP method.
    pub verb: Verb,
    /// Path as sent, without the query, not percent-decoded.
    pub path: String,
    /// Query as sent, without the question mark.
    pub query: Bytes,
    /// `Content-Type` as sent, or empty. Bytes, because a client may send any bytes.
    pub content_type: Bytes,
    /// The whole body.
    pub body: Bytes,
}

/// What counts as one client: an IPv4 address, or an IPv6 network of 64 bits, because a single subscriber usually gets a
/// whole one (RFC 6177).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClientNetwork(IpAddr);

impl From<IpAddr> for ClientNetwork {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                Self(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into())
            }
            v4 @ IpAddr::V4(_) => Self(v4),
        }
    }
}

/// An HTTP method that the program distinguishes. Called a verb, because `method` is a parameter of the legacy
/// protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Parameters are in the query.
    Get,
    /// Parameters are in the query, the body, or both.
    Post,
    /// A CORS preflight of a browser.
    Options,
    /// Answered like any unsupported verb; distinct from [`Verb::Other`] only in logs.
    Head,
    /// Any other.
    Other,
}

impl Verb {
    /// Parses the method of a request line. Methods are case-sensitive (RFC 9110, section 9.1).
    pub fn parse(method: &str) -> Self {
        match method {
            "GET" => Self::Get,
            "POST" => Self::Post,
            "OPTIONS" => Self::Options,
            "HEAD" => Self::Head,
            _ => Self::Other,
        }
    }

    /// Returns the name for logs and metrics, from a closed set.
    pub fn label(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Options => "OPTIONS",
            Self::Head => "HEAD",
            Self::Other => "other",
        }
    }
}

/// An HTTP version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    Http11,
    /// HTTP/2.
    Http2,
    /// Any other.
    Other,
}

impl Version {
    /// Returns the name for logs, from a closed set.
    pub fn label(self) -> &'static str {
        match self {
            Self::Http10 => "1.0",
            Self::Http11 => "1.1",
            Self::Http2 => "2",
            Self::Other => "other",
        }
    }
}

/// The result of trying to answer a request without waiting.
#[derive(Debug)]
pub enum Step<R, P> {
    /// The response.
    Ready(R),
    /// The decoded request, if its response requires waiting.
    Pending(P),
}
