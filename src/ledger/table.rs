//! What we know of every task that we handed out: whose it is, where it lives upstream, who must ask for its answer.
//!
//! Sans-I/O: time comes in as an argument, nothing is awaited, so that a seed replays a storm exactly
//! (`tests/ledger.rs`). Id map, not-ready TTL, single-flight and settled answers are fields of one [`Record`] behind one
//! shard lock, so that no moment exists between the end of a flight and the answer being there.
//!
//! Invariants: at most one live flight per task; an overtaken flight changes nothing when it lands; a settled record
//! never becomes open again; a record is found by its id *and* its account, and an id of another account looks exactly
//! like one that does not exist.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use tokio::sync::watch;

use crate::methods::Method;
use crate::op::{Account, Failure, LegacyId, NativeId, Outcome, TaskRef};

/// A moment, in milliseconds since the ledger was made. Monotonic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub u64);

impl Moment {
    /// This long after.
    #[must_use]
    pub fn after_ms(self, milliseconds: u64) -> Self {
        Self(self.0.saturating_add(milliseconds))
    }
}

/// Bounds and lifetimes. Defaults and reasons stand in `conf/capgate.toml`.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long "not ready" (or a refused poll) is answered from memory.
    pub not_ready_ttl_ms: u64,
    /// How long a task may stay without an answer before it is forgotten.
    pub open_ttl_ms: u64,
    /// How long a final answer is kept.
    pub answer_ttl_ms: u64,
    /// How long a submit whose fate is unknown reads as not ready before it counts as unsolvable.
    pub unbound_ttl_ms: u64,
    /// Most records.
    pub records_max: usize,
    /// Most records of one account, so that none can fill the ledger for the others.
    pub account_records_max: usize,
    /// Bytes of records and answers above which no submit is taken.
    pub bytes_max: usize,
    /// Most flights at once.
    pub flights_max: usize,
    /// Most requests that wait for one flight.
    pub followers_max: usize,
}

/// What a flight brings home.
pub type Landing = Result<Outcome, Failure>;

/// Where a follower hears of a landing.
pub type Wake = watch::Receiver<Option<Landing>>;

/// What a poll finds.
#[derive(Debug)]
pub enum Admit {
    /// No such task for this account.
    Unknown,
    /// Answer from memory: not ready, or the refusal that the upstream gave a moment ago.
    Recent(Landing),
    /// Answer from memory, for good.
    Settled(Outcome),
    /// Somebody asks already: wait here.
    Follow(Wake),
    /// The caller must ask, for itself and all who follow.
    Lead(Lead),
}

/// The duty to ask.
#[derive(Debug)]
pub struct Lead {
    /// What to ask for.
    pub task: TaskRef,
    /// Number of the flight, for [`Table::land`].
    pub flight: u64,
    /// Where the one who leads hears of the landing, like every follower.
    pub wake: Wake,
}

/// Why a record was not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotOpened {
    /// The id is in use: try another.
    Taken,
    /// A bound is reached.
    Full,
}

/// What is in the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Records.
    pub records: usize,
    /// Bytes charged for records and answers.
    pub bytes: usize,
    /// Flights under way.
    pub flights: usize,
    /// Accounts with a record.
    pub accounts: usize,
}

/// All records.
#[derive(Debug)]
pub struct Table {
    options: Options,
    records: DashMap<LegacyId, Record>,
    /// Records per account.
    accounts: DashMap<Account, usize>,
    /// One entry per record: when to look whether it has expired. Never locked before a shard of `records`.
    due: Mutex<BTreeSet<(Moment, LegacyId)>>,
    count: AtomicUsize,
    bytes: AtomicUsize,
    flights: AtomicUsize,
    flight_last: AtomicU64,
}

#[derive(Debug)]
struct Record {
    account: Account,
    method: &'static Method,
    native: Option<NativeId>,
    expires: Moment,
    /// Under which moment the record stands in `due`.
    queued: Moment,
    state: State,
    report: Report,
}

#[derive(Debug)]
enum State {
    /// Submitted, but what the upstream calls it is not known yet, or may never be.
    Unbound,
    /// The upstream works on it.
    Open {
        /// Until when `recent` is answered from memory.
        fresh_until: Moment,
        /// What the last flight brought, where that is a refusal.
        refused: Option<Failure>,
        flight: Option<Flight>,
    },
    /// Final.
    Settled(Outcome),
}

#[derive(Debug)]
struct Flight {
    number: u64,
    wake: watch::Sender<Option<Landing>>,
}

/// How far a report on the task has got. A report is sent upstream at most once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Report {
    None,
    Sent,
    FateUnknown,
    Recorded(crate::op::Verdict),
}

/// What a record is charged beyond its answer: itself, its place in the map and in `due`, and its native id.
const RECORD_BYTES: usize = size_of::<Record>() + size_of::<(Moment, LegacyId)>() * 2 + 56;

impl Record {
    fn bytes(&self) -> usize {
        let answer = match &self.state {
            State::Settled(Outcome::Solved(solved)) => solved.bytes(),
            _ => 0,
        };
        RECORD_BYTES + answer
    }

    /// Makes a record final, unless it is; the first final answer stays.
    fn settle(&mut self, outcome: &Outcome, expires: Moment) {
        if !matches!(self.state, State::Settled(_)) {
            self.state = State::Settled(outcome.clone());
            self.expires = expires;
        }
    }
}

impl Table {
    /// An empty table.
    pub fn new(options: Options) -> Self {
        Self {
            options,
            records: DashMap::new(),
            accounts: DashMap::new(),
            due: Mutex::default(),
            count: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            flights: AtomicUsize::new(0),
            flight_last: AtomicU64::new(0),
        }
    }

    /// Makes room for a task before it is submitted.
    ///
    /// # Errors
    /// [`NotOpened::Taken`] or [`NotOpened::Full`].
    pub fn open(&self, id: LegacyId, account: &Account, method: &'static Method, now: Moment) -> Result<(), NotOpened> {
        // Reserved before it is checked, so that a burst cannot pass the bound together.
        let place = self.count.fetch_add(1, Ordering::Relaxed);
        let opened =
            if place >= self.options.records_max || self.bytes.load(Ordering::Relaxed) >= self.options.bytes_max {
                Err(NotOpened::Full)
            } else {
                self.count_in(account).and_then(|account| self.insert(id, account, method, now))
            };
        if opened.is_err() {
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
        opened
    }

    /// Notes what the upstream calls a task. Does nothing when the record is no longer waiting for it.
    pub fn bind(&self, id: LegacyId, native: NativeId, now: Moment) {
        if let Some(mut record) = self.records.get_mut(&id)
            && matches!(record.state, State::Unbound)
        {
            record.native = Some(native);
            record.expires = now.after_ms(self.options.open_ttl_ms);
            record.state = State::Open { fresh_until: now, refused: None, flight: None };
        }
    }

    /// Notes a final answer that came with the submit. Does nothing when the record has one.
    pub fn settle(&self, id: LegacyId, outcome: &Outcome, now: Moment) {
        if let Some(mut record) = self.records.get_mut(&id) {
            self.change(&mut record, |record| record.settle(outcome, now.after_ms(self.options.answer_ttl_ms)));
        }
    }

    /// Takes a task back whose id no client has heard: the upstream refused the submit.
    pub fn withdraw(&self, id: LegacyId) {
        if let Some((_, record)) = self.records.remove(&id) {
            self.due().remove(&(record.queued, id));
            self.count_out(&record);
        }
    }

    /// Decides what becomes of a poll.
    pub fn admit(&self, account: &Account, id: LegacyId, now: Moment) -> Admit {
        let Some(mut record) = self.records.get_mut(&id).filter(|record| record.account == *account) else {
            return Admit::Unknown;
        };
        if record.expires <= now && !self.renew(&mut record, now) {
            return Admit::Unknown;
        }
        let Record { account, method, native, state, .. } = &mut *record;
        let (fresh_until, refused, flight) = match state {
            State::Unbound => return Admit::Recent(Ok(Outcome::NotReady)),
            State::Settled(outcome) => return Admit::Settled(outcome.clone()),
            State::Open { fresh_until, refused, flight } => (fresh_until, refused, flight),
        };
        if let Some(flight) = flight {
            if flight.wake.receiver_count() >= self.options.followers_max {
                return Admit::Recent(Ok(Outcome::NotReady));
            }
            return Admit::Follow(flight.wake.subscribe());
        }
        if now < *fresh_until {
            return Admit::Recent(refused.clone().map_or(Ok(Outcome::NotReady), Err));
        }
        let Some(native) = native.clone() else {
            return Admit::Recent(Ok(Outcome::NotReady));
        };
        if self.flights.fetch_add(1, Ordering::Relaxed) >= self.options.flights_max {
            self.flights.fetch_sub(1, Ordering::Relaxed);
            return Admit::Recent(Ok(Outcome::NotReady));
        }
        let number = self.flight_last.fetch_add(1, Ordering::Relaxed) + 1;
        let (sender, wake) = watch::channel(None);
        *flight = Some(Flight { number, wake: sender });
        let task = TaskRef { account: account.clone(), native, method };
        Admit::Lead(Lead { task, flight: number, wake })
    }

    /// Ends a flight: notes what it brought, then wakes everybody who waits.
    ///
    /// Trouble is not remembered as an answer, but it costs the same pause as "not ready", so that an upstream in
    /// trouble is not asked at the speed of its clients.
    pub fn land(&self, id: LegacyId, number: u64, landing: Landing, now: Moment) {
        let Some(mut record) = self.records.get_mut(&id) else {
            return;
        };
        let State::Open { fresh_until, refused, flight } = &mut record.state else {
            return;
        };
        let Some(landed) = flight.take_if(|flight| flight.number == number) else {
            return;
        };
        self.flights.fetch_sub(1, Ordering::Relaxed);
        *fresh_until = now.after_ms(self.options.not_ready_ttl_ms);
        *refused = None;
        match &landing {
            Ok(Outcome::NotReady) | Err(Failure::Shed | Failure::Unavailable | Failure::FateUnknown) => {}
            Err(failure) => *refused = Some(failure.clone()),
            Ok(outcome) => {
                let expires = now.after_ms(self.options.answer_ttl_ms);
                self.change(&mut record, |record| record.settle(outcome, expires));
            }
        }
        landed.wake.send_replace(Some(landing));
    }

    /// Begins a report.
    ///
    /// # Errors
    /// [`Failure::TaskUnknown`]; [`Failure::ReportRefused`] for a task that the upstream does not know or a report whose
    /// fate is unknown; [`Failure::ReportDuplicate`] for a second one. `Ok(None)` is a repetition of what is recorded.
    pub fn begin_report(
        &self,
        account: &Account,
        id: LegacyId,
        verdict: crate::op::Verdict,
        now: Moment,
    ) -> Result<Option<TaskRef>, Failure> {
        let Some(mut record) = self.records.get_mut(&id).filter(|record| record.account == *account) else {
            return Err(Failure::TaskUnknown);
        };
        if record.expires <= now && !self.renew(&mut record, now) {
            return Err(Failure::TaskUnknown);
        }
        let Some(native) = record.native.clone() else {
            return Err(Failure::ReportRefused);
        };
        match record.report {
            Report::None => record.report = Report::Sent,
            Report::Recorded(recorded) if recorded == verdict => return Ok(None),
            Report::Sent | Report::Recorded(_) => return Err(Failure::ReportDuplicate),
            Report::FateUnknown => return Err(Failure::ReportRefused),
        }
        Ok(Some(TaskRef { account: record.account.clone(), native, method: record.method }))
    }

    /// Ends a report. One that was refused, or never sent, may be made again.
    pub fn end_report(&self, id: LegacyId, verdict: crate::op::Verdict, result: &Result<(), Failure>) {
        if let Some(mut record) = self.records.get_mut(&id) {
            record.report = match result {
                Ok(()) => Report::Recorded(verdict),
                Err(Failure::FateUnknown) => Report::FateUnknown,
                Err(_) => Report::None,
            };
        }
    }

    /// Forgets what has expired, at most `steps` records. Returns whether there is more to do.
    pub fn sweep(&self, now: Moment, steps: usize) -> bool {
        for _ in 0..steps {
            let id = {
                let mut due = self.due();
                match due.first() {
                    Some((moment, _)) if *moment <= now => {}
                    _ => return false,
                }
                let Some((_, id)) = due.pop_first() else { return false };
                id
            };
            let again = match self.records.get_mut(&id) {
                None => continue,
                Some(mut record) => (record.expires > now || self.renew(&mut record, now)).then(|| {
                    record.queued = record.expires;
                    record.expires
                }),
            };
            match again {
                Some(expires) => {
                    self.due().insert((expires, id));
                }
                None => {
                    if let Some((_, record)) = self.records.remove_if(&id, |_, record| record.expires <= now) {
                        self.count_out(&record);
                    }
                }
            }
        }
        true
    }

    /// What is in the table, from its counters.
    pub fn census(&self) -> Census {
        Census {
            records: self.count.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            flights: self.flights.load(Ordering::Relaxed),
            accounts: self.accounts.len(),
        }
    }

    /// What is in the table, counted one by one: for tests, which compare it with [`Table::census`].
    pub fn recount(&self) -> Census {
        let is_flying = |record: &Record| matches!(&record.state, State::Open { flight: Some(_), .. });
        Census {
            records: self.records.len(),
            bytes: self.records.iter().map(|record| record.bytes()).sum(),
            flights: self.records.iter().filter(|record| is_flying(record)).count(),
            accounts: self.accounts.iter().filter(|account| *account.value() > 0).count(),
        }
    }

    /// What an expired record becomes: an unbound one is settled as unsolvable, so that its client submits anew; any
    /// other is forgotten, and `false` says so.
    fn renew(&self, record: &mut Record, now: Moment) -> bool {
        let is_unbound = matches!(record.state, State::Unbound);
        if is_unbound {
            record.settle(&Outcome::Failed(Failure::Unsolvable), now.after_ms(self.options.answer_ttl_ms));
        }
        is_unbound
    }

    fn insert(&self, id: LegacyId, account: Account, method: &'static Method, now: Moment) -> Result<(), NotOpened> {
        let expires = now.after_ms(self.options.unbound_ttl_ms);
        let record = Record {
            account,
            method,
            native: None,
            expires,
            queued: expires,
            state: State::Unbound,
            report: Report::None,
        };
        match self.records.entry(id) {
            Entry::Vacant(vacant) => {
                self.bytes.fetch_add(record.bytes(), Ordering::Relaxed);
                vacant.insert(record);
            }
            Entry::Occupied(_) => {
                self.leave(&record.account);
                return Err(NotOpened::Taken);
            }
        }
        self.due().insert((expires, id));
        Ok(())
    }

    /// Counts a record in for its account, and returns the one copy of its key that all its records share.
    fn count_in(&self, account: &Account) -> Result<Account, NotOpened> {
        let mut entry = self.accounts.entry(account.clone()).or_insert(0);
        if *entry >= self.options.account_records_max {
            return Err(NotOpened::Full);
        }
        *entry += 1;
        Ok(entry.key().clone())
    }

    /// Counts a removed record out. A flight of it may still be in the air; it will find nothing to land on.
    fn count_out(&self, record: &Record) {
        self.count.fetch_sub(1, Ordering::Relaxed);
        self.bytes.fetch_sub(record.bytes(), Ordering::Relaxed);
        if matches!(&record.state, State::Open { flight: Some(_), .. }) {
            self.flights.fetch_sub(1, Ordering::Relaxed);
        }
        self.leave(&record.account);
    }

    fn leave(&self, account: &Account) {
        if let Entry::Occupied(mut records) = self.accounts.entry(account.clone()) {
            *records.get_mut() -= 1;
            if *records.get() == 0 {
                records.remove();
            }
        }
    }

    /// Changes a record and charges the difference.
    fn change(&self, record: &mut Record, change: impl FnOnce(&mut Record)) {
        let before = record.bytes();
        change(record);
        // Answers only ever grow a record.
        self.bytes.fetch_add(record.bytes().saturating_sub(before), Ordering::Relaxed);
    }

    fn due(&self) -> MutexGuard<'_, BTreeSet<(Moment, LegacyId)>> {
        // A panic while it was held leaves at worst a record that is looked at too late.
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
