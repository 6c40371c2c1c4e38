//! A backend in one file on this machine: `SQLite`.

mod database;
pub mod inspector;
mod reader;
mod status;
mod writer;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Sender, channel};
use std::thread;

use async_trait::async_trait;
use tokio::sync::oneshot;

use self::database::{Database, to_seconds};
use self::reader::{Reader, check_in_background};
use self::status::Status;
use self::writer::{Upkeep, Writer};
use super::backend::{Backend, Change, Place, Space, StoreError, Written};
use super::metrics::StoreMetrics;

/// Name of the database in the folder of the store.
pub const FILE_NAME: &str = "tasks.sqlite";
/// Values in one page of a scan: some milliseconds of work for whoever scans.
const PAGE_ROWS: usize = 1_000;
/// Largest file that is checked before the start: some hundred milliseconds. A larger one is checked in the background.
const CHECKED_AT_START_BYTES: u64 = 64 << 20;

/// The database.
#[derive(Debug)]
pub struct SqliteBackend {
    writer: Sender<writer::Command>,
    reader: Sender<reader::Command>,
    status: Arc<Status>,
}

impl SqliteBackend {
    /// Creates the file of a new store in this folder, durably, in place of any earlier one.
    ///
    /// # Errors
    /// If it cannot be created.
    pub fn create(folder: &Path, store_id: &str) -> Result<(), String> {
        for suffix in ["", "-wal", "-shm", "-journal"] {
            let path = folder.join(format!("{FILE_NAME}{suffix}"));
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(format!("{}: {error}", path.display()));
                }
                _ => {}
            }
        }
        Database::create(&folder.join(FILE_NAME), store_id)
    }

    /// Opens the file of a store, and starts the threads that use it. `lock` keeps other processes out until the last
    /// write has ended.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn open(folder: &Path, store_id: &str, lock: File, metrics: StoreMetrics) -> Result<Self, StoreError> {
        let path = folder.join(FILE_NAME);
        let size_bytes = std::fs::metadata(&path).map_err(|error| unavailable(&error))?.len();
        let open = || Database::open(&path, store_id);
        let (written, read) = (open()?, open()?);
        let status = Arc::new(Status::new());
        status.size_bytes.store(size_bytes, Ordering::Relaxed);
        if size_bytes <= CHECKED_AT_START_BYTES {
            written.check()?;
        } else {
            let (checked, status) = (open()?, Arc::clone(&status));
            spawn("store check", move || check_in_background(&checked, &status))?;
        }
        let (writer_tx, writer_rx) = channel();
        let (reader_tx, reader_rx) = channel();
        let reader = Reader { database: read, commands: reader_rx, status: Arc::clone(&status) };
        let writer = Writer {
            database: written,
            commands: writer_rx,
            reader: reader_tx.clone(),
            status: Arc::clone(&status),
            metrics,
            unsaved: BTreeMap::new(),
            upkeep: Upkeep::new(),
            _lock: lock,
        };
        spawn("store reader", move || reader.run())?;
        spawn("store writer", move || writer.run())?;
        Ok(Self { writer: writer_tx, reader: reader_tx, status })
    }

    #[cfg(test)]
    fn limit_pages(&self, pages: u32) {
        self.writer.send(writer::Command::LimitPages(pages)).expect("a writer");
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), StoreError> {
    thread::Builder::new().name(name.to_owned()).spawn(run).map(drop).map_err(|error| unavailable(&error))
}

fn unavailable(error: &std::io::Error) -> StoreError {
    StoreError::Unavailable(error.to_string())
}

fn ended<T>() -> Result<T, StoreError> {
    Err(StoreError::Unavailable("the threads of the store have ended".to_owned()))
}

#[async_trait]
impl Backend for SqliteBackend {
    fn write(&self, changes: Vec<Change>) -> Written {
        let (written_tx, written_rx) = oneshot::channel();
        if !self.status.try_queue(changes.len()) {
            let refused = Err(StoreError::Unavailable("too many writes wait".to_owned()));
            drop(written_tx.send(refused));
        } else if self.writer.send(writer::Command::Write(changes, written_tx)).is_err() {
            tracing::error!("the writer of the store has ended");
        }
        written_rx
    }

    async fn read(&self, place: Place) -> Result<Option<Vec<u8>>, StoreError> {
        let (value_tx, value_rx) = oneshot::channel();
        drop(self.reader.send(reader::Command::Read(place, value_tx)));
        value_rx.await.unwrap_or_else(|_| ended())
    }

    async fn scan(
        &self,
        space: Space,
        each: &mut (dyn FnMut(Vec<(u64, Vec<u8>)>) -> bool + Send),
    ) -> Result<(), StoreError> {
        let mut next = Some(i64::MIN);
        while let Some(from) = next {
            let (page_tx, page_rx) = oneshot::channel();
            drop(self.reader.send(reader::Command::Page { space, from, rows_max: PAGE_ROWS, page_tx }));
            let (values, following) = page_rx.await.unwrap_or_else(|_| ended())?;
            if !each(values) {
                break;
            }
            next = following;
        }
        Ok(())
    }

    fn expire(&self, before_unix_ms: u64) {
        // A value expires at the end of its second.
        self.status.expired_before_s.store(to_seconds(before_unix_ms).saturating_sub(1), Ordering::Relaxed);
    }

    fn is_available(&self) -> bool {
        self.status.is_available()
    }

    fn trouble(&self) -> Option<String> {
        self.status.trouble()
    }

    fn size_bytes(&self) -> u64 {
        self.status.size_bytes.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::backend::Value;
    use super::super::settled;
    use super::*;
    use crate::telemetry::metrics::MetricsRegistry;

    const ID: &str = "0123";

    type Damage = fn(&Path);

    fn open(folder: &Path) -> Result<SqliteBackend, StoreError> {
        let lock = File::create(folder.join("lock")).expect("a file");
        SqliteBackend::open(folder, ID, lock, StoreMetrics::register(&MetricsRegistry::new()))
    }

    fn created() -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        SqliteBackend::create(folder.path(), ID).expect("created");
        folder
    }

    fn change(key: u64, bytes: usize, expires_unix_ms: u64) -> Change {
        let value = Value { expires_unix_ms, sealed: vec![key.to_le_bytes()[0]; bytes] };
        Change { place: Place { space: Space::Tasks, key }, value: Some(value) }
    }

    async fn wait_until(what: impl Fn() -> bool) {
        for _ in 0..2_000 {
            if what() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("it never happens");
    }

    #[tokio::test]
    async fn a_full_disk_fails_writes_and_they_succeed_when_there_is_space_again() {
        let folder = created();
        let backend = open(folder.path()).expect("opened");
        settled(backend.write(vec![change(1, 100, u64::MAX)])).await.expect("written");
        backend.limit_pages(1);
        let error = settled(backend.write(vec![change(2, 100_000, u64::MAX)])).await.expect_err("full");
        assert!(error.to_string().contains("full"), "{error}");
        assert!(!backend.is_available());
        assert!(backend.trouble().expect("a reason").contains("full"));
        let place = Place { space: Space::Tasks, key: 1 };
        assert_eq!(backend.read(place).await.expect("readable").expect("a value").len(), 100);
        backend.limit_pages(1 << 30);
        wait_until(|| backend.is_available()).await;
        assert_eq!(backend.trouble(), None);
        // The latest value that could not be written is written after all.
        for _ in 0..2_000 {
            let place = Place { space: Space::Tasks, key: 2 };
            if backend.read(place).await.expect("readable").is_some() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("the value is lost");
    }

    #[tokio::test]
    async fn expired_values_leave_the_file_and_it_shrinks() {
        let folder = created();
        let backend = open(folder.path()).expect("opened");
        for batch in 0..20 {
            let changes = (0..500).map(|at| change(batch * 500 + at, 1_000, 1_000)).collect();
            settled(backend.write(changes)).await.expect("written");
        }
        settled(backend.write(vec![change(1_000_000, 1_000, 50_000)])).await.expect("written");
        wait_until(|| backend.size_bytes() > 8_000_000).await;
        backend.expire(1_000);
        settled(backend.write(vec![change(1_000_001, 1_000, 50_000)])).await.expect("written");
        assert!(
            backend.read(Place { space: Space::Tasks, key: 1 }).await.expect("readable").is_some(),
            "not yet expired"
        );
        backend.expire(40_000);
        wait_until(|| backend.size_bytes() < 2_500_000).await;
        assert!(backend.read(Place { space: Space::Tasks, key: 1 }).await.expect("readable").is_none());
        assert!(backend.read(Place { space: Space::Tasks, key: 1_000_000 }).await.expect("readable").is_some());
    }

    #[tokio::test]
    async fn a_file_that_is_not_this_store_is_refused() {
        let damage: [(&str, Damage); 7] = [
            ("empty or not capgate's", |path| drop(File::create(path).expect("truncated"))),
            ("not a database", |path| std::fs::write(path, "x".repeat(8_192)).expect("overwritten")),
            ("", |path| File::options().write(true).open(path).expect("opened").set_len(100).expect("truncated")),
            ("malformed", |path| {
                let length = std::fs::metadata(path).expect("a file").len();
                File::options().write(true).open(path).expect("opened").set_len(length / 2).expect("truncated");
            }),
            ("belongs to another store", |path| {
                let connection = rusqlite::Connection::open(path).expect("opened");
                connection.execute("UPDATE store SET id = 'other'", []).expect("updated");
            }),
            ("knows only 1", |path| {
                rusqlite::Connection::open(path).expect("opened").pragma_update(None, "user_version", 2).expect("set");
            }),
            ("not capgate's", |path| {
                std::fs::remove_file(path).expect("removed");
                let connection = rusqlite::Connection::open(path).expect("created");
                connection.execute_batch("CREATE TABLE tasks (a)").expect("a table");
            }),
        ];
        for (expected, damage) in damage {
            let folder = created();
            let backend = open(folder.path()).expect("opened");
            settled(backend.write((0..200).map(|key| change(key, 500, u64::MAX)).collect())).await.expect("written");
            drop(backend);
            // The last connection copies and removes the log.
            wait_until(|| !folder.path().join("tasks.sqlite-wal").exists()).await;
            damage(&folder.path().join(FILE_NAME));
            let error = open(folder.path()).expect_err(expected);
            assert!(matches!(error, StoreError::Unreadable(_)), "{error}");
            assert!(error.to_string().contains(expected), "{error}, not {expected}");
        }
    }
}
