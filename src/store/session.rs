//! What one process passes on to the next: the time of the store, and which ids were issued.

use serde::{Deserialize, Serialize};

use super::clock::Heartbeat;
use crate::domain::LegacyId;

/// The least legacy id.
pub const ID_FIRST: u64 = 100_000_000_000;
/// Number of legacy ids: those with twelve digits.
pub const ID_COUNT: u64 = 900_000_000_000;

/// The state of a process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// The time of the store.
    pub heartbeat: Heartbeat,
    /// The ids that the process issues.
    pub ids: IdSequence,
}

/// A part of a sequence of numbers in which none occurs twice until all have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdSequence {
    /// Where the sequence of this store begins: random, so that other stores have others.
    pub offset: u64,
    /// The block of which numbers are taken at present.
    pub block: u64,
}

impl IdSequence {
    /// Numbers in a block.
    const BLOCK: u64 = 1 << 30;
    /// Scatters the ids, so that they do not tell how many tasks were submitted in between. Has no factor in common with
    /// `ID_COUNT`, so that steps of this size reach each id.
    const STRIDE: u128 = 618_033_988_751;
    /// Undoes a multiplication by `STRIDE`, modulo `ID_COUNT`.
    const STRIDE_INVERSE: u128 = 337_014_448_751;

    /// Returns the sequence for the next process. An earlier one may have begun another block since its last heartbeat.
    #[must_use]
    pub fn next_process(self) -> Self {
        Self { block: self.block.wrapping_add(2), ..self }
    }

    /// Returns the sequence from the block in which this number of the present sequence is.
    #[must_use]
    pub fn after(self, issued: u64) -> Self {
        Self { block: self.block.wrapping_add(issued / Self::BLOCK), ..self }
    }

    /// Returns the id at this place of the sequence.
    pub fn id(self, issued: u64) -> LegacyId {
        let at = u128::from(self.block) * u128::from(Self::BLOCK) + u128::from(issued);
        let number = (u128::from(self.offset) + at * Self::STRIDE) % u128::from(ID_COUNT);
        LegacyId(ID_FIRST + u64::try_from(number).unwrap_or(0))
    }

    /// Returns a number for an id, which no other id has. Numbers of ids that were issued one after the other follow each
    /// other, so that the tasks of a time lie side by side in a store that is ordered by this number.
    pub fn order(id: LegacyId) -> u64 {
        match id.0.checked_sub(ID_FIRST) {
            Some(number) if number < ID_COUNT => {
                let order = u128::from(number) * Self::STRIDE_INVERSE % u128::from(ID_COUNT);
                u64::try_from(order).unwrap_or(0)
            }
            // Never issued.
            _ => id.0 | 1 << 63,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_id_occurs_twice_over_restarts() {
        let mut sequence = IdSequence { offset: u64::MAX, block: 0 };
        let mut seen = BTreeSet::new();
        for _ in 0..100 {
            assert!((0..100).all(|issued| seen.insert(sequence.id(issued).0)));
            // A process that issued very many.
            let last = 5 * IdSequence::BLOCK + 7;
            assert!(seen.insert(sequence.id(last).0));
            sequence = sequence.after(last).next_process();
        }
        assert!(seen.iter().all(|id| id.to_string().len() == 12));
    }

    #[test]
    fn ids_issued_one_after_the_other_are_stored_side_by_side() {
        let sequence = IdSequence { offset: 12_345, block: 3 };
        let orders: Vec<u64> = (0..1_000).map(|issued| IdSequence::order(sequence.id(issued))).collect();
        assert!(orders.windows(2).all(|pair| pair[1] == pair[0] + 1));
        assert_eq!(IdSequence::STRIDE * IdSequence::STRIDE_INVERSE % u128::from(ID_COUNT), 1);
        let others = [0, 7, ID_FIRST - 1, ID_FIRST + ID_COUNT].map(|id| IdSequence::order(LegacyId(id)));
        assert!(others.iter().all(|order| *order >= ID_COUNT));
    }
}
