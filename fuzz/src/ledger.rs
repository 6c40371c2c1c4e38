//! Runs the ledger's table beside its model. Input: the choices of the run, one byte for each choice among at most 256, and
//! two otherwise. The first choice of a step selects its kind (`World::step`); the run ends with the input.

use super::ledger_model::{Choices, World};

/// Runs one input.
///
/// # Panics
/// If table and model disagree.
pub fn run(data: &[u8]) {
    let mut choices = Bytes(data);
    let mut world = World::new();
    while !choices.0.is_empty() {
        world.step(&mut choices);
    }
    world.sweep_and_compare();
    world.drain();
}

struct Bytes<'d>(&'d [u8]);

impl Bytes<'_> {
    /// Takes one byte; 0 after the end.
    fn take(&mut self) -> u64 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        u64::from(*first)
    }
}

impl Choices for Bytes<'_> {
    fn next(&mut self, below: u64) -> u64 {
        let number = if below > 256 { self.take() << 8 | self.take() } else { self.take() };
        number % below
    }
}
