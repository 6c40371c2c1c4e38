//! Makes the facts of tasks durable, if there is a store. Without one, every task counts as durable. Also restores them,
//! and keeps the store's time and what was learned of solve times.

use std::sync::Arc;
use std::time::Duration;

use super::overlap::Overlap;
use super::table::Table;
use super::types::RestoreStats;
use crate::clock::Clock;
use crate::domain::{LegacyId, Outcome};
use crate::methods;
use crate::store::backend::{StoreError, Written};
use crate::store::clock::{Heartbeat, SystemTimes};
use crate::store::session::{IdSequence, Session};
use crate::store::snapshot::{RestoreError, StateSnapshot, TaskSnapshot, UnixOrigin};
use crate::store::{Store, Stored, settled};

/// Longest time that a poll waits for the store: for its final answer to become durable, or for its task to be read.
/// Beyond it, clients get an answer that a crash would lose but that the upstream still has, or "not ready".
const ANSWER_WAIT: Duration = Duration::from_secs(2);
/// Longest time that a client waits for its task to become durable. Beyond it, the submit is refused.
const SAVE_WAIT: Duration = Duration::from_secs(10);
/// How long solve times are remembered without new ones.
const SOLVE_TIMES_TTL_MS: u64 = 7 * 24 * 60 * 60 * 1_000;
/// Most tasks that are sealed again at once.
const RESEALED_AT_ONCE: usize = 256;

/// A store with what is needed to convert tasks.
#[derive(Clone, Debug)]
pub struct Persistence {
    /// The store.
    pub store: Arc<Store>,
    /// The rows of the method table, by which restored tasks find theirs.
    pub methods: methods::Table,
    /// Converts moments to the store's time.
    pub origin: UnixOrigin,
    /// The ids that this process issues; `None` for random ones.
    pub ids: Option<IdSequence>,
}

/// The result of a look-up in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fetched {
    /// The table may have the task now.
    Found,
    /// There is no such task.
    Missing,
    /// Nothing is known: the store cannot be read, or another process is still submitting the task.
    Failed,
}

/// Saves and restores tasks. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Saver {
    table: Arc<Table>,
    clock: Clock,
    overlap: Arc<Overlap>,
    persistence: Option<Arc<Persistence>>,
}

impl Saver {
    pub(super) fn new(
        table: Arc<Table>,
        clock: Clock,
        overlap: Arc<Overlap>,
        persistence: Option<Persistence>,
    ) -> Self {
        Self { table, clock, overlap, persistence: persistence.map(Arc::new) }
    }

    /// Whether there is a store.
    pub(super) fn is_durable(&self) -> bool {
        self.persistence.is_some()
    }

    /// Whether tasks can become durable at present.
    pub(super) fn is_available(&self) -> bool {
        self.persistence.as_ref().is_none_or(|persistence| persistence.store.is_available())
    }

    /// Saves the current facts of a task. Returns when they are durable, or if the task no longer exists.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(super) async fn save(&self, id: LegacyId) -> Result<(), StoreError> {
        let Some(written) = self.queue(id) else { return Ok(()) };
        match tokio::time::timeout(SAVE_WAIT, settled(written)).await {
            Ok(result) => result,
            Err(_) => Err(StoreError::Unavailable("a write takes very long".to_owned())),
        }
    }

    /// Queues the current facts of a task, under the lock of its record, so that the last write has the latest facts.
    fn queue(&self, id: LegacyId) -> Option<Written> {
        let Persistence { store, origin, .. } = &**self.persistence.as_ref()?;
        self.table.save(id, *origin, |task| store.save_task(&task))
    }

    /// Saves the current facts of a task if it was saved before. Does not wait.
    pub(super) fn save_again(&self, id: LegacyId) {
        if self.table.is_saved(id) {
            drop(self.queue(id));
        }
    }

    /// Saves how often an open task was polled. Does not wait. Does nothing while another process may have settled the task.
    pub(super) fn save_checkpoint(&self, id: LegacyId) {
        if !self.overlap.has_other_process() {
            self.save_again(id);
        }
    }

    /// Saves the final answer of a flight, before anybody hears it. Gives up waiting after [`ANSWER_WAIT`].
    pub(super) async fn save_outcome(&self, id: LegacyId, outcome: &Outcome) {
        let Some(persistence) = &self.persistence else { return };
        let Persistence { store, origin, .. } = &**persistence;
        let now = self.clock.now();
        let Some(written) = self.table.save_outcome(id, outcome, now, *origin, |task| store.save_task(&task)) else {
            return;
        };
        // The backend counts and logs its failures.
        drop(tokio::time::timeout(ANSWER_WAIT, settled(written)).await);
    }

    /// Removes a task whose id no client knows.
    pub(super) fn remove(&self, id: LegacyId) {
        if let Some(persistence) = &self.persistence {
            drop(persistence.store.remove_task(id));
        }
    }

    /// Restores one task that the table lacks.
    pub(super) async fn fetch(&self, id: LegacyId) -> Fetched {
        let Some(persistence) = &self.persistence else { return Fetched::Missing };
        let loaded = tokio::time::timeout(ANSWER_WAIT, persistence.store.load_task(id)).await;
        let loaded = loaded.unwrap_or_else(|_| Err(StoreError::Unavailable("a read takes very long".to_owned())));
        match loaded {
            Ok(Some(task)) if self.is_in_progress_elsewhere(&task) => Fetched::Failed,
            Ok(Some(task)) => match self.restore(persistence, task) {
                Ok(()) | Err(RestoreError::Taken(_)) => Fetched::Found,
                Err(RestoreError::Expired) => Fetched::Missing,
                Err(error) => {
                    tracing::error!(kind = error.to_string(), "cannot restore a task");
                    Fetched::Failed
                }
            },
            Ok(None) => Fetched::Missing,
            Err(error) => {
                tracing::warn!(kind = error.to_string(), "cannot look up a task in the store");
                Fetched::Failed
            }
        }
    }

    /// Restores all tasks, and the solve times of methods. Tasks that an earlier key has sealed are sealed again.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(super) async fn restore_all(&self) -> Result<RestoreStats, StoreError> {
        let mut stats = RestoreStats::default();
        let Some(persistence) = &self.persistence else { return Ok(stats) };
        let mut learned = Vec::new();
        let methods = persistence.store.scan_solve_times(|times| learned.push(times)).await;
        // Worth little, and never worth a refusal.
        if methods.is_ok() {
            for times in &learned {
                self.table.restore_estimate(times, &persistence.methods);
            }
        }
        let mut outdated = Vec::new();
        let scanned = persistence.store.scan_tasks(|tasks| {
            for Stored { value, has_current_key } in tasks {
                let id = LegacyId(value.legacy_id);
                if self.is_in_progress_elsewhere(&value) {
                    continue;
                }
                match self.restore(persistence, value) {
                    Ok(()) | Err(RestoreError::Taken(_)) => {
                        stats.restored += 1;
                        if !has_current_key {
                            outdated.push(id);
                        }
                    }
                    Err(RestoreError::Expired) => stats.expired += 1,
                    Err(error) => {
                        stats.unreadable += 1;
                        tracing::error!(kind = error.to_string(), "cannot restore a task");
                    }
                }
            }
            true
        });
        let scanned = scanned.await?;
        stats.unreadable += scanned.unreadable;
        self.seal_again(&outdated).await?;
        Ok(stats)
    }

    /// Whether another process is about to learn the native id of a task. This one would keep it without.
    fn is_in_progress_elsewhere(&self, task: &TaskSnapshot) -> bool {
        self.overlap.has_other_process() && task.state == StateSnapshot::Unbound
    }

    /// Reads again what became of the reports that wait to be sent, because another process may have sent them.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(super) async fn refresh_reports(&self) -> Result<(), StoreError> {
        let Some(persistence) = &self.persistence else { return Ok(()) };
        for id in self.table.queued_report_ids() {
            if let Some(task) = persistence.store.load_task(id).await? {
                self.table.refresh_report(id, &task);
            }
        }
        Ok(())
    }

    async fn seal_again(&self, ids: &[LegacyId]) -> Result<(), StoreError> {
        for some in ids.chunks(RESEALED_AT_ONCE) {
            let written: Vec<Written> = some.iter().filter_map(|id| self.queue(*id)).collect();
            for written in written {
                settled(written).await?;
            }
        }
        Ok(())
    }

    fn restore(&self, persistence: &Persistence, task: TaskSnapshot) -> Result<(), RestoreError> {
        self.table.restore(task, &persistence.methods, persistence.origin, self.clock.now())
    }

    /// Saves the time of the store and the ids issued so far, and lets the store remove what has expired.
    /// Returns when that has become durable or has failed.
    pub(super) async fn beat(&self, ids: Option<IdSequence>) {
        let Some(persistence) = &self.persistence else { return };
        let Persistence { store, origin, .. } = &**persistence;
        let store_unix_ms = origin.to_unix_ms(self.clock.now());
        if let Some(ids) = ids {
            let heartbeat = Heartbeat { store_unix_ms, system: SystemTimes::now() };
            // The backend counts and logs its failures.
            drop(tokio::time::timeout(SAVE_WAIT, settled(store.save_session(&Session { heartbeat, ids }))).await);
        }
        store.expire(store_unix_ms);
    }

    /// Saves what was learned of solve times since the last call.
    pub(super) fn save_estimates(&self) {
        let Some(persistence) = &self.persistence else { return };
        let Persistence { store, origin, .. } = &**persistence;
        let expires_unix_ms = origin.to_unix_ms(self.clock.now()).saturating_add(SOLVE_TIMES_TTL_MS);
        for times in self.table.take_new_estimates() {
            drop(store.save_solve_times(&times, expires_unix_ms));
        }
    }
}
