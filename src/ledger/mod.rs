//! Every task that we handed out, and who must ask for its answer: the asynchronous shell around [`table`].
//!
//! It adds what the table must not have: the time, ids, spawned flights, waiting and its deadline. A flight belongs to a
//! spawned task, never to the client that started it, and one that is dropped or panics frees its record.

mod metrics;
mod open;
pub mod pacing;
mod queue;
mod record;
pub mod table;

use std::collections::hash_map::RandomState;
use std::future::Future;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

use self::table::{
    Admit, FlightReceiver, FlightTicket, LedgerStats, NextPrefetch, NotOpened, Options, PollResult, Table,
};
use crate::clock::Clock;
use crate::domain::{Account, Failure, LegacyId, NativeId, Outcome, TaskRef, Verdict};
use crate::methods::Method;

/// How a poll was answered, for metrics and logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PollSource {
    /// From memory.
    Hit,
    /// From memory, while the upstream is asked behind.
    Stale,
    /// By a flight that was under way.
    Follow,
    /// By a flight that this poll began.
    Miss,
    /// There is no such task.
    Unknown,
}

impl PollSource {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Hit, Self::Stale, Self::Follow, Self::Miss, Self::Unknown];

    /// Name for metrics and logs.
    pub fn label(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Stale => "stale",
            Self::Follow => "follow",
            Self::Miss => "miss",
            Self::Unknown => "unknown",
        }
    }
}

/// The ledger. Cheap to clone; all clones share one table.
#[derive(Clone, Debug)]
pub struct Ledger {
    table: Arc<Table>,
    clock: Clock,
    ids: Arc<Ids>,
    follow_deadline: Duration,
    /// Tells [`Ledger::run_prefetch`] that there may be something to do earlier than it thinks.
    ahead: Arc<Notify>,
}

impl Ledger {
    /// An empty ledger. `follow_deadline` bounds how long any poll waits for a flight.
    pub fn new(options: Options, clock: Clock, follow_deadline: Duration) -> Self {
        let (table, ids, ahead) = (Arc::new(Table::new(options)), Arc::default(), Arc::default());
        Self { table, clock, ids, follow_deadline, ahead }
    }

    /// Makes room for a task before it is submitted, and names it.
    ///
    /// # Errors
    /// [`Failure::NotSent`] when the ledger, or the account's share of it, is full.
    pub fn open(&self, account: &Account, method: &'static Method) -> Result<LegacyId, Failure> {
        // A dozen digits make a collision rare and a second one in a row rarer; the bound is for a full number space.
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

    /// Notes what the upstream calls a task.
    pub fn bind(&self, id: LegacyId, native: NativeId) {
        self.table.bind(id, native, self.clock.now());
        self.ahead.notify_one();
    }

    /// Notes a final answer that came with the submit.
    pub fn settle(&self, id: LegacyId, native: Option<NativeId>, outcome: &Outcome) {
        self.table.settle(id, native, outcome, self.clock.now());
    }

    /// Makes a task stand for others, whose answers are joined.
    pub fn group(&self, id: LegacyId, members: Arc<[LegacyId]>) {
        self.table.group(id, members, self.clock.now());
    }

    /// The tasks that a task stands for, if it stands for any.
    pub fn members(&self, account: &Account, id: LegacyId) -> Option<Arc<[LegacyId]>> {
        self.table.members(account, id, self.clock.now())
    }

    /// Notes where the client of a task wants to be told of its answer.
    pub fn set_pingback(&self, id: LegacyId, pingback: Box<str>) {
        self.table.set_pingback(id, pingback);
    }

    /// Takes a task back whose id no client has heard.
    pub fn withdraw(&self, id: LegacyId) {
        self.table.withdraw(id);
    }

    /// Answers a poll: from memory, or by one flight that all who ask share. `ask` is called only to begin one; what it
    /// returns runs in a task of its own. Nobody waits who asks often enough to hear of the landing soon.
    ///
    /// The landing is [`Failure::TaskUnknown`], or what the flight brought; a deadline that passes reads as not ready.
    ///
    /// # Errors
    /// The tasks that this one stands for, which have to be polled instead.
    pub async fn poll<F>(
        &self,
        account: &Account,
        id: LegacyId,
        ask: impl FnOnce(TaskRef) -> F,
    ) -> Result<(PollResult, PollSource), Arc<[LegacyId]>>
    where
        F: Future<Output = PollResult> + Send + 'static,
    {
        Ok(match self.table.admit(account, id, self.clock.now()) {
            Admit::Unknown => (Err(Failure::TaskUnknown), PollSource::Unknown),
            Admit::Recent(landing) => (landing, PollSource::Hit),
            Admit::Settled(outcome) => (Ok(outcome), PollSource::Hit),
            Admit::Follow(wake) => (self.follow(wake).await, PollSource::Follow),
            Admit::Group(members) => return Err(members),
            Admit::Stale => (Ok(Outcome::NotReady), PollSource::Stale),
            Admit::Refresh(lead) => {
                drop(self.take_off(id, lead, ask));
                (Ok(Outcome::NotReady), PollSource::Stale)
            }
            Admit::Lead(lead) => {
                let wake = self.take_off(id, lead, ask);
                (self.follow(wake).await, PollSource::Miss)
            }
        })
    }

    /// Answers a poll that needs no waiting and begins nothing: most of them.
    pub fn try_answer(&self, account: &Account, id: LegacyId) -> Option<(PollResult, PollSource)> {
        Some(match self.table.try_answer(account, id, self.clock.now())? {
            Admit::Unknown => (Err(Failure::TaskUnknown), PollSource::Unknown),
            Admit::Recent(landing) => (landing, PollSource::Hit),
            Admit::Settled(outcome) => (Ok(outcome), PollSource::Hit),
            Admit::Stale => (Ok(Outcome::NotReady), PollSource::Stale),
            Admit::Group(_) | Admit::Refresh(_) | Admit::Follow(_) | Admit::Lead(_) => return None,
        })
    }

    /// Asks ahead for tasks whose clients ask often, as soon as what is known of them is no longer fresh, for ever.
    pub async fn run_prefetch<F>(self, ask: impl Fn(TaskRef) -> F)
    where
        F: Future<Output = PollResult> + Send + 'static,
    {
        loop {
            let now = self.clock.now();
            match self.table.ahead(now) {
                NextPrefetch::Start(id, lead) => {
                    drop(self.take_off(id, lead, &ask));
                    // As many may be due at once as there are tasks.
                    tokio::task::consume_budget().await;
                }
                NextPrefetch::At(moment) => {
                    let pause = Duration::from_millis(moment.millis_since(now));
                    // Whichever comes first: an error of the timer only means that it is time.
                    drop(tokio::time::timeout(pause, self.ahead.notified()).await);
                }
                NextPrefetch::Idle => self.ahead.notified().await,
            }
        }
    }

    /// Starts a flight, and says where to hear of its landing.
    fn take_off<F>(&self, id: LegacyId, lead: FlightTicket, ask: impl FnOnce(TaskRef) -> F) -> FlightReceiver
    where
        F: Future<Output = PollResult> + Send + 'static,
    {
        let FlightTicket { task, flight, wake } = lead;
        let boarding = FlightGuard { ledger: self.clone(), id, flight, landing: Err(Failure::Unavailable) };
        let asked = ask(task);
        #[expect(clippy::disallowed_methods, reason = "a flight outlives the client that began it")]
        tokio::spawn(async move {
            let mut boarding = boarding;
            boarding.landing = asked.await;
        });
        wake
    }

    /// Begins a report; see [`Table::begin_report`].
    ///
    /// # Errors
    /// As there.
    pub fn begin_report(&self, account: &Account, id: LegacyId, verdict: Verdict) -> Result<Option<TaskRef>, Failure> {
        self.table.begin_report(account, id, verdict, self.clock.now())
    }

    /// Ends a report.
    pub fn end_report(&self, id: LegacyId, verdict: Verdict, result: &Result<(), Failure>) {
        self.table.end_report(id, verdict, result);
    }

    /// What is in the ledger.
    pub fn stats(&self) -> LedgerStats {
        self.table.stats()
    }

    /// The same, counted one by one; see [`Table::recount`].
    pub fn recount(&self) -> LedgerStats {
        self.table.recount()
    }

    /// Forgets what has expired, a slice at a time, for ever.
    pub async fn sweep(self) {
        /// Records looked at before other tasks of this thread get a turn: some hundred microseconds of work.
        const SLICE: usize = 1_000;
        const PAUSE: Duration = Duration::from_secs(1);
        loop {
            while self.table.sweep(self.clock.now(), SLICE) {
                tokio::task::yield_now().await;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn follow(&self, mut wake: FlightReceiver) -> PollResult {
        let landed = tokio::time::timeout(self.follow_deadline, wake.wait_for(Option::is_some)).await;
        match landed {
            Ok(Ok(landing)) => landing.clone().unwrap_or(Ok(Outcome::NotReady)),
            // Too late, or the record went away under the flight: the client asks again.
            Ok(Err(_)) | Err(_) => Ok(Outcome::NotReady),
        }
    }
}

/// A flight in the air. Lands when it is dropped, whichever way that comes about.
struct FlightGuard {
    ledger: Ledger,
    id: LegacyId,
    flight: u64,
    landing: PollResult,
}

impl Drop for FlightGuard {
    fn drop(&mut self) {
        let landing = std::mem::replace(&mut self.landing, Err(Failure::Unavailable));
        self.ledger.table.land(self.id, self.flight, landing, self.ledger.clock.now());
        self.ledger.ahead.notify_one();
    }
}

/// Where ids come from: twelve random digits, fewer than JavaScript's 2^53 and long enough that replicas, and the same
/// process after a restart, do not issue each other's. They need not be secret: an id is worth nothing without the key
/// of its account.
#[derive(Debug, Default)]
struct Ids {
    random: RandomState,
    issued: AtomicU64,
}

impl Ids {
    fn next(&self) -> LegacyId {
        const FIRST: u64 = 100_000_000_000;
        const LAST: u64 = 999_999_999_999;
        let number = self.random.hash_one(self.issued.fetch_add(1, Ordering::Relaxed));
        LegacyId(FIRST + number % (LAST - FIRST + 1))
    }
}
