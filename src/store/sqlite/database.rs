//! One connection to the database file, and everything that is said to it in SQL.
//!
//! A table for each [`Space`], with an index by expiry. Write-ahead log, one sync for each transaction
//! (`docs/decisions/0015-embedded-store.md`).

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rusqlite::{Connection, OpenFlags, OptionalExtension, params};

use super::super::backend::{Change, Place, Space, StoreError};

/// Marks the file as capgate's: "capg".
const APPLICATION_ID: i32 = 0x6361_7067;
/// Newest layout of the tables that this program knows.
const LAYOUT: i32 = 1;

/// The result of a statement.
pub(super) type Result<T> = std::result::Result<T, rusqlite::Error>;

/// A connection.
#[derive(Debug)]
pub(super) struct Database {
    connection: Connection,
}

/// Values of one space with their keys, and where the next page begins.
pub(super) type Page = (Vec<(u64, Vec<u8>)>, Option<i64>);

impl Database {
    /// Creates the file of a new store, durably, in place of any earlier one.
    ///
    /// # Errors
    /// If it cannot be created.
    pub(super) fn create(path: &Path, store_id: &str) -> std::result::Result<(), String> {
        let create = || -> Result<()> {
            let connection = Connection::open(path)?;
            let mut sql = format!(
                "PRAGMA auto_vacuum = INCREMENTAL;
                 PRAGMA synchronous = FULL;
                 PRAGMA application_id = {APPLICATION_ID};
                 PRAGMA user_version = {LAYOUT};
                 CREATE TABLE store (id TEXT NOT NULL, probes INTEGER NOT NULL) STRICT;"
            );
            for space in Space::ALL {
                let name = space.name();
                let _ = write!(
                    sql,
                    "CREATE TABLE {name} (key INTEGER PRIMARY KEY, expires INTEGER NOT NULL, value BLOB NOT NULL) STRICT;
                     CREATE INDEX {name}_expires ON {name} (expires);"
                );
            }
            connection.execute_batch(&sql)?;
            connection.execute("INSERT INTO store (id, probes) VALUES (?1, 0)", [store_id])?;
            connection.close().map_err(|(_, error)| error)
        };
        let explain = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        // SQLite gives its log the mode of the database.
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
        drop(file.map_err(|error| explain(&error))?);
        create().map_err(|error| explain(&error))
    }

    /// Opens the file of a store.
    ///
    /// # Errors
    /// [`StoreError::Unreadable`] if the file is damaged, foreign or newer, or belongs to another store.
    pub(super) fn open(path: &Path, store_id: &str) -> std::result::Result<Self, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(|error| explain(&error))?;
        let this = Self { connection };
        this.check_identity(store_id)?;
        this.configure().map_err(|error| explain(&error))?;
        Ok(this)
    }

    fn check_identity(&self, store_id: &str) -> std::result::Result<(), StoreError> {
        let pragma = |name| self.connection.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
        let application_id = pragma("application_id").map_err(|error| explain(&error))?;
        let layout = pragma("user_version").map_err(|error| explain(&error))?;
        if application_id != APPLICATION_ID {
            return Err(StoreError::Unreadable("the database is empty or not capgate's".to_owned()));
        }
        if layout > LAYOUT {
            return Err(StoreError::Unreadable(format!(
                "the database has layout {layout}, but this version of capgate knows only {LAYOUT}"
            )));
        }
        let id = self.connection.query_row("SELECT id FROM store", [], |row| row.get::<_, String>(0));
        match id {
            Ok(id) if id == store_id => Ok(()),
            Ok(_) => Err(StoreError::Unreadable("the database belongs to another store".to_owned())),
            Err(error) => Err(explain(&error)),
        }
    }

    fn configure(&self) -> Result<()> {
        self.connection.busy_timeout(std::time::Duration::from_secs(5))?;
        // Checkpoints run between the transactions; see `writer.rs`.
        self.connection.execute_batch(
            "PRAGMA journal_mode = WAL;
             PRAGMA synchronous = FULL;
             PRAGMA wal_autocheckpoint = 0;
             PRAGMA journal_size_limit = 8388608;
             PRAGMA cache_size = -16384;
             PRAGMA mmap_size = 0;
             PRAGMA trusted_schema = OFF;",
        )
    }

    /// Checks the structure of the whole file.
    ///
    /// # Errors
    /// [`StoreError::Unreadable`] if it is damaged.
    pub(super) fn check(&self) -> std::result::Result<(), StoreError> {
        let verdict = self.connection.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0));
        match verdict {
            Ok(verdict) if verdict == "ok" => Ok(()),
            // The verdict names pages, never their contents.
            Ok(verdict) => Err(StoreError::Unreadable(format!("the database is damaged: {}", one_line(&verdict)))),
            Err(error) => Err(explain(&error)),
        }
    }

    /// Applies changes in one transaction, and removes up to `expired_max` values that expired before this time.
    /// Returns how many. With `is_probe`, something is written in any case, so that success means that writes succeed.
    pub(super) fn apply<'a>(
        &mut self,
        changes: impl Iterator<Item = &'a Change>,
        expired_before_s: i64,
        expired_max: usize,
        is_probe: bool,
    ) -> Result<usize> {
        let transaction = self.connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        let mut removed = 0;
        if is_probe {
            transaction.execute("UPDATE store SET probes = probes + 1", [])?;
        }
        {
            let mut statements = Statements::default();
            for Change { place, value } in changes {
                let key = place.key.cast_signed();
                match value {
                    Some(value) => statements.put(&transaction, place.space)?.execute(params![
                        key,
                        to_seconds(value.expires_unix_ms),
                        value.sealed
                    ])?,
                    None => statements.remove(&transaction, place.space)?.execute([key])?,
                };
            }
            for space in Space::ALL {
                if removed >= expired_max {
                    break;
                }
                removed += remove_expired(&transaction, space, expired_before_s, expired_max - removed)?;
            }
        }
        transaction.commit()?;
        Ok(removed)
    }

    /// Returns the number of values in a space.
    pub(super) fn count(&self, space: Space) -> Result<u64> {
        let sql = format!("SELECT COUNT(*) FROM {}", space.name());
        self.connection.query_row(&sql, [], |row| row.get::<_, i64>(0)).map(i64::cast_unsigned)
    }

    /// Returns the size of the file, and how many of its bytes are unused.
    pub(super) fn size_bytes(&self) -> Result<(u64, u64)> {
        let number = |name| self.connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        let (page, pages, free) = (number("page_size")?, number("page_count")?, number("freelist_count")?);
        Ok(((page * pages).cast_unsigned(), (page * free).cast_unsigned()))
    }

    /// Gives up to so many unused pages back to the system.
    pub(super) fn reclaim(&mut self, pages: u32) -> Result<()> {
        let mut statement = self.connection.prepare(&format!("PRAGMA incremental_vacuum({pages})"))?;
        let mut rows = statement.query([])?;
        while rows.next()?.is_some() {}
        Ok(())
    }

    /// Copies the log into the database, as far as nobody is in the way.
    pub(super) fn checkpoint(&self) -> Result<()> {
        self.connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
    }

    /// Reads one value.
    pub(super) fn read(&self, place: Place) -> Result<Option<Vec<u8>>> {
        let sql = format!("SELECT value FROM {} WHERE key = ?1", place.space.name());
        self.connection.query_row(&sql, [place.key.cast_signed()], |row| row.get(0)).optional()
    }

    /// Reads the values of a space from this key on, `rows_max` at most.
    pub(super) fn read_page(&self, space: Space, from: i64, rows_max: usize) -> Result<Page> {
        let sql = format!("SELECT key, value FROM {} WHERE key >= ?1 ORDER BY key LIMIT ?2", space.name());
        let mut statement = self.connection.prepare(&sql)?;
        let mut rows = statement.query(params![from, i64::try_from(rows_max).unwrap_or(i64::MAX)])?;
        let (mut values, mut last) = (Vec::with_capacity(rows_max), None);
        while let Some(row) = rows.next()? {
            let key: i64 = row.get(0)?;
            values.push((key.cast_unsigned(), row.get(1)?));
            last = Some(key);
        }
        let next = last.filter(|_| values.len() == rows_max).and_then(|last| last.checked_add(1));
        Ok((values, next))
    }

    /// Limits the file to so many pages, as a full disk would.
    #[cfg(test)]
    pub(super) fn limit_pages(&self, pages: u32) {
        let sql = format!("PRAGMA max_page_count = {pages}");
        self.connection.query_row(&sql, [], |_| Ok(())).expect("a pragma");
    }
}

/// The statements of one transaction, which are prepared when first needed.
#[derive(Default)]
struct Statements<'a> {
    put: [Option<rusqlite::Statement<'a>>; Space::ALL.len()],
    remove: [Option<rusqlite::Statement<'a>>; Space::ALL.len()],
}

impl<'a> Statements<'a> {
    fn put(&mut self, connection: &'a Connection, space: Space) -> Result<&mut rusqlite::Statement<'a>> {
        prepare(self.put.get_mut(space as usize), connection, || {
            format!(
                "INSERT INTO {} (key, expires, value) VALUES (?1, ?2, ?3)
                 ON CONFLICT (key) DO UPDATE SET expires = excluded.expires, value = excluded.value",
                space.name()
            )
        })
    }

    fn remove(&mut self, connection: &'a Connection, space: Space) -> Result<&mut rusqlite::Statement<'a>> {
        prepare(self.remove.get_mut(space as usize), connection, || {
            format!("DELETE FROM {} WHERE key = ?1", space.name())
        })
    }
}

fn prepare<'a, 'b>(
    slot: Option<&'b mut Option<rusqlite::Statement<'a>>>,
    connection: &'a Connection,
    sql: impl FnOnce() -> String,
) -> Result<&'b mut rusqlite::Statement<'a>> {
    // There is a slot for each space.
    let slot = slot.ok_or(rusqlite::Error::InvalidQuery)?;
    match slot {
        Some(statement) => Ok(statement),
        empty => Ok(empty.insert(connection.prepare(&sql())?)),
    }
}

fn remove_expired(connection: &Connection, space: Space, before_s: i64, rows_max: usize) -> Result<usize> {
    let name = space.name();
    let sql = format!(
        "DELETE FROM {name} WHERE key IN (SELECT key FROM {name} WHERE expires < ?1 ORDER BY expires LIMIT ?2)"
    );
    connection.execute(&sql, params![before_s, i64::try_from(rows_max).unwrap_or(i64::MAX)])
}

/// Converts a time to the unit of the tables, rounded up. Values are stored in as few bytes as they need.
pub(super) fn to_seconds(unix_ms: u64) -> i64 {
    i64::try_from(unix_ms.div_ceil(1_000)).unwrap_or(i64::MAX)
}

/// Describes an error: data that cannot be used, or a medium that fails.
pub(super) fn explain(error: &rusqlite::Error) -> StoreError {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
    let text = one_line(&error.to_string());
    match error {
        rusqlite::Error::SqliteFailure(failure, _) if matches!(failure.code, DatabaseCorrupt | NotADatabase) => {
            StoreError::Unreadable(text)
        }
        rusqlite::Error::SqliteFailure(failure, Some(message)) if message.contains("no such table") => {
            StoreError::Unreadable(format!("{message} ({})", failure.extended_code))
        }
        rusqlite::Error::SqliteFailure(failure, _) => {
            StoreError::Unavailable(format!("{text} (SQLite error {})", failure.extended_code))
        }
        rusqlite::Error::QueryReturnedNoRows => StoreError::Unreadable("the database is incomplete".to_owned()),
        _ => StoreError::Unavailable(text),
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
