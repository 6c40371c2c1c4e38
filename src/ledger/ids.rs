//! Issues legacy ids.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::domain::LegacyId;

/// A source of legacy ids. An id has twelve random digits: below JavaScript's 2^53, and enough that neither replicas
/// nor a restarted process issue the same ids. Ids need not be secret, because an id is worthless without its account's
/// key.
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
