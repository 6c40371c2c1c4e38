//! The table of all records: finds them by id and account, bounds their number, and removes them when they expire.
//!
//! Sans-I/O: the time is an argument and nothing is awaited, so that a seed replays a storm exactly
//! (`tests/ledger.rs`). Id map, not-ready TTL, single-flight and settled answers are fields of one
//! [record](super::record) under one shard lock, so that no moment exists between the end of a flight and its stored
//! answer.
//!
//! Invariants: a task has at most one live flight; an overtaken flight changes nothing when it completes; a settled
//! record never becomes open again; a record is found by its id *and* its account, and an id of another account looks
//! exactly like an unknown one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use dashmap::mapref::one::RefMut;

use super::outbox::{NextReport, Outbox};
use super::pacing::Estimate;
use super::queue::{Next, Queue};
use super::record::{FlightEnd, Record};
use super::types::{
    Admit, LedgerStats, NextPrefetch, NextQueuedReport, NotOpened, Options, PollReply, PollResult, QueuedReport,
};
use crate::domain::{Account, Failure, LegacyId, Moment, NativeId, Outcome, TaskRef, Verdict};
use crate::methods::{self, Method};
use crate::store::snapshot::{RestoreError, SolveTimesSnapshot, TaskSnapshot, UnixOrigin};

/// All records.
#[derive(Debug)]
pub struct Table {
    options: Options,
    /// Boxed, because a map is half empty at worst.
    records: DashMap<LegacyId, Box<Record>>,
    /// Recent solve times, by method name. May be locked under a shard of `records`, never the other way round.
    estimates: DashMap<&'static str, Estimate>,
    /// Number of records per account.
    accounts: DashMap<Account, usize>,
    /// One entry per record: when to check whether it has expired.
    expiry_queue: Queue,
    /// When to check whether an open record should be polled ahead of its clients: about one entry per record at most.
    prefetch_queue: Queue,
    /// Reports that wait to be sent again.
    outbox: Outbox,
    count: AtomicUsize,
    bytes: AtomicUsize,
    flights: AtomicUsize,
    last_flight: AtomicU64,
}

impl Table {
    /// Creates an empty table.
    pub fn new(options: Options) -> Self {
        Self {
            options,
            records: DashMap::new(),
            estimates: DashMap::new(),
            accounts: DashMap::new(),
            expiry_queue: Queue::default(),
            prefetch_queue: Queue::default(),
            outbox: Outbox::default(),
            count: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            flights: AtomicUsize::new(0),
            last_flight: AtomicU64::new(0),
        }
    }

    /// Reserves an unbound record for a task before its submit is sent.
    ///
    /// # Errors
    /// [`NotOpened::Taken`] or [`NotOpened::Full`].
    pub fn open(&self, id: LegacyId, account: &Account, method: &'static Method, now: Moment) -> Result<(), NotOpened> {
        // The record counts before the check, so that concurrent submits cannot pass the bound together.
        let earlier = self.count.fetch_add(1, Ordering::Relaxed);
        let is_full =
            earlier >= self.options.records_max || self.bytes.load(Ordering::Relaxed) >= self.options.bytes_max;
        let opened = if is_full {
            Err(NotOpened::Full)
        } else {
            self.add_to_account(account, self.options.account_records_max).ok_or(NotOpened::Full).and_then(|account| {
                let record = Record::new(account, method, now, &self.options);
                if self.insert(id, record) { Ok(()) } else { Err(NotOpened::Taken) }
            })
        };
        if opened.is_err() {
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
        opened
    }

    /// Restores a task of an earlier process. The task is paid for, so no bound refuses it.
    ///
    /// # Errors
    /// [`RestoreError`].
    pub fn restore(
        &self,
        snapshot: TaskSnapshot,
        methods: &methods::Table,
        origin: UnixOrigin,
        now: Moment,
    ) -> Result<(), RestoreError> {
        let id = LegacyId(snapshot.legacy_id);
        let mut record = Record::from_snapshot(snapshot, methods, origin, now, &self.options)?;
        let next_poll = {
            let estimate = self.estimates.entry(record.method().name).or_default();
            record.schedule_poll(now, &self.options, &estimate)
        };
        if let Some(account) = self.add_to_account(record.account(), usize::MAX) {
            record.set_account(account);
        }
        let (expires, has_queued_report) = (record.expires(), record.has_queued_report());
        self.count.fetch_add(1, Ordering::Relaxed);
        if !self.insert(id, record) {
            self.count.fetch_sub(1, Ordering::Relaxed);
            return Err(RestoreError::Taken(id));
        }
        if has_queued_report {
            self.outbox.insert(id, 0, now);
        }
        if let Some(moment) = next_poll {
            self.schedule_prefetch(id, now, moment, expires);
        }
        Ok(())
    }

    /// Restores the solve times of a method, unless there are new ones already or its row is gone.
    pub fn restore_estimate(&self, times: &SolveTimesSnapshot, methods: &methods::Table) {
        let row = methods.rows().iter().find(|row| row.name == times.method);
        if let (Some(row), Some(estimate)) = (row, Estimate::from_snapshot(times)) {
            let mut known = self.estimates.entry(row.name).or_default();
            if !known.is_known() {
                *known = estimate;
            }
        }
    }

    /// Returns the solve times that were recorded since the last call.
    pub fn take_new_estimates(&self) -> Vec<SolveTimesSnapshot> {
        let new = self.estimates.iter_mut().filter_map(|mut entry| {
            let method = *entry.key();
            entry.take_if_new(method)
        });
        new.collect()
    }

    /// Whether there is a record of this id, of whatever account.
    pub fn contains(&self, id: LegacyId) -> bool {
        self.records.contains_key(&id)
    }

    /// Returns the persistent facts of a task.
    pub fn snapshot(&self, id: LegacyId, origin: UnixOrigin) -> Option<TaskSnapshot> {
        Some(self.records.get(&id)?.to_snapshot(id, origin))
    }

    /// Passes the persistent facts of a task to a store. The record stays locked until `queue` returns, so that writes
    /// are queued in the order of the changes. Returns `None` if the task does not exist.
    pub fn save<T>(&self, id: LegacyId, origin: UnixOrigin, queue: impl FnOnce(TaskSnapshot) -> T) -> Option<T> {
        let record = self.records.get(&id)?;
        Some(queue(record.save(id, origin)))
    }

    /// Passes the facts of an open task to a store as they will be once this outcome settles it. Returns `None` if the
    /// task is not open.
    pub fn save_outcome<T>(
        &self,
        id: LegacyId,
        outcome: &Outcome,
        now: Moment,
        origin: UnixOrigin,
        queue: impl FnOnce(TaskSnapshot) -> T,
    ) -> Option<T> {
        let record = self.records.get(&id)?;
        record.save_outcome(id, outcome, now, &self.options, origin).map(queue)
    }

    /// Whether a store has seen a task.
    pub fn is_saved(&self, id: LegacyId) -> bool {
        self.records.get(&id).is_some_and(|record| record.is_saved())
    }

    /// Stores the native id of a task. Does nothing if the record is not unbound.
    pub fn bind(&self, id: LegacyId, native: NativeId, now: Moment) {
        self.update(id, |record| {
            let estimate = self.estimates.entry(record.method().name).or_default();
            if let Some(moment) = record.bind(native, now, &self.options, &estimate) {
                self.schedule_prefetch(id, now, moment, record.expires());
            }
        });
    }

    /// Stores a final answer that the submit returned. Does nothing if the record is not unbound.
    pub fn settle(&self, id: LegacyId, native: Option<NativeId>, outcome: &Outcome, now: Moment) {
        self.update(id, |record| record.settle_unbound(native, outcome, now, &self.options));
    }

    /// Turns a task into a group of these members. Does nothing if the record is not unbound.
    pub fn set_members(&self, id: LegacyId, members: Arc<[LegacyId]>, now: Moment) {
        self.update(id, |record| record.set_members(members, now, &self.options));
    }

    /// Returns the members of a group; `None` if the task is not a group.
    pub fn members(&self, account: &Account, id: LegacyId, now: Moment) -> Option<Arc<[LegacyId]>> {
        self.lock_live(account, id, now)?.members()
    }

    /// Returns the native id of a task of this account, if the task exists and has one.
    pub fn native_id(&self, account: &Account, id: LegacyId, now: Moment) -> Option<NativeId> {
        self.lock_live(account, id, now)?.native_id()
    }

    /// Stores the URL at which the client of a task wants to receive the answer.
    pub fn set_pingback(&self, id: LegacyId, pingback: Box<str>) {
        self.update(id, |record| record.set_pingback(pingback));
    }

    /// Returns the URL at which the client of a task wants to receive the answer.
    pub fn pingback(&self, id: LegacyId) -> Option<String> {
        self.records.get(&id)?.pingback().map(str::to_owned)
    }

    /// Removes a task whose submit was refused, so that no client knows its id. Returns whether a store has seen it.
    pub fn withdraw(&self, id: LegacyId) -> bool {
        let Some((_, record)) = self.records.remove(&id) else { return false };
        self.expiry_queue.remove(record.queued, id);
        self.subtract(&record);
        record.is_saved()
    }

    /// Fast path: replies without starting or joining a flight, under one shared shard lock. Returns `None` if a flight
    /// may be needed or the record has expired.
    pub fn try_answer(&self, account: &Account, id: LegacyId, now: Moment) -> Option<PollReply> {
        match self.records.get(&id) {
            Some(record) if record.account() == account => record.try_answer(now, &self.options),
            _ => Some(PollReply::UNKNOWN),
        }
    }

    /// Decides what a poll must do, under an exclusive shard lock.
    pub fn admit(&self, account: &Account, id: LegacyId, now: Moment) -> Admit {
        match self.lock_live(account, id, now) {
            Some(mut record) => record.admit(now, &self.options, || self.reserve_flight()),
            None => Admit::Reply(PollReply::UNKNOWN),
        }
    }

    /// Reserves the next flight for a task of a frequent client.
    pub fn next_prefetch(&self, now: Moment) -> NextPrefetch {
        /// Most queue entries checked in one call.
        const STEPS: usize = 1_000;
        for _ in 0..STEPS {
            let id = match self.prefetch_queue.pop_due(now) {
                Next::Due(id) => id,
                Next::At(moment) => return NextPrefetch::At(moment),
                Next::Empty => return NextPrefetch::Idle,
            };
            let Some(mut record) = self.records.get_mut(&id) else { continue };
            // An entry may be older than its record, whose expiry is not its business.
            if now < record.expires()
                && let Some(ticket) = record.prefetch(now, &self.options, || self.reserve_flight())
            {
                return NextPrefetch::Start(id, ticket);
            }
        }
        NextPrefetch::At(now)
    }

    /// Ends a flight: stores its result before any waiting request wakes. An overtaken flight changes nothing. Returns
    /// whether the number of polls should be saved.
    pub fn complete_flight(&self, id: LegacyId, number: u64, result: PollResult, now: Moment) -> bool {
        let end = self.update(id, |record| {
            let mut estimate = self.estimates.entry(record.method().name).or_default();
            let end = record.complete_flight(number, result, now, &self.options, &mut estimate);
            if let FlightEnd::Open(moment) = end {
                self.schedule_prefetch(id, now, moment, record.expires());
            }
            (end, record.is_checkpoint())
        });
        let Some((FlightEnd::Open(_) | FlightEnd::Settled, is_checkpoint)) = end else { return false };
        self.flights.fetch_sub(1, Ordering::Relaxed);
        is_checkpoint
    }

    /// Begins a report. Returns `None` if the same report is already recorded. A durable report must be saved before it
    /// is sent, and is sent until its outcome is known.
    ///
    /// # Errors
    /// [`Failure::TaskUnknown`]; [`Failure::ReportRefused`] for a task without a native id, after a report whose
    /// outcome is unknown, or when the upstream accepts none any more; [`Failure::ReportDuplicate`] for a second report.
    pub fn begin_report(
        &self,
        account: &Account,
        id: LegacyId,
        verdict: Verdict,
        is_durable: bool,
        now: Moment,
    ) -> Result<Option<TaskRef>, Failure> {
        let mut record = self.lock_live(account, id, now).ok_or(Failure::TaskUnknown)?;
        record.begin_report(verdict, is_durable, now, &self.options)
    }

    /// Ends a report. A report that was refused or not sent may be made again. Returns whether a durable report will be
    /// sent again.
    pub fn end_report(&self, id: LegacyId, verdict: Verdict, result: &Result<(), Failure>, now: Moment) -> bool {
        let is_queued = self.records.get_mut(&id).is_some_and(|mut record| record.end_report(verdict, result));
        if is_queued {
            self.outbox.insert(id, 1, now);
        }
        is_queued
    }

    /// Takes back a durable report that could not be saved.
    pub fn cancel_report(&self, id: LegacyId) {
        if let Some(mut record) = self.records.get_mut(&id) {
            record.cancel_report();
        }
    }

    /// Returns the next report to send again.
    pub fn next_report(&self, now: Moment) -> NextQueuedReport {
        match self.outbox.pop_due(now) {
            NextReport::Empty => NextQueuedReport::Idle,
            NextReport::At(moment) => NextQueuedReport::At(moment),
            NextReport::Due(id, attempts) => {
                let taken =
                    self.records.get_mut(&id).and_then(|mut record| record.take_queued_report(now, &self.options));
                match taken {
                    Some((task, verdict)) => NextQueuedReport::Send(QueuedReport { id, task, verdict, attempts }),
                    None => NextQueuedReport::GivenUp(id),
                }
            }
        }
    }

    /// Ends a report that was sent again. One that failed for now goes back to the outbox.
    pub fn end_queued_report(&self, report: &QueuedReport, result: &Result<(), Failure>, now: Moment) {
        let QueuedReport { id, verdict, attempts, .. } = report;
        let is_queued = self.records.get_mut(id).is_some_and(|mut record| record.end_queued_report(*verdict, result));
        if is_queued {
            self.outbox.insert(*id, attempts.saturating_add(1), now);
        }
    }

    /// Returns the tasks with a report that waits to be sent again.
    pub fn queued_report_ids(&self) -> Vec<LegacyId> {
        self.outbox.ids()
    }

    /// Replaces a report that waits to be sent again by what a later snapshot of its task says.
    pub fn refresh_report(&self, id: LegacyId, snapshot: &TaskSnapshot) {
        if let Some(mut record) = self.records.get_mut(&id) {
            record.refresh_report(snapshot.report);
        }
    }

    /// Returns the number of reports that wait to be sent again.
    pub fn queued_reports(&self) -> usize {
        self.outbox.len()
    }

    /// Removes expired records; checks `steps` at most. Returns whether more may be due.
    pub fn sweep(&self, now: Moment, steps: usize) -> bool {
        for _ in 0..steps {
            let Next::Due(id) = self.expiry_queue.pop_due(now) else { return false };
            if let Some(mut record) = self.records.get_mut(&id)
                && !record.expire_if_due(now, &self.options)
            {
                record.queued = record.expires();
                self.expiry_queue.insert(record.queued, id);
                continue;
            }
            match self.records.remove_if(&id, |_, record| record.expires() <= now) {
                Some((_, record)) => self.subtract(&record),
                // A flight has completed in between and extended the record: queue it again.
                None => drop(self.update(id, |record| record.queued = Moment(u64::MAX))),
            }
        }
        true
    }

    /// Returns the size of the table from its counters.
    pub fn stats(&self) -> LedgerStats {
        LedgerStats {
            records: self.count.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            flights: self.flights.load(Ordering::Relaxed),
            waiting: 0,
            accounts: self.accounts.len(),
        }
    }

    /// Counts the size of the table record by record, for tests that compare it with [`Table::stats`].
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

    /// Locks the account's record of this id, unless it has expired.
    fn lock_live(&self, account: &Account, id: LegacyId, now: Moment) -> Option<RefMut<'_, LegacyId, Box<Record>>> {
        let mut record = self.records.get_mut(&id).filter(|record| record.account() == account)?;
        if record.expire_if_due(now, &self.options) { None } else { Some(record) }
    }

    /// Changes a record, charges its growth, and moves it forward in the expiry queue if it expires earlier now.
    fn update<T>(&self, id: LegacyId, change: impl FnOnce(&mut Record) -> T) -> Option<T> {
        let mut record = self.records.get_mut(&id)?;
        let before = record.bytes();
        let changed = change(&mut record);
        // A record never shrinks.
        self.bytes.fetch_add(record.bytes().saturating_sub(before), Ordering::Relaxed);
        let expires = record.expires();
        if expires < record.queued {
            self.expiry_queue.reschedule(record.queued, expires, id);
            record.queued = expires;
        }
        Some(changed)
    }

    /// Inserts a record that is counted already. Returns whether the id was free; if not, uncounts it for its account.
    fn insert(&self, id: LegacyId, record: Record) -> bool {
        match self.records.entry(id) {
            Entry::Vacant(vacant) => {
                self.bytes.fetch_add(record.bytes(), Ordering::Relaxed);
                self.expiry_queue.insert(record.queued, id);
                vacant.insert(Box::new(record));
                true
            }
            Entry::Occupied(_) => {
                self.subtract_from_account(record.account());
                false
            }
        }
    }

    /// Counts one more record of an account, up to a bound. Returns the copy of the key that all its records share.
    fn add_to_account(&self, account: &Account, records_max: usize) -> Option<Account> {
        let mut records = self.accounts.entry(account.clone()).or_insert(0);
        if *records >= records_max {
            return None;
        }
        *records += 1;
        Some(records.key().clone())
    }

    fn subtract_from_account(&self, account: &Account) {
        if let Entry::Occupied(mut records) = self.accounts.entry(account.clone()) {
            *records.get_mut() -= 1;
            if *records.get() == 0 {
                records.remove();
            }
        }
    }

    /// Subtracts a removed record from the counters. Its flight may still be in progress, and will find no record.
    fn subtract(&self, record: &Record) {
        self.count.fetch_sub(1, Ordering::Relaxed);
        self.bytes.fetch_sub(record.bytes(), Ordering::Relaxed);
        if record.waiting().is_some() {
            self.flights.fetch_sub(1, Ordering::Relaxed);
        }
        self.subtract_from_account(record.account());
    }

    /// Counts one more flight and returns its number, if the bound allows it.
    fn reserve_flight(&self) -> Option<u64> {
        if self.flights.fetch_add(1, Ordering::Relaxed) < self.options.flights_max {
            return Some(self.last_flight.fetch_add(1, Ordering::Relaxed) + 1);
        }
        self.flights.fetch_sub(1, Ordering::Relaxed);
        None
    }

    fn schedule_prefetch(&self, id: LegacyId, now: Moment, moment: Moment, expires: Moment) {
        if now < moment && moment < expires {
            self.prefetch_queue.insert(moment, id);
        }
    }
}
