//! A segmented append-only journal: every record is appended; only the oldest segment is ever removed, once its live
//! records have expired or have been copied to the end.
//!
//! Files are removed in the order of their writing, so a superseded record never outlives the one that replaced it.
//! A segment's header names the valid length of its predecessor, so that a batch whose sync failed is repeated in a
//! new segment, and what remains of it in the old one is never read.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::store::{Op, Result, Store};

const MAGIC: [u8; 8] = *b"CAPGJNL1";
/// Magic, length of the predecessor, checksum.
const HEADER_BYTES: u64 = 20;
/// Checksum, length of the value, batch, bucket, id.
const RECORD_BYTES: usize = 28;
const VALUE_BYTES_MAX: usize = 1 << 20;
const SEGMENT_BYTES: u64 = 8 << 20;
/// Bytes of live records that one commit copies forward at most, beyond its own size.
const COPY_BYTES: usize = 128 << 10;

#[derive(Clone, Copy)]
struct Position {
    segment: u32,
    offset: u64,
    value_bytes: u32,
    bucket: u32,
}

struct Segment {
    file: File,
    bytes: u64,
}

pub struct Journal {
    dir: PathBuf,
    /// Held for its lock.
    _lock: File,
    segments: BTreeMap<u32, Segment>,
    index: HashMap<u64, Position>,
    /// Ids by bucket. An entry is outdated if the index has another bucket.
    buckets: BTreeMap<u32, Vec<u64>>,
    live_bytes: u64,
    total_bytes: u64,
    batch: u32,
    buffer: Vec<u8>,
    /// What has been copied of the oldest segment.
    copied: u64,
    must_rotate: bool,
}

struct Record {
    id: u64,
    bucket: u32,
    batch: u32,
    bytes: usize,
}

fn read_record(bytes: &[u8]) -> Option<Record> {
    let header = bytes.get(..RECORD_BYTES)?;
    let word = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let value_bytes = word(4) as usize;
    if value_bytes > VALUE_BYTES_MAX {
        return None;
    }
    let end = RECORD_BYTES + value_bytes;
    (crc32fast::hash(bytes.get(4..end)?) == word(0)).then(|| Record {
        id: u64::from(word(16)) | u64::from(word(20)) << 32,
        bucket: word(12),
        batch: word(8),
        bytes: end,
    })
}

fn append_record(buffer: &mut Vec<u8>, batch: u32, bucket: u32, id: u64, value: &[u8]) {
    let start = buffer.len();
    buffer.extend_from_slice(&[0; 4]);
    buffer.extend_from_slice(&u32::try_from(value.len()).expect("a value below 1 MiB").to_le_bytes());
    buffer.extend_from_slice(&batch.to_le_bytes());
    buffer.extend_from_slice(&bucket.to_le_bytes());
    buffer.extend_from_slice(&id.to_le_bytes());
    buffer.extend_from_slice(&[0; 4]);
    buffer.extend_from_slice(value);
    let crc = crc32fast::hash(&buffer[start + 4..]);
    buffer[start..start + 4].copy_from_slice(&crc.to_le_bytes());
}

impl Journal {
    pub fn open(dir: &Path) -> Result<Self> {
        let lock = OpenOptions::new().append(true).create(true).mode(0o600).open(dir.join("lock"))?;
        lock.try_lock()?;
        let mut journal = Self {
            dir: dir.to_owned(),
            _lock: lock,
            segments: BTreeMap::new(),
            index: HashMap::new(),
            buckets: BTreeMap::new(),
            live_bytes: 0,
            total_bytes: 0,
            batch: 0,
            buffer: Vec::new(),
            copied: HEADER_BYTES,
            must_rotate: false,
        };
        journal.load()?;
        if journal.segments.is_empty() {
            journal.rotate()?;
        }
        Ok(journal)
    }

    fn path(&self, segment: u32) -> PathBuf {
        self.dir.join(format!("{segment:010}.segment"))
    }

    fn load(&mut self) -> Result<()> {
        let mut numbers = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let name = entry?.file_name().into_string().unwrap_or_default();
            if let Some(number) = name.strip_suffix(".segment") {
                numbers.push(number.parse::<u32>()?);
            }
        }
        numbers.sort_unstable();
        if numbers.windows(2).any(|pair| pair[1] != pair[0] + 1) {
            return Err("a segment is missing".into());
        }
        let mut valid_bytes = Vec::new();
        for number in &numbers {
            let file = OpenOptions::new().read(true).write(true).open(self.path(*number))?;
            let mut header = [0; HEADER_BYTES as usize];
            let is_last = Some(number) == numbers.last();
            match file.read_exact_at(&mut header, 0) {
                // A crash between the creation of a segment and its first sync.
                Err(error) if is_last && error.kind() == ErrorKind::UnexpectedEof && numbers.len() > 1 => {
                    fs::remove_file(self.path(*number))?;
                    break;
                }
                read => read?,
            }
            if header[..8] != MAGIC {
                return Err(format!("segment {number}: not a journal, or of another version").into());
            }
            if crc32fast::hash(&header[..16]) != u32::from_le_bytes([header[16], header[17], header[18], header[19]]) {
                return Err(format!("segment {number}: damaged header").into());
            }
            let previous: [u8; 8] = header[8..16].try_into()?;
            valid_bytes.push(u64::from_le_bytes(previous));
            self.segments.insert(*number, Segment { file, bytes: 0 });
        }
        let numbers: Vec<u32> = self.segments.keys().copied().collect();
        for (at, number) in numbers.iter().enumerate() {
            self.load_segment(*number, valid_bytes.get(at + 1).copied())?;
        }
        Ok(())
    }

    fn load_segment(&mut self, number: u32, valid_bytes: Option<u64>) -> Result<()> {
        let bytes = fs::read(self.path(number))?;
        let end = match valid_bytes {
            Some(valid) => usize::try_from(valid)?,
            None => bytes.len(),
        };
        let bytes = bytes.get(..end).ok_or_else(|| format!("segment {number}: truncated"))?;
        let mut at = usize::try_from(HEADER_BYTES)?;
        while at < bytes.len() {
            let Some(record) = read_record(&bytes[at..]) else {
                // Only the batch that was being written may be damaged, and nothing follows it.
                let torn = valid_bytes.is_none()
                    && !(at + 1..bytes.len())
                        .any(|next| read_record(&bytes[next..]).is_some_and(|later| later.batch > self.batch + 1));
                if !torn {
                    return Err(format!("segment {number}: damaged record at {at}").into());
                }
                break;
            };
            self.batch = self.batch.max(record.batch);
            self.place(&record, number, at as u64);
            at += record.bytes;
        }
        self.total_bytes += at as u64;
        let segment = self.segments.get_mut(&number).ok_or("no such segment")?;
        segment.bytes = at as u64;
        if valid_bytes.is_none() && at < usize::try_from(segment.file.metadata()?.len())? {
            segment.file.set_len(at as u64)?;
            segment.file.sync_data()?;
        }
        Ok(())
    }

    fn place(&mut self, record: &Record, segment: u32, offset: u64) {
        let value_bytes = u32::try_from(record.bytes - RECORD_BYTES).expect("a value below 1 MiB");
        let position = Position { segment, offset, value_bytes, bucket: record.bucket };
        let old = self.index.insert(record.id, position);
        self.live_bytes += record.bytes as u64;
        if let Some(old) = old {
            self.live_bytes -= u64::from(old.value_bytes) + RECORD_BYTES as u64;
        }
        if old.is_none_or(|old| old.bucket != record.bucket) {
            self.buckets.entry(record.bucket).or_default().push(record.id);
        }
    }

    fn rotate(&mut self) -> Result<()> {
        let (number, previous_bytes) = match self.segments.last_key_value() {
            Some((number, segment)) => (number + 1, segment.bytes),
            None => (0, 0),
        };
        let mut header = [0; HEADER_BYTES as usize];
        header[..8].copy_from_slice(&MAGIC);
        header[8..16].copy_from_slice(&previous_bytes.to_le_bytes());
        let crc = crc32fast::hash(&header[..16]);
        header[16..].copy_from_slice(&crc.to_le_bytes());
        // Overwrites what an earlier attempt left, if it failed.
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(self.path(number))?;
        file.write_all_at(&header, 0)?;
        file.sync_data()?;
        File::open(&self.dir)?.sync_all()?;
        self.segments.insert(number, Segment { file, bytes: HEADER_BYTES });
        self.total_bytes += HEADER_BYTES;
        self.must_rotate = false;
        Ok(())
    }

    /// Appends live records of the oldest segment to the buffer, if the journal has become too large.
    fn copy_forward(&mut self, bytes_max: usize) -> Result<()> {
        let Some((&number, segment)) = self.segments.first_key_value() else { return Ok(()) };
        if self.segments.len() < 2 || self.total_bytes * 2 < self.live_bytes * 3 || self.copied >= segment.bytes {
            return Ok(());
        }
        let mut bytes = vec![0; usize::try_from(segment.bytes - self.copied)?.min(bytes_max * 4)];
        segment.file.read_exact_at(&mut bytes, self.copied)?;
        let (mut at, mut copied_bytes) = (0, 0);
        while copied_bytes < bytes_max
            && let Some(record) = read_record(&bytes[at..])
        {
            let offset = self.copied + at as u64;
            if self.index.get(&record.id).is_some_and(|place| place.segment == number && place.offset == offset) {
                let value = &bytes[at + RECORD_BYTES..at + record.bytes];
                append_record(&mut self.buffer, self.batch, record.bucket, record.id, value);
                copied_bytes += record.bytes;
            }
            at += record.bytes;
        }
        self.copied += at as u64;
        Ok(())
    }

    fn write(&mut self) -> Result<()> {
        let (&number, segment) = self.segments.last_key_value().ok_or("no segment")?;
        let start = segment.bytes;
        let written = segment.file.write_all_at(&self.buffer, start).and_then(|()| segment.file.sync_data());
        if let Err(error) = written {
            // What the kernel has done with the pages is unknown, so they are not relied upon.
            self.must_rotate = true;
            return Err(error.into());
        }
        let buffer = std::mem::take(&mut self.buffer);
        let mut at = 0;
        while let Some(record) = read_record(&buffer[at..]) {
            self.place(&record, number, start + at as u64);
            at += record.bytes;
        }
        self.buffer = buffer;
        self.total_bytes += at as u64;
        if let Some(segment) = self.segments.get_mut(&number) {
            segment.bytes += at as u64;
        }
        Ok(())
    }

    fn remove_copied(&mut self) -> Result<()> {
        while self.segments.len() > 1
            && let Some((&number, segment)) = self.segments.first_key_value()
            && self.copied >= segment.bytes
        {
            fs::remove_file(self.path(number))?;
            self.total_bytes -= segment.bytes;
            self.segments.remove(&number);
            self.copied = HEADER_BYTES;
        }
        Ok(())
    }
}

impl Store for Journal {
    fn commit(&mut self, ops: &[Op<'_>]) -> Result<()> {
        if self.must_rotate || self.segments.last_key_value().is_some_and(|(_, last)| last.bytes >= SEGMENT_BYTES) {
            self.rotate()?;
        }
        self.batch += 1;
        self.buffer.clear();
        // The copies come first, so that an operation of this batch supersedes them.
        let copied = self.copied;
        self.copy_forward(COPY_BYTES + ops.iter().map(|op| op.value.len()).sum::<usize>())?;
        for op in ops {
            append_record(&mut self.buffer, self.batch, op.bucket, op.id, op.value);
        }
        if let Err(error) = self.write() {
            self.copied = copied;
            return Err(error);
        }
        self.remove_copied()
    }

    fn expire(&mut self, through: u32) -> Result<()> {
        let later = self.buckets.split_off(&(through + 1));
        for (bucket, ids) in std::mem::replace(&mut self.buckets, later) {
            for id in ids {
                if let Some(position) = self.index.get(&id)
                    && position.bucket == bucket
                {
                    self.live_bytes -= u64::from(position.value_bytes) + RECORD_BYTES as u64;
                    self.index.remove(&id);
                }
            }
        }
        Ok(())
    }

    fn reclaim(&mut self) -> Result<()> {
        self.commit(&[])
    }

    fn compact(&mut self) -> Result<()> {
        while self.segments.len() > 1 && self.total_bytes * 2 >= self.live_bytes * 3 {
            self.reclaim()?;
        }
        Ok(())
    }

    fn scan(&mut self, each: &mut dyn FnMut(u64, u32, &[u8])) -> Result<()> {
        for (number, segment) in &self.segments {
            let bytes = fs::read(self.path(*number))?;
            let mut at = usize::try_from(HEADER_BYTES)?;
            while at < usize::try_from(segment.bytes)?
                && let Some(record) = read_record(&bytes[at..])
            {
                if self.index.get(&record.id).is_some_and(|p| p.segment == *number && p.offset == at as u64) {
                    each(record.id, record.bucket, &bytes[at + RECORD_BYTES..at + record.bytes]);
                }
                at += record.bytes;
            }
        }
        Ok(())
    }

    fn get(&mut self, id: u64, _bucket: u32) -> Result<Option<Vec<u8>>> {
        let Some(position) = self.index.get(&id) else { return Ok(None) };
        let segment = self.segments.get(&position.segment).ok_or("no such segment")?;
        let mut record = vec![0; RECORD_BYTES + position.value_bytes as usize];
        segment.file.read_exact_at(&mut record, position.offset)?;
        read_record(&record).ok_or("damaged record")?;
        Ok(Some(record.split_off(RECORD_BYTES)))
    }
}
