//! What every listener answers with, whatever was spoken on its connections: [`super::http1`] for HTTP/1.1 as nearly all
//! clients speak it, [`super::session`] for everything else.
//!
//! Generic over what answers ([`Handler`]): the legacy scripts, the admin pages, the sandbox. Every wait has a deadline
//! and every size a bound: header, body, idle time, writing, connections.

use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::Semaphore;

use crate::http::{Inbound, Step};

/// What answers requests.
#[async_trait]
pub trait Handler: Send + Sync + 'static {
    /// What is left to do for a request that could not be answered at once.
    type Rest: Send;

    /// Answers a request that was read whole, if that needs no waiting.
    fn begin(&self, request: &Inbound) -> Step<Response, Self::Rest>;

    /// Answers it otherwise.
    async fn finish(&self, request: &Inbound, rest: Self::Rest) -> Response;

    /// Answers a request that could not be served. `request.body` may be empty.
    fn refuse(&self, request: &Inbound, why: Rejection) -> Response;

    /// Called with what became of a request: the place for an access line.
    fn told(&self, _told: Told) {}
}

/// Why a request could not be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// Its body is larger than allowed.
    BodyTooLarge,
    /// Its body did not come in time.
    BodyTimeout,
    /// Too many bytes of bodies are being read.
    Overloaded,
    /// Its handler panicked: a bug of ours, which costs this one request and no other.
    Panicked,
}

/// A response.
#[derive(Clone, Debug, Default)]
pub struct Response {
    /// HTTP status.
    pub status: u16,
    /// `Content-Type`, where there is a body.
    pub content_type: Option<&'static str>,
    /// Headers that are always the same.
    pub fixed: &'static [(&'static str, &'static str)],
    /// Others, beyond length, date and those of every response.
    pub headers: Vec<(&'static str, String)>,
    /// Body.
    pub body: Bytes,
    /// What the handler wants to know again in [`Handler::told`].
    pub facts: Option<crate::gateway::RequestLabels>,
}

impl Response {
    /// Its headers in their order, but for length, date and connection.
    pub(super) fn lines(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let own = self.headers.iter().map(|(name, value)| (*name, value.as_str()));
        let typed = self.content_type.map(|value| ("Content-Type", value));
        own.chain(self.fixed.iter().copied()).chain(typed).chain(ALWAYS.iter().copied())
    }
}

/// Headers of every response. Answers hold what was paid for, and the address of a request holds the key: no cache, no
/// history, no referrer.
const ALWAYS: &[(&str, &str)] =
    &[("Cache-Control", "no-store"), ("Referrer-Policy", "no-referrer"), ("X-Content-Type-Options", "nosniff")];

/// What became of a request, for the log.
#[derive(Clone, Copy, Debug)]
pub struct Told {
    /// The handler's own.
    pub facts: Option<crate::gateway::RequestLabels>,
    /// Address of the client's socket.
    pub peer: Option<SocketAddr>,
    /// `GET` and so on, from a closed set.
    pub verb: &'static str,
    /// `1.0`, `1.1` or `2`.
    pub version: &'static str,
    /// HTTP status.
    pub status: u16,
    /// Bytes of the request's body.
    pub bytes_in: usize,
    /// Bytes of the response's body.
    pub bytes_out: usize,
    /// From the whole header to the response.
    pub took: Duration,
}

/// Bounds of one listener.
#[derive(Clone, Debug)]
pub struct Options {
    /// Most bytes of a body.
    pub body_bytes_max: usize,
    /// From the first wait for a request on a new connection to its whole header.
    pub header_timeout: Duration,
    /// From the header to the whole body.
    pub body_timeout: Duration,
    /// For one write to make progress.
    pub write_timeout: Duration,
    /// For which a connection may stay unused between requests, the header of the next one included.
    pub idle_timeout: Duration,
    /// Most connections at once.
    pub connections_max: usize,
    /// Most bytes of bodies at once, of all connections that share it.
    pub bodies: Arc<Semaphore>,
}

/// The HTTP application of one listener.
pub(super) struct App<H> {
    pub(super) handler: Arc<H>,
    pub(super) options: Options,
}

impl<H: Handler> App<H> {
    pub(super) fn new(handler: Arc<H>, options: Options) -> Self {
        Self { handler, options }
    }

    /// Answers at once, if that is possible; a panic is an answer as well.
    pub(super) fn begin(&self, request: &Inbound) -> Step<Response, H::Rest> {
        // Nothing that it has borrowed is used again but through locks that survive a panic.
        let begun = std::panic::catch_unwind(AssertUnwindSafe(|| self.handler.begin(request)));
        begun.unwrap_or_else(|_| Step::Ready(self.handler.refuse(request, Rejection::Panicked)))
    }

    /// Answers what could not be answered at once.
    pub(super) async fn finish(&self, request: &Inbound, rest: H::Rest) -> Response {
        match unless_panicking(self.handler.finish(request, rest)).await {
            Some(response) => response,
            None => self.handler.refuse(request, Rejection::Panicked),
        }
    }

    /// Answers a request.
    pub(super) async fn answer(&self, request: &Inbound) -> Response {
        match self.begin(request) {
            Step::Ready(response) => response,
            Step::Pending(rest) => self.finish(request, rest).await,
        }
    }
}

/// What a future brings, or nothing if it panics. The panic hook has written it down by then.
async fn unless_panicking<T>(mut future: Pin<Box<dyn Future<Output = T> + Send + '_>>) -> Option<T> {
    // As above.
    let poll = |context: &mut Context<'_>| {
        let polled = std::panic::catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context)));
        polled.map_or(Poll::Ready(None), |polled| polled.map(Some))
    };
    std::future::poll_fn(poll).await
}
