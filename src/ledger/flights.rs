//! Spawns flights, waits for them, and prefetches. A flight belongs to a spawned task, never to the client that started
//! it, and releases its record even if it is dropped or panics.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tracing::Instrument;

use super::saver::Saver;
use super::table::Table;
use super::types::{FlightReceiver, FlightTicket, NextPrefetch, PollResult};
use crate::clock::Clock;
use crate::domain::{Failure, LegacyId, Outcome, TaskRef};

/// All flights of one table. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Flights {
    table: Arc<Table>,
    clock: Clock,
    saver: Saver,
    /// Longest time that a poll waits for a flight.
    deadline: Duration,
    /// Wakes [`Flights::run_prefetch`], because a prefetch may be due earlier than it expects.
    prefetch_wakeup: Arc<Notify>,
}

impl Flights {
    pub(super) fn new(table: Arc<Table>, clock: Clock, saver: Saver, deadline: Duration) -> Self {
        Self { table, clock, saver, deadline, prefetch_wakeup: Arc::default() }
    }

    /// Spawns a flight. `poll` polls the upstream.
    pub(super) fn spawn<F>(&self, id: LegacyId, ticket: FlightTicket, poll: impl FnOnce(TaskRef) -> F) -> FlightReceiver
    where
        F: Future<Output = PollResult> + Send + 'static,
    {
        let FlightTicket { task, flight, receiver } = ticket;
        let guard = FlightGuard { flights: self.clone(), id, flight, result: Err(Failure::Unavailable) };
        let polled = poll(task);
        let flying = async move {
            let mut guard = guard;
            let result = polled.await;
            if let Ok(outcome) = &result
                && *outcome != Outcome::NotReady
            {
                guard.flights.saver.save_outcome(id, outcome).await;
            }
            guard.result = result;
        };
        #[expect(clippy::disallowed_methods, reason = "a flight outlives the client that started it")]
        tokio::spawn(flying.instrument(tracing::info_span!("flight", task = id.0, flight)));
        receiver
    }

    /// Waits for the result of a flight. Returns "not ready" after the deadline, or if the record was removed.
    pub(super) async fn wait(&self, mut receiver: FlightReceiver) -> PollResult {
        match tokio::time::timeout(self.deadline, receiver.wait_for(Option::is_some)).await {
            Ok(Ok(result)) => result.clone().unwrap_or(Ok(Outcome::NotReady)),
            Ok(Err(_)) | Err(_) => Ok(Outcome::NotReady),
        }
    }

    pub(super) fn wake_prefetch(&self) {
        self.prefetch_wakeup.notify_one();
    }

    /// Starts flights ahead of frequent clients as soon as results are no longer fresh. Never returns.
    pub(super) async fn run_prefetch<F>(self, poll: impl Fn(TaskRef) -> F)
    where
        F: Future<Output = PollResult> + Send + 'static,
    {
        loop {
            let now = self.clock.now();
            match self.table.next_prefetch(now) {
                NextPrefetch::Start(id, ticket) => {
                    drop(self.spawn(id, ticket, &poll));
                    // All tasks may be due at once.
                    tokio::task::consume_budget().await;
                }
                NextPrefetch::At(moment) => {
                    let pause = Duration::from_millis(moment.millis_since(now));
                    // The timeout is no error: it ends the pause, as a wake-up does.
                    drop(tokio::time::timeout(pause, self.prefetch_wakeup.notified()).await);
                }
                NextPrefetch::Idle => self.prefetch_wakeup.notified().await,
            }
        }
    }
}

/// A guard that completes its flight when dropped, with the result that it then contains.
struct FlightGuard {
    flights: Flights,
    id: LegacyId,
    flight: u64,
    result: PollResult,
}

impl Drop for FlightGuard {
    fn drop(&mut self) {
        let result = std::mem::replace(&mut self.result, Err(Failure::Unavailable));
        let Flights { table, clock, saver, .. } = &self.flights;
        if table.complete_flight(self.id, self.flight, result, clock.now()) {
            saver.save_checkpoint(self.id);
        }
        self.flights.wake_prefetch();
    }
}
