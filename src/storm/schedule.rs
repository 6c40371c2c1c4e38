//! When polls are due: drawn from a seed, and never moved by what a server does.

use std::f64::consts::TAU;
use std::time::Duration;

use super::{OF_CLIENTS, Plan};
use crate::sandbox::splitmix64;

/// Chance that is the same on every machine: splitmix64.
#[derive(Clone, Debug)]
pub struct Draw(u64);

impl Draw {
    /// A sequence of its own for each seed and stream.
    pub fn new(seed: u64, stream: u64) -> Self {
        Self(splitmix64(seed ^ splitmix64(stream)))
    }

    /// Uniform from 0 to below 1.
    pub fn uniform(&mut self) -> f64 {
        let bits = splitmix64(self.0);
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        #[expect(clippy::cast_precision_loss, reason = "53 bits, all of which fit")]
        let share = (bits >> 11) as f64 / (1_u64 << 53) as f64;
        share
    }

    /// Log-normal: `median` times e to the power of `sigma` times a normal draw.
    pub fn log_normal(&mut self, median: f64, sigma: f64) -> f64 {
        // Box and Muller. One minus, because zero has no logarithm.
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        let normal = radius * (TAU * self.uniform()).cos();
        median * (sigma * normal).exp()
    }
}

/// The times at which one client means to poll, ascending and endless.
#[derive(Clone, Debug)]
pub struct Schedule {
    due: Duration,
    every: Duration,
    jitter: f64,
    draw: Draw,
}

impl Schedule {
    /// Of one client. The first times of all clients are spread over the first interval.
    pub fn new(plan: &Plan, client: usize) -> Self {
        let mut draw = Draw::new(plan.seed, OF_CLIENTS + client as u64);
        let step = super::share(plan.every, 1, plan.clients);
        let due = super::share(plan.every, client, plan.clients) + step.mul_f64(draw.uniform());
        Self { due, every: plan.every, jitter: plan.jitter, draw }
    }
}

impl Iterator for Schedule {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        /// So that no two polls of a client are due at once, even where the jitter takes a whole interval away.
        const GAP_MIN: Duration = Duration::from_micros(1);
        let due = self.due;
        let gap = self.every.mul_f64(1.0 + self.jitter * (2.0 * self.draw.uniform() - 1.0));
        self.due += gap.max(GAP_MIN);
        Some(due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storm::tests::plan;

    #[test]
    fn clients_start_within_one_interval_and_keep_their_pace() {
        let plan = Plan { clients: 100, ..plan() };
        for client in 0..plan.clients {
            let due: Vec<Duration> = Schedule::new(&plan, client).take(1_000).collect();
            assert!(due[0] < plan.every);
            assert!(due.windows(2).all(|two| {
                let gap = two[1].saturating_sub(two[0]);
                gap >= plan.every.mul_f64(0.799) && gap <= plan.every.mul_f64(1.201)
            }));
            let pace = due[999].saturating_sub(due[0]).as_secs_f64() / 999.0;
            assert!((pace - 1.0).abs() < 0.05, "{pace}");
        }
        let same = |client| Schedule::new(&plan, client).take(10).collect::<Vec<_>>();
        assert_eq!(same(3), same(3));
        assert_ne!(same(3), same(4));
    }

    #[test]
    fn a_whole_interval_of_jitter_still_ascends() {
        let plan = Plan { jitter: 1.0, every: Duration::from_nanos(1), ..plan() };
        let due: Vec<Duration> = Schedule::new(&plan, 0).take(1_000).collect();
        assert!(due.windows(2).all(|two| two[0] < two[1]));
    }

    #[test]
    fn solve_times_have_the_median_and_the_spread_that_were_asked_for() {
        let mut draw = Draw::new(1, 2);
        let mut times: Vec<f64> = (0..10_001).map(|_| draw.log_normal(1_000.0, 0.5)).collect();
        times.sort_by(f64::total_cmp);
        // One sigma above the median is e^0.5 = 1.649 times as much.
        assert!((times[5_000] / 1_000.0 - 1.0).abs() < 0.05, "{}", times[5_000]);
        assert!((times[8_413] / 1_648.7 - 1.0).abs() < 0.05, "{}", times[8_413]);
        assert!((draw.log_normal(1_000.0, 0.0) - 1_000.0).abs() < 1e-9);
    }
}
