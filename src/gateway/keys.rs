//! The cache of keys that the upstream accepted, and of keys that it recently refused.

use dashmap::DashMap;

use crate::budget::Class;
use crate::domain::{Account, Failure, Moment};

/// Most refused keys in the cache. Above it, calls of further refused keys go upstream each time.
const REFUSED_MAX: usize = 100_000;
/// Most accepted keys in the cache. Above it, those that were not used for longest count as unverified again.
const ACCEPTED_MAX: usize = 100_000;
/// One of how many accepted keys is evicted at a time, so that the eviction of each costs little.
const EVICTED_DIVISOR: usize = 16;
/// Refusals in a row after which a key that was accepted before counts as unverified again. A single one may be late, or a
/// fault of the upstream.
const REFUSALS_IN_A_ROW: u8 = 2;

/// How often a store learns that a key is still accepted, in milliseconds: far more often than it forgets one.
const SAVED_EVERY_MS: u64 = 24 * 60 * 60 * 1_000;

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
    accepted: DashMap<Account, Accepted>,
    accepted_max: usize,
}

/// A key that the upstream accepted.
#[derive(Clone, Copy, Debug)]
struct Accepted {
    /// When it was last accepted.
    last_use: Moment,
    refusals_in_a_row: u8,
    /// When a store last learned of it.
    saved_at: Moment,
}

/// What a store should learn of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyChange {
    /// The upstream accepted it, for the first time or after a long time.
    Accepted,
    /// It no longer counts as accepted.
    Refused,
}

/// The last refusal of a key.
#[derive(Debug)]
struct Refusal {
    failure: Failure,
    expires: Moment,
    ttl_ms: u64,
    /// Whether it concerns polls only: a refused poll casts doubt on the key, but a submit of a good key must not be refused
    /// for it.
    is_for_polls: bool,
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
        Self { refused_ttl_ms, refused: DashMap::new(), accepted: DashMap::new(), accepted_max: ACCEPTED_MAX }
    }

    /// Returns the cached refusal of a key, if it is still valid for this class of calls. Polls get
    /// [`Failure::NotSent`], because the key was good when the task was accepted and clients treat a key error as
    /// final.
    pub(super) fn refusal(&self, account: &Account, class: Class, now: Moment) -> Option<Failure> {
        let entry = self.refused.get(account)?;
        let Refusal { failure, expires, is_for_polls, .. } = entry.value();
        let concerns_class = class == Class::Poll || !is_for_polls;
        let is_valid = now < *expires && concerns_class && is_key_failure(failure, class);
        is_valid.then(|| if class == Class::Poll { Failure::NotSent } else { failure.clone() })
    }

    /// Whether the upstream has accepted the key before.
    pub(super) fn is_accepted(&self, account: &Account) -> bool {
        self.accepted.contains_key(account)
    }

    /// Whether the upstream refused the key before, and has not accepted it since.
    pub(super) fn was_refused(&self, account: &Account) -> bool {
        self.refused
            .get(account)
            .is_some_and(|refusal| refusal.failure != Failure::ZeroBalance && !refusal.is_for_polls)
    }

    /// Records how a call of a key ended that began at `began_at`. Returns what a store should learn.
    pub(super) fn note(
        &self,
        account: &Account,
        class: Class,
        failure: Option<&Failure>,
        began_at: Moment,
        now: Moment,
    ) -> Option<KeyChange> {
        match failure {
            None => self.note_accepted(account, class, now),
            Some(failure) if is_key_failure(failure, class) => {
                let was_accepted = self.note_refused(account, class, failure, began_at, now);
                (was_accepted && !self.is_accepted(account)).then_some(KeyChange::Refused)
            }
            Some(_) => None,
        }
    }

    /// Adds a key that the upstream accepted before this process started.
    pub(super) fn restore(&self, account: Account, now: Moment) {
        if self.accepted.len() < self.accepted_max {
            let accepted = Accepted { last_use: now, refusals_in_a_row: 0, saved_at: now };
            self.accepted.entry(account).or_insert(accepted);
        }
    }

    fn note_accepted(&self, account: &Account, class: Class, now: Moment) -> Option<KeyChange> {
        let known = self.accepted.get_mut(account).map(|mut known| {
            let is_due = now.millis_since(known.saved_at) >= SAVED_EVERY_MS;
            let saved_at = if is_due { now } else { known.saved_at };
            *known = Accepted { last_use: now, refusals_in_a_row: 0, saved_at };
            is_due
        });
        if known.is_none() {
            if self.accepted.len() >= self.accepted_max {
                self.evict_accepted();
            }
            let accepted = Accepted { last_use: now, refusals_in_a_row: 0, saved_at: now };
            self.accepted.insert(account.clone(), accepted);
        }
        // The key works, so a cached refusal is outdated, unless it is about money and this call cost none.
        self.refused.remove_if(account, |_, refusal| is_key_failure(&refusal.failure, class));
        known.unwrap_or(true).then_some(KeyChange::Accepted)
    }

    /// Removes the keys that were not accepted for longest.
    fn evict_accepted(&self) {
        let mut moments: Vec<Moment> = self.accepted.iter().map(|accepted| accepted.last_use).collect();
        if moments.is_empty() {
            return;
        }
        let last = moments.len() / EVICTED_DIVISOR;
        let (_, limit, _) = moments.select_nth_unstable(last);
        let limit = *limit;
        // Many keys may have been accepted in the same millisecond.
        let mut left = last + 1;
        self.accepted.retain(|_, accepted| {
            let is_evicted = left > 0 && accepted.last_use <= limit;
            left -= usize::from(is_evicted);
            !is_evicted
        });
    }

    /// Counts a refusal of a key that was accepted before. Returns whether it still counts as accepted.
    fn keeps_accepted(&self, account: &Account, began_at: Moment) -> bool {
        let Some(mut accepted) = self.accepted.get_mut(account) else { return false };
        // Calls that were in progress when the key was refused, or accepted again, say nothing new.
        let is_news = began_at >= accepted.last_use && self.refused_at(account).is_none_or(|at| at <= began_at);
        if is_news {
            accepted.refusals_in_a_row += 1;
        }
        accepted.refusals_in_a_row < REFUSALS_IN_A_ROW
    }

    /// Returns when the key was last refused, as far as that is cached.
    fn refused_at(&self, account: &Account) -> Option<Moment> {
        self.refused.get(account).map(|refusal| Moment(refusal.expires.0.saturating_sub(refusal.ttl_ms)))
    }

    /// Returns whether the key counted as accepted before.
    fn note_refused(&self, account: &Account, class: Class, failure: &Failure, began_at: Moment, now: Moment) -> bool {
        // The key of an empty account is still valid.
        let is_accepted = *failure == Failure::ZeroBalance || self.keeps_accepted(account, began_at);
        let was_accepted = is_accepted || self.accepted.remove(account).is_some();
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
            let is_for_polls = is_accepted && class == Class::Poll;
            let refusal = Refusal { failure: failure.clone(), expires: now.after_ms(ttl_ms), ttl_ms, is_for_polls };
            self.refused.insert(account.clone(), refusal);
        }
        was_accepted
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
            keys.note(&account, Class::Submit, Some(&Failure::KeyUnknown), now, now);
            let until = keys.refused.get(&account).expect("a refusal").expires;
            assert!(keys.refusal(&account, Class::Submit, now).is_some());
            assert!(keys.refusal(&account, Class::Submit, until).is_none() && keys.was_refused(&account));
            ttls.push(until.millis_since(now) / 1_000);
            now = until;
        }
        assert_eq!(ttls, [10, 20, 40, 80, 160, 320, 600, 600, 600]);
        keys.note(&account, Class::Submit, None, now, now);
        assert!(!keys.was_refused(&account));
        keys.note(&account, Class::Submit, Some(&Failure::KeyUnknown), now, now);
        assert!(keys.refusal(&account, Class::Submit, now.after_ms(10_000)).is_none(), "the key was accepted before");
    }

    #[test]
    fn one_refusal_does_not_make_an_accepted_key_a_stranger() {
        let keys = Keys::new(10_000);
        let account = Account::new("good").expect("a key");
        let note = |class, failure: Option<&Failure>, began_at, now| {
            keys.note(&account, class, failure, Moment(began_at), Moment(now));
        };
        note(Class::Submit, None, 0, 50);
        // A poll is refused, as are others that were in progress.
        for _ in 0..10 {
            note(Class::Poll, Some(&Failure::KeyUnknown), 100, 200);
        }
        assert!(keys.is_accepted(&account) && !keys.was_refused(&account));
        assert_eq!(keys.refusal(&account, Class::Submit, Moment(200)), None);
        assert_eq!(keys.refusal(&account, Class::Poll, Moment(200)), Some(Failure::NotSent), "other polls are spared");
        // A success ends the row, and a refusal of an earlier call arrives late.
        note(Class::Submit, None, 10_300, 10_400);
        note(Class::Poll, Some(&Failure::KeyUnknown), 10_300, 10_500);
        note(Class::Poll, Some(&Failure::KeyUnknown), 20_600, 20_700);
        assert!(keys.is_accepted(&account));
        // The second refusal in a row counts.
        note(Class::Poll, Some(&Failure::KeyUnknown), 30_800, 30_900);
        assert!(!keys.is_accepted(&account) && keys.was_refused(&account));
        assert_eq!(keys.refusal(&account, Class::Submit, Moment(30_900)), Some(Failure::KeyUnknown));
    }

    #[test]
    fn the_accepted_keys_that_were_not_used_for_longest_are_evicted_first() {
        let keys = Keys { accepted_max: 160, ..Keys::new(10_000) };
        let account = |number: u64| Account::new(&format!("key{number}")).expect("a key");
        let accept = |number, now| {
            let _ = keys.note(&account(number), Class::Submit, None, Moment(now), Moment(now));
        };
        (0..160).for_each(|number| accept(number, number));
        accept(0, 1_000);
        (160..166).for_each(|number| accept(number, 2_000 + number));
        assert!(keys.accepted.len() <= 160);
        let evicted: Vec<u64> = (0..166).filter(|number| !keys.is_accepted(&account(*number))).collect();
        assert_eq!(evicted, (1..12).collect::<Vec<_>>());
    }
}
