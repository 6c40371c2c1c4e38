//! The cache of keys that the upstream accepted, and of keys that it recently refused.

use dashmap::DashMap;

use crate::budget::Class;
use crate::domain::{Account, Failure, Moment};

/// Most refused keys in the cache. Above it, calls of further refused keys go upstream each time.
const REFUSED_MAX: usize = 100_000;
/// Most accepted keys in the cache. Above it, the cache is cleared and all keys count as unverified again.
const ACCEPTED_MAX: usize = 100_000;

/// Longest time for which a key that was never accepted is refused from memory, in milliseconds.
const REFUSED_TTL_MAX_MS: u64 = 600_000;

/// Cache of accepted and refused keys. A refusal is cached briefly, so that a client in a loop costs no upstream calls:
/// services of this kind ban an address after a few dozen bad keys. For a key that was never accepted, the time doubles
/// with each refusal in a row, because clients in a loop would otherwise use up the
/// [slots](super::slots::Slots) of new keys.
#[derive(Debug)]
pub(super) struct Keys {
    refused_ttl_ms: u64,
    refused: DashMap<Account, Refusal>,
    accepted: DashMap<Account, ()>,
}

/// The last refusal of a key.
#[derive(Debug)]
struct Refusal {
    failure: Failure,
    expires: Moment,
    ttl_ms: u64,
}

impl Refusal {
    /// Whether the next refusal may still count as one in a row.
    fn is_remembered(&self, now: Moment) -> bool {
        now < self.expires.after_ms(self.ttl_ms)
    }
}

impl Keys {
    /// Creates an empty cache.
    pub(super) fn new(refused_ttl_ms: u64) -> Self {
        Self { refused_ttl_ms, refused: DashMap::new(), accepted: DashMap::new() }
    }

    /// Returns the cached refusal of a key, if it is still valid for this class of calls. Polls get
    /// [`Failure::NotSent`], because the key was good when the task was accepted and clients treat a key error as
    /// final.
    pub(super) fn refusal(&self, account: &Account, class: Class, now: Moment) -> Option<Failure> {
        let entry = self.refused.get(account)?;
        let Refusal { failure, expires, .. } = entry.value();
        let is_valid = now < *expires && is_key_failure(failure, class);
        is_valid.then(|| if class == Class::Poll { Failure::NotSent } else { failure.clone() })
    }

    /// Whether the upstream has accepted the key before.
    pub(super) fn is_accepted(&self, account: &Account) -> bool {
        self.accepted.contains_key(account)
    }

    /// Whether the upstream refused the key before, and has not accepted it since.
    pub(super) fn was_refused(&self, account: &Account) -> bool {
        self.refused.get(account).is_some_and(|refusal| refusal.failure != Failure::ZeroBalance)
    }

    /// Records how a call of a key ended.
    pub(super) fn note(&self, account: &Account, class: Class, failure: Option<&Failure>, now: Moment) {
        match failure {
            None => self.note_accepted(account, class),
            Some(failure) if is_key_failure(failure, class) => self.note_refused(account, failure, now),
            Some(_) => {}
        }
    }

    fn note_accepted(&self, account: &Account, class: Class) {
        if !self.is_accepted(account) {
            if self.accepted.len() >= ACCEPTED_MAX {
                self.accepted.clear();
            }
            self.accepted.insert(account.clone(), ());
        }
        // The key works, so a cached refusal is outdated, unless it is about money and this call cost none.
        self.refused.remove_if(account, |_, refusal| is_key_failure(&refusal.failure, class));
    }

    fn note_refused(&self, account: &Account, failure: &Failure, now: Moment) {
        // The key of an empty account is still valid.
        let was_accepted = *failure == Failure::ZeroBalance || self.accepted.remove(account).is_some();
        if self.refused.len() >= REFUSED_MAX {
            self.refused.retain(|_, refusal| refusal.is_remembered(now));
        }
        if self.refused.len() < REFUSED_MAX && self.refused_ttl_ms > 0 {
            let last_ttl_ms = self.refused.get(account).filter(|last| last.is_remembered(now)).map(|last| last.ttl_ms);
            let ttl_ms = match last_ttl_ms {
                Some(last_ttl_ms) if !was_accepted => {
                    (last_ttl_ms * 2).min(REFUSED_TTL_MAX_MS.max(self.refused_ttl_ms))
                }
                _ => self.refused_ttl_ms,
            };
            let refusal = Refusal { failure: failure.clone(), expires: now.after_ms(ttl_ms), ttl_ms };
            self.refused.insert(account.clone(), refusal);
        }
    }
}

/// Whether the upstream refused the key itself.
pub(super) fn is_key_refused(failure: &Failure) -> bool {
    matches!(failure, Failure::KeyUnknown | Failure::KeyMalformed | Failure::AddressRefused)
}

/// Whether a failure is about the key, so that the next call of this class would fail the same way.
fn is_key_failure(failure: &Failure, class: Class) -> bool {
    // Only submits cost money.
    is_key_refused(failure) || (*failure == Failure::ZeroBalance && class == Class::Submit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_was_never_accepted_is_refused_for_longer_each_time() {
        let keys = Keys::new(10_000);
        let account = Account::new("bad").expect("a key");
        let mut now = Moment(0);
        let mut ttls = Vec::new();
        for _ in 0..9 {
            keys.note(&account, Class::Submit, Some(&Failure::KeyUnknown), now);
            let until = keys.refused.get(&account).expect("a refusal").expires;
            assert!(keys.refusal(&account, Class::Submit, now).is_some());
            assert!(keys.refusal(&account, Class::Submit, until).is_none() && keys.was_refused(&account));
            ttls.push(until.millis_since(now) / 1_000);
            now = until;
        }
        assert_eq!(ttls, [10, 20, 40, 80, 160, 320, 600, 600, 600]);
        keys.note(&account, Class::Submit, None, now);
        assert!(!keys.was_refused(&account));
        keys.note(&account, Class::Submit, Some(&Failure::KeyUnknown), now);
        assert!(keys.refusal(&account, Class::Submit, now.after_ms(10_000)).is_none(), "the key was accepted before");
    }
}
