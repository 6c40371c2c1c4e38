//! The ledger of all tasks: the asynchronous shell around [`Table`]. Adds the time, new ids, spawned flights, and
//! waiting with a deadline, all of which the table must not contain.

mod facts;
mod flights;
mod ids;
mod metrics;
mod outbox;
mod overlap;
mod pacing;
mod poll_state;
mod queue;
mod record;
mod saver;
mod table;
mod types;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};

pub use self::overlap::Handover;
pub use self::pacing::{Estimate, Pacing, next_poll_age_ms};
pub use self::saver::Persistence;
pub use self::table::Table;
pub use self::types::{
    Admit, FlightReceiver, FlightTicket, LedgerStats, NextPrefetch, NextQueuedReport, NotOpened, Options, PollReply,
    PollResult, PollSource, QueuedReport, RestoreStats,
};

use self::flights::Flights;
use self::ids::Ids;
use self::overlap::Overlap;
use self::saver::{Fetched, Saver};
use crate::clock::Clock;
use crate::domain::{Account, Failure, LegacyId, NativeId, Outcome, TaskRef, Verdict};
use crate::methods::Method;
use crate::store::backend::StoreError;

/// The ledger. Cheap to clone; all clones share one table.
#[derive(Clone, Debug)]
pub struct Ledger {
    table: Arc<Table>,
    clock: Clock,
    ids: Arc<Ids>,
    flights: Flights,
    saver: Saver,
    /// Whether tasks of earlier processes are still restored.
    is_restoring: Arc<AtomicBool>,
    overlap: Arc<Overlap>,
    /// Wakes [`Ledger::run_reports`], because a report may be due earlier than it expects.
    report_wakeup: Arc<Notify>,
}

impl Ledger {
    /// Creates an empty ledger. `follow_deadline` bounds how long a poll waits for a flight. With a store,
    /// [`Ledger::restore`] must run.
    pub fn new(options: Options, clock: Clock, follow_deadline: Duration, persistence: Option<Persistence>) -> Self {
        let table = Arc::new(Table::new(options));
        let is_restoring = Arc::new(AtomicBool::new(persistence.is_some()));
        let ids = Ids::new(persistence.as_ref().and_then(|persistence| persistence.ids));
        let overlap = Arc::<Overlap>::default();
        let saver = Saver::new(Arc::clone(&table), clock, Arc::clone(&overlap), persistence);
        let flights = Flights::new(Arc::clone(&table), clock, saver.clone(), follow_deadline);
        Self { table, clock, ids: Arc::new(ids), flights, saver, is_restoring, overlap, report_wakeup: Arc::default() }
    }

    /// Restores the tasks of an earlier process. Meanwhile, a poll of an unknown task looks it up in the store.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn restore(&self) -> Result<RestoreStats, StoreError> {
        let stats = self.saver.restore_all().await?;
        self.is_restoring.store(false, Ordering::Release);
        self.flights.wake_prefetch();
        self.report_wakeup.notify_one();
        Ok(stats)
    }

    /// Whether the store may hold tasks that the table lacks.
    fn may_lack_tasks(&self) -> bool {
        self.is_restoring.load(Ordering::Acquire) || self.overlap.has_other_process()
    }

    /// Prepares for a process that takes over from this one, which may then serve the tasks of that one. Blocks the
    /// thread until the state of this process is saved.
    pub fn begin_handover(&self) -> Handover {
        Handover::begin(Arc::clone(&self.overlap))
    }

    /// Prepares for tasks of the process from which this one takes over.
    pub fn begin_overlap(&self) {
        self.overlap.begin();
    }

    /// Waits until the process from which this one took over has certainly ended, and restores what it has left: new
    /// tasks, and reports that it has not delivered.
    pub async fn end_overlap(&self, longest: Duration) {
        /// Pause after a failure of the store.
        const RETRY: Duration = Duration::from_secs(2);
        tokio::time::sleep(longest).await;
        self.overlap.end();
        // Until then, polls look up the tasks that are left.
        self.is_restoring.store(true, Ordering::Release);
        while let Err(error) = self.saver.refresh_reports().await {
            tracing::error!(kind = error.to_string(), "cannot restore what the process before has left");
            tokio::time::sleep(RETRY).await;
        }
        while let Err(error) = self.restore().await {
            tracing::error!(kind = error.to_string(), "cannot restore what the process before has left");
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Reserves a record for a task before its submit is sent, and issues its id.
    ///
    /// # Errors
    /// [`Failure::NotSent`] if the ledger, or the account's share of it, is full, or if the store is unavailable.
    pub fn open(&self, account: &Account, method: &'static Method) -> Result<LegacyId, Failure> {
        if !self.saver.is_available() {
            return Err(Failure::NotSent);
        }
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

    /// Makes a task durable, so that its id may be given to its client.
    ///
    /// # Errors
    /// [`Failure::NotSent`] if the store fails.
    pub async fn save(&self, id: LegacyId) -> Result<(), Failure> {
        self.saver.save(id).await.map_err(|error| {
            tracing::error!(kind = error.to_string(), "a submit is refused because its task is not durable");
            Failure::NotSent
        })
    }

    /// Stores the native id of a task, and returns when that is durable.
    ///
    /// # Errors
    /// As [`Ledger::save`].
    pub async fn bind(&self, id: LegacyId, native: NativeId) -> Result<(), Failure> {
        self.table.bind(id, native, self.clock.now());
        self.flights.wake_prefetch();
        self.save(id).await
    }

    /// Stores a final answer that the submit returned, and returns when it is durable.
    ///
    /// # Errors
    /// As [`Ledger::save`].
    pub async fn settle(&self, id: LegacyId, native: Option<NativeId>, outcome: &Outcome) -> Result<(), Failure> {
        self.table.settle(id, native, outcome, self.clock.now());
        self.save(id).await
    }

    /// Stores the refusal of a submit. A client that has its id already learns of it with its next poll.
    pub fn refuse(&self, id: LegacyId, failure: Failure) {
        self.table.settle(id, None, &Outcome::Failed(failure), self.clock.now());
        self.saver.save_again(id);
    }

    /// Turns a task into a group, which joins the answers of its members, and returns when that is durable.
    ///
    /// # Errors
    /// As [`Ledger::save`].
    pub async fn set_members(&self, id: LegacyId, members: Arc<[LegacyId]>) -> Result<(), Failure> {
        self.table.set_members(id, members, self.clock.now());
        self.save(id).await
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
        if self.table.withdraw(id) {
            self.saver.remove(id);
        }
    }

    /// Fast path of a poll: replies without waiting and without starting a flight. Returns `None` if the poll needs
    /// [`Ledger::poll`].
    pub fn try_answer(&self, account: &Account, id: LegacyId) -> Option<PollReply> {
        match self.table.try_answer(account, id, self.clock.now()) {
            Some(PollReply::Answer(_, PollSource::Unknown)) if self.may_lack_tasks() => None,
            reply => reply,
        }
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
        let mut admit = self.table.admit(account, id, self.clock.now());
        let is_unknown = matches!(admit, Admit::Reply(PollReply::Answer(_, PollSource::Unknown)));
        if is_unknown && self.may_lack_tasks() {
            admit = match self.saver.fetch(id).await {
                // Clients take "unknown" for final.
                Fetched::Failed => Admit::Reply(PollReply::NOT_READY),
                Fetched::Found | Fetched::Missing => self.table.admit(account, id, self.clock.now()),
            };
        }
        match admit {
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
        self.table.begin_report(account, id, verdict, self.saver.is_durable(), self.clock.now())
    }

    /// Makes a report durable before it is sent.
    ///
    /// # Errors
    /// [`Failure::ReportRefused`] if the store fails. The report must not be sent then, and may be made again.
    pub async fn save_report(&self, id: LegacyId) -> Result<(), Failure> {
        if !self.saver.is_durable() {
            return Ok(());
        }
        let saved = if self.saver.is_available() { self.save(id).await } else { Err(Failure::NotSent) };
        saved.map_err(|_| {
            self.table.cancel_report(id);
            self.saver.save_again(id);
            Failure::ReportRefused
        })
    }

    /// Ends a report. Returns the reply to its client: a durable report that failed for now is acknowledged, because it
    /// is sent again.
    ///
    /// # Errors
    /// The failure of the report.
    pub fn end_report(&self, id: LegacyId, verdict: Verdict, result: Result<(), Failure>) -> Result<(), Failure> {
        let is_queued = self.table.end_report(id, verdict, &result, self.clock.now());
        self.saver.save_again(id);
        if is_queued {
            self.report_wakeup.notify_one();
            return Ok(());
        }
        result
    }

    /// Sends the reports again that could not be sent, or that an earlier process may not have sent. Never returns.
    pub async fn run_reports<F>(self, send: impl Fn(TaskRef, Verdict) -> F)
    where
        F: Future<Output = Result<(), Failure>> + Send + 'static,
    {
        /// Most reports that are sent at once: they must not take the place of polls.
        const AT_ONCE: usize = 16;
        let slots = Arc::new(Semaphore::new(AT_ONCE));
        loop {
            // The semaphore is never closed.
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
            let now = self.clock.now();
            match self.table.next_report(now) {
                NextQueuedReport::Send(report) => {
                    let (ledger, sending) = (self.clone(), send(report.task.clone(), report.verdict));
                    #[expect(clippy::disallowed_methods, reason = "at most as many as there are slots")]
                    tokio::spawn(async move {
                        let result = sending.await;
                        ledger.table.end_queued_report(&report, &result, ledger.clock.now());
                        ledger.saver.save_again(report.id);
                        ledger.report_wakeup.notify_one();
                        drop(slot);
                    });
                }
                NextQueuedReport::GivenUp(id) => {
                    tracing::warn!(task = id.0, "a report could not be delivered in time");
                    self.saver.save_again(id);
                }
                NextQueuedReport::At(moment) => {
                    let pause = Duration::from_millis(moment.millis_since(now));
                    // The timeout is no error: it ends the pause, as a wake-up does.
                    drop(tokio::time::timeout(pause, self.report_wakeup.notified()).await);
                }
                NextQueuedReport::Idle => self.report_wakeup.notified().await,
            }
        }
    }

    /// Returns the number of reports that wait to be sent again.
    pub fn queued_reports(&self) -> usize {
        self.table.queued_reports()
    }

    /// Restores a task that an operation other than a poll needs, if the store may hold it and the table does not.
    pub async fn ensure_restored(&self, id: LegacyId) {
        if self.may_lack_tasks() && !self.table.contains(id) {
            let _ = self.saver.fetch(id).await;
        }
    }

    /// Saves the state of the process at intervals, from which the next one continues. Never returns.
    pub async fn run_upkeep(self) {
        const BEAT: Duration = Duration::from_secs(5);
        const BEATS_PER_SAVE: u32 = 6;
        loop {
            for _ in 0..BEATS_PER_SAVE {
                let right = self.overlap.state_lock().lock_owned().await;
                self.saver.beat(self.ids.sequence()).await;
                drop(right);
                tokio::time::sleep(BEAT).await;
            }
            self.saver.save_estimates();
        }
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
