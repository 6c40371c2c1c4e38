//! The only sender of native calls: checks each call against the key cache and the budget, sends it, measures it and
//! parses its answer.

use std::sync::Arc;

use tokio::time::Instant;
use tracing::Instrument;

use super::keys::Keys;
use super::metrics::{CallMetrics, CallResult, NotSentReason};
use super::upstream::Upstream;
use crate::budget::{Budget, Class};
use crate::clock::Clock;
use crate::domain::{Account, Failure};
use crate::native::{Answer, Call};

/// A client that sends native calls within the budget.
pub(super) struct UpstreamClient {
    pub(super) upstream: Arc<dyn Upstream>,
    pub(super) metrics: CallMetrics,
    pub(super) budget: Arc<Budget>,
    pub(super) clock: Clock,
    pub(super) keys: Keys,
}

impl UpstreamClient {
    /// Sends a call for an account and parses its answer with `parse`.
    ///
    /// # Errors
    /// [`Failure::NotSent`] or the cached refusal of the key if nothing was sent; what `parse` returns; otherwise
    /// [`Failure::OutcomeUnknown`] for a call that may have been sent and must not be repeated, and
    /// [`Failure::Unavailable`] for any other.
    pub(super) async fn call<T: Send>(
        &self,
        account: &Account,
        call: Call,
        parse: impl FnOnce(&Answer) -> Result<T, Failure> + Send,
    ) -> Result<T, Failure> {
        let endpoint = call.endpoint;
        let class = Class::from(endpoint);
        if let Some(failure) = self.keys.refusal(account, class, self.clock.now()) {
            self.metrics.count_not_sent(class, NotSentReason::RefusedKey);
            return Err(failure);
        }
        let accepted = Some(account).filter(|account| self.keys.is_accepted(account));
        let permit = match self.budget.try_acquire(class, accepted, self.clock.now()) {
            Ok(permit) => permit,
            Err(denied) => {
                self.metrics.count_not_sent(class, NotSentReason::Budget(denied));
                return Err(Failure::NotSent);
            }
        };
        #[expect(clippy::disallowed_methods, reason = "measures a duration, decides nothing")]
        let started = Instant::now();
        let span = tracing::info_span!("upstream_call", endpoint = endpoint.label());
        let sent = self.upstream.send(call).instrument(span).await;
        let (result, label) = match &sent {
            Ok(answer) => {
                permit.observe(&answer.rate, answer.status == 429, self.clock.now());
                let result = parse(answer);
                let label = match &result {
                    Ok(_) => CallResult::Ok,
                    Err(Failure::NotSent) => CallResult::RateLimited,
                    Err(Failure::Unavailable | Failure::OutcomeUnknown) => CallResult::Unusable,
                    Err(_) => CallResult::Refused,
                };
                (result, label)
            }
            Err(error) => {
                drop(permit);
                let failure = if !error.sent {
                    Failure::NotSent
                } else if endpoint.is_idempotent() {
                    Failure::Unavailable
                } else {
                    Failure::OutcomeUnknown
                };
                (Err(failure), CallResult::Failed(error.cause))
            }
        };
        self.metrics.count_call(endpoint, label, started.elapsed());
        self.keys.note(account, class, result.as_ref().err(), self.clock.now());
        result
    }
}
