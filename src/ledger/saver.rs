//! Makes the facts of tasks durable, if there is a store. Without one, every task counts as durable.

use std::sync::Arc;
use std::time::Duration;

use super::table::Table;
use super::types::RestoreStats;
use crate::clock::Clock;
use crate::domain::{LegacyId, Outcome};
use crate::methods;
use crate::store::Store;
use crate::store::backend::{StoreError, Written};
use crate::store::snapshot::{RestoreError, TaskSnapshot, UnixOrigin};

/// Longest time that a final answer waits to become durable. Beyond it, clients get an answer that a crash would lose,
/// but that the upstream still has.
const ANSWER_WAIT: Duration = Duration::from_secs(2);

/// A store with what is needed to convert tasks.
#[derive(Clone, Debug)]
pub struct Persistence {
    /// The store.
    pub store: Arc<Store>,
    /// The rows of the method table, by which restored tasks find theirs.
    pub methods: methods::Table,
    /// Converts moments to the store's time.
    pub origin: UnixOrigin,
}

/// Saves and restores tasks. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Saver {
    table: Arc<Table>,
    clock: Clock,
    persistence: Option<Arc<Persistence>>,
}

impl Saver {
    pub(super) fn new(table: Arc<Table>, clock: Clock, persistence: Option<Persistence>) -> Self {
        Self { table, clock, persistence: persistence.map(Arc::new) }
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
        match self.queue(id) {
            Some(written) => wait(written).await,
            None => Ok(()),
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

    /// Saves the final answer of a flight, before anybody hears it. Gives up waiting after [`ANSWER_WAIT`].
    pub(super) async fn save_outcome(&self, id: LegacyId, outcome: &Outcome) {
        let Some(persistence) = &self.persistence else { return };
        let Persistence { store, origin, .. } = &**persistence;
        let now = self.clock.now();
        let Some(written) = self.table.save_outcome(id, outcome, now, *origin, |task| store.save_task(&task)) else {
            return;
        };
        // The backend counts and logs its failures.
        drop(tokio::time::timeout(ANSWER_WAIT, wait(written)).await);
    }

    /// Removes a task whose id no client knows.
    pub(super) fn remove(&self, id: LegacyId) {
        if let Some(persistence) = &self.persistence {
            drop(persistence.store.remove_task(id));
        }
    }

    /// Restores one task that the table lacks. Returns whether the table may have it now.
    pub(super) async fn fetch(&self, id: LegacyId) -> bool {
        let Some(persistence) = &self.persistence else { return false };
        match persistence.store.load_task(id).await {
            Ok(Some(task)) => matches!(self.restore(persistence, task), Ok(()) | Err(RestoreError::Taken(_))),
            Ok(None) => false,
            Err(error) => {
                tracing::warn!(kind = error.to_string(), "cannot look up a task in the store");
                false
            }
        }
    }

    /// Restores all tasks.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(super) async fn restore_all(&self) -> Result<RestoreStats, StoreError> {
        let mut stats = RestoreStats::default();
        let Some(persistence) = &self.persistence else { return Ok(stats) };
        let scanned = persistence.store.scan_tasks(|tasks| {
            for task in tasks {
                match self.restore(persistence, task) {
                    Ok(()) | Err(RestoreError::Taken(_)) => stats.restored += 1,
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
        Ok(stats)
    }

    fn restore(&self, persistence: &Persistence, task: TaskSnapshot) -> Result<(), RestoreError> {
        self.table.restore(task, &persistence.methods, persistence.origin, self.clock.now())
    }
}

/// Waits for a write.
async fn wait(written: Written) -> Result<(), StoreError> {
    written.await.unwrap_or_else(|_| Err(StoreError::Unavailable("the writer has ended".to_owned())))
}
