//! The application of one listener with its options. Catches panics, so that each costs only one request.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;

use super::client::Client;
use super::handler::{Handler, Rejection, Response};
use super::options::Options;
use crate::http::{Inbound, Step};
use crate::memory::{MemoryBudget, MemoryCharge};
use crate::process::panics::catch_unwind;

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

    /// Answers a request that arrived at `now` if that requires no waiting. Answers a panic with a rejection.
    pub(super) fn try_respond(
        &self,
        request: &Inbound,
        client: &Client,
        now: Instant,
    ) -> Step<Response<H::Labels>, H::Pending> {
        if !client.try_request(now) {
            return Step::Ready(self.handler.reject(request, Rejection::TooManyRequests));
        }
        // Later requests see the handler's state only through locks, which a panic releases.
        let step = std::panic::catch_unwind(AssertUnwindSafe(|| self.handler.try_respond(request)));
        step.unwrap_or_else(|_| Step::Ready(self.handler.reject(request, Rejection::Panicked)))
    }

    /// Answers a request that is pending. `charge` is for its body.
    pub(super) async fn respond(
        &self,
        request: Inbound,
        pending: H::Pending,
        charge: MemoryCharge,
    ) -> Response<H::Labels> {
        let without_body = Inbound { body: Bytes::new(), ..request.clone() };
        match catch_unwind(self.handler.respond(request, pending, charge).as_mut()).await {
            Some(response) => response,
            None => self.handler.reject(&without_body, Rejection::Panicked),
        }
    }
}
