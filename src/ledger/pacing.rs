//! Computes when to poll the upstream for a task again: the adaptive not-ready TTL. Pure.
//!
//! Two things cost: a poll of the upstream, and the time for which a ready answer is not seen. If an answer arrives
//! with the hazard rate *h* (chance per millisecond, given that it has not arrived yet), polls at an interval *t* cost
//! *c / t* per millisecond and leave the answer unseen for *t / 2* on average. The sum is least at *t* = √(2*c* / *h*),
//! the square-root law of inspection. Polls are therefore dense where an answer is likely and sparse where it is not.
//! The hazard comes from an [`Estimate`] of recent solve times of the method; without one, from a scale-free
//! prior, under which intervals grow with the square root of the task's age.
//!
//! Hard bounds limit the result: a floor and a ceiling for the interval, and the number of polls that one task may
//! cost, spent along a curve that lasts as long as the task may live. `docs/polling.md` compares the outcome with fixed
//! TTLs.

use crate::store::snapshot::SolveTimesSnapshot;

/// Bounds, and the weight of a poll against a delay. `conf/capgate.toml` contains the defaults and their reasons.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pacing {
    /// Shortest interval between two polls of a task, in milliseconds.
    pub floor_ms: u64,
    /// Longest interval while polls are left, in milliseconds.
    pub ceiling_ms: u64,
    /// Delay of an answer that is worth one poll, in milliseconds.
    pub poll_cost_ms: u64,
    /// Most polls that one task may cost.
    pub polls_max: u16,
    /// How long the polls must last: the longest time that a task may stay open, in milliseconds.
    pub life_ms: u64,
}

/// A bin is 4.4 % wide: less than a second at a solve time of 20 s.
const BINS_PER_OCTAVE: usize = 16;
/// Upper end of the first bin, in milliseconds. A faster task is ready before a client can poll it.
const FIRST_BIN_MS: f64 = 64.0;
/// Number of bins: 14 octaves above the first end at 17 minutes, when every client has given up.
const BINS: usize = 14 * BINS_PER_OCTAVE + 1;
/// Weight of the prior, in tasks.
const PRIOR_TASKS: f64 = 2.0;
/// Number of tasks after which the weight of a task has fallen to 1/e: enough for a stable estimate, and few enough to
/// follow a change upstream within some dozens of tasks.
const DECAY_TASKS: f64 = 128.0;
/// Weight from which the estimate is used. Below it, a few early answers could delay a first poll.
const KNOWN_TASKS: f64 = 7.5;
/// Factor on the cost of a poll until then: without an estimate, each poll is less likely to find an answer.
const UNKNOWN_COST_FACTOR: f64 = 3.5;

/// Recent solve times of one method: a decaying histogram of constant size, 900 bytes.
#[derive(Clone, Debug)]
pub struct Estimate {
    weights: Box<[f32; BINS]>,
    total: f64,
    /// Whether a time was recorded that no snapshot contains.
    is_new: bool,
}

impl Default for Estimate {
    fn default() -> Self {
        Self { weights: Box::new([0.0; BINS]), total: 0.0, is_new: false }
    }
}

impl Estimate {
    /// Records the time from submit to answer of one task.
    #[expect(clippy::cast_possible_truncation, reason = "a weight below 128")]
    pub fn record(&mut self, took_ms: u64) {
        const KEEP: f64 = 1.0 - 1.0 / DECAY_TASKS;
        for weight in self.weights.iter_mut() {
            *weight *= KEEP as f32;
        }
        self.total = self.total * KEEP + 1.0;
        self.is_new = true;
        let at = bin_of(took_ms);
        // Spread over the neighbours: the next task will not take the same time to the millisecond.
        for (near, share) in [(at.saturating_sub(1), 0.25), (at, 0.5), ((at + 1).min(BINS - 1), 0.25)] {
            if let Some(weight) = self.weights.get_mut(near) {
                *weight += share;
            }
        }
    }

    /// Returns a snapshot, unless nothing was recorded since the last one.
    pub fn take_if_new(&mut self, method: &str) -> Option<SolveTimesSnapshot> {
        std::mem::take(&mut self.is_new).then(|| SolveTimesSnapshot {
            method: method.to_owned(),
            weights: self.weights.to_vec(),
            total: self.total,
        })
    }

    /// Restores a snapshot, unless it is one of other bins.
    pub fn from_snapshot(times: &SolveTimesSnapshot) -> Option<Self> {
        let weights: [f32; BINS] = times.weights.as_slice().try_into().ok()?;
        let is_sound = weights.iter().all(|weight| weight.is_finite() && *weight >= 0.0) && times.total.is_finite();
        is_sound.then(|| Self { weights: Box::new(weights), total: times.total, is_new: false })
    }

    /// Whether enough tasks were recorded.
    pub fn is_known(&self) -> bool {
        self.total >= KNOWN_TASKS
    }

    /// Returns the weight of a bin, including the prior. The prior is equal for all bins, because they have equal
    /// width on a logarithmic scale.
    fn weight(&self, bin: usize) -> f64 {
        let recorded = if self.is_known() { self.weights.get(bin).copied().map_or(0.0, f64::from) } else { 0.0 };
        #[expect(clippy::cast_precision_loss, reason = "some hundred bins")]
        let prior = PRIOR_TASKS / BINS as f64;
        prior + recorded
    }

    /// Returns the age, in milliseconds, of the next poll by the square-root law for a task of age `age_ms`.
    fn square_root_age_ms(&self, age_ms: u64, poll_cost_ms: u64) -> u64 {
        let (mut from_ms, first) = (to_float(age_ms), bin_of(age_ms));
        // Weight of the tasks that take longer than `from_ms`.
        let mut remaining: f64 = (first..BINS).map(|bin| self.weight(bin)).sum();
        let cost_ms = to_float(poll_cost_ms.max(1)) * if self.is_known() { 1.0 } else { UNKNOWN_COST_FACTOR };
        // Integral of the density of polls since the last poll. The next is due when it reaches one.
        let mut due = 0.0;
        for bin in first..BINS - 1 {
            let (end_ms, left) = (bin_end_ms(bin), remaining - self.weight(bin));
            let width_ms = bin_end_ms(bin) - if bin == 0 { 0.0 } else { bin_end_ms(bin - 1) };
            let hazard = (remaining / left).ln() / width_ms;
            let density = (hazard / (2.0 * cost_ms)).sqrt();
            let span_ms = (end_ms - from_ms).max(0.0);
            if due + density * span_ms >= 1.0 {
                return to_ms(from_ms + (1.0 - due) / density);
            }
            due += density * span_ms;
            (from_ms, remaining) = (end_ms, left);
        }
        u64::MAX
    }
}

/// Returns the age, in milliseconds, at which to poll a task of age `age_ms` next, if it was polled `polls_used` times.
/// Never below `age_ms`. The first poll of a method without an estimate is due at once, since only a poll can start
/// one.
pub fn next_poll_age_ms(age_ms: u64, polls_used: u16, estimate: &Estimate, pacing: &Pacing) -> u64 {
    let paced_ms = if polls_used == 0 && !estimate.is_known() {
        age_ms
    } else {
        let ceiling_ms = age_ms.saturating_add(pacing.ceiling_ms);
        let floor_ms = if polls_used == 0 { age_ms } else { age_ms.saturating_add(pacing.floor_ms) };
        estimate.square_root_age_ms(age_ms, pacing.poll_cost_ms).min(ceiling_ms).max(floor_ms)
    };
    paced_ms.max(affordable_age_ms(polls_used, pacing))
}

/// Returns the age, in milliseconds, from which one more poll leaves enough polls for the rest of the task's life. The
/// number of polls that may be spent grows with the logarithm of the age: most answers arrive early, and a late one can
/// wait in proportion.
fn affordable_age_ms(polls_used: u16, pacing: &Pacing) -> u64 {
    /// Below this age the curve is nearly straight.
    const BEND_MS: f64 = 10_000.0;
    if polls_used >= pacing.polls_max {
        return u64::MAX;
    }
    // A tenth may be spent at any time.
    let free = f64::from(pacing.polls_max / 10);
    let share = (f64::from(polls_used) + 1.0 - free) / (f64::from(pacing.polls_max) - free);
    if share <= 0.0 {
        return 0;
    }
    to_ms(BEND_MS * ((1.0 + to_float(pacing.life_ms) / BEND_MS).powf(share) - 1.0))
}

/// Returns the bin of a solve time.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "bounded")]
fn bin_of(ms: u64) -> usize {
    let octaves = (to_float(ms) / FIRST_BIN_MS).max(1.0).log2();
    let bins = octaves * BINS_PER_OCTAVE as f64;
    if to_float(ms) < FIRST_BIN_MS { 0 } else { (bins as usize + 1).min(BINS - 1) }
}

/// Returns the upper end of a bin, in milliseconds.
#[expect(clippy::cast_precision_loss, reason = "some hundred bins")]
fn bin_end_ms(bin: usize) -> f64 {
    FIRST_BIN_MS * (bin as f64 / BINS_PER_OCTAVE as f64).exp2()
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds of a task's life")]
fn to_float(ms: u64) -> f64 {
    ms as f64
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
fn to_ms(ms: f64) -> u64 {
    ms.ceil() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACING: Pacing =
        Pacing { floor_ms: 250, ceiling_ms: 5_000, poll_cost_ms: 30, polls_max: 100, life_ms: 1_800_000 };

    fn known(times_ms: &[u64]) -> Estimate {
        let mut estimate = Estimate::default();
        for _ in 0..20 {
            for ms in times_ms {
                estimate.record(*ms);
            }
        }
        estimate
    }

    /// Returns the ages at which a task is polled, up to this age.
    fn poll_ages(estimate: &Estimate, pacing: &Pacing, until_ms: u64) -> Vec<u64> {
        let mut ages: Vec<u64> = Vec::new();
        loop {
            let polls_used = u16::try_from(ages.len()).expect("few");
            let age = next_poll_age_ms(ages.last().copied().unwrap_or(0), polls_used, estimate, pacing);
            if age > until_ms {
                return ages;
            }
            ages.push(age);
        }
    }

    #[test]
    fn an_unknown_method_is_polled_at_once_and_then_at_growing_intervals() {
        let ages = poll_ages(&Estimate::default(), &PACING, 20_000);
        assert_eq!(ages[0], 0);
        assert!(ages.len() <= 12, "{ages:?}");
        let gaps: Vec<u64> = ages.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(gaps.windows(2).all(|pair| pair[1] + 60 >= pair[0]), "intervals shrink: {gaps:?}");
    }

    #[test]
    fn polls_are_dense_where_answers_are_likely() {
        let ages = poll_ages(&known(&[14_000, 15_000, 16_000]), &PACING, 18_000);
        let near = ages.iter().filter(|age| (13_500..16_500).contains(*age)).count();
        assert!(near * 2 > ages.len(), "{near} of {ages:?}");
        assert!(ages.len() <= 16, "{ages:?}");
    }

    #[test]
    fn the_bounds_hold_for_every_estimate() {
        for estimate in [Estimate::default(), known(&[0]), known(&[400]), known(&[20_000]), known(&[3_600_000])] {
            let ages = poll_ages(&estimate, &PACING, PACING.life_ms);
            assert!(ages.len() <= usize::from(PACING.polls_max), "{}", ages.len());
            assert!(ages.windows(2).all(|pair| pair[1] - pair[0] >= PACING.floor_ms));
            let last = ages.last().copied().unwrap_or(0);
            assert!(last > PACING.life_ms * 9 / 10, "the polls were spent by {last} ms");
        }
    }

    #[test]
    fn equal_bounds_give_a_fixed_interval() {
        let pacing = Pacing { floor_ms: 2_000, ceiling_ms: 2_000, polls_max: u16::MAX, ..PACING };
        assert_eq!(poll_ages(&Estimate::default(), &pacing, 8_000), [0, 2_000, 4_000, 6_000, 8_000]);
    }

    #[test]
    fn old_solve_times_are_forgotten() {
        let mut estimate = known(&[60_000]);
        (0..1_000).for_each(|_| estimate.record(500));
        let ages = poll_ages(&estimate, &PACING, 62_000);
        let late = ages.iter().filter(|age| (58_000..62_000).contains(*age)).count();
        assert!(late <= 2, "{late} polls around an outdated solve time: {ages:?}");
    }

    #[test]
    fn bins_are_contiguous() {
        for at in 1..BINS - 1 {
            let middle = to_ms(f64::midpoint(bin_end_ms(at - 1), bin_end_ms(at)));
            assert_eq!(bin_of(middle), at, "{middle} ms");
        }
        assert_eq!((bin_of(0), bin_of(63), bin_of(u64::MAX)), (0, 0, BINS - 1));
    }
}
