//! What survives the end of the process: tasks with their answers, the keys that the upstream has accepted, and solve
//! times. Values are encrypted before they reach a [backend](backend::Backend).

pub mod backend;
pub mod cipher;
pub mod codec;
pub mod memory;
pub mod secret_key;
pub mod snapshot;

use std::sync::Arc;

use self::backend::{Backend, Change, Place, Space, StoreError, Value, Written};
use self::cipher::{Cipher, OpenError};
use self::codec::DecodeError;
use self::snapshot::{StateSnapshot, TaskSnapshot};
use crate::domain::LegacyId;

/// Longest time that the ledger keeps an answer (`ledger.answer_ttl_ms`), in milliseconds.
const UNSOLVABLE_TTL_MAX_MS: u64 = 24 * 60 * 60 * 1_000;

/// The store, in the words of the domain.
#[derive(Debug)]
pub struct Store {
    backend: Arc<dyn Backend>,
    cipher: Cipher,
}

/// How many values a scan has read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scanned {
    /// Values that were read.
    pub read: u64,
    /// Values that could not be opened or decoded.
    pub unreadable: u64,
}

impl Store {
    /// Creates a store over a backend.
    pub fn new(backend: Arc<dyn Backend>, cipher: Cipher) -> Self {
        Self { backend, cipher }
    }

    /// Whether writes succeed at present, as far as is known.
    pub fn is_available(&self) -> bool {
        self.backend.is_available()
    }

    /// Queues a task to become durable. Never waits; see [`Backend::write`].
    pub fn save_task(&self, task: &TaskSnapshot) -> Written {
        self.save_tasks(std::slice::from_ref(task))
    }

    /// Queues tasks to become durable together.
    pub fn save_tasks(&self, tasks: &[TaskSnapshot]) -> Written {
        let changes = tasks.iter().filter_map(|task| {
            let place = Place { space: Space::Tasks, key: task.legacy_id };
            let sealed = self.cipher.seal(&place.to_bytes(), &codec::encode(task))?;
            // An unbound task that expires becomes unsolvable, and is then kept as long as an answer.
            let extra_ms = if task.state == StateSnapshot::Unbound { UNSOLVABLE_TTL_MAX_MS } else { 0 };
            let expires_unix_ms = task.expires_unix_ms.saturating_add(extra_ms);
            Some(Change { place, value: Some(Value { expires_unix_ms, sealed }) })
        });
        self.backend.write(changes.collect())
    }

    /// Queues the removal of a task.
    pub fn remove_task(&self, id: LegacyId) -> Written {
        self.backend.write(vec![Change { place: Place { space: Space::Tasks, key: id.0 }, value: None }])
    }

    /// Reads a task, expired or not.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn load_task(&self, id: LegacyId) -> Result<Option<TaskSnapshot>, StoreError> {
        let place = Place { space: Space::Tasks, key: id.0 };
        self.backend.read(place).await?.map(|sealed| self.open_task(place, &sealed)).transpose()
    }

    /// Reads all tasks in batches, until `each` returns `false`.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], or [`StoreError::Unreadable`] if no task at all could be opened, which means that
    /// the key is wrong.
    pub async fn scan_tasks(
        &self,
        mut each: impl FnMut(Vec<TaskSnapshot>) -> bool + Send,
    ) -> Result<Scanned, StoreError> {
        let mut scanned = Scanned::default();
        let mut first_error = None;
        let mut open_batch = |batch: Vec<(u64, Vec<u8>)>| {
            let mut tasks = Vec::with_capacity(batch.len());
            for (key, sealed) in batch {
                match self.open_task(Place { space: Space::Tasks, key }, &sealed) {
                    Ok(task) => tasks.push(task),
                    Err(error) => {
                        scanned.unreadable += 1;
                        first_error.get_or_insert(error);
                    }
                }
            }
            scanned.read += tasks.len() as u64;
            each(tasks)
        };
        self.backend.scan(Space::Tasks, &mut open_batch).await?;
        match first_error {
            Some(error) if scanned.read == 0 => Err(error),
            _ => Ok(scanned),
        }
    }

    fn open_task(&self, place: Place, sealed: &[u8]) -> Result<TaskSnapshot, StoreError> {
        let bytes = self.cipher.open(&place.to_bytes(), sealed).map_err(|error| {
            StoreError::Unreadable(match error {
                OpenError::UnknownKey => "a task is sealed with a key that is not configured".to_owned(),
                OpenError::Damaged => "a task is damaged".to_owned(),
            })
        })?;
        let task = codec::decode(&bytes).map_err(|error| {
            StoreError::Unreadable(match error {
                DecodeError::Newer => "a newer version of capgate has written a task".to_owned(),
                DecodeError::Malformed => "a task is malformed".to_owned(),
            })
        })?;
        // A task sealed for this place names it, unless a bug has mixed them up.
        if task.legacy_id == place.key {
            Ok(task)
        } else {
            Err(StoreError::Unreadable("a task is misplaced".to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::memory::MemoryBackend;
    use super::snapshot::{ReportSnapshot, StateSnapshot};
    use super::*;

    fn task(legacy_id: u64) -> TaskSnapshot {
        TaskSnapshot {
            legacy_id,
            account_key: "0123456789abcdef0123456789abcdef".to_owned(),
            method: "recaptcha_v2".to_owned(),
            upstream: 0,
            native_id: None,
            pingback: None,
            state: StateSnapshot::Unbound,
            report: ReportSnapshot::None,
            expires_unix_ms: 1_700_001_800_000,
        }
    }

    fn store_with_key(backend: &Arc<MemoryBackend>, key: u8) -> Store {
        Store::new(Arc::<MemoryBackend>::clone(backend), Cipher::new(&[key; cipher::KEY_BYTES], &[]))
    }

    async fn save(store: &Store, task: &TaskSnapshot) {
        store.save_task(task).await.expect("answered").expect("written");
    }

    #[tokio::test]
    async fn a_saved_task_is_found_by_its_id_and_by_a_scan() {
        let backend = Arc::new(MemoryBackend::default());
        let store = store_with_key(&backend, 1);
        save(&store, &task(7)).await;
        save(&store, &task(8)).await;
        store.remove_task(LegacyId(8)).await.expect("answered").expect("removed");
        assert_eq!(store.load_task(LegacyId(7)).await, Ok(Some(task(7))));
        assert_eq!(store.load_task(LegacyId(8)).await, Ok(None));
        let mut found = Vec::new();
        let scanned = store.scan_tasks(|batch| {
            found.extend(batch);
            true
        });
        assert_eq!(scanned.await, Ok(Scanned { read: 1, unreadable: 0 }));
        assert_eq!(found, [task(7)]);
    }

    #[tokio::test]
    async fn a_wrong_key_is_an_error_and_a_moved_answer_is_refused() {
        let backend = Arc::new(MemoryBackend::default());
        save(&store_with_key(&backend, 1), &task(7)).await;
        let other = store_with_key(&backend, 2);
        let error = other.scan_tasks(|_| true).await.expect_err("no task can be opened");
        assert!(error.to_string().contains("a key that is not configured"), "{error}");
        assert!(other.load_task(LegacyId(7)).await.is_err());
        backend.copy(Place { space: Space::Tasks, key: 7 }, Place { space: Space::Tasks, key: 9 });
        let store = store_with_key(&backend, 1);
        assert!(store.load_task(LegacyId(9)).await.is_err());
        assert_eq!(store.scan_tasks(|_| true).await, Ok(Scanned { read: 1, unreadable: 1 }));
    }
}
