//! Issues legacy ids.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::domain::LegacyId;
use crate::store::session::{ID_COUNT, ID_FIRST, IdSequence};

/// A source of legacy ids, which have twelve digits: below JavaScript's 2^53. Ids need not be secret, because an id is
/// worthless without its account's key.
#[derive(Debug)]
pub(super) struct Ids {
    source: Source,
    issued: AtomicU64,
}

#[derive(Debug)]
enum Source {
    /// Random, so that neither replicas nor a restarted process issue the same ids, but for a rare accident.
    Random(RandomState),
    /// Of all processes of a store, so that none issues an id again.
    Sequence(IdSequence),
}

impl Ids {
    /// Creates a source of random ids, or of a sequence.
    pub(super) fn new(sequence: Option<IdSequence>) -> Self {
        let source = sequence.map_or_else(|| Source::Random(RandomState::new()), Source::Sequence);
        Self { source, issued: AtomicU64::new(0) }
    }

    pub(super) fn next(&self) -> LegacyId {
        let issued = self.issued.fetch_add(1, Ordering::Relaxed);
        match &self.source {
            Source::Random(random) => LegacyId(ID_FIRST + random.hash_one(issued) % ID_COUNT),
            Source::Sequence(sequence) => sequence.id(issued),
        }
    }

    /// Returns the sequence as far as it was used, for the next process.
    pub(super) fn sequence(&self) -> Option<IdSequence> {
        match self.source {
            Source::Random(_) => None,
            Source::Sequence(sequence) => Some(sequence.after(self.issued.load(Ordering::Relaxed))),
        }
    }
}
