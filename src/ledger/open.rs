//! What a record knows while the upstream works on its task: the last word, for how long that counts, who asks, and when
//! to ask again.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;

use super::pacing::{Estimate, next_ask_ms};
use super::record::{Admit, FlightReceiver, PollResult};
use super::table::{Moment, Options};
use crate::domain::{Failure, Outcome, Solved};

/// An open task.
#[derive(Debug)]
pub(super) struct Open {
    /// When the upstream took the task.
    accepted: Moment,
    /// Until when the last flight's word is answered from memory.
    fresh_until: Moment,
    /// When a client asked last; [`NEVER`] before the first. The one thing that a poll from memory writes, under a lock
    /// that it shares with others.
    asked_last: AtomicU64,
    /// That word, where it is a refusal and not "not ready".
    refused: Option<Box<Failure>>,
    flight: Option<Box<Flight>>,
    /// Age at which it was surely not ready, in milliseconds.
    not_ready_ms: u32,
    /// Polls of the upstream so far.
    asks: u16,
}

#[derive(Debug)]
struct Flight {
    number: u64,
    began: Moment,
    wake: watch::Sender<Option<PollResult>>,
}

/// A flight that has ended.
pub(super) struct Ended {
    /// When it may be asked again, if the word was not final.
    pub(super) again: Moment,
    /// Where those who wait want to hear of it.
    pub(super) wake: watch::Sender<Option<PollResult>>,
}

/// No moment: clocks do not run for 500 million years.
const NEVER: u64 = u64::MAX;

impl Open {
    /// A task that was just accepted, and is to be asked for from a moment on.
    pub(super) fn new(accepted: Moment, fresh_until: Moment) -> Self {
        let asked_last = AtomicU64::new(NEVER);
        Self { accepted, fresh_until, asked_last, refused: None, flight: None, not_ready_ms: 0, asks: 0 }
    }

    /// Requests that wait for its flight, if it has one.
    pub(super) fn waiting(&self) -> Option<usize> {
        self.flight.as_ref().map(|flight| flight.wake.receiver_count())
    }

    /// What becomes of a poll that neither begins nor follows a flight, if this is one.
    pub(super) fn try_answer(&self, now: Moment, options: &Options) -> Option<Admit> {
        let admit = if self.flight.is_none() && now < self.fresh_until {
            Admit::Recent(self.refused.as_deref().map_or(Ok(Outcome::NotReady), |failure| Err(failure.clone())))
        } else if self.flight.is_some() && self.may_be_stale(now, options) {
            Admit::Stale
        } else {
            return None;
        };
        self.asked_last.store(now.0, Ordering::Relaxed);
        Some(admit)
    }

    /// Notes that it is asked for, and says whether the one who asks may hear a word that is no longer fresh.
    pub(super) fn is_asked(&self, now: Moment, options: &Options) -> bool {
        let may_be_stale = self.may_be_stale(now, options);
        self.asked_last.store(now.0, Ordering::Relaxed);
        may_be_stale
    }

    /// Joins its flight, if it has one.
    pub(super) fn follow(&self, options: &Options) -> Option<Admit> {
        let flight = self.flight.as_ref()?;
        if flight.wake.receiver_count() >= options.followers_max {
            return Some(Admit::Recent(Ok(Outcome::NotReady)));
        }
        Some(Admit::Follow(flight.wake.subscribe()))
    }

    /// Whether it should be asked for behind, ahead of clients that ask for it often.
    pub(super) fn wants_refresh(&self, now: Moment, options: &Options) -> bool {
        self.flight.is_none() && self.fresh_until <= now && self.was_asked_recently(now, options)
    }

    /// Begins a flight.
    pub(super) fn begin(&mut self, number: u64, now: Moment) -> FlightReceiver {
        let (sender, wake) = watch::channel(None);
        self.flight = Some(Box::new(Flight { number, began: now, wake: sender }));
        wake
    }

    /// Ends a flight: notes its word, and when to ask again. Nothing, if it is not the one under way.
    ///
    /// Trouble is not remembered as an answer, but it makes a pause, so that an upstream in trouble is not asked at the
    /// speed of its clients. What was shed cost the task none of its polls.
    pub(super) fn land(
        &mut self,
        number: u64,
        landing: &PollResult,
        now: Moment,
        options: &Options,
        estimate: &mut Estimate,
    ) -> Option<Ended> {
        let flight = self.flight.take_if(|flight| flight.number == number)?;
        let age_ms = now.millis_since(self.accepted);
        if *landing != Err(Failure::NotSent) {
            self.asks = self.asks.saturating_add(1);
        }
        self.refused = None;
        let pause_ms = match landing {
            Ok(Outcome::NotReady) => {
                self.not_ready_ms = u32::try_from(flight.began.millis_since(self.accepted)).unwrap_or(u32::MAX);
                0
            }
            Ok(outcome) => {
                // What fails, fails in another time, and costs who submits it nothing.
                if let Outcome::Solved(solved) = outcome {
                    estimate.note(self.took_ms(solved, age_ms));
                }
                0
            }
            Err(Failure::NotSent | Failure::Unavailable | Failure::OutcomeUnknown) => options.trouble_ttl_ms,
            Err(failure) => {
                self.refused = Some(Box::new(failure.clone()));
                options.trouble_ttl_ms
            }
        };
        let next = self.accepted.after_ms(next_ask_ms(age_ms, self.asks, estimate, &options.pacing));
        self.fresh_until = next.max(now.after_ms(pause_ms));
        Some(Ended { again: self.fresh_until, wake: flight.wake })
    }

    /// Whether a poll may be answered at once although the word is no longer fresh: its client asks often, and loses
    /// nothing by hearing the truth a moment later. Who asks rarely wants it now.
    fn may_be_stale(&self, now: Moment, options: &Options) -> bool {
        let bound = self.fresh_until.after_ms(options.stale_ms);
        self.refused.is_none() && now < bound && self.was_asked_recently(now, options)
    }

    fn was_asked_recently(&self, now: Moment, options: &Options) -> bool {
        let last = self.asked_last.load(Ordering::Relaxed);
        last != NEVER && now.0.saturating_sub(last) < options.recent_ms
    }

    /// How long it took: as the upstream says, where that can be, or else half-way between the last poll that found it not
    /// ready and the one that found it ready, since the truth lies anywhere in between.
    fn took_ms(&self, solved: &Solved, age_ms: u64) -> u64 {
        let not_ready_ms = u64::from(self.not_ready_ms);
        solved.took_ms.filter(|said| *said <= age_ms).unwrap_or(not_ready_ms.midpoint(age_ms))
    }
}
