//! The one way upstream: every native call passes here, is allowed or shed, measured, and read.

use std::sync::Arc;

use dashmap::DashMap;
use tokio::time::Instant;

use super::Upstream;
use crate::budget::{Budget, Class};
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::native::{Answer, Call};
use crate::op::{Account, Failure, Moment};

/// Most keys that are remembered for what the upstream said of them. Above it the oldest rule holds: it is asked.
const REFUSED_MAX: usize = 100_000;

/// The way upstream.
pub(super) struct Outlet {
    pub(super) upstream: Arc<dyn Upstream>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) budget: Arc<Budget>,
    pub(super) clock: Clock,
    pub(super) refused: Refused,
}

impl Outlet {
    /// Sends a call of an account, reads the answer, counts both. What is shed or refused here was surely not sent.
    pub(super) async fn ask<T: Send>(
        &self,
        account: &Account,
        call: Call,
        read: impl FnOnce(&Answer) -> Result<T, Failure> + Send,
    ) -> Result<T, Failure> {
        let endpoint = call.endpoint;
        let class = Class::of(endpoint);
        if let Some(failure) = self.refused.find(account, class, self.clock.now()) {
            self.metrics.shed(class, "refused");
            return Err(failure);
        }
        let permit = match self.budget.take(class, account, self.clock.now()) {
            Ok(permit) => permit,
            Err(why) => {
                self.metrics.shed(class, why.label());
                return Err(Failure::Shed);
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
                    Err(Failure::Shed) => "rate_limited",
                    Err(Failure::Unavailable | Failure::FateUnknown) => "unusable",
                    Err(_) => "refused",
                };
                (result, label)
            }
            Err(error) if error.sent && !endpoint.may_be_repeated() => (Err(Failure::FateUnknown), error.what),
            Err(error) => (Err(Failure::Unavailable), error.what),
        };
        self.metrics.upstream_call(endpoint, label, began.elapsed());
        self.refused.note(account, class, result.as_ref().err(), self.clock.now());
        result
    }
}

/// Keys that the upstream has refused a moment ago, so that a client in a loop costs nothing, and cannot get our address
/// banned for it (services of this kind ban it after some tens of bad keys).
#[derive(Debug)]
pub(super) struct Refused {
    ttl_ms: u64,
    accounts: DashMap<Account, (Failure, Moment)>,
}

impl Refused {
    /// Nothing refused so far.
    pub(super) fn new(ttl_ms: u64) -> Self {
        Self { ttl_ms, accounts: DashMap::new() }
    }

    /// What the upstream said of this key, if that is still in force for such a call.
    fn find(&self, account: &Account, class: Class, now: Moment) -> Option<Failure> {
        let known = self.accounts.get(account)?;
        let (failure, until) = known.value();
        (now < *until && concerns(failure, class)).then(|| failure.clone())
    }

    /// Notes how a call ended.
    fn note(&self, account: &Account, class: Class, failure: Option<&Failure>, now: Moment) {
        match failure {
            Some(failure) if concerns(failure, class) && self.ttl_ms > 0 => {
                if self.accounts.len() >= REFUSED_MAX {
                    self.accounts.retain(|_, (_, until)| now < *until);
                }
                if self.accounts.len() < REFUSED_MAX {
                    self.accounts.insert(account.clone(), (failure.clone(), now.after_ms(self.ttl_ms)));
                }
            }
            Some(_) => {}
            // The key works, whatever was said of it; money is known to be there only once it is spent.
            None => drop(self.accounts.remove_if(account, |_, (said, _)| concerns(said, class))),
        }
    }
}

/// Whether such a refusal is about the key, so that the next call of this class would get it as well.
fn concerns(failure: &Failure, class: Class) -> bool {
    match failure {
        Failure::KeyUnknown | Failure::KeyMalformed | Failure::AddressRefused => true,
        // Asking for an answer costs nothing.
        Failure::ZeroBalance => class == Class::Submit,
        _ => false,
    }
}
