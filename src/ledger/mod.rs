//! The ledger of all tasks: the asynchronous shell around [`Table`]. Adds the time, new ids, spawned flights, and
//! waiting with a deadline, all of which the table must not contain.

mod facts;
mod flights;
mod ids;
mod metrics;
mod pacing;
mod poll_state;
mod queue;
mod record;
mod snapshot;
mod table;
mod types;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

pub use self::pacing::{Estimate, Pacing, next_poll_age_ms};
pub use self::snapshot::{
    FailureSnapshot, NativeIdSnapshot, ReportSnapshot, RestoreError, SolvedSnapshot, StateSnapshot, TaskSnapshot,
    UnixOrigin,
};
pub use self::table::Table;
pub use self::types::{
    Admit, FlightReceiver, FlightTicket, LedgerStats, NextPrefetch, NotOpened, Options, PollReply, PollResult,
    PollSource,
};

use self::flights::Flights;
use self::ids::Ids;
use crate::clock::Clock;
use crate::domain::{Account, Failure, LegacyId, NativeId, Outcome, TaskRef, Verdict};
use crate::methods::Method;

/// The ledger. Cheap to clone; all clones share one table.
#[derive(Clone, Debug)]
pub struct Ledger {
    table: Arc<Table>,
    clock: Clock,
    ids: Arc<Ids>,
    flights: Flights,
}

impl Ledger {
    /// Creates an empty ledger. `follow_deadline` bounds how long a poll waits for a flight.
    pub fn new(options: Options, clock: Clock, follow_deadline: Duration) -> Self {
        let table = Arc::new(Table::new(options));
        let flights = Flights::new(Arc::clone(&table), clock, follow_deadline);
        Self { table, clock, ids: Arc::default(), flights }
    }

    /// Reserves a record for a task before its submit is sent, and issues its id.
    ///
    /// # Errors
    /// [`Failure::NotSent`] if the ledger, or the account's share of it, is full.
    pub fn open(&self, account: &Account, method: &'static Method) -> Result<LegacyId, Failure> {
        // With twelve digits, a collision is rare and two in a row are rarer still; the bound only matters if nearly
        // all ids are taken.
        for _ in 0..16 {
            let id = self.ids.next();
            match self.table.open(id, account, method, self.clock.now()) {
                Ok(()) => return Ok(id),
                Err(NotOpened::Taken) => {}
                Err(NotOpened::Full) => break,
            }
        }
        Err(Failure::NotSent)
    }

    /// Stores the native id of a task.
    pub fn bind(&self, id: LegacyId, native: NativeId) {
        self.table.bind(id, native, self.clock.now());
        self.flights.wake_prefetch();
    }

    /// Stores a final answer that the submit returned.
    pub fn settle(&self, id: LegacyId, native: Option<NativeId>, outcome: &Outcome) {
        self.table.settle(id, native, outcome, self.clock.now());
    }

    /// Turns a task into a group, which joins the answers of its members.
    pub fn set_members(&self, id: LegacyId, members: Arc<[LegacyId]>) {
        self.table.set_members(id, members, self.clock.now());
    }

    /// Returns the members of a group; `None` if the task is not a group.
    pub fn members(&self, account: &Account, id: LegacyId) -> Option<Arc<[LegacyId]>> {
        self.table.members(account, id, self.clock.now())
    }

    /// Returns the native id of a task of this account, if the task exists and has one.
    pub fn native_id(&self, account: &Account, id: LegacyId) -> Option<NativeId> {
        self.table.native_id(account, id, self.clock.now())
    }

    /// Stores the URL at which the client of a task wants to receive the answer.
    pub fn set_pingback(&self, id: LegacyId, pingback: Box<str>) {
        self.table.set_pingback(id, pingback);
    }

    /// Removes a task whose submit was refused, so that no client knows its id.
    pub fn withdraw(&self, id: LegacyId) {
        self.table.withdraw(id);
    }

    /// Fast path of a poll: replies without waiting and without starting a flight. Returns `None` if the poll needs
    /// [`Ledger::poll`].
    pub fn try_answer(&self, account: &Account, id: LegacyId) -> Option<PollReply> {
        self.table.try_answer(account, id, self.clock.now())
    }

    /// Slow path of a poll, after [`Ledger::try_answer`]: replies with the result of one flight that all its pollers
    /// share, or from memory if the record allows it by now. Calls `poll` only to start a flight, and spawns the future
    /// that it returns. A frequent client does not wait: its next poll gets the result.
    ///
    /// After the deadline the reply is "not ready".
    pub async fn poll<F>(&self, account: &Account, id: LegacyId, poll: impl FnOnce(TaskRef) -> F) -> PollReply
    where
        F: Future<Output = PollResult> + Send + 'static,
    {
        match self.table.admit(account, id, self.clock.now()) {
            Admit::Reply(reply) => reply,
            Admit::Refresh(ticket) => {
                drop(self.flights.spawn(id, ticket, poll));
                PollReply::STALE
            }
            Admit::Follow(receiver) => PollReply::Answer(self.flights.wait(receiver).await, PollSource::Follow),
            Admit::Lead(ticket) => {
                let receiver = self.flights.spawn(id, ticket, poll);
                PollReply::Answer(self.flights.wait(receiver).await, PollSource::Miss)
            }
        }
    }

    /// Starts flights ahead of frequent clients as soon as results are no longer fresh. `poll` polls the upstream.
    /// Never returns.
    pub async fn run_prefetch<F>(self, poll: impl Fn(TaskRef) -> F)
    where
        F: Future<Output = PollResult> + Send + 'static,
    {
        self.flights.run_prefetch(poll).await;
    }

    /// Begins a report; see [`Table::begin_report`].
    ///
    /// # Errors
    /// Those of [`Table::begin_report`].
    pub fn begin_report(&self, account: &Account, id: LegacyId, verdict: Verdict) -> Result<Option<TaskRef>, Failure> {
        self.table.begin_report(account, id, verdict, self.clock.now())
    }

    /// Ends a report.
    pub fn end_report(&self, id: LegacyId, verdict: Verdict, result: &Result<(), Failure>) {
        self.table.end_report(id, verdict, result);
    }

    /// Returns the size of the ledger from its counters.
    pub fn stats(&self) -> LedgerStats {
        self.table.stats()
    }

    /// Counts the size of the ledger record by record; see [`Table::recount`].
    pub fn recount(&self) -> LedgerStats {
        self.table.recount()
    }

    /// Removes expired records, a slice at a time. Never returns.
    pub async fn run_sweep(self) {
        /// Records checked before other tasks of this thread run: some hundred microseconds of work.
        const SLICE: usize = 1_000;
        const PAUSE: Duration = Duration::from_secs(1);
        loop {
            while self.table.sweep(self.clock.now(), SLICE) {
                tokio::task::yield_now().await;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}
