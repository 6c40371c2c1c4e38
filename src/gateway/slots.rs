//! Slots for calls of keys that the upstream has not accepted yet: the asynchronous shell around [`NewKeys`].

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::budget::{Admission, Attempt, NewKeys, NewKeysOptions, Wake, Woken};
use crate::clock::Clock;
use crate::domain::{Account, Moment};

/// Slots, and the calls that wait for one. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Slots {
    keys: Arc<Mutex<NewKeys<oneshot::Sender<Acquired>>>>,
    wait_ms: u64,
    clock: Clock,
}

/// The result of waiting for a slot.
#[derive(Debug)]
pub(super) enum Acquired {
    /// The call may be sent.
    Slot(Slot),
    /// Another call of the key has ended, so the key may be known now.
    Retry,
    /// No slot was free in time.
    Denied,
}

/// A slot for one call. It is used up when dropped, unless it was cleared.
#[derive(Debug)]
pub(super) struct Slot {
    slots: Slots,
    account: Account,
    /// Whether at least half of the slots were still free.
    pub(super) is_calm: bool,
    is_used_up: bool,
}

impl Slot {
    /// Marks the slot as not used up: the upstream did not refuse the key.
    pub(super) fn clear(&mut self) {
        self.is_used_up = false;
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut woken = Woken::new();
        let now = self.slots.clock.now();
        self.slots.keys.lock().end(&self.account, self.is_used_up, now, &mut woken);
        self.slots.wake(woken);
    }
}

impl Slots {
    /// Creates the slots, all free.
    pub(super) fn new(options: NewKeysOptions, clock: Clock) -> Self {
        Self { keys: Arc::new(Mutex::new(NewKeys::new(options))), wait_ms: options.wait_ms, clock }
    }

    /// Returns the moment until which a call that arrives now may wait.
    pub(super) fn deadline(&self) -> Moment {
        self.clock.now().after_ms(self.wait_ms)
    }

    /// Takes a slot, and waits for one if the attempt has a deadline.
    pub(super) async fn acquire(&self, attempt: Attempt<'_>) -> Acquired {
        let (acquired_tx, mut acquired_rx) = oneshot::channel();
        let mut woken = Woken::new();
        let admission = self.keys.lock().begin(attempt, acquired_tx, self.clock.now(), &mut woken);
        self.wake(woken);
        match admission {
            Admission::Slot { is_calm } => return Acquired::Slot(self.slot(attempt.account.clone(), is_calm)),
            Admission::Denied => return Acquired::Denied,
            Admission::Waiting => {}
        }
        loop {
            let now = self.clock.now();
            let pause = Duration::from_millis(self.keys.lock().next_change(now).millis_since(now));
            if let Ok(acquired) = tokio::time::timeout(pause, &mut acquired_rx).await {
                return acquired.unwrap_or(Acquired::Denied);
            }
            let mut woken = Woken::new();
            self.keys.lock().advance(self.clock.now(), &mut woken);
            self.wake(woken);
        }
    }

    fn slot(&self, account: Account, is_calm: bool) -> Slot {
        Slot { slots: self.clone(), account, is_calm, is_used_up: true }
    }

    /// Wakes waiting calls, without the lock: a call that is gone returns its slot here.
    fn wake(&self, woken: Woken<oneshot::Sender<Acquired>>) {
        for (acquired_tx, account, wake) in woken {
            let acquired = match wake {
                Wake::Slot => Acquired::Slot(self.slot(account, false)),
                Wake::Retry => Acquired::Retry,
                Wake::Denied => Acquired::Denied,
            };
            if let Err(Acquired::Slot(mut slot)) = acquired_tx.send(acquired) {
                slot.clear();
            }
        }
    }
}
