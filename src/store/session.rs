//! What one process passes on to the next: the time of the store, and which ids were issued.

use serde::{Deserialize, Serialize};

use super::clock::Heartbeat;

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
    /// Odd, and no multiple of 3 or 5, so that steps of this size reach each of `COUNT` numbers, whose prime factors
    /// are 2, 3 and 5. Scatters the numbers, so that they do not tell how many tasks were submitted in between.
    const STRIDE: u128 = 618_033_988_751;

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

    /// Returns a number below `count`, a product of powers of 2, 3 and 5.
    pub fn number(self, issued: u64, count: u64) -> u64 {
        let at = u128::from(self.block) * u128::from(Self::BLOCK) + u128::from(issued);
        let number = (u128::from(self.offset) + at * Self::STRIDE) % u128::from(count.max(1));
        u64::try_from(number).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const COUNT: u64 = 900_000_000_000;

    #[test]
    fn no_number_occurs_twice_over_restarts() {
        let mut sequence = IdSequence { offset: u64::MAX, block: 0 };
        let mut seen = BTreeSet::new();
        for _ in 0..100 {
            assert!((0..100).all(|issued| seen.insert(sequence.number(issued, COUNT))));
            // A process that issued very many.
            let last = 5 * IdSequence::BLOCK + 7;
            assert!(seen.insert(sequence.number(last, COUNT)));
            sequence = sequence.after(last).next_process();
        }
        assert!(seen.iter().all(|number| *number < COUNT));
    }

    #[test]
    fn the_stride_reaches_every_number() {
        assert!([2, 3, 5].iter().all(|prime| !IdSequence::STRIDE.is_multiple_of(*prime)));
        let sequence = IdSequence { offset: 3, block: 0 };
        let reached: BTreeSet<u64> = (0..900).map(|issued| sequence.number(issued, 900)).collect();
        assert_eq!(reached.len(), 900);
    }
}
