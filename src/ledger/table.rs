//! All tasks that we handed out: found by id and account, bounded, and forgotten in time.
//!
//! Sans-I/O: time comes in as an argument, nothing is awaited, so that a seed replays a storm exactly
//! (`tests/ledger.rs`). Id map, not-ready TTL, single-flight and settled answers are fields of one
//! [record](super::record) behind one shard lock, so that no moment exists between the end of a flight and the answer
//! being there.
//!
//! Invariants: at most one live flight per task; an overtaken flight changes nothing when it lands; a settled record
//! never becomes open again; a record is found by its id *and* its account, and an id of another account looks exactly
//! like one that does not exist.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use dashmap::mapref::one::RefMut;

use super::pacing::Estimate;
pub use super::pacing::Pacing;
use super::queue::{Next, Queue};
pub use super::record::{Admit, FlightReceiver, FlightTicket, PollResult};
use super::record::{Landed, Record};
pub use crate::domain::Moment;
use crate::domain::{Account, Failure, LegacyId, NativeId, Outcome, TaskRef, Verdict};
use crate::methods::Method;

/// Bounds and lifetimes. Defaults and reasons stand in `conf/capgate.toml`.
#[derive(Clone, Debug)]
pub struct Options {
    /// When the upstream is asked again: how long "not ready" is answered from memory.
    pub pacing: Pacing,
    /// How long trouble makes a pause, and a refused poll is answered from memory.
    pub trouble_ttl_ms: u64,
    /// For how long after that a client that asks often gets "not ready" at once, while the upstream is asked behind.
    pub stale_ms: u64,
    /// How recently a task was asked for if its clients ask often.
    pub recent_ms: u64,
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
pub struct LedgerStats {
    /// Records.
    pub records: usize,
    /// Bytes charged for records and answers.
    pub bytes: usize,
    /// Flights under way.
    pub flights: usize,
    /// Requests that wait for a flight, those that lead it included. Only [`Table::recount`] knows.
    pub waiting: usize,
    /// Accounts with a record.
    pub accounts: usize,
}

/// What to do for tasks whose clients ask often.
#[derive(Debug)]
pub enum NextPrefetch {
    /// Ask for this one, now.
    Start(LegacyId, FlightTicket),
    /// Look again then.
    At(Moment),
    /// Nothing, until a task is bound or a flight lands.
    Idle,
}

/// All records.
#[derive(Debug)]
pub struct Table {
    options: Options,
    /// Boxed, since a map is half empty at its worst.
    records: DashMap<LegacyId, Box<Record>>,
    /// What tasks have taken lately, by the name of their method. May be locked under a shard of `records`, never the
    /// other way round.
    estimates: DashMap<&'static str, Estimate>,
    /// Records per account.
    accounts: DashMap<Account, usize>,
    /// One entry per record: when to look whether it has expired.
    due: Queue,
    /// When to look whether an open record should be asked for ahead of its clients: at most about one entry per record.
    ahead: Queue,
    count: AtomicUsize,
    bytes: AtomicUsize,
    flights: AtomicUsize,
    flight_last: AtomicU64,
}

impl Table {
    /// An empty table.
    pub fn new(options: Options) -> Self {
        Self {
            options,
            records: DashMap::new(),
            estimates: DashMap::new(),
            accounts: DashMap::new(),
            due: Queue::default(),
            ahead: Queue::default(),
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
        let is_full = place >= self.options.records_max || self.bytes.load(Ordering::Relaxed) >= self.options.bytes_max;
        let opened = if is_full {
            Err(NotOpened::Full)
        } else {
            self.join(account).and_then(|account| self.insert(id, Record::new(account, method, now, &self.options)))
        };
        if opened.is_err() {
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
        opened
    }

    /// Notes what the upstream calls a task. Does nothing when the record no longer waits for it.
    pub fn bind(&self, id: LegacyId, native: NativeId, now: Moment) {
        self.change(id, |record| {
            let estimate = self.estimates.entry(record.method().name).or_default();
            if let Some(moment) = record.bind(native, now, &self.options, &estimate) {
                self.look_ahead(id, now, moment, record.expires);
            }
        });
    }

    /// Notes a final answer that came with the submit. Does nothing when the record no longer waits for it.
    pub fn settle(&self, id: LegacyId, native: Option<NativeId>, outcome: &Outcome, now: Moment) {
        self.change(id, |record| record.settle_unbound(native, outcome, now, &self.options));
    }

    /// Makes a record stand for others. Does nothing when the record no longer waits for the upstream's word.
    pub fn group(&self, id: LegacyId, members: Arc<[LegacyId]>, now: Moment) {
        self.change(id, |record| record.group(members, now, &self.options));
    }

    /// The records that a record of this account stands for, if it stands for any.
    pub fn members(&self, account: &Account, id: LegacyId, now: Moment) -> Option<Arc<[LegacyId]>> {
        self.find(account, id, now)?.members()
    }

    /// Notes where the client of a task wants to be told of its answer.
    pub fn set_pingback(&self, id: LegacyId, pingback: Box<str>) {
        self.change(id, |record| record.set_pingback(pingback));
    }

    /// Where the client of a task wants to be told of its answer.
    pub fn pingback(&self, id: LegacyId) -> Option<String> {
        self.records.get(&id)?.pingback().map(str::to_owned)
    }

    /// Takes a task back whose id no client has heard: the upstream refused the submit.
    pub fn withdraw(&self, id: LegacyId) {
        if let Some((_, record)) = self.records.remove(&id) {
            self.due.remove(record.queued, id);
            self.count_out(&record);
        }
    }

    /// What becomes of a poll that neither begins nor follows a flight, if this is one. Takes one shard lock, which it
    /// shares with others.
    pub fn try_answer(&self, account: &Account, id: LegacyId, now: Moment) -> Option<Admit> {
        match self.records.get(&id) {
            Some(record) if record.account() == account => record.try_answer(now, &self.options),
            _ => Some(Admit::Unknown),
        }
    }

    /// Decides what becomes of a poll.
    pub fn admit(&self, account: &Account, id: LegacyId, now: Moment) -> Admit {
        if let Some(admit) = self.try_answer(account, id, now) {
            return admit;
        }
        let Some(mut record) = self.find(account, id, now) else {
            return Admit::Unknown;
        };
        record.admit(now, &self.options, || self.take_off())
    }

    /// The next task that should be asked for ahead of the clients that ask for it often.
    pub fn ahead(&self, now: Moment) -> NextPrefetch {
        /// Entries looked at in one go.
        const STEPS: usize = 1_000;
        for _ in 0..STEPS {
            let id = match self.ahead.next(now) {
                Next::Due(id) => id,
                Next::At(moment) => return NextPrefetch::At(moment),
                Next::Empty => return NextPrefetch::Idle,
            };
            let Some(mut record) = self.records.get_mut(&id) else { continue };
            if record.lives(now, &self.options)
                && let Some(lead) = record.refresh(now, &self.options, || self.take_off())
            {
                return NextPrefetch::Start(id, lead);
            }
        }
        NextPrefetch::At(now)
    }

    /// Ends a flight: what it brought is noted before anybody who waits is woken. An overtaken one changes nothing.
    pub fn land(&self, id: LegacyId, number: u64, landing: PollResult, now: Moment) {
        let landed = self.change(id, |record| {
            let mut estimate = self.estimates.entry(record.method().name).or_default();
            let landed = record.land(number, landing, now, &self.options, &mut estimate);
            if let Landed::Open(moment) = landed {
                self.look_ahead(id, now, moment, record.expires);
            }
            landed
        });
        if !matches!(landed, None | Some(Landed::Overtaken)) {
            self.flights.fetch_sub(1, Ordering::Relaxed);
        }
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
        verdict: Verdict,
        now: Moment,
    ) -> Result<Option<TaskRef>, Failure> {
        self.find(account, id, now).ok_or(Failure::TaskUnknown)?.begin_report(verdict)
    }

    /// Ends a report. One that was refused, or never sent, may be made again.
    pub fn end_report(&self, id: LegacyId, verdict: Verdict, result: &Result<(), Failure>) {
        if let Some(mut record) = self.records.get_mut(&id) {
            record.end_report(verdict, result);
        }
    }

    /// Forgets what has expired, at most `steps` records. Returns whether there is more to do.
    pub fn sweep(&self, now: Moment, steps: usize) -> bool {
        for _ in 0..steps {
            let Next::Due(id) = self.due.next(now) else { return false };
            if let Some(mut record) = self.records.get_mut(&id)
                && record.lives(now, &self.options)
            {
                record.queued = record.expires;
                self.due.insert(record.queued, id);
                continue;
            }
            match self.records.remove_if(&id, |_, record| record.expires <= now) {
                Some((_, record)) => self.count_out(&record),
                // A flight has landed in between: it lives on, and is looked at again.
                None => drop(self.change(id, |record| record.queued = Moment(u64::MAX))),
            }
        }
        true
    }

    /// What is in the table, from its counters.
    pub fn stats(&self) -> LedgerStats {
        LedgerStats {
            records: self.count.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            flights: self.flights.load(Ordering::Relaxed),
            waiting: 0,
            accounts: self.accounts.len(),
        }
    }

    /// What is in the table, counted one by one: for tests, which compare it with [`Table::stats`].
    pub fn recount(&self) -> LedgerStats {
        let waiting: Vec<usize> = self.records.iter().filter_map(|record| record.waiting()).collect();
        LedgerStats {
            records: self.records.len(),
            bytes: self.records.iter().map(|record| record.bytes()).sum(),
            flights: waiting.len(),
            waiting: waiting.iter().sum(),
            accounts: self.accounts.iter().filter(|records| *records.value() > 0).count(),
        }
    }

    /// The record of that id, if it lives and is this account's.
    fn find(&self, account: &Account, id: LegacyId, now: Moment) -> Option<RefMut<'_, LegacyId, Box<Record>>> {
        let mut record = self.records.get_mut(&id).filter(|record| record.account() == account)?;
        record.lives(now, &self.options).then_some(record)
    }

    /// Changes a record, charges what it has grown by, and looks at it earlier if it ends earlier now.
    fn change<T>(&self, id: LegacyId, change: impl FnOnce(&mut Record) -> T) -> Option<T> {
        let mut record = self.records.get_mut(&id)?;
        let before = record.bytes();
        let changed = change(&mut record);
        // Answers only ever grow a record.
        self.bytes.fetch_add(record.bytes().saturating_sub(before), Ordering::Relaxed);
        if record.expires < record.queued {
            self.due.shift(record.queued, record.expires, id);
            record.queued = record.expires;
        }
        Some(changed)
    }

    fn insert(&self, id: LegacyId, record: Record) -> Result<(), NotOpened> {
        match self.records.entry(id) {
            Entry::Vacant(vacant) => {
                self.bytes.fetch_add(record.bytes(), Ordering::Relaxed);
                self.due.insert(record.queued, id);
                vacant.insert(Box::new(record));
                Ok(())
            }
            Entry::Occupied(_) => {
                self.leave(record.account());
                Err(NotOpened::Taken)
            }
        }
    }

    /// Counts a record in for its account, and returns the one copy of its key that all its records share.
    fn join(&self, account: &Account) -> Result<Account, NotOpened> {
        let mut records = self.accounts.entry(account.clone()).or_insert(0);
        if *records >= self.options.account_records_max {
            return Err(NotOpened::Full);
        }
        *records += 1;
        Ok(records.key().clone())
    }

    fn leave(&self, account: &Account) {
        if let Entry::Occupied(mut records) = self.accounts.entry(account.clone()) {
            *records.get_mut() -= 1;
            if *records.get() == 0 {
                records.remove();
            }
        }
    }

    /// Counts a removed record out. A flight of it may still be in the air; it will find nothing to land on.
    fn count_out(&self, record: &Record) {
        self.count.fetch_sub(1, Ordering::Relaxed);
        self.bytes.fetch_sub(record.bytes(), Ordering::Relaxed);
        if record.waiting().is_some() {
            self.flights.fetch_sub(1, Ordering::Relaxed);
        }
        self.leave(record.account());
    }

    fn take_off(&self) -> Option<u64> {
        if self.flights.fetch_add(1, Ordering::Relaxed) < self.options.flights_max {
            return Some(self.flight_last.fetch_add(1, Ordering::Relaxed) + 1);
        }
        self.flights.fetch_sub(1, Ordering::Relaxed);
        None
    }

    fn look_ahead(&self, id: LegacyId, now: Moment, moment: Moment, expires: Moment) {
        if now < moment && moment < expires {
            self.ahead.insert(moment, id);
        }
    }
}
