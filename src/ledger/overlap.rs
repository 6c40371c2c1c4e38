//! A store that two processes use, for as long as an upgrade takes: the old one finishes its connections while the new one
//! serves. Each has tasks in memory that the other lacks, and states of tasks that the other has superseded.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Mutex, OwnedMutexGuard};

/// Whether another process uses the store.
#[derive(Debug, Default)]
pub(super) struct Overlap {
    /// Other processes that use the store.
    others: AtomicUsize,
    /// Held by whoever may save the state of the process, from which the next one continues.
    state: Arc<Mutex<()>>,
}

impl Overlap {
    /// Whether another process uses the store at present.
    pub(super) fn has_other_process(&self) -> bool {
        self.others.load(Ordering::Acquire) > 0
    }

    /// Counts another process that begins to use the store.
    pub(super) fn begin(&self) {
        self.others.fetch_add(1, Ordering::AcqRel);
    }

    /// Counts another process that has ended.
    pub(super) fn end(&self) {
        // A task that panics and starts again may count a process twice.
        let _ = self.others.fetch_update(Ordering::AcqRel, Ordering::Acquire, |others| others.checked_sub(1));
    }

    /// Returns the lock that whoever saves the state of the process holds.
    pub(super) fn state_lock(&self) -> Arc<Mutex<()>> {
        Arc::clone(&self.state)
    }
}

/// An upgrade in progress. The state of this process is saved and no longer changes. Dropped, the process goes on alone.
#[derive(Debug)]
pub struct Handover {
    overlap: Arc<Overlap>,
    _state: OwnedMutexGuard<()>,
}

impl Handover {
    /// Waits until the state of the process is saved, and keeps it so. Blocks the thread.
    pub(super) fn begin(overlap: Arc<Overlap>) -> Self {
        let state = overlap.state_lock().blocking_lock_owned();
        // From here on the new process may make tasks.
        overlap.begin();
        Self { overlap, _state: state }
    }

    /// Ends the upgrade: the new process has taken over, and this one never saves its state again.
    pub fn finish(self) {
        std::mem::forget(self);
    }
}

impl Drop for Handover {
    fn drop(&mut self) {
        self.overlap.end();
    }
}
