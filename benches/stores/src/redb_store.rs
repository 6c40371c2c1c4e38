//! redb, in two layouts: keyed by expiry bucket and id, so that expiry is a range; or by id alone, so that inserts come
//! in order and a settlement replaces in place. The second needs a list of ids by bucket in memory, which capgate has.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use redb::backends::FileBackend;
use redb::{Builder, Database, ReadableDatabase, ReadableTable, TableDefinition};

use crate::store::{Op, Result, Store};

const TASKS: TableDefinition<(u32, u64), &[u8]> = TableDefinition::new("tasks");
/// The value begins with the bucket.
const TASKS_BY_ID: TableDefinition<u64, &[u8]> = TableDefinition::new("tasks_by_id");
const CACHE_BYTES: usize = 64 << 20;

fn split(value: &[u8]) -> (u32, &[u8]) {
    value.split_first_chunk().map_or((0, value), |(bucket, value)| (u32::from_le_bytes(*bucket), value))
}

#[expect(clippy::struct_excessive_bools, reason = "independent settings of redb")]
pub struct Options {
    pub by_id: bool,
    pub two_phase: bool,
    pub quick_repair: bool,
    /// Verifies every checksum at each start.
    pub checked: bool,
}

pub struct RedbStore {
    database: Database,
    options: Options,
    /// In the layout by id: the ids of each bucket, where an entry is outdated if the record has another bucket.
    buckets: Option<BTreeMap<u32, Vec<u64>>>,
}

impl RedbStore {
    pub fn open(dir: &Path, options: Options) -> Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(dir.join("tasks.redb"))?;
        let database = Builder::new()
            .set_cache_size(CACHE_BYTES)
            .set_check_integrity_on_open(options.checked)
            .create_with_backend(FileBackend::new(file)?)?;
        let mut store = Self { database, options, buckets: None };
        if store.options.by_id {
            let mut buckets = BTreeMap::<u32, Vec<u64>>::new();
            store.scan_by_id(&mut |id, bucket, _| buckets.entry(bucket).or_default().push(id))?;
            store.buckets = Some(buckets);
        }
        Ok(store)
    }

    fn scan_by_id(&self, each: &mut dyn FnMut(u64, u32, &[u8])) -> Result<()> {
        let transaction = self.database.begin_read()?;
        let table = match transaction.open_table(TASKS_BY_ID) {
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(()),
            table => table?,
        };
        for record in table.iter()? {
            let (id, value) = record?;
            let (bucket, value) = split(value.value());
            each(id.value(), bucket, value);
        }
        Ok(())
    }

    fn begin(&self) -> Result<redb::WriteTransaction> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_two_phase_commit(self.options.two_phase);
        transaction.set_quick_repair(self.options.quick_repair);
        Ok(transaction)
    }

    fn write_by_id(&self, change: impl FnOnce(&mut redb::Table<'_, u64, &'static [u8]>) -> Result<()>) -> Result<()> {
        let transaction = self.begin()?;
        change(&mut transaction.open_table(TASKS_BY_ID)?)?;
        transaction.commit()?;
        Ok(())
    }

    fn write(&self, change: impl FnOnce(&mut redb::Table<'_, (u32, u64), &'static [u8]>) -> Result<()>) -> Result<()> {
        let transaction = self.begin()?;
        change(&mut transaction.open_table(TASKS)?)?;
        transaction.commit()?;
        Ok(())
    }
}

impl Store for RedbStore {
    fn commit(&mut self, ops: &[Op<'_>]) -> Result<()> {
        if self.options.by_id {
            let mut value = Vec::new();
            self.write_by_id(|table| {
                for op in ops {
                    value.clear();
                    value.extend_from_slice(&op.bucket.to_le_bytes());
                    value.extend_from_slice(op.value);
                    table.insert(op.id, value.as_slice())?;
                }
                Ok(())
            })?;
            if let Some(buckets) = &mut self.buckets {
                for op in ops {
                    buckets.entry(op.bucket).or_default().push(op.id);
                }
            }
            return Ok(());
        }
        self.write(|table| {
            for op in ops {
                if let Some(old_bucket) = op.old_bucket {
                    table.remove((old_bucket, op.id))?;
                }
                table.insert((op.bucket, op.id), op.value)?;
            }
            Ok(())
        })
    }

    fn expire(&mut self, through: u32) -> Result<()> {
        if let Some(buckets) = &mut self.buckets {
            let later = buckets.split_off(&(through + 1));
            let mut ids: Vec<u64> = std::mem::replace(buckets, later).into_values().flatten().collect();
            ids.sort_unstable();
            return self.write_by_id(|table| {
                for id in ids {
                    let expired = table.get(id)?.is_some_and(|value| split(value.value()).0 <= through);
                    if expired {
                        table.remove(id)?;
                    }
                }
                Ok(())
            });
        }
        self.write(|table| {
            table.retain_in((0, 0)..=(through, u64::MAX), |_, _| false)?;
            Ok(())
        })
    }

    // redb gives pages at the end of the file back by itself; `compact` is all there is to call.
    fn reclaim(&mut self) -> Result<()> {
        Ok(())
    }

    fn compact(&mut self) -> Result<()> {
        self.database.compact()?;
        Ok(())
    }

    fn scan(&mut self, each: &mut dyn FnMut(u64, u32, &[u8])) -> Result<()> {
        if self.options.by_id {
            return self.scan_by_id(each);
        }
        let transaction = self.database.begin_read()?;
        let table = match transaction.open_table(TASKS) {
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(()),
            table => table?,
        };
        for record in table.iter()? {
            let (key, value) = record?;
            let (bucket, id) = key.value();
            each(id, bucket, value.value());
        }
        Ok(())
    }

    fn get(&mut self, id: u64, bucket: u32) -> Result<Option<Vec<u8>>> {
        let transaction = self.database.begin_read()?;
        if self.options.by_id {
            let table = transaction.open_table(TASKS_BY_ID)?;
            return Ok(table.get(id)?.map(|value| split(value.value()).1.to_vec()));
        }
        let table = transaction.open_table(TASKS)?;
        Ok(table.get((bucket, id))?.map(|value| value.value().to_vec()))
    }
}
