//! The only sender of native calls: checks each call against the key cache, the slots of new keys and the budget, sends
//! it, measures it and parses its answer.

use std::sync::Arc;

use tokio::time::Instant;
use tracing::Instrument;

use super::call_end;
use super::key_store::KeyStore;
use super::keys::Keys;
use super::metrics::{CallMetrics, CallResult, NotSentReason};
use super::slots::{Acquired, Slot, Slots};
use super::upstream::Upstream;
use crate::budget::{Attempt, Budget, CallEnd, Class};
use crate::clock::Clock;
use crate::domain::{Account, Failure};
use crate::http::ClientNetwork;
use crate::native::{Answer, Call, Endpoint, answer, call};

/// On whose behalf a native call is sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caller<'a> {
    pub(super) account: &'a Account,
    /// The client; `None` if no limit per address applies, as for polls, which clients share.
    pub(super) client: Option<ClientNetwork>,
}

/// A client that sends native calls within the budget.
pub(super) struct UpstreamClient {
    pub(super) upstream: Arc<dyn Upstream>,
    pub(super) metrics: CallMetrics,
    pub(super) budget: Arc<Budget>,
    pub(super) clock: Clock,
    pub(super) keys: Keys,
    pub(super) key_store: Option<KeyStore>,
    pub(super) slots: Slots,
}

impl UpstreamClient {
    /// Sends a call and parses its answer with `parse`. A call of a key that the upstream has not
    /// accepted yet may wait for a slot first.
    ///
    /// # Errors
    /// [`Failure::NotSent`] or the cached refusal of the key if nothing was sent; what `parse` returns; otherwise
    /// [`Failure::OutcomeUnknown`] for a call that may have been sent and must not be repeated, and
    /// [`Failure::Unavailable`] for any other.
    pub(super) async fn call<T: Send>(
        &self,
        caller: Caller<'_>,
        call: Call,
        parse: impl FnOnce(&Answer) -> Result<T, Failure> + Send,
    ) -> Result<T, Failure> {
        let class = Class::from(call.endpoint);
        let slot = self.admit(caller, class).await?;
        let is_known = slot.is_none();
        let result = self.send(caller.account, slot, call, parse).await;
        if is_known && result.is_ok() {
            self.slots.note_accepted(caller.client);
        }
        result
    }

    /// Admits a call if its key was not refused. Returns a slot for a key that the upstream has not accepted yet.
    async fn admit(&self, caller: Caller<'_>, class: Class) -> Result<Option<Slot>, Failure> {
        let Caller { account, client } = caller;
        // Nobody waits for a poll that makes its client wait anyway.
        let deadline = Some(self.slots.deadline()).filter(|_| class != Class::Poll);
        loop {
            self.check_refused(account, class)?;
            if self.keys.is_accepted(account) {
                return Ok(None);
            }
            let attempt = Attempt { account, client, was_refused: self.keys.was_refused(account), deadline };
            match self.slots.acquire(attempt).await {
                // The upstream may solve an image within a submit, which would keep the slot from others for long. A
                // balance shows at once whether the key is good.
                Acquired::Slot(slot) if class == Class::Submit && !slot.is_calm => {
                    let balance = call::get_balance(account);
                    let verified = self.send(account, Some(slot), balance, answer::parse_balance).await;
                    return verified.map(|_| None).map_err(to_refused_submit);
                }
                Acquired::Slot(slot) => return Ok(Some(slot)),
                Acquired::Retry => {}
                Acquired::Denied => {
                    // The call of the key that this one waited for may have shown why.
                    self.check_refused(account, class)?;
                    self.metrics.count_not_sent(class, NotSentReason::NewKeys);
                    return Err(Failure::NotSent);
                }
            }
        }
    }

    /// Returns the cached refusal of a key as an error.
    fn check_refused(&self, account: &Account, class: Class) -> Result<(), Failure> {
        let Some(failure) = self.keys.refusal(account, class, self.clock.now()) else { return Ok(()) };
        self.metrics.count_not_sent(class, NotSentReason::RefusedKey);
        Err(failure)
    }

    async fn send<T: Send>(
        &self,
        account: &Account,
        mut slot: Option<Slot>,
        call: Call,
        parse: impl FnOnce(&Answer) -> Result<T, Failure> + Send,
    ) -> Result<T, Failure> {
        let endpoint = call.endpoint;
        let class = Class::from(endpoint);
        let accepted = Some(account).filter(|_| slot.is_none());
        let permit = match self.budget.try_acquire(class, accepted, self.clock.now()) {
            Ok(permit) => permit,
            Err(denied) => {
                if let Some(slot) = &mut slot {
                    slot.set_end(CallEnd::Exempt);
                }
                self.metrics.count_not_sent(class, NotSentReason::Budget(denied));
                return Err(Failure::NotSent);
            }
        };
        let began_at = self.clock.now();
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
                (Err(failure_without_answer(endpoint, error.sent)), CallResult::Failed(error.cause))
            }
        };
        self.metrics.count_call(endpoint, label, started.elapsed());
        let change = self.keys.note(account, class, result.as_ref().err(), began_at, self.clock.now());
        if let (Some(change), Some(store)) = (change, &self.key_store) {
            store.save(account, change, self.clock.now());
        }
        let end = match &sent {
            Ok(answer) => call_end::from_answer(endpoint, answer.status, result.as_ref().err()),
            Err(error) => call_end::without_answer(error.sent),
        };
        if let Some(slot) = &mut slot {
            slot.set_end(end);
        }
        result
    }
}

/// Returns the failure of a submit whose key was verified by a balance, and not accepted.
fn to_refused_submit(failure: Failure) -> Failure {
    match failure {
        // The account has this error, whatever the call.
        Failure::KeyUnknown
        | Failure::KeyMalformed
        | Failure::AddressRefused
        | Failure::ZeroBalance
        | Failure::Other(_) => failure,
        _ => Failure::NotSent,
    }
}

/// Returns the failure of a call without an answer.
fn failure_without_answer(endpoint: Endpoint, was_sent: bool) -> Failure {
    match (was_sent, endpoint.is_idempotent()) {
        (false, _) => Failure::NotSent,
        (true, true) => Failure::Unavailable,
        (true, false) => Failure::OutcomeUnknown,
    }
}
