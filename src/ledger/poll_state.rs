//! The poll state of an open record: its freshness, its last poll, its flight. Volatile: lost with the process.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;

use super::types::{Admit, FlightReceiver, Options, PollReply, PollResult};
use crate::domain::Moment;

/// The poll state of an open record.
#[derive(Debug)]
pub(super) struct PollState {
    /// End of the time for which polls are answered from memory with the last flight's result.
    fresh_until: Moment,
    /// Moment of a client's last poll; [`NEVER`] before the first. Atomic, because a poll that is answered from memory
    /// writes it under a shared lock.
    last_poll: AtomicU64,
    flight: Option<Box<Flight>>,
}

/// The flight of an open record.
#[derive(Debug)]
pub(super) struct Flight {
    number: u64,
    pub(super) started: Moment,
    /// Wakes all requests that wait for the result.
    pub(super) sender: watch::Sender<Option<PollResult>>,
}

/// Later than any moment of a real clock, by 500 million years.
const NEVER: u64 = u64::MAX;

impl PollState {
    pub(super) fn new(fresh_until: Moment) -> Self {
        Self { fresh_until, last_poll: AtomicU64::new(NEVER), flight: None }
    }

    /// Returns the number of requests that wait for the flight; `None` without a flight.
    pub(super) fn waiting(&self) -> Option<usize> {
        self.flight.as_ref().map(|flight| flight.sender.receiver_count())
    }

    /// Fast path: replies without starting or joining a flight. Returns `None` if a flight may be needed.
    pub(super) fn try_answer(&self, now: Moment, options: &Options) -> Option<PollReply> {
        let reply = if self.flight.is_none() && now < self.fresh_until {
            PollReply::NOT_READY
        } else if self.flight.is_some() && self.may_be_stale(now, options) {
            PollReply::STALE
        } else {
            return None;
        };
        self.mark_polled(now);
        Some(reply)
    }

    /// Notes that a client polls.
    pub(super) fn mark_polled(&self, now: Moment) {
        self.last_poll.store(now.0, Ordering::Relaxed);
    }

    /// Joins the flight, if there is one.
    pub(super) fn follow(&self, options: &Options) -> Option<Admit> {
        let flight = self.flight.as_ref()?;
        if flight.sender.receiver_count() >= options.followers_max {
            return Some(Admit::Reply(PollReply::NOT_READY));
        }
        Some(Admit::Follow(flight.sender.subscribe()))
    }

    /// Whether the upstream should be polled now, ahead of a frequent client.
    pub(super) fn is_prefetch_due(&self, now: Moment, options: &Options) -> bool {
        self.flight.is_none() && self.fresh_until <= now && self.was_polled_recently(now, options)
    }

    /// Whether a poll may be answered at once although the last result is no longer fresh. A frequent client learns the
    /// new result with its next poll; a rare one waits for it.
    pub(super) fn may_be_stale(&self, now: Moment, options: &Options) -> bool {
        let stale_until = self.fresh_until.after_ms(options.stale_ms);
        now < stale_until && self.was_polled_recently(now, options)
    }

    fn was_polled_recently(&self, now: Moment, options: &Options) -> bool {
        let last = self.last_poll.load(Ordering::Relaxed);
        last != NEVER && now.0.saturating_sub(last) < options.recent_ms
    }

    pub(super) fn start_flight(&mut self, number: u64, now: Moment) -> FlightReceiver {
        let (sender, receiver) = watch::channel(None);
        self.flight = Some(Box::new(Flight { number, started: now, sender }));
        receiver
    }

    /// Ends the flight of this number. Returns `None` if another flight or none is in progress.
    pub(super) fn take_flight(&mut self, number: u64) -> Option<Box<Flight>> {
        self.flight.take_if(|flight| flight.number == number)
    }

    /// Applies a result to the next polls. `next_poll` is the moment that the pacing chooses for the next flight.
    /// Returns the moment at which that flight may start. A failure is never cached as an answer, because it is not
    /// about the task, but it delays the next flight, so that clients do not set the rate at which an upstream in
    /// trouble is polled.
    pub(super) fn update(&mut self, result: &PollResult, next_poll: Moment, now: Moment, options: &Options) -> Moment {
        let pause_ms = if result.is_err() { options.trouble_ttl_ms } else { 0 };
        self.fresh_until = next_poll.max(now.after_ms(pause_ms));
        self.fresh_until
    }
}
