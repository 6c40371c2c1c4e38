//! Tasks as capgate would store them, in model time: a bucket is a minute.

use std::collections::{HashMap, VecDeque};

use crate::store::{Op, Result, Store};

const OPEN_BYTES: usize = 220;
/// Minutes that an open record is kept without an answer.
const OPEN_MINUTES: u32 = 60;
/// Open records before the oldest is settled.
const OPEN_RECORDS: usize = 4_000;
const RANDOM_BYTES: usize = 1 << 20;

/// SplitMix64: any seed will do, and every run has the same records.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

struct Live {
    bucket: u32,
    value: (usize, usize),
}

pub struct Workload {
    pub random: Random,
    noise: Vec<u8>,
    next_id: u64,
    open: VecDeque<u64>,
    live: HashMap<u64, Live>,
    pub live_bytes: u64,
    pub minute: u32,
    submits_per_minute: u64,
    submits_this_minute: u64,
}

struct Write {
    id: u64,
    old_bucket: Option<u32>,
    bucket: u32,
    value: (usize, usize),
}

impl Workload {
    /// `live` records in the steady state, which a record stays in for 45 minutes on average.
    pub fn new(live: u64) -> Self {
        let mut random = Random(10);
        let noise = (0..RANDOM_BYTES / 8).flat_map(|_| random.next().to_le_bytes()).collect();
        Self {
            random,
            noise,
            next_id: 1,
            open: VecDeque::new(),
            live: HashMap::new(),
            live_bytes: 0,
            minute: 0,
            submits_per_minute: (live / 45).max(1),
            submits_this_minute: 0,
        }
    }

    pub fn live(&self) -> usize {
        self.live.len()
    }

    fn value(&mut self, bytes: usize) -> (usize, usize) {
        let start = usize::try_from(self.random.below((RANDOM_BYTES - bytes) as u64)).expect("an offset below 1 MiB");
        (start, start + bytes)
    }

    fn put(&mut self, id: u64, bucket: u32, bytes: usize) -> Write {
        let value = self.value(bytes);
        let old = self.live.insert(id, Live { bucket, value });
        self.live_bytes += bytes as u64;
        if let Some(old) = &old {
            self.live_bytes -= (old.value.1 - old.value.0) as u64;
        }
        Write { id, old_bucket: old.map(|old| old.bucket), bucket, value }
    }

    fn submit(&mut self) -> Write {
        let id = self.next_id;
        self.next_id += 1;
        self.submits_this_minute += 1;
        self.open.push_back(id);
        self.put(id, self.minute + OPEN_MINUTES, OPEN_BYTES)
    }

    fn settle(&mut self, id: u64) -> Write {
        let bytes = OPEN_BYTES + 500 + usize::try_from(self.random.below(1_501)).expect("a length");
        let bucket = self.minute + 30 + u32::try_from(self.random.below(31)).expect("a minute");
        self.put(id, bucket, bytes)
    }

    fn commit(&self, store: &mut dyn Store, writes: &[Write]) -> Result<()> {
        let ops: Vec<Op<'_>> = writes
            .iter()
            .map(|write| Op {
                id: write.id,
                old_bucket: write.old_bucket,
                bucket: write.bucket,
                value: &self.noise[write.value.0..write.value.1],
            })
            .collect();
        store.commit(&ops)
    }

    /// Commits `size` operations, half of them submits and half of them settlements.
    pub fn batch(&mut self, store: &mut dyn Store, size: usize) -> Result<()> {
        let mut writes = Vec::with_capacity(size);
        for _ in 0..size {
            let settles = self.open.len() > OPEN_RECORDS;
            let write = match self.open.pop_front() {
                Some(id) if settles => self.settle(id),
                popped => {
                    if let Some(id) = popped {
                        self.open.push_front(id);
                    }
                    self.submit()
                }
            };
            writes.push(write);
        }
        self.commit(store, &writes)
    }

    /// Commits `size` submits whose records expire within the minutes 30 to 60: in the order of their ids if there are
    /// `in_order` of them in all, otherwise at random.
    pub fn batch_of_open(&mut self, store: &mut dyn Store, size: usize, in_order: Option<usize>) -> Result<()> {
        let mut writes = Vec::with_capacity(size);
        for _ in 0..size {
            let id = self.next_id;
            self.next_id += 1;
            let minute = match in_order {
                Some(records) => (self.next_id - 1) % records as u64 * 30 / records as u64,
                None => self.random.below(31),
            };
            writes.push(self.put(id, self.minute + 30 + u32::try_from(minute)?, OPEN_BYTES));
        }
        self.commit(store, &writes)
    }

    /// Begins a minute if enough has been submitted in this one. Returns true if records have expired.
    pub fn advance(&mut self) -> bool {
        if self.submits_this_minute < self.submits_per_minute {
            return false;
        }
        self.submits_this_minute = 0;
        self.minute += 1;
        let minute = self.minute;
        let mut expired_bytes = 0;
        self.live.retain(|_, live| {
            let expired = live.bucket <= minute;
            if expired {
                expired_bytes += (live.value.1 - live.value.0) as u64;
            }
            !expired
        });
        self.live_bytes -= expired_bytes;
        true
    }

    /// Compares every record of the store with the model.
    pub fn verify(&self, store: &mut dyn Store) -> Result<()> {
        let (mut seen, mut wrong) = (0, 0);
        let minute = self.minute;
        store.scan(&mut |id, bucket, value| {
            if bucket <= minute {
                return;
            }
            seen += 1;
            let expected = self.live.get(&id);
            if !expected.is_some_and(|live| live.bucket == bucket && self.noise[live.value.0..live.value.1] == *value) {
                wrong += 1;
            }
        })?;
        if wrong > 0 || seen != self.live.len() {
            return Err(format!("{wrong} of {seen} records are wrong; expected {}", self.live.len()).into());
        }
        Ok(())
    }

    /// The live records, for random reads.
    pub fn keys(&self) -> Vec<(u64, u32)> {
        self.live.iter().map(|(id, live)| (*id, live.bucket)).collect()
    }
}
