//! What the threads of the database share with the tasks that use it: whether writes succeed, and how much waits.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// A transaction that takes longer counts as a failure of the medium, so that submits are refused and not kept waiting.
const STALL: Duration = Duration::from_secs(2);
/// Most changes that wait to be written. Beyond them, writes fail at once.
const QUEUED_MAX: usize = 200_000;

/// The state of a database.
#[derive(Debug)]
pub(super) struct Status {
    started: Instant,
    is_failing: AtomicBool,
    /// Why.
    failure: Mutex<String>,
    /// The database is damaged, and stays so.
    is_damaged: AtomicBool,
    /// When the transaction in progress began, in milliseconds since the start, plus one; 0 if there is none.
    busy_since: AtomicU64,
    queued: AtomicUsize,
    /// Values that expired before this time may be removed, in Unix seconds.
    pub(super) expired_before_s: AtomicI64,
    /// Size of the files, for metrics.
    pub(super) size_bytes: AtomicU64,
    /// Whether the reader has just copied most of the log, so that the writer copies the rest.
    pub(super) is_log_copied: AtomicBool,
}

impl Status {
    #[expect(clippy::disallowed_methods, reason = "the threads of the database do not run on tokio")]
    pub(super) fn new() -> Self {
        Self {
            started: Instant::now(),
            is_failing: AtomicBool::new(false),
            failure: Mutex::default(),
            is_damaged: AtomicBool::new(false),
            busy_since: AtomicU64::new(0),
            queued: AtomicUsize::new(0),
            expired_before_s: AtomicI64::new(0),
            size_bytes: AtomicU64::new(0),
            is_log_copied: AtomicBool::new(false),
        }
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Notes the begin of a transaction.
    pub(super) fn begin(&self) {
        self.busy_since.store(self.elapsed_ms() + 1, Ordering::Relaxed);
    }

    /// Notes the end of a transaction. Returns whether this changes what is known of the medium.
    pub(super) fn end(&self, failure: Option<&str>) -> bool {
        self.busy_since.store(0, Ordering::Relaxed);
        if let Some(failure) = failure {
            failure.clone_into(&mut self.failure.lock());
        }
        self.is_failing.swap(failure.is_some(), Ordering::Relaxed) != failure.is_some()
    }

    /// Notes that the database is damaged.
    pub(super) fn set_damaged(&self, why: &str) {
        why.clone_into(&mut self.failure.lock());
        self.is_damaged.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_failing(&self) -> bool {
        self.is_failing.load(Ordering::Relaxed)
    }

    fn is_stalled(&self) -> bool {
        let since = self.busy_since.load(Ordering::Relaxed);
        since > 0 && u128::from(self.elapsed_ms().saturating_sub(since)) >= STALL.as_millis()
    }

    pub(super) fn is_available(&self) -> bool {
        !self.is_failing() && !self.is_damaged.load(Ordering::Relaxed) && !self.is_stalled()
    }

    /// Returns why writes do not succeed at present.
    pub(super) fn trouble(&self) -> Option<String> {
        if self.is_damaged.load(Ordering::Relaxed) || self.is_failing() {
            Some(self.failure.lock().clone())
        } else if self.is_stalled() {
            Some("a write takes very long".to_owned())
        } else {
            None
        }
    }

    /// Counts changes that begin to wait. Returns `false` if too many do.
    pub(super) fn try_queue(&self, changes: usize) -> bool {
        let queued = self.queued.fetch_add(changes, Ordering::Relaxed);
        let fits = queued + changes <= QUEUED_MAX;
        if !fits {
            self.unqueue(changes);
        }
        fits
    }

    pub(super) fn unqueue(&self, changes: usize) {
        self.queued.fetch_sub(changes, Ordering::Relaxed);
    }
}
