//! What the upstream has said of keys: which it has accepted, and which it refused a moment ago.

use dashmap::DashMap;

use crate::budget::Class;
use crate::domain::{Account, Failure, Moment};

/// Most keys that are remembered as refused. Above it, a further one is asked for each time.
const REFUSED_MAX: usize = 100_000;
/// Most keys that are remembered as accepted. Above it, all are forgotten and are strangers once more.
const ACCEPTED_MAX: usize = 100_000;

/// Keys, as the upstream sees them. A refused one is remembered briefly, so that a client in a loop costs nothing;
/// services of this kind ban an address for some tens of bad keys.
#[derive(Debug)]
pub(super) struct Keys {
    refused_ttl_ms: u64,
    refused: DashMap<Account, (Failure, Moment)>,
    accepted: DashMap<Account, ()>,
}

impl Keys {
    /// Nothing said so far.
    pub(super) fn new(refused_ttl_ms: u64) -> Self {
        Self { refused_ttl_ms, refused: DashMap::new(), accepted: DashMap::new() }
    }

    /// What such a call would be answered, if it would only be refused once more. A poll is not told so: its key was good
    /// when its task was taken, and a client takes that word for the end of it.
    pub(super) fn refusal(&self, account: &Account, class: Class, now: Moment) -> Option<Failure> {
        let known = self.refused.get(account)?;
        let (failure, until) = known.value();
        let is_in_force = now < *until && concerns(failure, class);
        is_in_force.then(|| if class == Class::Poll { Failure::NotSent } else { failure.clone() })
    }

    /// Whether the upstream has accepted it before.
    pub(super) fn is_accepted(&self, account: &Account) -> bool {
        self.accepted.contains_key(account)
    }

    /// Notes how a call ended.
    pub(super) fn note(&self, account: &Account, class: Class, failure: Option<&Failure>, now: Moment) {
        match failure {
            Some(failure) if concerns(failure, class) => {
                // Whoever has no money has a key that is good.
                if *failure != Failure::ZeroBalance {
                    self.accepted.remove(account);
                }
                if self.refused.len() >= REFUSED_MAX {
                    self.refused.retain(|_, (_, until)| now < *until);
                }
                if self.refused.len() < REFUSED_MAX && self.refused_ttl_ms > 0 {
                    self.refused.insert(account.clone(), (failure.clone(), now.after_ms(self.refused_ttl_ms)));
                }
            }
            Some(_) => {}
            None => {
                if !self.is_accepted(account) {
                    if self.accepted.len() >= ACCEPTED_MAX {
                        self.accepted.clear();
                    }
                    self.accepted.insert(account.clone(), ());
                }
                // The key works, whatever was said of it; money is known to be there only once it is spent.
                self.refused.remove_if(account, |_, (said, _)| concerns(said, class));
            }
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
