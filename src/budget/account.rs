//! Calls of one account, and what the upstream reported about it.

use super::class::Class;
use crate::domain::Moment;
use crate::native::Rate;

/// Longest pause that the upstream can request, in milliseconds, so that a wrong value does not stop calls for a day.
pub(super) const PAUSE_MAX_MS: u64 = 60_000;
/// Window of the upstream's limit (uCaptcha, overview page), in milliseconds.
pub(super) const WINDOW_MS: u64 = 10_000;
/// Validity of a reported number of remaining requests that names no end of its window, in milliseconds.
const REMAINING_TTL_MS: u64 = 1_000;

/// Usage of one account.
#[derive(Debug, Default)]
pub(super) struct AccountUsage {
    pub(super) in_progress: usize,
    /// Calls by class, in the order of [`Class::ALL`].
    this_period: [u32; Class::ALL.len()],
    last_period: [u32; Class::ALL.len()],
    /// Whether the account attempted a call in this period.
    pub(super) is_active: bool,
    /// Whether the account counts as active for shares.
    pub(super) is_counted: bool,
    /// 429s since the last other answer; several during one pause count once.
    throttled: u32,
    paused_until: Option<Moment>,
    /// Requests that the upstream reported as remaining, and the end of that report's validity.
    remaining: Option<(u32, Moment)>,
    /// End of the window in which nothing remained, by the first such report since any other.
    nothing_until: Option<Moment>,
}

impl AccountUsage {
    /// Returns the approximate number of calls in a sliding period: those of this period, and the part of the last
    /// period's that it overlaps. Counts the class and those above it, so that polls never use up the share of
    /// submits.
    pub(super) fn recent(&self, class: Class, elapsed: f64) -> f64 {
        let sum = |counts: &[u32; Class::ALL.len()]| -> f64 {
            Class::ALL.iter().zip(counts).filter(|(counted, _)| **counted <= class).map(|(_, n)| f64::from(*n)).sum()
        };
        sum(&self.this_period) + sum(&self.last_period) * (1.0 - elapsed)
    }

    /// Records the start of a call.
    pub(super) fn begin(&mut self, class: Class) {
        self.in_progress += 1;
        for (counted, count) in Class::ALL.iter().zip(&mut self.this_period) {
            *count += u32::from(*counted == class);
        }
        if let Some((remaining, _)) = &mut self.remaining {
            *remaining = remaining.saturating_sub(1);
        }
    }

    /// Begins a new share period. Returns whether the account is still of interest, and whether it was active.
    pub(super) fn rotate(&mut self, periods: u64, now: Moment) -> (bool, bool) {
        self.last_period = if periods == 1 { self.this_period } else { Default::default() };
        self.this_period = Default::default();
        self.remaining = self.remaining.filter(|(_, until)| now < *until);
        let is_active = (std::mem::take(&mut self.is_active) && periods == 1) || self.in_progress > 0;
        self.is_counted = is_active;
        // A pause is remembered for one window more, so that the next 429 doubles it, and the next report is compared
        // with this one.
        let was_paused = [self.paused_until, self.nothing_until];
        let was_paused = was_paused.into_iter().flatten().any(|until| now < until.after_ms(WINDOW_MS));
        (is_active || was_paused || self.remaining.is_some(), is_active)
    }

    /// Whether the upstream's answers to this account ask for a pause.
    pub(super) fn is_paused(&self, now: Moment) -> bool {
        self.paused_until.is_some_and(|until| now < until)
            || self.remaining.is_some_and(|(remaining, until)| remaining == 0 && now < until)
    }

    /// Returns what an answer reports, without remaining requests if that number means nothing: a call that was sent
    /// after the end of its window got an answer, and again nothing remained. A service that always sends zero would
    /// otherwise stop its own traffic.
    pub(super) fn believe(&mut self, rate: &Rate, is_throttled: bool, sent_at: Moment, now: Moment) -> Rate {
        if is_throttled || rate.remaining != Some(0) {
            self.nothing_until = None;
            return *rate;
        }
        let until = *self.nothing_until.get_or_insert_with(|| remaining_until(rate, now));
        if sent_at >= until { Rate { remaining: None, ..*rate } } else { *rate }
    }

    /// Applies an answer to the account.
    pub(super) fn observe(&mut self, rate: &Rate, is_throttled: bool, pause_ms: u64, now: Moment) {
        self.remaining = rate.remaining.map(|remaining| (remaining, remaining_until(rate, now)));
        if is_throttled {
            // A 429 during a pause answers a call that was sent before the pause.
            self.throttled += u32::from(self.paused_until.is_none_or(|until| now >= until));
            let until = now.after_ms(requested_pause_ms(rate, pause_ms, self.throttled));
            self.paused_until = self.paused_until.max(Some(until));
        } else {
            self.throttled = 0;
        }
    }
}

/// Returns the end of the validity of a reported number of remaining requests.
fn remaining_until(rate: &Rate, now: Moment) -> Moment {
    now.after_ms(rate.reset_ms.unwrap_or(REMAINING_TTL_MS).min(WINDOW_MS))
}

/// Returns the pause after a 429: as requested by a moment in the future, or `pause_ms`, doubled for each 429 in a row after the first.
pub(super) fn requested_pause_ms(rate: &Rate, pause_ms: u64, throttled: u32) -> u64 {
    let doubled_ms = pause_ms << (throttled.saturating_sub(1)).min(7);
    // A moment that has passed names no pause: without one, each call of the account would get the next 429.
    let requested_ms = [rate.retry_after_ms, rate.reset_ms].into_iter().flatten().find(|pause_ms| *pause_ms > 0);
    requested_ms.unwrap_or(doubled_ms).min(PAUSE_MAX_MS)
}
