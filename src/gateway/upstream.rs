//! The interface to the native API, which tests replace.

use std::pin::Pin;

use crate::native::{Answer, Call};

/// A sender of native calls.
///
/// The future borrows nothing, because a flight outlives the request that started it.
pub trait Upstream: Send + Sync + 'static {
    /// Sends a call within a bounded time and returns the whole answer. Sends it at most once, unless
    /// [`crate::native::Endpoint::is_idempotent`].
    fn send(&self, call: Call) -> Pin<Box<dyn Future<Output = Result<Answer, SendError>> + Send>>;
}

/// Why a call has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendError {
    /// Whether any byte of the call may have reached the upstream.
    pub sent: bool,
    /// Cause, as a label from a closed set for logs and metrics.
    pub cause: &'static str,
}
