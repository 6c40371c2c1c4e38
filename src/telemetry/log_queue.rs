//! The bounded queue between the threads that log and the thread that writes.

use std::time::Duration;

use chrono::{DateTime, Utc};
use parking_lot::{Condvar, Mutex};
use prometheus::IntCounter;

use super::access_log::AccessEntry;

/// Most entries in the queue: some 15 MB, twice over while they are written.
const ENTRIES_MAX: usize = 65_536;

/// How long the writer collects entries before it writes them. Waking another thread costs more than a poll.
const COLLECT: Duration = Duration::from_millis(50);

/// Entries that wait to be written.
#[derive(Debug)]
pub(super) struct LogQueue {
    state: Mutex<State>,
    /// Notified when the queue is no longer empty, when a flush is requested, and when one is complete.
    changed: Condvar,
    dropped: IntCounter,
}

#[derive(Debug, Default)]
struct State {
    entries: Vec<Entry>,
    flushes_requested: u64,
    flushes_done: u64,
}

impl State {
    fn has_flush_request(&self) -> bool {
        self.flushes_requested != self.flushes_done
    }
}

/// A line of the log.
#[derive(Debug)]
pub(super) enum Entry {
    /// A formatted event, without a line end.
    Event(String),
    /// A request, formatted by the writer.
    Access(DateTime<Utc>, AccessEntry),
}

impl LogQueue {
    /// Creates an empty queue. `dropped` counts the entries that find it full.
    pub(super) fn new(dropped: IntCounter) -> Self {
        Self { state: Mutex::default(), changed: Condvar::new(), dropped }
    }

    /// Adds an entry, or drops it if the queue is full.
    pub(super) fn push(&self, entry: Entry) {
        let mut state = self.state.lock();
        if state.entries.len() >= ENTRIES_MAX {
            drop(state);
            self.dropped.inc();
            return;
        }
        state.entries.push(entry);
        if state.entries.len() == 1 {
            self.changed.notify_all();
        }
    }

    /// Waits until every entry so far is written, for two seconds at most, because a pipe without a reader blocks the
    /// writer.
    pub(super) fn flush(&self) {
        const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);
        let mut state = self.state.lock();
        state.flushes_requested += 1;
        let request = state.flushes_requested;
        self.changed.notify_all();
        let _ = self.changed.wait_while_for(&mut state, |state| state.flushes_done < request, FLUSH_TIMEOUT);
    }

    /// Blocks until there are entries or a flush is requested, and swaps the entries with an empty vector. Returns the
    /// number of the flush request to complete with [`LogQueue::complete_flush`].
    #[expect(clippy::disallowed_methods, reason = "called by the log's own thread, which serves no request")]
    pub(super) fn take(&self, entries: &mut Vec<Entry>) -> u64 {
        let mut state = self.state.lock();
        self.changed.wait_while(&mut state, |state| state.entries.is_empty() && !state.has_flush_request());
        if !state.has_flush_request() {
            drop(state);
            std::thread::sleep(COLLECT);
            state = self.state.lock();
        }
        std::mem::swap(entries, &mut state.entries);
        state.flushes_requested
    }

    /// Wakes the threads that wait for this flush request or an earlier one.
    pub(super) fn complete_flush(&self, request: u64) {
        self.state.lock().flushes_done = request;
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_that_find_the_queue_full_are_counted() {
        let dropped = IntCounter::new("dropped", "Dropped.").expect("a counter");
        let queue = LogQueue::new(dropped.clone());
        for _ in 0..ENTRIES_MAX + 3 {
            queue.push(Entry::Event(String::new()));
        }
        assert_eq!(dropped.get(), 3);
        let mut entries = Vec::new();
        queue.take(&mut entries);
        assert_eq!(entries.len(), ENTRIES_MAX);
        queue.push(Entry::Event(String::new()));
        assert_eq!(dropped.get(), 3);
    }
}
