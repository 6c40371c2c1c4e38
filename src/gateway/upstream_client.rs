//! The one way upstream: every native call passes here, is allowed or shed, measured, and read.

use std::sync::Arc;

use tokio::time::Instant;

use super::Upstream;
use super::keys::Keys;
use crate::budget::{Budget, Class};
use crate::clock::Clock;
use crate::domain::{Account, Failure};
use crate::native::{Answer, Call};
use crate::telemetry::metrics::Metrics;

/// The way upstream.
pub(super) struct UpstreamClient {
    pub(super) upstream: Arc<dyn Upstream>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) budget: Arc<Budget>,
    pub(super) clock: Clock,
    pub(super) keys: Keys,
}

impl UpstreamClient {
    /// Sends a call of an account, reads the answer, counts both. What is shed or refused here was surely not sent.
    pub(super) async fn ask<T: Send>(
        &self,
        account: &Account,
        call: Call,
        read: impl FnOnce(&Answer) -> Result<T, Failure> + Send,
    ) -> Result<T, Failure> {
        let endpoint = call.endpoint;
        let class = Class::of(endpoint);
        if let Some(failure) = self.keys.refusal(account, class, self.clock.now()) {
            self.metrics.shed(class, "refused");
            return Err(failure);
        }
        let known = Some(account).filter(|account| self.keys.is_accepted(account));
        let permit = match self.budget.take(class, known, self.clock.now()) {
            Ok(permit) => permit,
            Err(why) => {
                self.metrics.shed(class, why.label());
                return Err(Failure::NotSent);
            }
        };
        #[expect(clippy::disallowed_methods, reason = "measured, not decided by")]
        let began = Instant::now();
        let sent = self.upstream.send(call).await;
        drop(permit);
        let (result, label) = match &sent {
            Ok(answer) => {
                self.budget.note(&answer.rate, answer.status == 429, self.clock.now());
                let result = read(answer);
                let label = match &result {
                    Ok(_) => "ok",
                    Err(Failure::NotSent) => "rate_limited",
                    Err(Failure::Unavailable | Failure::OutcomeUnknown) => "unusable",
                    Err(_) => "refused",
                };
                (result, label)
            }
            Err(error) if error.sent && !endpoint.is_idempotent() => (Err(Failure::OutcomeUnknown), error.what),
            // What was not sent cost nothing, and counts for nothing.
            Err(error) if !error.sent => (Err(Failure::NotSent), error.what),
            Err(error) => (Err(Failure::Unavailable), error.what),
        };
        self.metrics.upstream_call(endpoint, label, began.elapsed());
        self.keys.note(account, class, result.as_ref().err(), self.clock.now());
        result
    }
}
