//! The thread that writes. It takes all changes that wait, up to a bound, and makes them durable in one transaction, so
//! that many tasks share one sync. Between the transactions it removes expired values, gives unused pages back, and
//! copies the log, each in small steps.

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::super::backend::{Change, Place, StoreError, Value};
use super::super::metrics::StoreMetrics;
use super::database::{Database, explain};
use super::reader;
use super::status::Status;

/// Most changes in one transaction.
const BATCH_CHANGES_MAX: usize = 128;
/// Shortest time from the end of one transaction to the begin of the next, in which more changes arrive to share it. A
/// change that comes after a pause does not wait.
const GATHER: Duration = Duration::from_millis(1);
/// Most expired values that a transaction with changes removes: about a millisecond.
const EXPIRED_BUSY: usize = 32;
/// Most expired values that a transaction of its own removes.
const EXPIRED_IDLE: usize = 256;
/// Pages that one step gives back: 256 KiB.
const RECLAIM_PAGES: u32 = 64;
/// Unused bytes that are kept, because new tasks will need them.
const FREE_BYTES_MIN: u64 = 1 << 20;
/// Changes after which the log is copied: some megabytes of log.
const CHECKPOINT_CHANGES: usize = 4_000;
/// Pause between attempts to write while the medium fails.
const RETRY: Duration = Duration::from_millis(500);
/// Pause without any work, after which the thread looks for expired values.
const IDLE: Duration = Duration::from_millis(250);
/// Most places whose last value could not be written and is kept for later.
const UNSAVED_MAX: usize = 100_000;

/// Work for the writer.
pub(super) enum Command {
    Write(Vec<Change>, oneshot::Sender<Result<(), StoreError>>),
    #[cfg(test)]
    LimitPages(u32),
}

/// The writer.
pub(super) struct Writer {
    pub(super) database: Database,
    pub(super) commands: Receiver<Command>,
    pub(super) reader: Sender<reader::Command>,
    pub(super) status: Arc<Status>,
    pub(super) metrics: StoreMetrics,
    /// Values that could not be written. Written when the medium works again, unless newer ones replace them.
    pub(super) unsaved: BTreeMap<Place, Option<Value>>,
    pub(super) upkeep: Upkeep,
    /// Keeps other processes out. The system releases it when the process ends, however it ends.
    pub(super) _lock: File,
}

/// What is to be done between the transactions.
pub(super) struct Upkeep {
    changes_since_checkpoint: usize,
    may_have_expired: bool,
    looked_at: Instant,
    /// Before this moment, a transaction waits for more changes.
    gathered_until: Instant,
}

impl Upkeep {
    #[expect(clippy::disallowed_methods, reason = "the threads of the database do not run on tokio")]
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self { changes_since_checkpoint: 0, may_have_expired: true, looked_at: now, gathered_until: now }
    }
}

#[derive(Default)]
struct Batch {
    changes: Vec<Change>,
    waiting: Vec<oneshot::Sender<Result<(), StoreError>>>,
}

impl Writer {
    /// Runs until the backend is dropped, and then writes what still waits.
    pub(super) fn run(mut self) {
        loop {
            let first = match self.commands.recv_timeout(self.pause()) {
                Ok(command) => Some(command),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let batch = self.collect(first);
            if batch.changes.is_empty() {
                batch.waiting.into_iter().for_each(|written_tx| drop(written_tx.send(Ok(()))));
                self.idle();
            } else {
                self.commit(batch);
            }
            self.maintain();
        }
    }

    fn pause(&self) -> Duration {
        match (self.status.is_failing(), self.upkeep.may_have_expired) {
            (true, _) => RETRY,
            (false, true) => Duration::from_millis(1),
            (false, false) => IDLE,
        }
    }

    #[expect(clippy::disallowed_methods, reason = "the threads of the database do not run on tokio")]
    fn collect(&self, first: Option<Command>) -> Batch {
        let mut batch = Batch::default();
        let mut next = first;
        while let Some(command) = next {
            match command {
                Command::Write(changes, written_tx) => {
                    batch.changes.extend(changes);
                    batch.waiting.push(written_tx);
                }
                #[cfg(test)]
                Command::LimitPages(pages) => self.database.limit_pages(pages),
            }
            next = if batch.changes.len() >= BATCH_CHANGES_MAX {
                None
            } else if let Ok(command) = self.commands.try_recv() {
                Some(command)
            } else {
                let wait = self.upkeep.gathered_until.saturating_duration_since(Instant::now());
                if wait.is_zero() { None } else { self.commands.recv_timeout(wait).ok() }
            };
        }
        batch
    }

    #[expect(clippy::disallowed_methods, reason = "the threads of the database do not run on tokio")]
    fn commit(&mut self, batch: Batch) {
        let Batch { changes, waiting } = batch;
        let result = self.write(changes.iter(), EXPIRED_BUSY);
        self.status.unqueue(changes.len());
        self.upkeep.changes_since_checkpoint += changes.len();
        for Change { place, value } in changes {
            if result.is_ok() {
                self.unsaved.remove(&place);
            } else if self.unsaved.len() < UNSAVED_MAX || self.unsaved.contains_key(&place) {
                self.unsaved.insert(place, value);
            }
        }
        for written_tx in waiting {
            drop(written_tx.send(result.clone()));
        }
        self.upkeep.gathered_until = Instant::now() + GATHER;
    }

    /// Writes in one transaction, and tells everybody whether that succeeds.
    fn write<'a>(
        &mut self,
        changes: impl ExactSizeIterator<Item = &'a Change>,
        expired_max: usize,
    ) -> Result<(), StoreError> {
        let count = changes.len();
        let expired_max = if self.upkeep.may_have_expired { expired_max } else { 0 };
        let before_s = self.status.expired_before_s.load(Ordering::Relaxed);
        let is_probe = self.status.is_failing();
        let result = self.attempt(count, |database| database.apply(changes, before_s, expired_max, is_probe));
        if let Ok(removed) = &result {
            self.metrics.count_expired(*removed);
            self.upkeep.may_have_expired &= *removed == expired_max && expired_max > 0;
        }
        result.map(drop)
    }

    #[expect(clippy::disallowed_methods, reason = "the threads of the database do not run on tokio")]
    fn attempt<T>(
        &mut self,
        changes: usize,
        transaction: impl FnOnce(&mut Database) -> super::database::Result<T>,
    ) -> Result<T, StoreError> {
        self.status.begin();
        let started = Instant::now();
        let result = transaction(&mut self.database).map_err(|error| explain(&error));
        self.metrics.observe_write(changes, started.elapsed(), result.is_ok());
        let failure = result.as_ref().err().map(ToString::to_string);
        if self.status.end(failure.as_deref()) {
            if let Some(failure) = failure {
                tracing::error!(kind = failure, "writes to the store fail: submits are refused");
            } else {
                tracing::info!("writes to the store succeed again");
            }
        }
        result
    }

    /// Uses a pause: tries what failed before, or removes expired values.
    fn idle(&mut self) {
        if !self.unsaved.is_empty() {
            let places: Vec<Place> = self.unsaved.keys().copied().take(BATCH_CHANGES_MAX).collect();
            let changes: Vec<Change> = places
                .iter()
                .map(|place| Change { place: *place, value: self.unsaved.get(place).cloned().flatten() })
                .collect();
            if self.write(changes.iter(), 0).is_ok() {
                for place in places {
                    self.unsaved.remove(&place);
                }
            }
        } else if self.status.is_failing() {
            drop(self.write([].iter(), 0));
        } else if self.upkeep.may_have_expired {
            drop(self.write([].iter(), EXPIRED_IDLE));
            self.upkeep.changes_since_checkpoint += EXPIRED_IDLE;
        }
    }

    /// Does the rare work between the transactions.
    #[expect(clippy::disallowed_methods, reason = "the threads of the database do not run on tokio")]
    fn maintain(&mut self) {
        if self.status.is_failing() {
            return;
        }
        // The reader copies most of the log while this thread goes on writing; the rest is short. Only then does SQLite
        // write the log from its begin again.
        if self.status.is_log_copied.swap(false, Ordering::Relaxed) {
            drop(self.database.checkpoint());
        } else if self.upkeep.changes_since_checkpoint >= CHECKPOINT_CHANGES {
            self.upkeep.changes_since_checkpoint = 0;
            drop(self.reader.send(reader::Command::Checkpoint));
        }
        if self.upkeep.looked_at.elapsed() >= Duration::from_secs(1) {
            self.upkeep.looked_at = Instant::now();
            self.upkeep.may_have_expired = true;
            if let Ok((size, _)) = self.database.size_bytes() {
                self.status.size_bytes.store(size, Ordering::Relaxed);
            }
        }
        if let Ok((size, free)) = self.database.size_bytes()
            && free > FREE_BYTES_MIN.max(size / 4)
        {
            drop(self.database.reclaim(RECLAIM_PAGES));
            self.upkeep.changes_since_checkpoint += RECLAIM_PAGES as usize;
        }
    }
}
