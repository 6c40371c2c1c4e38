//! The interface between a server and the application that answers on its listener.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::http::{Inbound, Step, Verb, Version};
use crate::memory::MemoryCharge;

/// An application that answers requests.
#[async_trait]
pub trait Handler: Send + Sync + 'static {
    /// Labels of an answered request, for the application's access log. The server only passes them on.
    type Labels: Copy + fmt::Debug + Send + Sync;

    /// A request that could not be answered without waiting.
    type Pending: Send;

    /// Answers a complete request if that requires no waiting.
    fn try_respond(&self, request: &Inbound) -> Step<Response<Self::Labels>, Self::Pending>;

    /// Answers a request that [`Handler::try_respond`] left pending. An application that has decoded the body drops the
    /// request before it waits, because a body may be large. `charge` is for the body; it may pass to what was decoded
    /// from it.
    async fn respond(&self, request: Inbound, pending: Self::Pending, charge: MemoryCharge) -> Response<Self::Labels>;

    /// Answers a request that cannot be served. The body of `request` may be empty.
    fn reject(&self, request: &Inbound, why: Rejection) -> Response<Self::Labels>;

    /// Receives the record of each answered request, for the access log.
    fn on_complete(&self, _record: AccessRecord<Self::Labels>) {}

    /// Records a request that was refused before it could be decoded.
    fn on_refused(&self, _refused: RefusedRequest) {}

    /// Returns the most bytes of a request's target. Called with the target, or with its beginning.
    fn target_bytes_max(&self, _target: &[u8]) -> usize {
        TARGET_BYTES_MAX
    }
}

/// Most bytes of a target, unless the application needs longer ones. nginx allows 8 KiB for a whole request line.
pub const TARGET_BYTES_MAX: usize = 16 * 1024;

/// A request that was refused before it could be decoded.
#[derive(Clone, Copy, Debug)]
pub struct RefusedRequest {
    /// Address of the client. The port is 0 if a proxy did not tell it.
    pub peer: Option<SocketAddr>,
    /// HTTP version, as far as it is known.
    pub version: Version,
    /// Why the request was refused.
    pub why: RefusalReason,
}

/// Why a request is refused before it can be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalReason {
    /// The request is malformed, ambiguous, or asks for something other than a response.
    Malformed,
    /// The header is larger than allowed.
    HeaderTooLarge,
    /// The client, or all clients together, hold too much memory.
    Overloaded,
}

impl RefusalReason {
    /// All reasons.
    pub const ALL: [Self; 3] = [Self::Malformed, Self::HeaderTooLarge, Self::Overloaded];

    /// Label for metrics and logs.
    pub fn label(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::HeaderTooLarge => "header_too_large",
            Self::Overloaded => "overloaded",
        }
    }

    /// HTTP status of the response.
    pub fn status(self) -> u16 {
        match self {
            Self::Malformed => 400,
            Self::HeaderTooLarge => 431,
            Self::Overloaded => 503,
        }
    }
}

/// Why a request cannot be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// Its body is larger than allowed.
    BodyTooLarge,
    /// Its body did not arrive in time.
    BodyTimeout,
    /// Too many bytes of bodies are in memory.
    Overloaded,
    /// Its client has sent too many requests.
    TooManyRequests,
    /// Its handler panicked: a bug, which costs this request and no other.
    Panicked,
}

impl Rejection {
    /// HTTP status of the response, for an application whose protocol has no status of its own.
    pub fn status(self) -> u16 {
        match self {
            Self::BodyTooLarge => 413,
            Self::BodyTimeout => 408,
            Self::TooManyRequests => 429,
            Self::Overloaded => 503,
            Self::Panicked => 500,
        }
    }

    /// All reasons.
    pub const ALL: [Self; 5] =
        [Self::BodyTooLarge, Self::BodyTimeout, Self::Overloaded, Self::TooManyRequests, Self::Panicked];

    /// Label for metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::BodyTooLarge => "body_too_large",
            Self::BodyTimeout => "body_timeout",
            Self::Overloaded => "overloaded",
            Self::TooManyRequests => "too_many_requests",
            Self::Panicked => "panicked",
        }
    }
}

/// A response.
#[derive(Clone, Debug, Default)]
pub struct Response<L> {
    /// HTTP status.
    pub status: u16,
    /// `Content-Type`, if there is a body.
    pub content_type: Option<&'static str>,
    /// Headers with constant values.
    pub static_headers: &'static [(&'static str, &'static str)],
    /// Headers with computed values.
    pub dynamic_headers: Vec<(&'static str, String)>,
    /// Body.
    pub body: Bytes,
    /// Passed to [`Handler::on_complete`].
    pub labels: L,
}

impl<L> Response<L> {
    /// Lists all headers in order, except length, date and connection.
    pub(super) fn headers(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let dynamic = self.dynamic_headers.iter().map(|(name, value)| (*name, value.as_str()));
        let typed = self.content_type.map(|value| ("Content-Type", value));
        dynamic.chain(self.static_headers.iter().copied()).chain(typed).chain(SECURITY_HEADERS.iter().copied())
    }
}

/// Headers of every response. Replies contain paid answers, and the URL of a request holds the key: neither may reach
/// a cache, a history or a referrer.
const SECURITY_HEADERS: &[(&str, &str)] =
    &[("Cache-Control", "no-store"), ("Referrer-Policy", "no-referrer"), ("X-Content-Type-Options", "nosniff")];

/// How a request was answered, for the access log.
#[derive(Clone, Copy, Debug)]
pub struct AccessRecord<L> {
    /// The application's own labels.
    pub labels: L,
    /// Address of the client. The port is 0 if a proxy did not tell it.
    pub peer: Option<SocketAddr>,
    /// HTTP method.
    pub verb: Verb,
    /// HTTP version.
    pub version: Version,
    /// HTTP status.
    pub status: u16,
    /// Bytes of the request's body.
    pub bytes_in: usize,
    /// Bytes of the response's body.
    pub bytes_out: usize,
    /// From the complete header to the response, without writing it.
    pub duration: Duration,
}
