//! SQLite: write-ahead log, one sync per commit, in two layouts: keyed by id, with an index by expiry bucket; or keyed by
//! expiry bucket and id in one integer, so that expiry is a range and nothing needs an index.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rusqlite::{Connection, OptionalExtension, params};

use crate::store::{Op, Result, Store};

/// Pages that one call of `reclaim` gives back: 4 MiB.
const RECLAIM_PAGES: u32 = 1024;

/// Bits of an id in a key that begins with the bucket.
const ID_BITS: u32 = 44;

fn key(bucket: u32, id: u64) -> i64 {
    (u64::from(bucket) << ID_BITS | id).cast_signed()
}

pub struct SqliteStore {
    connection: Connection,
    by_bucket: bool,
}

impl SqliteStore {
    pub fn open(dir: &Path, by_bucket: bool, checked: bool) -> Result<Self> {
        let path = dir.join("tasks.sqlite");
        // SQLite gives the log the mode of the database.
        OpenOptions::new().append(true).create(true).mode(0o600).open(&path)?;
        let connection = Connection::open(&path)?;
        connection.set_prepared_statement_cache_capacity(16);
        connection.execute_batch(
            // The lock comes first: with it, the log needs no shared memory.
            "PRAGMA locking_mode = EXCLUSIVE;
             PRAGMA auto_vacuum = INCREMENTAL;
             PRAGMA journal_mode = WAL;
             PRAGMA synchronous = FULL;
             PRAGMA cache_size = -65536;
             PRAGMA journal_size_limit = 8388608;
             PRAGMA application_id = 0x63617067;
             CREATE TABLE IF NOT EXISTS tasks (id INTEGER PRIMARY KEY, bucket INTEGER NOT NULL, value BLOB NOT NULL);",
        )?;
        if !by_bucket {
            connection.execute_batch("CREATE INDEX IF NOT EXISTS tasks_bucket ON tasks (bucket);")?;
        }
        if checked {
            let verdict: String = connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
            if verdict != "ok" {
                return Err(verdict.into());
            }
        }
        Ok(Self { connection, by_bucket })
    }

    fn reclaim_pages(&mut self, pages: u32) -> Result<()> {
        let mut statement = self.connection.prepare(&format!("PRAGMA incremental_vacuum({pages})"))?;
        let mut rows = statement.query([])?;
        while rows.next()?.is_some() {}
        Ok(())
    }
}

impl Store for SqliteStore {
    fn commit(&mut self, ops: &[Op<'_>]) -> Result<()> {
        let transaction = self.connection.transaction()?;
        {
            let mut insert = transaction.prepare_cached("INSERT INTO tasks (id, bucket, value) VALUES (?1, ?2, ?3)")?;
            let mut update = transaction.prepare_cached("UPDATE tasks SET bucket = ?2, value = ?3 WHERE id = ?1")?;
            let mut delete = transaction.prepare_cached("DELETE FROM tasks WHERE id = ?1")?;
            for op in ops {
                if self.by_bucket {
                    if let Some(old_bucket) = op.old_bucket {
                        delete.execute([key(old_bucket, op.id)])?;
                    }
                    insert.execute(params![key(op.bucket, op.id), 0, op.value])?;
                    continue;
                }
                let statement = if op.old_bucket.is_some() { &mut update } else { &mut insert };
                statement.execute(params![op.id.cast_signed(), op.bucket, op.value])?;
            }
        }
        transaction.commit()?;
        Ok(())
    }

    fn expire(&mut self, through: u32) -> Result<()> {
        if self.by_bucket {
            self.connection.prepare_cached("DELETE FROM tasks WHERE id < ?1")?.execute([key(through + 1, 0)])?;
            return Ok(());
        }
        self.connection.prepare_cached("DELETE FROM tasks WHERE bucket <= ?1")?.execute([through])?;
        Ok(())
    }

    fn reclaim(&mut self) -> Result<()> {
        self.reclaim_pages(RECLAIM_PAGES)
    }

    fn compact(&mut self) -> Result<()> {
        self.reclaim_pages(0)?;
        self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        Ok(())
    }

    fn scan(&mut self, each: &mut dyn FnMut(u64, u32, &[u8])) -> Result<()> {
        let mut statement = self.connection.prepare("SELECT id, bucket, value FROM tasks")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let (mut id, mut bucket) = (row.get::<_, i64>(0)?.cast_unsigned(), row.get(1)?);
            if self.by_bucket {
                (id, bucket) = (id & ((1 << ID_BITS) - 1), u32::try_from(id >> ID_BITS)?);
            }
            each(id, bucket, row.get_ref(2)?.as_blob()?);
        }
        Ok(())
    }

    fn get(&mut self, id: u64, bucket: u32) -> Result<Option<Vec<u8>>> {
        let key = if self.by_bucket { key(bucket, id) } else { id.cast_signed() };
        Ok(self
            .connection
            .prepare_cached("SELECT value FROM tasks WHERE id = ?1")?
            .query_row([key], |row| row.get(0))
            .optional()?)
    }
}
