//! Tasks ordered by the moment at which they are due: to expire, or to be polled ahead of their clients.

use std::collections::BTreeSet;

use parking_lot::Mutex;

use crate::domain::{LegacyId, Moment};

/// Tasks and the moments at which they are due. Its lock is held only inside its methods, which take no other lock, so
/// that a caller may hold any.
#[derive(Debug, Default)]
pub(super) struct Queue(Mutex<BTreeSet<(Moment, LegacyId)>>);

/// The head of a queue.
pub(super) enum Next {
    /// This task is due, and was removed from the queue.
    Due(LegacyId),
    /// Nothing is due before this moment.
    At(Moment),
    /// The queue is empty.
    Empty,
}

impl Queue {
    pub(super) fn insert(&self, moment: Moment, id: LegacyId) {
        self.0.lock().insert((moment, id));
    }

    pub(super) fn remove(&self, moment: Moment, id: LegacyId) {
        self.0.lock().remove(&(moment, id));
    }

    pub(super) fn reschedule(&self, from: Moment, to: Moment, id: LegacyId) {
        let mut queue = self.0.lock();
        queue.remove(&(from, id));
        queue.insert((to, id));
    }

    /// Removes the first task, if it is due.
    pub(super) fn pop_due(&self, now: Moment) -> Next {
        let mut queue = self.0.lock();
        match queue.first().copied() {
            None => Next::Empty,
            Some((moment, _)) if moment > now => Next::At(moment),
            Some((_, id)) => {
                queue.pop_first();
                Next::Due(id)
            }
        }
    }
}
