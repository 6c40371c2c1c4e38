//! Slots for calls of keys that the upstream has not accepted yet: the asynchronous shell around [`NewKeys`].

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::budget::{Admission, Attempt, CallEnd, NewKeys, NewKeysOptions, Wake, Woken};
use crate::clock::Clock;
use crate::domain::{Account, Moment};
use crate::http::ClientNetwork;

/// Slots, and the calls that wait for one. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Slots {
    keys: Arc<Mutex<NewKeys<Waiting>>>,
    wait_ms: u64,
    clock: Clock,
}

/// A call that waits, and its client.
type Waiting = (oneshot::Sender<Acquired>, Option<ClientNetwork>);

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

/// A slot for one call. It is used up when dropped, unless the call has ended otherwise.
#[derive(Debug)]
pub(super) struct Slot {
    slots: Slots,
    account: Account,
    client: Option<ClientNetwork>,
    /// Whether at least half of the slots were still free, and no answer casts doubt on the key.
    pub(super) is_calm: bool,
    end: CallEnd,
}

impl Slot {
    /// Records how the call has ended.
    pub(super) fn set_end(&mut self, end: CallEnd) {
        self.end = end;
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut woken = Woken::new();
        let now = self.slots.clock.now();
        self.slots.keys.lock().end(&self.account, self.client, self.end, now, &mut woken);
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
        let waiting = (acquired_tx, attempt.client);
        let admission = self.keys.lock().begin(attempt, waiting, self.clock.now(), &mut woken);
        self.wake(woken);
        match admission {
            Admission::Slot { is_calm } => {
                return Acquired::Slot(self.slot(attempt.account.clone(), attempt.client, is_calm));
            }
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

    /// Records that a client uses a key that the upstream accepted before.
    pub(super) fn note_accepted(&self, client: Option<ClientNetwork>) {
        if client.is_some() {
            self.keys.lock().note_accepted(client, self.clock.now());
        }
    }

    fn slot(&self, account: Account, client: Option<ClientNetwork>, is_calm: bool) -> Slot {
        Slot { slots: self.clone(), account, client, is_calm, end: CallEnd::Refused }
    }

    /// Wakes waiting calls, without the lock: a call that is gone returns its slot here.
    fn wake(&self, woken: Woken<Waiting>) {
        for ((acquired_tx, client), account, wake) in woken {
            let acquired = match wake {
                Wake::Slot => Acquired::Slot(self.slot(account, client, false)),
                Wake::Retry => Acquired::Retry,
                Wake::Denied => Acquired::Denied,
            };
            if let Err(Acquired::Slot(mut slot)) = acquired_tx.send(acquired) {
                slot.set_end(CallEnd::Exempt);
            }
        }
    }
}
