//! Tasks in the order of a moment: when to look whether a record has expired, when to ask ahead.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use crate::domain::{LegacyId, Moment};

/// Tasks and their moments. Locked only inside of its methods, which call nothing, so that any other lock may be held.
#[derive(Debug, Default)]
pub(super) struct Queue(Mutex<BTreeSet<(Moment, LegacyId)>>);

/// The head of a queue.
pub(super) enum Next {
    /// This one's moment has come; it is no longer in the queue.
    Due(LegacyId),
    /// Nothing before this moment.
    At(Moment),
    /// Nothing.
    Empty,
}

impl Queue {
    pub(super) fn insert(&self, moment: Moment, id: LegacyId) {
        self.with(|queue| queue.insert((moment, id)));
    }

    pub(super) fn remove(&self, moment: Moment, id: LegacyId) {
        self.with(|queue| queue.remove(&(moment, id)));
    }

    /// Moves a task to another moment.
    pub(super) fn shift(&self, from: Moment, to: Moment, id: LegacyId) {
        self.with(|queue| {
            queue.remove(&(from, id));
            queue.insert((to, id));
        });
    }

    pub(super) fn next(&self, now: Moment) -> Next {
        self.with(|queue| match queue.first() {
            None => Next::Empty,
            Some((moment, _)) if *moment > now => Next::At(*moment),
            Some((_, id)) => {
                let id = *id;
                queue.pop_first();
                Next::Due(id)
            }
        })
    }

    fn with<T>(&self, change: impl FnOnce(&mut BTreeSet<(Moment, LegacyId)>) -> T) -> T {
        // A panic while it was held leaves at worst a record that is looked at too late.
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
