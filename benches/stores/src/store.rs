//! What the workload asks of a store, and the choice among the candidates.

use std::fs;
use std::path::Path;

pub type Error = Box<dyn std::error::Error + Send + Sync>;
pub type Result<T> = std::result::Result<T, Error>;

/// Writes one record: a submit if `old_bucket` is empty, otherwise the settled form of an open record.
pub struct Op<'a> {
    pub id: u64,
    /// The expiry bucket (a minute of model time) under which the record is stored so far.
    pub old_bucket: Option<u32>,
    pub bucket: u32,
    pub value: &'a [u8],
}

pub trait Store {
    /// Returns once all of `ops` are durable.
    fn commit(&mut self, ops: &[Op<'_>]) -> Result<()>;
    /// Removes the records of the bucket `through` and of all earlier ones.
    fn expire(&mut self, through: u32) -> Result<()>;
    /// A bounded piece of the work that gives space back to the file system, if the store needs to be asked.
    fn reclaim(&mut self) -> Result<()>;
    /// The same, until nothing is left to give back. The store serves nothing else meanwhile.
    fn compact(&mut self) -> Result<()>;
    /// Calls `each` with every live record.
    fn scan(&mut self, each: &mut dyn FnMut(u64, u32, &[u8])) -> Result<()>;
    fn get(&mut self, id: u64, bucket: u32) -> Result<Option<Vec<u8>>>;
}

/// Besides these, `-checked` variants verify the whole file when they open it.
///
/// `redb` is keyed by bucket and id, `redb-id` by id, each with variants of its commits;
/// `sqlite` by id with an index by bucket, `sqlite-range` by bucket and id.
pub const KINDS: &[&str] = &[
    #[cfg(feature = "redb")]
    "redb",
    #[cfg(feature = "redb")]
    "redb-2phase",
    #[cfg(feature = "redb")]
    "redb-quick",
    #[cfg(feature = "redb")]
    "redb-id",
    #[cfg(feature = "redb")]
    "redb-id-quick",
    #[cfg(feature = "sqlite")]
    "sqlite",
    #[cfg(feature = "sqlite")]
    "sqlite-range",
    #[cfg(feature = "journal")]
    "journal",
];

/// The candidates whose files differ.
pub const MAIN_KINDS: &[&str] = &[
    #[cfg(feature = "redb")]
    "redb",
    #[cfg(feature = "redb")]
    "redb-id",
    #[cfg(feature = "sqlite")]
    "sqlite",
    #[cfg(feature = "sqlite")]
    "sqlite-range",
    #[cfg(feature = "journal")]
    "journal",
];

pub fn open(kind: &str, dir: &Path) -> Result<Box<dyn Store>> {
    fs::create_dir_all(dir)?;
    match kind {
        #[cfg(feature = "redb")]
        "redb" | "redb-2phase" | "redb-quick" | "redb-id" | "redb-id-quick" | "redb-id-checked" => {
            Ok(Box::new(crate::redb_store::RedbStore::open(
                dir,
                crate::redb_store::Options {
                    by_id: kind.contains("-id"),
                    two_phase: kind.ends_with("-2phase"),
                    quick_repair: kind.ends_with("-quick"),
                    checked: kind.ends_with("-checked"),
                },
            )?))
        }
        #[cfg(feature = "sqlite")]
        "sqlite" | "sqlite-checked" | "sqlite-range" | "sqlite-range-checked" => {
            let (by_bucket, checked) = (kind.contains("-range"), kind.ends_with("-checked"));
            Ok(Box::new(crate::sqlite_store::SqliteStore::open(dir, by_bucket, checked)?))
        }
        #[cfg(feature = "journal")]
        "journal" => Ok(Box::new(crate::journal::Journal::open(dir)?)),
        _ => Err(format!("unknown store {kind:?}; known: {KINDS:?}").into()),
    }
}

/// The bytes that the files of `dir` occupy: blocks rather than lengths, because a file may have holes.
pub fn bytes_on_disk(dir: &Path) -> Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let mut bytes = 0;
    for entry in fs::read_dir(dir)? {
        bytes += entry?.metadata()?.blocks() * 512;
    }
    Ok(bytes)
}
