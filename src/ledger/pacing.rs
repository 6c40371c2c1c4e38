//! When to ask the upstream for a task again: the adaptive not-ready TTL. Pure.
//!
//! Two things cost: a poll of the upstream, and the time for which a ready answer lies unseen. Where an answer comes with
//! the hazard rate *h* (chance per millisecond, given that it has not come yet), polls that are *t* apart cost *c / t*
//! each millisecond and leave the answer unseen for *t / 2*: the sum is least at *t* = √(2*c* / *h*), the square-root law
//! of inspection. So polls stand close where an answer is likely and far apart where it is not. The hazard comes from an
//! [`Estimate`] of what tasks of the method have taken lately; without one, from a prior that knows no scale, under which
//! intervals grow with the root of the task's age.
//!
//! Around this stand hard bounds: a floor and a ceiling for the interval, and a number of polls that one task may cost,
//! spent along a curve that lasts as long as the task may live. `docs/polling.md` compares it with fixed TTLs.

/// Bounds and the one weight. Defaults and reasons stand in `conf/capgate.toml`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pacing {
    /// Shortest interval between two polls of a task, in milliseconds.
    pub floor_ms: u64,
    /// Longest one, as long as there are polls left.
    pub ceiling_ms: u64,
    /// How much earlier an answer must be seen, in milliseconds, to be worth one more poll.
    pub poll_cost_ms: u64,
    /// Most polls that one task may cost.
    pub polls_max: u16,
    /// How long the polls must last: the longest that a task may stay open, in milliseconds.
    pub life_ms: u64,
}

/// Bins of an octave: a bin is 4.4 % wide, less than a second at a solve time of 20 s.
const BINS_PER_OCTAVE: usize = 16;
/// Upper end of the first bin, in milliseconds. What takes less is ready before anybody can ask.
const FIRST_MS: f64 = 64.0;
/// Bins: 14 octaves above the first end at 17 minutes, beyond which every client has given up.
const BINS: usize = 14 * BINS_PER_OCTAVE + 1;
/// Weight of the prior, in tasks.
const PRIOR: f64 = 2.0;
/// Tasks after which the weight of one has fallen to 1/e: long enough for a stable picture, short enough that a change
/// upstream is followed within some dozens of tasks.
const MEMORY: f64 = 128.0;
/// Tasks from which on the estimate counts. Below it, few answers that came early could delay a first look.
const ENOUGH: f64 = 7.5;
/// How much dearer a poll is until then: where answers come is a guess, so that each one finds less.
const GUESS: f64 = 3.5;

/// What tasks of one method have taken lately: a decaying histogram, 900 bytes whatever it has seen.
#[derive(Clone, Debug)]
pub struct Estimate {
    weights: Box<[f32; BINS]>,
    total: f64,
}

impl Default for Estimate {
    fn default() -> Self {
        Self { weights: Box::new([0.0; BINS]), total: 0.0 }
    }
}

impl Estimate {
    /// Notes that a task took this long from submit to answer.
    #[expect(clippy::cast_possible_truncation, reason = "a weight below 128")]
    pub fn note(&mut self, took_ms: u64) {
        const KEEP: f64 = 1.0 - 1.0 / MEMORY;
        for weight in self.weights.iter_mut() {
            *weight *= KEEP as f32;
        }
        self.total = self.total * KEEP + 1.0;
        let at = bin(took_ms);
        // A little to either side: the next task will not take the same to the millisecond.
        for (near, share) in [(at.saturating_sub(1), 0.25), (at, 0.5), ((at + 1).min(BINS - 1), 0.25)] {
            if let Some(weight) = self.weights.get_mut(near) {
                *weight += share;
            }
        }
    }

    /// Whether enough tasks were seen to go by.
    pub fn is_known(&self) -> bool {
        self.total >= ENOUGH
    }

    /// Weight of a bin, the prior included: equal for all bins, which are equal on a logarithmic scale.
    fn weight(&self, bin: usize) -> f64 {
        let seen = if self.is_known() { self.weights.get(bin).copied().map_or(0.0, f64::from) } else { 0.0 };
        #[expect(clippy::cast_precision_loss, reason = "some hundred bins")]
        let prior = PRIOR / BINS as f64;
        prior + seen
    }

    /// The age at which the square-root law wants the next poll of a task of this age.
    fn wanted_ms(&self, age_ms: u64, poll_cost_ms: u64) -> u64 {
        let (mut from_ms, first) = (to_float(age_ms), bin(age_ms));
        let mut beyond: f64 = (first..BINS).map(|bin| self.weight(bin)).sum();
        let cost_ms = to_float(poll_cost_ms.max(1)) * if self.is_known() { 1.0 } else { GUESS };
        // Polls that the law has had since the last one; the next is due at one.
        let mut due = 0.0;
        for bin in first..BINS - 1 {
            let (ends_ms, left) = (edge_ms(bin), beyond - self.weight(bin));
            let width_ms = edge_ms(bin) - if bin == 0 { 0.0 } else { edge_ms(bin - 1) };
            let hazard = (beyond / left).ln() / width_ms;
            let density = (hazard / (2.0 * cost_ms)).sqrt();
            let span_ms = (ends_ms - from_ms).max(0.0);
            if due + density * span_ms >= 1.0 {
                return to_ms(from_ms + (1.0 - due) / density);
            }
            due += density * span_ms;
            (from_ms, beyond) = (ends_ms, left);
        }
        u64::MAX
    }
}

/// The age, in milliseconds, at which a task should be asked for next: one of `age_ms` that was asked for `asked` times
/// so far. Never below `age_ms`. Where only asking at all can tell, before the first poll of a method that is not known,
/// it is `age_ms`: now.
pub fn next_ask_ms(age_ms: u64, asked: u16, estimate: &Estimate, pacing: &Pacing) -> u64 {
    let paced = if asked == 0 && !estimate.is_known() {
        age_ms
    } else {
        let ceiling_ms = age_ms.saturating_add(pacing.ceiling_ms);
        let floor_ms = if asked == 0 { age_ms } else { age_ms.saturating_add(pacing.floor_ms) };
        estimate.wanted_ms(age_ms, pacing.poll_cost_ms).min(ceiling_ms).max(floor_ms)
    };
    paced.max(affordable_ms(asked, pacing))
}

/// The age from which on one more poll leaves enough of them for the rest of the task's life. The number that may be
/// spent grows with the logarithm of the age: most answers come early, and late ones can wait in proportion.
fn affordable_ms(asked: u16, pacing: &Pacing) -> u64 {
    /// Below this age the curve is nearly straight.
    const BEND_MS: f64 = 10_000.0;
    if asked >= pacing.polls_max {
        return u64::MAX;
    }
    // A tenth may be spent at any time.
    let free = f64::from(pacing.polls_max / 10);
    let share = (f64::from(asked) + 1.0 - free) / (f64::from(pacing.polls_max) - free);
    if share <= 0.0 {
        return 0;
    }
    to_ms(BEND_MS * ((1.0 + to_float(pacing.life_ms) / BEND_MS).powf(share) - 1.0))
}

/// The bin of a time.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "bounded")]
fn bin(ms: u64) -> usize {
    let octaves = (to_float(ms) / FIRST_MS).max(1.0).log2();
    let over = octaves * BINS_PER_OCTAVE as f64;
    // The first bin ends where the octaves begin.
    if to_float(ms) < FIRST_MS { 0 } else { (over as usize + 1).min(BINS - 1) }
}

/// Upper end of a bin, in milliseconds.
#[expect(clippy::cast_precision_loss, reason = "some hundred bins")]
fn edge_ms(bin: usize) -> f64 {
    FIRST_MS * (bin as f64 / BINS_PER_OCTAVE as f64).exp2()
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
                estimate.note(*ms);
            }
        }
        estimate
    }

    /// The ages at which a task would be asked for, up to this age.
    fn asks(estimate: &Estimate, pacing: &Pacing, until_ms: u64) -> Vec<u64> {
        let mut ages: Vec<u64> = Vec::new();
        loop {
            let asked = u16::try_from(ages.len()).expect("few");
            let age = next_ask_ms(ages.last().copied().unwrap_or(0), asked, estimate, pacing);
            if age > until_ms {
                return ages;
            }
            ages.push(age);
        }
    }

    #[test]
    fn an_unknown_method_is_asked_for_at_once_and_then_ever_more_rarely() {
        let ages = asks(&Estimate::default(), &PACING, 20_000);
        assert_eq!(ages[0], 0);
        assert!(ages.len() <= 12, "{ages:?}");
        let gaps: Vec<u64> = ages.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(gaps.windows(2).all(|pair| pair[1] + 60 >= pair[0]), "intervals shrink: {gaps:?}");
    }

    #[test]
    fn polls_stand_where_answers_come() {
        let ages = asks(&known(&[14_000, 15_000, 16_000]), &PACING, 18_000);
        let near = ages.iter().filter(|age| (13_500..16_500).contains(*age)).count();
        assert!(near * 2 > ages.len(), "{near} of {ages:?}");
        assert!(ages.len() <= 16, "{ages:?}");
    }

    #[test]
    fn the_bounds_hold_whatever_was_seen() {
        for estimate in [Estimate::default(), known(&[0]), known(&[400]), known(&[20_000]), known(&[3_600_000])] {
            let ages = asks(&estimate, &PACING, PACING.life_ms);
            assert!(ages.len() <= usize::from(PACING.polls_max), "{}", ages.len());
            assert!(ages.windows(2).all(|pair| pair[1] - pair[0] >= PACING.floor_ms));
            let last = ages.last().copied().unwrap_or(0);
            assert!(last > PACING.life_ms * 9 / 10, "the polls were spent by {last} ms");
        }
    }

    #[test]
    fn equal_bounds_make_a_fixed_interval() {
        let pacing = Pacing { floor_ms: 2_000, ceiling_ms: 2_000, polls_max: u16::MAX, ..PACING };
        assert_eq!(asks(&Estimate::default(), &pacing, 8_000), [0, 2_000, 4_000, 6_000, 8_000]);
    }

    #[test]
    fn what_was_seen_long_ago_is_forgotten() {
        let mut estimate = known(&[60_000]);
        (0..1_000).for_each(|_| estimate.note(500));
        let ages = asks(&estimate, &PACING, 62_000);
        let late = ages.iter().filter(|age| (58_000..62_000).contains(*age)).count();
        assert!(late <= 2, "{late} polls around a time that is no longer taken: {ages:?}");
    }

    #[test]
    fn bins_meet_at_their_edges() {
        for at in 1..BINS - 1 {
            let middle = to_ms(f64::midpoint(edge_ms(at - 1), edge_ms(at)));
            assert_eq!(bin(middle), at, "{middle} ms");
        }
        assert_eq!((bin(0), bin(63), bin(u64::MAX)), (0, 0, BINS - 1));
    }
}
