//! The application of one listener with its limits. Contains panics: each costs one request.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::Semaphore;

use super::handler::{Handler, Rejection, Response};
use super::options::Options;
use crate::http::{Inbound, Step};

/// Limits of one listener.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Most bytes of a body.
    pub body_bytes_max: usize,
    /// Time for a complete header on a new connection, from the first wait for a request.
    pub header_timeout: Duration,
    /// Time for a complete body, from the header.
    pub body_timeout: Duration,
    /// Time for one write to make progress.
    pub write_timeout: Duration,
    /// Time between two requests of a connection, including the header of the second.
    pub idle_timeout: Duration,
    /// Most connections at once.
    pub connections_max: usize,
    /// Most bytes of bodies that are being read, over all listeners that share it.
    pub bodies: Arc<Semaphore>,
}

impl From<&Options> for Limits {
    fn from(options: &Options) -> Self {
        Self {
            body_bytes_max: options.body_bytes_max,
            header_timeout: options.header_timeout,
            body_timeout: options.body_timeout,
            write_timeout: options.write_timeout,
            idle_timeout: options.idle_timeout,
            connections_max: options.connections_max,
            // A semaphore cannot hold more permits than this.
            bodies: Arc::new(Semaphore::new(options.bodies_bytes_max.min(Semaphore::MAX_PERMITS))),
        }
    }
}

/// A handler with the limits of its listener.
pub(super) struct App<H> {
    pub(super) handler: Arc<H>,
    pub(super) limits: Limits,
}

impl<H: Handler> App<H> {
    pub(super) fn new(handler: Arc<H>, limits: Limits) -> Self {
        Self { handler, limits }
    }

    /// Answers a request if that needs no waiting. A panic is answered as well.
    pub(super) fn try_respond(&self, request: &Inbound) -> Step<Response<H::Labels>, H::Pending> {
        // What the handler borrows is used again only through locks that survive a panic.
        let step = std::panic::catch_unwind(AssertUnwindSafe(|| self.handler.try_respond(request)));
        step.unwrap_or_else(|_| Step::Ready(self.handler.reject(request, Rejection::Panicked)))
    }

    /// Answers a request that is pending.
    pub(super) async fn respond(&self, request: &Inbound, pending: H::Pending) -> Response<H::Labels> {
        match catch_unwind(self.handler.respond(request, pending)).await {
            Some(response) => response,
            None => self.handler.reject(request, Rejection::Panicked),
        }
    }

    /// Answers a request.
    pub(super) async fn handle(&self, request: &Inbound) -> Response<H::Labels> {
        match self.try_respond(request) {
            Step::Ready(response) => response,
            Step::Pending(pending) => self.respond(request, pending).await,
        }
    }
}

/// Awaits a future; `None` if it panics, which the panic hook has logged by then.
async fn catch_unwind<T>(mut future: Pin<Box<dyn Future<Output = T> + Send + '_>>) -> Option<T> {
    let poll = |context: &mut Context<'_>| {
        let polled = std::panic::catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context)));
        polled.map_or(Poll::Ready(None), |polled| polled.map(Some))
    };
    std::future::poll_fn(poll).await
}
