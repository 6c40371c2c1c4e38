//! The upstream's limit on the gateway's address, as the answers to several accounts show it.
//!
//! An answer alone does not show whether its 429 or its `X-RateLimit-*` concerns the account or the address. Answers
//! to two accounts that agree do.

use std::collections::VecDeque;

use super::account::{WINDOW_MS, requested_pause_ms};
use super::class::Class;
use crate::domain::{Account, Moment};
use crate::native::Rate;

/// Longest time between two accounts' 429s that show a limit on the address, in milliseconds.
const EVIDENCE_MS: u64 = 2_000;
/// Validity of a report of `X-RateLimit-*`, in milliseconds.
const REPORT_TTL_MS: u64 = 1_000;
/// Most accounts whose latest report is kept.
const REPORTS_MAX: usize = 4;

/// Pauses and reports that concern the gateway's address.
#[derive(Debug)]
pub(super) struct Address {
    /// The first 429 that no later call has contradicted.
    suspicion: Option<(Option<Account>, Moment)>,
    /// 429s of the address since the last other answer; several during one pause count once.
    throttled: u32,
    pause_began_at: Moment,
    /// End of the pause of all classes but submits.
    paused_until: Moment,
    /// End of the pause of submits.
    submits_paused_until: Moment,
    /// The latest reports of different accounts, newest first.
    reports: VecDeque<(Account, Rate, Moment)>,
    /// Requests that remain for the address, and the end of this number's validity.
    remaining: Option<(f64, Moment)>,
    /// Reported requests per window, and the end of this number's validity.
    limit: Option<(f64, Moment)>,
}

impl Address {
    pub(super) fn new() -> Self {
        Self {
            suspicion: None,
            throttled: 0,
            pause_began_at: Moment(0),
            paused_until: Moment(0),
            submits_paused_until: Moment(0),
            reports: VecDeque::new(),
            remaining: None,
            limit: None,
        }
    }

    /// Whether calls of the class are paused.
    pub(super) fn is_paused(&self, class: Class, now: Moment) -> bool {
        now < if class == Class::Submit { self.submits_paused_until } else { self.paused_until }
    }

    /// Returns the requests that remain by the upstream's account.
    pub(super) fn remaining(&self, now: Moment) -> f64 {
        self.remaining.filter(|(_, until)| now < *until).map_or(f64::INFINITY, |(remaining, _)| remaining)
    }

    /// Returns the limit that the upstream reports.
    pub(super) fn limit(&self, now: Moment) -> Option<f64> {
        self.limit.filter(|(_, until)| now < *until).map(|(limit, _)| limit)
    }

    /// Records the start of a call.
    pub(super) fn begin(&mut self) {
        if let Some((remaining, _)) = &mut self.remaining {
            *remaining -= 1.0;
        }
    }

    /// Applies the answer to a call that was sent at `sent_at`. `account` is `None` without an accepted key.
    pub(super) fn observe(
        &mut self,
        account: Option<&Account>,
        class: Class,
        sent_at: Moment,
        (rate, is_throttled): (&Rate, bool),
        pause_ms: u64,
        now: Moment,
    ) {
        if let Some(account) = account {
            self.report(account, rate, now);
        }
        if !is_throttled {
            // A call that was sent after a 429 and passed shows that the 429 did not concern the address.
            if self.suspicion.as_ref().is_some_and(|(_, began_at)| sent_at >= *began_at) {
                self.suspicion = None;
            }
            self.throttled = if now < self.paused_until { self.throttled } else { 0 };
            return;
        }
        if rate.remaining.is_some_and(|remaining| remaining > 0) {
            return;
        }
        let is_confirmed = self
            .suspicion
            .as_ref()
            .is_some_and(|(first, began_at)| first.as_ref() != account && now.millis_since(*began_at) <= EVIDENCE_MS);
        let is_stale = self.suspicion.as_ref().is_none_or(|(_, at)| now.millis_since(*at) > EVIDENCE_MS);
        if now < self.paused_until && class == Class::Submit && sent_at >= self.pause_began_at {
            // The address is still refused although polls are paused.
            let until = now.after_ms(requested_pause_ms(rate, pause_ms, self.throttled));
            self.submits_paused_until = self.submits_paused_until.max(until);
            self.paused_until = self.paused_until.max(until);
        } else if is_confirmed {
            if now >= self.paused_until {
                self.throttled += 1;
                self.pause_began_at = now;
            }
            let until = now.after_ms(requested_pause_ms(rate, pause_ms, self.throttled));
            self.paused_until = self.paused_until.max(until);
        } else if is_stale {
            self.suspicion = Some((account.cloned(), now));
        }
    }

    /// Applies the reports of the last second. The most generous one counts: a smaller one concerns its account.
    fn report(&mut self, account: &Account, rate: &Rate, now: Moment) {
        self.reports.retain(|(known, _, at)| known != account && now.millis_since(*at) < REPORT_TTL_MS);
        self.reports.push_front((account.clone(), *rate, now));
        self.reports.truncate(REPORTS_MAX);
        self.remaining = None;
        if self.reports.len() < 2 {
            return;
        }
        let rates = || self.reports.iter().map(|(_, rate, _)| rate);
        let remaining: Option<Vec<u32>> = rates().map(|rate| rate.remaining).collect();
        let limits: Option<Vec<u32>> = rates().map(|rate| rate.limit.filter(|limit| *limit > 0)).collect();
        let most = |numbers: Option<Vec<u32>>| numbers.and_then(|numbers| numbers.into_iter().max());
        self.limit = most(limits).map(|limit| (f64::from(limit), now.after_ms(WINDOW_MS)));
        self.remaining = most(remaining).map(|most| (f64::from(most), now.after_ms(REPORT_TTL_MS)));
        if self.remaining.is_some_and(|(remaining, _)| remaining == 0.0) {
            let pause_ms = rates().filter_map(|rate| rate.reset_ms).min().unwrap_or(0).min(WINDOW_MS);
            if now >= self.paused_until {
                self.pause_began_at = now;
            }
            self.paused_until = self.paused_until.max(now.after_ms(pause_ms));
        }
    }
}
