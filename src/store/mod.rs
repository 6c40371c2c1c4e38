//! What survives the end of the process: tasks with their answers, the keys that the upstream has accepted, and solve
//! times. Values are encrypted before they reach a [backend](backend::Backend).

pub mod backend;
pub mod cipher;
pub mod clock;
pub mod codec;
pub mod folder;
mod hex;
pub mod identity;
pub mod inspect;
pub mod memory;
pub mod metrics;
pub mod secret_key;
pub mod session;
pub mod snapshot;
pub mod sqlite;

use std::sync::Arc;

use ring::rand::{SecureRandom, SystemRandom};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;

use self::backend::{Backend, Change, Place, Space, StoreError, Value, Written};
use self::cipher::{Cipher, OpenError};
use self::clock::{Heartbeat, SystemTimes};
use self::codec::DecodeError;
use self::session::{IdSequence, Session};
use self::snapshot::{SolveTimesSnapshot, StateSnapshot, TaskSnapshot};
use crate::domain::{Account, LegacyId};
use crate::telemetry::metrics::MetricsRegistry;

/// Longest time that the ledger keeps an answer (`ledger.answer_ttl_ms`), in milliseconds.
const UNSOLVABLE_TTL_MAX_MS: u64 = 24 * 60 * 60 * 1_000;
/// How long a key is remembered that the upstream accepted. Its next call in use renews it.
const ACCEPTED_KEY_TTL_MS: u64 = 30 * 24 * 60 * 60 * 1_000;
/// The only key of [`Space::System`].
const SESSION: Place = Place { space: Space::System, key: 0 };

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

/// A value that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored<T> {
    /// The value.
    pub value: T,
    /// Whether the current key has sealed it.
    pub has_current_key: bool,
}

impl Store {
    /// Creates a store over a backend.
    pub fn new(backend: Arc<dyn Backend>, cipher: Cipher) -> Self {
        Self { backend, cipher }
    }

    /// Registers gauges of the store's state.
    pub fn register_metrics(&self, registry: &MetricsRegistry) {
        let backend = Arc::clone(&self.backend);
        registry.gauge("capgate_store_available", "Whether writes to the store succeed: 1 or 0.", move || {
            usize::from(backend.is_available())
        });
        let backend = Arc::clone(&self.backend);
        registry.gauge("capgate_store_bytes", "Size of the store, in bytes.", move || {
            usize::try_from(backend.size_bytes()).unwrap_or(usize::MAX)
        });
    }

    /// Whether writes succeed at present, as far as is known.
    pub fn is_available(&self) -> bool {
        self.backend.is_available()
    }

    /// Returns why writes do not succeed at present. For operators.
    pub fn trouble(&self) -> Option<String> {
        self.backend.trouble()
    }

    /// Lets the store remove what expired before this time.
    pub fn expire(&self, before_unix_ms: u64) {
        self.backend.expire(before_unix_ms);
    }

    /// Returns the id of the key that seals values.
    pub fn current_key_id(&self) -> String {
        self.cipher.current_key_id()
    }

    /// Begins the session of this process, durably: continues the time of the store, and takes ids that no earlier
    /// process has issued.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn begin(&self, system: SystemTimes) -> Result<Session, StoreError> {
        let last: Option<Session> = match self.backend.read(SESSION).await? {
            Some(sealed) => Some(self.open(SESSION, &sealed)?.value),
            None => None,
        };
        let ids = if let Some(last) = &last {
            last.ids.next_process()
        } else {
            let mut offset = [0; 8];
            SystemRandom::new().fill(&mut offset).map_err(|_| no_randomness())?;
            IdSequence { offset: u64::from_be_bytes(offset), block: 0 }
        };
        let session = Session { heartbeat: Heartbeat::after(last.map(|last| last.heartbeat).as_ref(), system), ids };
        settled(self.save_session(&session)).await?;
        Ok(session)
    }

    /// Queues the state of this process, from which the next one continues.
    pub fn save_session(&self, session: &Session) -> Written {
        self.put(SESSION, session, u64::MAX)
    }

    /// Queues a task to become durable. Never waits; see [`Backend::write`].
    pub fn save_task(&self, task: &TaskSnapshot) -> Written {
        // An unbound task that expires becomes unsolvable, and is then kept as long as an answer.
        let extra_ms = if task.state == StateSnapshot::Unbound { UNSOLVABLE_TTL_MAX_MS } else { 0 };
        self.put(task_place(LegacyId(task.legacy_id)), task, task.expires_unix_ms.saturating_add(extra_ms))
    }

    /// Queues the removal of a task.
    pub fn remove_task(&self, id: LegacyId) -> Written {
        self.backend.write(vec![Change { place: task_place(id), value: None }])
    }

    /// Queues a key that the upstream has accepted.
    pub fn save_accepted_key(&self, account: &Account, now_unix_ms: u64) -> Written {
        let expires_unix_ms = now_unix_ms.saturating_add(ACCEPTED_KEY_TTL_MS);
        self.put(self.key_place(account), &account.reveal(), expires_unix_ms)
    }

    /// Queues the removal of a key.
    pub fn remove_accepted_key(&self, account: &Account) -> Written {
        self.backend.write(vec![Change { place: self.key_place(account), value: None }])
    }

    /// Queues the solve times of a method.
    pub fn save_solve_times(&self, times: &SolveTimesSnapshot, expires_unix_ms: u64) -> Written {
        let key = self.cipher.digest(times.method.as_bytes());
        self.put(Place { space: Space::SolveTimes, key }, times, expires_unix_ms)
    }

    /// Reads a task, expired or not.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn load_task(&self, id: LegacyId) -> Result<Option<TaskSnapshot>, StoreError> {
        let place = task_place(id);
        let sealed = self.backend.read(place).await?;
        sealed.map(|sealed| self.open_task(place, &sealed).map(|task| task.value)).transpose()
    }

    /// Reads all tasks in batches, until `each` returns `false`.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], or [`StoreError::Unreadable`] if no task at all could be opened, which means that
    /// the key is wrong.
    pub async fn scan_tasks(
        &self,
        each: impl FnMut(Vec<Stored<TaskSnapshot>>) -> bool + Send,
    ) -> Result<Scanned, StoreError> {
        self.scan(Space::Tasks, |place, sealed| self.open_task(place, sealed), each).await
    }

    /// Reads all keys that the upstream has accepted.
    ///
    /// # Errors
    /// As [`Store::scan_tasks`].
    pub async fn scan_accepted_keys(&self, mut each: impl FnMut(Account, bool) + Send) -> Result<Scanned, StoreError> {
        let each = |keys: Vec<Stored<String>>| {
            for Stored { value, has_current_key } in keys {
                if let Ok(account) = Account::new(&value) {
                    each(account, has_current_key);
                }
            }
            true
        };
        self.scan(Space::AcceptedKeys, |place, sealed| self.open(place, sealed), each).await
    }

    /// Reads the solve times of all methods.
    ///
    /// # Errors
    /// As [`Store::scan_tasks`].
    pub async fn scan_solve_times(
        &self,
        mut each: impl FnMut(SolveTimesSnapshot) + Send,
    ) -> Result<Scanned, StoreError> {
        let each = |methods: Vec<Stored<SolveTimesSnapshot>>| {
            for method in methods {
                each(method.value);
            }
            true
        };
        self.scan(Space::SolveTimes, |place, sealed| self.open(place, sealed), each).await
    }

    fn put<T: Serialize>(&self, place: Place, value: &T, expires_unix_ms: u64) -> Written {
        if let Some(sealed) = self.cipher.seal(&place.to_bytes(), &codec::encode(value)) {
            return self.backend.write(vec![Change { place, value: Some(Value { expires_unix_ms, sealed }) }]);
        }
        let (written_tx, written_rx) = oneshot::channel();
        drop(written_tx.send(Err(no_randomness())));
        written_rx
    }

    fn key_place(&self, account: &Account) -> Place {
        Place { space: Space::AcceptedKeys, key: self.cipher.digest(account.reveal().as_bytes()) }
    }

    async fn scan<T: Send>(
        &self,
        space: Space,
        open: impl Fn(Place, &[u8]) -> Result<Stored<T>, StoreError> + Send + Sync,
        mut each: impl FnMut(Vec<Stored<T>>) -> bool + Send,
    ) -> Result<Scanned, StoreError> {
        let mut scanned = Scanned::default();
        let mut first_error = None;
        let mut open_batch = |batch: Vec<(u64, Vec<u8>)>| {
            let mut values = Vec::with_capacity(batch.len());
            for (key, sealed) in batch {
                match open(Place { space, key }, &sealed) {
                    Ok(value) => values.push(value),
                    Err(error) => {
                        scanned.unreadable += 1;
                        first_error.get_or_insert(error);
                    }
                }
            }
            scanned.read += values.len() as u64;
            each(values)
        };
        self.backend.scan(space, &mut open_batch).await?;
        match first_error {
            Some(error) if scanned.read == 0 => Err(error),
            _ => Ok(scanned),
        }
    }

    fn open<T: DeserializeOwned>(&self, place: Place, sealed: &[u8]) -> Result<Stored<T>, StoreError> {
        let bytes = self.cipher.open(&place.to_bytes(), sealed).map_err(|error| {
            StoreError::Unreadable(match error {
                OpenError::UnknownKey => "a value is sealed with a key that is not configured".to_owned(),
                OpenError::Damaged => "a value is damaged".to_owned(),
            })
        })?;
        let value = codec::decode(&bytes).map_err(|error| {
            StoreError::Unreadable(match error {
                DecodeError::Newer => "a newer version of capgate has written a value".to_owned(),
                DecodeError::Malformed => "a value is malformed".to_owned(),
            })
        })?;
        Ok(Stored { value, has_current_key: self.cipher.is_current(sealed) })
    }

    fn open_task(&self, place: Place, sealed: &[u8]) -> Result<Stored<TaskSnapshot>, StoreError> {
        let task: Stored<TaskSnapshot> = self.open(place, sealed)?;
        // A task sealed for this place names it, unless a bug has mixed them up.
        if task_place(LegacyId(task.value.legacy_id)) == place {
            Ok(task)
        } else {
            Err(StoreError::Unreadable("a task is misplaced".to_owned()))
        }
    }
}

fn no_randomness() -> StoreError {
    StoreError::Unavailable("the system has no randomness".to_owned())
}

fn task_place(id: LegacyId) -> Place {
    Place { space: Space::Tasks, key: IdSequence::order(id) }
}

/// Waits for a write.
///
/// # Errors
/// [`StoreError`].
pub async fn settled(written: Written) -> Result<(), StoreError> {
    written.await.unwrap_or_else(|_| Err(StoreError::Unavailable("the writer has ended".to_owned())))
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
            found.extend(batch.into_iter().map(|task| task.value));
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
        backend.copy(task_place(LegacyId(7)), task_place(LegacyId(9)));
        let store = store_with_key(&backend, 1);
        assert!(store.load_task(LegacyId(9)).await.is_err());
        assert_eq!(store.scan_tasks(|_| true).await, Ok(Scanned { read: 1, unreadable: 1 }));
    }
}
