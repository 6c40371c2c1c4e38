//! A seeded random number generator with the same sequence on every machine.

use std::f64::consts::TAU;

use crate::sandbox::{splitmix64, unit_interval};

/// First stream of the tasks. Tasks and clients have separate streams, so that the number of clients does not change
/// the tasks.
pub(super) const TASK_STREAM: u64 = 0;
/// First stream of the clients.
pub(super) const CLIENT_STREAM: u64 = 1 << 32;

/// The splitmix64 generator.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Creates a generator with a separate sequence for each seed and stream.
    pub fn new(seed: u64, stream: u64) -> Self {
        Self(splitmix64(seed ^ splitmix64(stream)))
    }

    /// Draws uniformly from [0, 1).
    pub fn uniform(&mut self) -> f64 {
        let bits = splitmix64(self.0);
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        unit_interval(bits)
    }

    /// Draws from a log-normal distribution: `median` times e to the power of `sigma` times a normal variate.
    pub fn log_normal(&mut self, median: f64, sigma: f64) -> f64 {
        // Box-Muller transform. `1 - uniform`, because zero has no logarithm.
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        let normal = radius * (TAU * self.uniform()).cos();
        median * (sigma * normal).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_normal_draws_have_the_given_median_and_sigma() {
        let mut random = Random::new(1, 2);
        let mut draws: Vec<f64> = (0..10_001).map(|_| random.log_normal(1_000.0, 0.5)).collect();
        draws.sort_by(f64::total_cmp);
        // One sigma above the median is e^0.5 = 1.649 times the median.
        assert!((draws[5_000] / 1_000.0 - 1.0).abs() < 0.05, "{}", draws[5_000]);
        assert!((draws[8_413] / 1_648.7 - 1.0).abs() < 0.05, "{}", draws[8_413]);
        assert!((random.log_normal(1_000.0, 0.0) - 1_000.0).abs() < 1e-9);
    }
}
