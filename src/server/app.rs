//! The application of one listener with its options. Catches panics, so that each costs only one request.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;

use super::handler::{Handler, Rejection, Response};
use super::memory::MemoryBudget;
use super::options::Options;
use crate::http::{Inbound, Step};

/// A handler with the options of its listener.
pub(super) struct App<H> {
    pub(super) handler: Arc<H>,
    pub(super) options: Options,
    /// Shared by all public listeners.
    pub(super) memory: Arc<MemoryBudget>,
}

impl<H: Handler> App<H> {
    pub(super) fn new(handler: Arc<H>, options: Options, memory: Arc<MemoryBudget>) -> Self {
        Self { handler, options, memory }
    }

    /// Answers a request if that requires no waiting. Answers a panic with a rejection.
    pub(super) fn try_respond(&self, request: &Inbound) -> Step<Response<H::Labels>, H::Pending> {
        // Later requests see the handler's state only through locks, which a panic releases.
        let step = std::panic::catch_unwind(AssertUnwindSafe(|| self.handler.try_respond(request)));
        step.unwrap_or_else(|_| Step::Ready(self.handler.reject(request, Rejection::Panicked)))
    }

    /// Answers a request that is pending.
    pub(super) async fn respond(&self, request: Inbound, pending: H::Pending) -> Response<H::Labels> {
        let without_body = Inbound { body: Bytes::new(), ..request.clone() };
        match catch_unwind(self.handler.respond(request, pending)).await {
            Some(response) => response,
            None => self.handler.reject(&without_body, Rejection::Panicked),
        }
    }
}

/// Awaits a future. Returns `None` if it panics; the panic hook has logged the panic by then.
async fn catch_unwind<T>(mut future: Pin<Box<dyn Future<Output = T> + Send + '_>>) -> Option<T> {
    let poll = |context: &mut Context<'_>| {
        let polled = std::panic::catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context)));
        polled.map_or(Poll::Ready(None), |polled| polled.map(Some))
    };
    std::future::poll_fn(poll).await
}
