//! The retry budget: bounds retries to a share of the calls, so that retries cannot multiply the load on an upstream
//! that fails. Pure: the time is an argument.

use crate::domain::Moment;

/// Retries that each call allows. A fifth, as in Finagle and linkerd.
const PER_CALL: f64 = 0.2;
/// Retries per second that are allowed however few calls there are.
const PER_SECOND: f64 = 1.0;
/// Most retries that may be saved up.
const RETRIES_MAX: f64 = 10.0;

/// A bucket of retries.
#[derive(Debug)]
pub(super) struct RetryBudget {
    retries: f64,
    refilled_at: Moment,
}

impl RetryBudget {
    /// Creates a full budget.
    pub(super) fn new(now: Moment) -> Self {
        Self { retries: RETRIES_MAX, refilled_at: now }
    }

    /// Counts a call that is not a retry.
    pub(super) fn count_call(&mut self, now: Moment) {
        self.refill(now);
        self.retries = (self.retries + PER_CALL).min(RETRIES_MAX);
    }

    /// Takes one retry. Returns `false` if none is left.
    pub(super) fn try_retry(&mut self, now: Moment) -> bool {
        self.refill(now);
        let is_left = self.retries >= 1.0;
        if is_left {
            self.retries -= 1.0;
        }
        is_left
    }

    #[expect(clippy::cast_precision_loss, reason = "milliseconds since the start of the process")]
    fn refill(&mut self, now: Moment) {
        let refill = now.millis_since(self.refilled_at) as f64 / 1_000.0 * PER_SECOND;
        self.refilled_at = self.refilled_at.max(now);
        self.retries = (self.retries + refill).min(RETRIES_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_are_a_fifth_of_the_calls_and_one_per_second() {
        let mut budget = RetryBudget::new(Moment(0));
        let mut retries = 0;
        for at in 0..10_000 {
            // 1 000 calls per second, and each fails.
            budget.count_call(Moment(at));
            retries += usize::from(budget.try_retry(Moment(at)));
        }
        assert!((2_000..=2_020).contains(&retries), "{retries} retries of 10 000 calls in ten seconds");
        let mut floor = 0;
        for at in 0..600 {
            // One call in ten seconds, which fails.
            budget.count_call(Moment(10_000 + at * 10_000));
            floor += usize::from(budget.try_retry(Moment(10_000 + at * 10_000)));
        }
        assert_eq!(floor, 600);
    }

    #[test]
    fn an_idle_hour_saves_up_few_retries() {
        let mut budget = RetryBudget::new(Moment(0));
        let retries = (0..100).filter(|_| budget.try_retry(Moment(3_600_000))).count();
        assert_eq!(retries, 10);
    }
}
