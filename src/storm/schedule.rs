//! The due times of polls: drawn from a seed, independent of the server.

use std::time::Duration;

use super::plan::Plan;
use super::random::{CLIENT_STREAM, Random};

/// The times at which one client's polls are due: ascending and endless.
#[derive(Clone, Debug)]
pub(super) struct Schedule {
    next: Duration,
    interval: Duration,
    jitter: f64,
    random: Random,
}

impl Schedule {
    /// Creates the schedule of a client. The first polls of all clients are spread over the first interval.
    pub(super) fn new(plan: &Plan, client: usize) -> Self {
        let mut random = Random::new(plan.seed, CLIENT_STREAM + client as u64);
        let step = plan.offset(1, plan.clients);
        let next = plan.offset(client, plan.clients) + step.mul_f64(random.uniform());
        Self { next, interval: plan.interval, jitter: plan.jitter, random }
    }
}

impl Iterator for Schedule {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        /// Keeps the times ascending even if the jitter cancels a whole interval.
        const GAP_MIN: Duration = Duration::from_micros(1);
        let due = self.next;
        let gap = self.interval.mul_f64(1.0 + self.jitter * (2.0 * self.random.uniform() - 1.0));
        self.next += gap.max(GAP_MIN);
        Some(due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_start_within_one_interval_and_keep_their_pace() {
        let plan = Plan { clients: 100, ..Plan::sample() };
        for client in 0..plan.clients {
            let due: Vec<Duration> = Schedule::new(&plan, client).take(1_000).collect();
            assert!(due[0] < plan.interval);
            assert!(due.windows(2).all(|pair| {
                let gap = pair[1].saturating_sub(pair[0]);
                gap >= plan.interval.mul_f64(0.799) && gap <= plan.interval.mul_f64(1.201)
            }));
            let pace = due[999].saturating_sub(due[0]).as_secs_f64() / 999.0;
            assert!((pace - 1.0).abs() < 0.05, "{pace}");
        }
        let first_ten = |client| Schedule::new(&plan, client).take(10).collect::<Vec<_>>();
        assert_eq!(first_ten(3), first_ten(3));
        assert_ne!(first_ten(3), first_ten(4));
    }

    #[test]
    fn times_ascend_even_if_the_jitter_is_a_whole_interval() {
        let plan = Plan { jitter: 1.0, interval: Duration::from_nanos(1), ..Plan::sample() };
        let due: Vec<Duration> = Schedule::new(&plan, 0).take(1_000).collect();
        assert!(due.windows(2).all(|pair| pair[0] < pair[1]));
    }
}
