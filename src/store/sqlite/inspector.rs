//! Reads a database beside the process that uses it, for the commands of operators.

use std::path::Path;

use super::super::backend::{Space, StoreError};
use super::FILE_NAME;
use super::database::{Database, explain};

/// Values that are read at once.
const PAGE_ROWS: usize = 1_000;

/// A database that is only read.
#[derive(Debug)]
pub struct Inspector {
    database: Database,
}

impl Inspector {
    /// Opens the database of a store, which another process may be using.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn open(folder: &Path, store_id: &str) -> Result<Self, StoreError> {
        Ok(Self { database: Database::open(&folder.join(FILE_NAME), store_id)? })
    }

    /// Checks the structure of the whole file.
    ///
    /// # Errors
    /// [`StoreError::Unreadable`] if it is damaged.
    pub fn check(&self) -> Result<(), StoreError> {
        self.database.check()
    }

    /// Returns the number of values in a space.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn count(&self, space: Space) -> Result<u64, StoreError> {
        self.database.count(space).map_err(|error| explain(&error))
    }

    /// Returns the size of the file, and how many of its bytes are unused.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn size_bytes(&self) -> Result<(u64, u64), StoreError> {
        self.database.size_bytes().map_err(|error| explain(&error))
    }

    /// Reads all values of a space with their keys.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn for_each(&self, space: Space, mut each: impl FnMut(u64, &[u8])) -> Result<(), StoreError> {
        let mut next = Some(i64::MIN);
        while let Some(from) = next {
            let (values, following) =
                self.database.read_page(space, from, PAGE_ROWS).map_err(|error| explain(&error))?;
            for (key, sealed) in &values {
                each(*key, sealed);
            }
            next = following;
        }
        Ok(())
    }
}
