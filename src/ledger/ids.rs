//! Issues legacy ids.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::domain::LegacyId;

/// A source of legacy ids: twelve random digits, below JavaScript's 2^53 and long enough that replicas, and a process
/// after its restart, do not issue the same ones. Ids need not be secret: an id is worthless without its account's key.
#[derive(Debug, Default)]
pub(super) struct Ids {
    random: RandomState,
    issued: AtomicU64,
}

impl Ids {
    pub(super) fn next(&self) -> LegacyId {
        const FIRST: u64 = 100_000_000_000;
        const LAST: u64 = 999_999_999_999;
        let number = self.random.hash_one(self.issued.fetch_add(1, Ordering::Relaxed));
        LegacyId(FIRST + number % (LAST - FIRST + 1))
    }
}
