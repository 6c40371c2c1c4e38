//! The cache of keys that the upstream accepted, and of keys that it recently refused.

use dashmap::DashMap;

use crate::budget::Class;
use crate::domain::{Account, Failure, Moment};

/// Most refused keys in the cache. Above it, calls of further refused keys go upstream each time.
const REFUSED_MAX: usize = 100_000;
/// Most accepted keys in the cache. Above it, the cache is cleared and all keys count as unverified again.
const ACCEPTED_MAX: usize = 100_000;

/// Cache of accepted and refused keys. A refusal is cached briefly, so that a client in a loop costs no upstream calls:
/// services of this kind ban an address after a few dozen bad keys.
#[derive(Debug)]
pub(super) struct Keys {
    refused_ttl_ms: u64,
    refused: DashMap<Account, (Failure, Moment)>,
    accepted: DashMap<Account, ()>,
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
        let (failure, expires) = entry.value();
        let is_valid = now < *expires && is_key_failure(failure, class);
        is_valid.then(|| if class == Class::Poll { Failure::NotSent } else { failure.clone() })
    }

    /// Whether the upstream has accepted the key before.
    pub(super) fn is_accepted(&self, account: &Account) -> bool {
        self.accepted.contains_key(account)
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
        self.refused.remove_if(account, |_, (failure, _)| is_key_failure(failure, class));
    }

    fn note_refused(&self, account: &Account, failure: &Failure, now: Moment) {
        // The key of an empty account is still valid.
        if *failure != Failure::ZeroBalance {
            self.accepted.remove(account);
        }
        if self.refused.len() >= REFUSED_MAX {
            self.refused.retain(|_, (_, expires)| now < *expires);
        }
        if self.refused.len() < REFUSED_MAX && self.refused_ttl_ms > 0 {
            self.refused.insert(account.clone(), (failure.clone(), now.after_ms(self.refused_ttl_ms)));
        }
    }
}

/// Whether a failure is about the key, so that the next call of this class would fail the same way.
fn is_key_failure(failure: &Failure, class: Class) -> bool {
    match failure {
        Failure::KeyUnknown | Failure::KeyMalformed | Failure::AddressRefused => true,
        // Only submits cost money.
        Failure::ZeroBalance => class == Class::Submit,
        _ => false,
    }
}
