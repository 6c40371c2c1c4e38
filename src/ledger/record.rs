//! One task: how it changes with a poll, the end of a flight, or a report. The [table](super::table) holds all of them.
//! There may be a million records, so parts that only few records need are boxed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::facts::{Facts, Open, Report, State};
use super::pacing::{Estimate, next_poll_age_ms};
use super::poll_state::PollState;
use super::types::{Admit, FlightTicket, Options, PollReply, PollResult, PollSource};
use crate::domain::{Account, Failure, LegacyId, Moment, NativeId, Outcome, TaskRef, UpstreamId, Verdict};
use crate::methods::{self, Method};
use crate::store::snapshot::{ReportSnapshot, RestoreError, TaskSnapshot, UnixOrigin};

/// One task.
#[derive(Debug)]
pub(super) struct Record {
    /// Everything that a store must keep. The other fields are volatile.
    facts: Facts,
    /// Meaningful while the record is open.
    polls: PollState,
    /// The record's moment in the table's expiry queue; never later than its expiry.
    pub(super) queued: Moment,
    /// Whether the facts were given to a store. Atomic, because facts are read under a shared lock.
    is_saved: AtomicBool,
}

/// Bytes charged for a record without its answer: itself with its allocation, and its places in the map and the two
/// queues, which are half empty at worst. `cargo bench --bench records` compares this with the memory in use.
const RECORD_BYTES: usize = size_of::<Record>() + 16 + 2 * 17 + 4 * size_of::<(Moment, LegacyId)>();

/// How a flight ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FlightEnd {
    /// Another flight or none is in progress.
    Overtaken,
    /// The task is still open. Its next flight may start at this moment.
    Open(Moment),
    /// The flight returned the final answer.
    Settled,
}

impl Record {
    /// Creates an unbound record. The account's copy of the key is shared by all its records.
    pub(super) fn new(account: Account, method: &'static Method, now: Moment, options: &Options) -> Self {
        let expires = now.after_ms(options.unbound_ttl_ms);
        let facts = Facts {
            account,
            method,
            native: None,
            pingback: None,
            expires,
            state: State::Unbound,
            report: Report::None,
            upstream: UpstreamId::DEFAULT,
        };
        Self { facts, polls: PollState::new(now), queued: expires, is_saved: AtomicBool::new(false) }
    }

    pub(super) fn to_snapshot(&self, id: LegacyId, origin: UnixOrigin) -> TaskSnapshot {
        self.facts.to_snapshot(id, origin)
    }

    /// Returns the facts for a store, and notes that they were saved.
    pub(super) fn save(&self, id: LegacyId, origin: UnixOrigin) -> TaskSnapshot {
        self.is_saved.store(true, Ordering::Relaxed);
        self.to_snapshot(id, origin)
    }

    /// Returns the facts of an open task as they will be once this outcome settles it; `None` if it will not.
    pub(super) fn save_outcome(
        &self,
        id: LegacyId,
        outcome: &Outcome,
        now: Moment,
        options: &Options,
        origin: UnixOrigin,
    ) -> Option<TaskSnapshot> {
        let State::Open(open) = &self.facts.state else { return None };
        if open.is_doubtful(outcome, now, options.unknown_after_ms) {
            return None;
        }
        Some(self.facts.to_settled_snapshot(id, outcome, now.after_ms(options.answer_ttl_ms), origin))
    }

    /// Whether the facts were given to a store.
    pub(super) fn is_saved(&self) -> bool {
        self.is_saved.load(Ordering::Relaxed)
    }

    /// Restores a record. The caller schedules the next poll of an open one with [`Record::schedule_poll`].
    ///
    /// # Errors
    /// [`RestoreError`], except [`RestoreError::Taken`].
    pub(super) fn from_snapshot(
        snapshot: TaskSnapshot,
        methods: &methods::Table,
        origin: UnixOrigin,
        now: Moment,
        options: &Options,
    ) -> Result<Self, RestoreError> {
        let expires_unix_ms = snapshot.expires_unix_ms;
        let mut facts = Facts::from_snapshot(snapshot, methods, origin)?;
        if facts.expires <= now && matches!(facts.state, State::Unbound) {
            // As `expire_if_due` would have done at that time.
            facts.state = State::Settled(Outcome::Failed(Failure::Unsolvable));
            facts.expires = origin.to_moment(expires_unix_ms.saturating_add(options.answer_ttl_ms));
        }
        if facts.expires <= now {
            return Err(RestoreError::Expired);
        }
        if let State::Open(open) = &mut facts.state {
            open.accepted = open.accepted.at_most(now);
        }
        let ttl_ms = match facts.state {
            State::Unbound => options.unbound_ttl_ms,
            State::Open(_) => options.open_ttl_ms,
            State::Settled(_) => options.answer_ttl_ms,
            State::Group(_) => options.open_ttl_ms.saturating_add(options.answer_ttl_ms),
        };
        facts.expires = facts.expires.min(now.after_ms(ttl_ms));
        let queued = facts.expires;
        Ok(Self { facts, polls: PollState::new(now), queued, is_saved: AtomicBool::new(true) })
    }

    /// Schedules the next flight of an open record from its age alone. Returns when it may start.
    pub(super) fn schedule_poll(&mut self, now: Moment, options: &Options, estimate: &Estimate) -> Option<Moment> {
        let State::Open(open) = &self.facts.state else { return None };
        let fresh_until = next_poll(open, now, options, estimate);
        self.polls = PollState::new(fresh_until);
        Some(fresh_until)
    }

    pub(super) fn native_id(&self) -> Option<NativeId> {
        self.facts.native.clone()
    }

    pub(super) fn pingback(&self) -> Option<&str> {
        self.facts.pingback.as_deref()
    }

    pub(super) fn set_pingback(&mut self, pingback: Box<str>) {
        self.facts.pingback = Some(pingback);
    }

    pub(super) fn account(&self) -> &Account {
        &self.facts.account
    }

    pub(super) fn set_account(&mut self, account: Account) {
        self.facts.account = account;
    }

    pub(super) fn method(&self) -> &'static Method {
        self.facts.method
    }

    pub(super) fn expires(&self) -> Moment {
        self.facts.expires
    }

    pub(super) fn bytes(&self) -> usize {
        let answer = match &self.facts.state {
            State::Settled(Outcome::Solved(solved)) => solved.size_bytes(),
            State::Group(members) => members.len() * size_of::<LegacyId>(),
            _ => 0,
        };
        RECORD_BYTES + answer + self.facts.pingback.as_ref().map_or(0, |url| url.len())
    }

    /// Returns the number of requests that wait for the flight; `None` without a flight.
    pub(super) fn waiting(&self) -> Option<usize> {
        self.polls.waiting()
    }

    /// Opens an unbound record. Returns when its first flight may start; `None` if the record is not unbound.
    pub(super) fn bind(
        &mut self,
        native: NativeId,
        now: Moment,
        options: &Options,
        estimate: &Estimate,
    ) -> Option<Moment> {
        if !matches!(self.facts.state, State::Unbound) {
            return None;
        }
        self.facts.native = Some(native);
        self.facts.expires = now.after_ms(options.open_ttl_ms);
        self.facts.state = State::Open(Open::new(now));
        self.schedule_poll(now, options, estimate)
    }

    /// Settles an unbound record. Does nothing in another state.
    pub(super) fn settle_unbound(
        &mut self,
        native: Option<NativeId>,
        outcome: &Outcome,
        now: Moment,
        options: &Options,
    ) {
        if matches!(self.facts.state, State::Unbound) {
            self.facts.native = native;
            self.settle(outcome, now, options);
        }
    }

    /// Turns an unbound record into a group. Does nothing in another state.
    pub(super) fn set_members(&mut self, members: Arc<[LegacyId]>, now: Moment, options: &Options) {
        if matches!(self.facts.state, State::Unbound) {
            self.facts.state = State::Group(members);
            // As long as its members can live: open first, then settled.
            self.facts.expires = now.after_ms(options.open_ttl_ms.saturating_add(options.answer_ttl_ms));
        }
    }

    pub(super) fn members(&self) -> Option<Arc<[LegacyId]>> {
        match &self.facts.state {
            State::Group(members) => Some(Arc::clone(members)),
            _ => None,
        }
    }

    /// Settles an overdue unbound record as unsolvable, so that its client submits again. Returns whether the record
    /// has expired and must be forgotten.
    pub(super) fn expire_if_due(&mut self, now: Moment, options: &Options) -> bool {
        if self.facts.expires <= now && matches!(self.facts.state, State::Unbound) {
            self.settle(&Outcome::Failed(Failure::Unsolvable), now, options);
        }
        self.facts.expires <= now
    }

    /// Fast path: replies without starting or joining a flight. Returns `None` if a flight may be needed or the record
    /// has expired. Changes nothing but the moment of the last poll.
    pub(super) fn try_answer(&self, now: Moment, options: &Options) -> Option<PollReply> {
        if self.facts.expires <= now {
            return None;
        }
        match &self.facts.state {
            State::Unbound => Some(PollReply::NOT_READY),
            State::Settled(outcome) => Some(PollReply::Answer(Ok(outcome.clone()), PollSource::Hit)),
            State::Group(members) => Some(PollReply::Group(Arc::clone(members))),
            State::Open(_) => self.polls.try_answer(now, options),
        }
    }

    /// Decides what a poll must do. `reserve_flight` returns the number of a new flight, if there is room for one.
    pub(super) fn admit(
        &mut self,
        now: Moment,
        options: &Options,
        reserve_flight: impl FnOnce() -> Option<u64>,
    ) -> Admit {
        if let Some(reply) = self.try_answer(now, options) {
            return Admit::Reply(reply);
        }
        if !matches!(self.facts.state, State::Open(_)) {
            return Admit::Reply(PollReply::UNKNOWN);
        }
        let may_be_stale = self.polls.may_be_stale(now, options);
        self.polls.mark_polled(now);
        if let Some(admit) = self.polls.follow(options) {
            return admit;
        }
        match self.start_flight(now, reserve_flight) {
            None => Admit::Reply(PollReply::NOT_READY),
            Some(ticket) if may_be_stale => Admit::Refresh(ticket),
            Some(ticket) => Admit::Lead(ticket),
        }
    }

    /// Starts a flight ahead of a frequent client, if one is due, so that no client has to wait for it.
    pub(super) fn prefetch(
        &mut self,
        now: Moment,
        options: &Options,
        reserve_flight: impl FnOnce() -> Option<u64>,
    ) -> Option<FlightTicket> {
        if !self.polls.is_prefetch_due(now, options) {
            return None;
        }
        self.start_flight(now, reserve_flight)
    }

    /// Starts a flight of an open record, if there is room for one.
    fn start_flight(&mut self, now: Moment, reserve_flight: impl FnOnce() -> Option<u64>) -> Option<FlightTicket> {
        let State::Open(_) = self.facts.state else { return None };
        let task = self.facts.task(self.facts.native.clone()?);
        let flight = reserve_flight()?;
        Some(FlightTicket { task, flight, receiver: self.polls.start_flight(flight, now) })
    }

    /// Ends a flight: stores its result first, then wakes all requests that wait for it.
    pub(super) fn complete_flight(
        &mut self,
        number: u64,
        result: PollResult,
        now: Moment,
        options: &Options,
        estimate: &mut Estimate,
    ) -> FlightEnd {
        let State::Open(open) = &mut self.facts.state else { return FlightEnd::Overtaken };
        let Some(flight) = self.polls.take_flight(number) else { return FlightEnd::Overtaken };
        let result = open.doubt_unknown(result, now, options.unknown_after_ms);
        open.note_result(&result, flight.started, now, estimate);
        let next_poll = next_poll(open, now, options, estimate);
        let next_flight = self.polls.update(&result, next_poll, now, options);
        let end = match &result {
            Ok(outcome) if *outcome != Outcome::NotReady => {
                self.settle(outcome, now, options);
                FlightEnd::Settled
            }
            _ => FlightEnd::Open(next_flight),
        };
        flight.sender.send_replace(Some(result));
        end
    }

    /// Whether the facts should be saved after this poll. A restart forgets fewer polls than this, which keeps the task
    /// below the number of polls at which services lose it.
    pub(super) fn is_checkpoint(&self) -> bool {
        const POLLS: u16 = 10;
        matches!(&self.facts.state, State::Open(open) if open.polls_used.is_multiple_of(POLLS) && open.polls_used > 0)
    }

    /// Begins a report; see [`super::table::Table::begin_report`].
    pub(super) fn begin_report(
        &mut self,
        verdict: Verdict,
        is_durable: bool,
        now: Moment,
        options: &Options,
    ) -> Result<Option<TaskRef>, Failure> {
        let Some(native) = self.facts.native.clone() else {
            return Err(Failure::ReportRefused);
        };
        match self.facts.report {
            Report::Recorded(recorded) | Report::Queued(recorded) if recorded == verdict => return Ok(None),
            Report::Sent | Report::Sending(_) | Report::Queued(_) | Report::Recorded(_) => {
                return Err(Failure::ReportDuplicate);
            }
            Report::OutcomeUnknown => return Err(Failure::ReportRefused),
            Report::None if !self.may_be_reported(now, options) => return Err(Failure::ReportRefused),
            Report::None if is_durable => self.facts.report = Report::Sending(verdict),
            Report::None => self.facts.report = Report::Sent,
        }
        Ok(Some(self.facts.task(native)))
    }

    /// Ends a report that was sent for the first time. A report that was refused or not sent may be made again. Returns
    /// whether it must be sent again.
    pub(super) fn end_report(&mut self, verdict: Verdict, result: &Result<(), Failure>) -> bool {
        let is_durable = matches!(self.facts.report, Report::Sending(_));
        self.facts.report = match result {
            Ok(()) => Report::Recorded(verdict),
            Err(failure) if is_durable && is_transient(failure) => Report::Queued(verdict),
            Err(Failure::OutcomeUnknown) => Report::OutcomeUnknown,
            Err(_) => Report::None,
        };
        self.has_queued_report()
    }

    /// Takes back a report that was not sent, because it did not become durable.
    pub(super) fn cancel_report(&mut self) {
        if matches!(self.facts.report, Report::Sending(_)) {
            self.facts.report = Report::None;
        }
    }

    /// Whether a report waits to be sent.
    pub(super) fn has_queued_report(&self) -> bool {
        matches!(self.facts.report, Report::Queued(_))
    }

    /// Replaces a report that waits to be sent by what a later snapshot says of it.
    pub(super) fn refresh_report(&mut self, snapshot: ReportSnapshot) {
        if self.has_queued_report() {
            self.facts.report = Report::from_snapshot(snapshot);
        }
    }

    /// Returns the report that waits to be sent. One that the upstream would no longer accept is given up.
    pub(super) fn take_queued_report(&mut self, now: Moment, options: &Options) -> Option<(TaskRef, Verdict)> {
        let Report::Queued(verdict) = self.facts.report else { return None };
        if !self.may_be_reported(now, options) {
            self.facts.report = Report::OutcomeUnknown;
            return None;
        }
        Some((self.facts.task(self.facts.native.clone()?), verdict))
    }

    /// Ends a report that was sent again. Returns whether it must be sent once more.
    pub(super) fn end_queued_report(&mut self, verdict: Verdict, result: &Result<(), Failure>) -> bool {
        self.facts.report = match result {
            // An earlier attempt arrived.
            Ok(()) | Err(Failure::ReportDuplicate) => Report::Recorded(verdict),
            Err(failure) if is_transient(failure) => return true,
            Err(_) => Report::OutcomeUnknown,
        };
        false
    }

    /// Whether the upstream still accepts a report: services of this kind do for some time after the answer.
    fn may_be_reported(&self, now: Moment, options: &Options) -> bool {
        let State::Settled(_) = self.facts.state else { return true };
        let age_ms = options.answer_ttl_ms.saturating_sub(self.facts.expires.millis_since(now));
        age_ms <= options.report_window_ms
    }

    fn settle(&mut self, outcome: &Outcome, now: Moment, options: &Options) {
        self.facts.state = State::Settled(outcome.clone());
        self.facts.expires = now.after_ms(options.answer_ttl_ms);
    }
}

/// Whether the same report may succeed later.
fn is_transient(failure: &Failure) -> bool {
    matches!(failure, Failure::NotSent | Failure::Unavailable | Failure::OutcomeUnknown | Failure::NoProviders)
}

/// Returns the moment that the pacing chooses for the next poll of an open task.
fn next_poll(open: &Open, now: Moment, options: &Options, estimate: &Estimate) -> Moment {
    let age_ms = open.accepted.age_ms(now);
    open.accepted.moment_at_age_ms(next_poll_age_ms(age_ms, open.polls_used, estimate, &options.pacing))
}
