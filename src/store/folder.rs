//! The folder of an embedded store: the database, the identity, the key unless it is elsewhere, and a
//! lock that keeps a second process out. An existing store is opened only if it is complete and the key fits; nothing
//! is ever replaced by an empty one.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::cipher::Cipher;
use super::identity::{self, Identity};
use super::metrics::StoreMetrics;
use super::secret_key;
use super::sqlite::{self, SqliteBackend};

/// Name of the key file, if the configuration names none.
pub(super) const KEY_FILE_NAME: &str = "capgate.key";
const LOCK_NAME: &str = "capgate.lock";

/// An opened folder.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    identity: Identity,
    lock: File,
}

/// What is opened.
#[derive(Debug)]
pub struct Opened {
    /// The folder.
    pub folder: Folder,
    /// Its database.
    pub backend: SqliteBackend,
    /// Seals the values.
    pub cipher: Cipher,
}

impl Folder {
    /// Opens a store, or creates it if there is none. `key_file` is the file with the key; `None` for a file in the
    /// folder, which is created if it is missing. `inherited_lock` is the lock of a process from which this one takes over.
    ///
    /// # Errors
    /// What is wrong, with the path.
    pub fn open(
        path: &Path,
        key_file: Option<&Path>,
        inherited_lock: Option<File>,
        metrics: StoreMetrics,
    ) -> Result<Opened, String> {
        let explain = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|error| explain(&error))?;
        let lock = match inherited_lock {
            Some(lock) => lock,
            None => lock(path)?,
        };
        let passed_on_lock = lock.try_clone().map_err(|error| explain(&error))?;
        let (finished, unfinished) =
            (Identity::read(path, identity::FILE_NAME)?, path.join(identity::UNFINISHED_NAME).exists());
        let has_database = path.join(sqlite::FILE_NAME).exists();
        let (identity, cipher) = match finished {
            Some(identity) => {
                if !has_database {
                    return Err(explain(&format_args!(
                        "the store has lost its database {}: restore it, or remove the folder to start without its tasks",
                        sqlite::FILE_NAME
                    )));
                }
                let cipher = open_key(path, key_file)?;
                check_key(path, &identity, &cipher)?;
                (identity, cipher)
            }
            None if has_database && !unfinished => {
                return Err(explain(&format_args!(
                    "there is a database, but no {}: restore it, or remove the folder to start without its tasks",
                    identity::FILE_NAME
                )));
            }
            None => create(path, key_file)?,
        };
        let backend = SqliteBackend::open(path, &identity.id, lock, metrics).map_err(|error| explain(&error))?;
        let mut folder = Self { path: path.to_owned(), identity, lock: passed_on_lock };
        let current = cipher.current_key_id();
        if !folder.identity.key_ids.contains(&current) {
            // Before the first value is sealed with the new key.
            folder.identity.key_ids.push(current);
            folder.write_identity()?;
        }
        Ok(Opened { folder, backend, cipher })
    }

    /// Returns a duplicate of the lock, for a process that takes over from this one. The folder stays locked until both
    /// have ended.
    ///
    /// # Errors
    /// If the process has no file left.
    pub fn duplicate_lock(&self) -> std::io::Result<File> {
        self.lock.try_clone()
    }

    /// Returns the random number of the store, of which two stores never have the same.
    pub fn store_id(&self) -> &str {
        &self.identity.id
    }

    /// Whether an earlier key may have sealed values.
    pub fn has_earlier_keys(&self) -> bool {
        self.identity.key_ids.len() > 1
    }

    /// Notes that this key has sealed all values, so that no other is needed any more.
    ///
    /// # Errors
    /// If that cannot be written.
    pub fn forget_earlier_keys(&mut self, current: String) -> Result<(), String> {
        self.identity.key_ids = vec![current];
        self.write_identity()
    }

    fn write_identity(&self) -> Result<(), String> {
        self.identity.write_unfinished(&self.path)?;
        Identity::finish(&self.path)
    }
}

fn create(path: &Path, key_file: Option<&Path>) -> Result<(Identity, Cipher), String> {
    let cipher = if key_file.is_some() {
        open_key(path, key_file)?
    } else {
        let file = path.join(KEY_FILE_NAME);
        let (cipher, is_new) = secret_key::read_or_create(&file)?;
        if is_new {
            let file = file.display().to_string();
            tracing::warn!(
                file,
                "store.key_file is not set: a key was created beside the store, so that whoever can copy the folder \
                     can read the API keys and answers in it"
            );
        }
        cipher
    };
    let identity = Identity::generate(cipher.current_key_id())?;
    // The database exists for good once the identity has its final name.
    identity.write_unfinished(path)?;
    SqliteBackend::create(path, &identity.id)?;
    identity::sync_folder(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Identity::finish(path)?;
    let store = path.display().to_string();
    tracing::info!(store, "a new store was created");
    Ok((identity, cipher))
}

pub(super) fn open_key(path: &Path, key_file: Option<&Path>) -> Result<Cipher, String> {
    match key_file {
        Some(file) => secret_key::read(file).map_err(|error| format!("store.key_file: {error}")),
        None => secret_key::read(&path.join(KEY_FILE_NAME)),
    }
}

pub(super) fn check_key(path: &Path, identity: &Identity, cipher: &Cipher) -> Result<(), String> {
    match identity.key_ids.iter().find(|key_id| !cipher.has_key(key_id)) {
        None => Ok(()),
        Some(key_id) => Err(format!(
            "{}: the store holds values sealed with key {key_id}, which the key file does not contain",
            path.display()
        )),
    }
}

/// Locks the folder. A process that is just ending may still hold the lock for a moment.
fn lock(path: &Path) -> Result<File, String> {
    const ATTEMPTS: u32 = 20;
    const PAUSE: Duration = Duration::from_millis(50);
    let file_path = path.join(LOCK_NAME);
    let explain = |error: &dyn std::fmt::Display| format!("{}: {error}", file_path.display());
    let mut options = OpenOptions::new();
    let file = options.write(true).create(true).truncate(false).mode(0o600).open(&file_path);
    let file = file.map_err(|error| explain(&error))?;
    for _ in 0..ATTEMPTS {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(error)) => return Err(explain(&error)),
            Err(TryLockError::WouldBlock) => {}
        }
        #[expect(clippy::disallowed_methods, reason = "nothing is served yet")]
        std::thread::sleep(PAUSE);
    }
    Err(format!("{}: another process uses this store", path.display()))
}
