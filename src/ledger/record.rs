//! One task: what it knows, and what becomes of a poll, a landing or a report. [`super::table`] holds all of them.
//!
//! A record goes from unbound (submitted, its native id not known yet) to open (polled) to settled (final), never back.
//!
//! There may be a million of them: what few records need is boxed.

use std::sync::Arc;

use tokio::sync::watch;

use super::open::Open;
use super::pacing::{Estimate, next_ask_ms};
use super::table::{Moment, Options};
use crate::domain::{Account, Failure, LegacyId, NativeId, Outcome, TaskRef, Verdict};
use crate::methods::Method;

/// What a flight brings home.
pub type PollResult = Result<Outcome, Failure>;

/// Where a follower hears of a landing.
pub type FlightReceiver = watch::Receiver<Option<PollResult>>;

/// The duty to ask.
#[derive(Debug)]
pub struct FlightTicket {
    /// What to ask for.
    pub task: TaskRef,
    /// Number of the flight, for [`super::table::Table::land`].
    pub flight: u64,
    /// Where the one who leads hears of the landing, like every follower.
    pub wake: FlightReceiver,
}

/// What a poll finds.
#[derive(Debug)]
pub enum Admit {
    /// No such task for this account.
    Unknown,
    /// Answer from memory: not ready, or the refusal that the upstream gave a moment ago.
    Recent(PollResult),
    /// Answer "not ready" from memory: the upstream's word is a little old, and somebody asks behind.
    Stale,
    /// The same, and the caller must ask behind.
    Refresh(FlightTicket),
    /// Answer from memory, for good.
    Settled(Outcome),
    /// Somebody asks already: wait here.
    Follow(FlightReceiver),
    /// The caller must ask, for itself and all who follow.
    Lead(FlightTicket),
    /// It stands for these: ask for each of them.
    Group(Arc<[LegacyId]>),
}

/// One task.
#[derive(Debug)]
pub(super) struct Record {
    account: Account,
    method: &'static Method,
    native: Option<NativeId>,
    /// Where the client wants to be told of the answer.
    pingback: Option<Box<str>>,
    /// When it is forgotten or, unbound, counts as unsolvable.
    pub(super) expires: Moment,
    /// Under which moment it stands in the table's queue; never later than `expires`.
    pub(super) queued: Moment,
    state: State,
    report: Report,
}

#[derive(Debug)]
enum State {
    /// Submitted, but what the upstream calls it is not known yet, or may never be.
    Unbound,
    /// The upstream works on it.
    Open(Open),
    /// Stands for several tasks, whose answers are joined.
    Group(Arc<[LegacyId]>),
    /// Final.
    Settled(Outcome),
}

/// How far a report on the task has got. A report is sent upstream at most once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Report {
    None,
    Sent,
    OutcomeUnknown,
    Recorded(Verdict),
}

/// What a record is charged beyond its answer: itself with its allocation, and its places in the map and the two queues,
/// which are half empty at their worst. `cargo bench --bench records` compares it with what is really allocated.
pub(super) const RECORD_BYTES: usize = size_of::<Record>() + 16 + 2 * 17 + 4 * size_of::<(Moment, LegacyId)>();

/// How a flight ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Landed {
    /// It is not the flight under way.
    Overtaken,
    /// It may be asked again, from this moment on.
    Open(Moment),
    /// It brought the final answer.
    Settled,
}

impl Record {
    pub(super) fn new(account: Account, method: &'static Method, now: Moment, options: &Options) -> Self {
        let expires = now.after_ms(options.unbound_ttl_ms);
        let (state, report) = (State::Unbound, Report::None);
        let pingback = None;
        Self { account, method, native: None, pingback, expires, queued: expires, state, report }
    }

    pub(super) fn pingback(&self) -> Option<&str> {
        self.pingback.as_deref()
    }

    pub(super) fn set_pingback(&mut self, pingback: Box<str>) {
        self.pingback = Some(pingback);
    }

    pub(super) fn account(&self) -> &Account {
        &self.account
    }

    pub(super) fn method(&self) -> &'static Method {
        self.method
    }

    pub(super) fn bytes(&self) -> usize {
        let answer = match &self.state {
            State::Settled(Outcome::Solved(solved)) => solved.size_bytes(),
            State::Group(members) => members.len() * size_of::<LegacyId>(),
            _ => 0,
        };
        RECORD_BYTES + answer + self.pingback.as_ref().map_or(0, |url| url.len())
    }

    /// Requests that wait for its flight, if it has one.
    pub(super) fn waiting(&self) -> Option<usize> {
        match &self.state {
            State::Open(open) => open.waiting(),
            _ => None,
        }
    }

    /// Notes what the upstream calls it. The moment from which on it may be asked for, unless it no longer waits for a
    /// name.
    pub(super) fn bind(
        &mut self,
        native: NativeId,
        now: Moment,
        options: &Options,
        estimate: &Estimate,
    ) -> Option<Moment> {
        if !matches!(self.state, State::Unbound) {
            return None;
        }
        self.native = Some(native);
        self.expires = now.after_ms(options.open_ttl_ms);
        let fresh_until = now.after_ms(next_ask_ms(0, 0, estimate, &options.pacing));
        self.state = State::Open(Open::new(now, fresh_until));
        Some(fresh_until)
    }

    /// Settles a record that still waits for the upstream's word on its submit.
    pub(super) fn settle_unbound(
        &mut self,
        native: Option<NativeId>,
        outcome: &Outcome,
        now: Moment,
        options: &Options,
    ) {
        if matches!(self.state, State::Unbound) {
            self.native = native;
            self.settle(outcome, now, options);
        }
    }

    /// Makes an unbound record stand for others, each a task of its own.
    pub(super) fn group(&mut self, members: Arc<[LegacyId]>, now: Moment, options: &Options) {
        if matches!(self.state, State::Unbound) {
            self.state = State::Group(members);
            // As long as its members can live: open first, then settled.
            self.expires = now.after_ms(options.open_ttl_ms.saturating_add(options.answer_ttl_ms));
        }
    }

    /// The records that it stands for.
    pub(super) fn members(&self) -> Option<Arc<[LegacyId]>> {
        match &self.state {
            State::Group(members) => Some(Arc::clone(members)),
            _ => None,
        }
    }

    /// Whether it is still there. An unbound record whose time is up counts as unsolvable from now on, so that its client
    /// submits anew; any other is forgotten.
    pub(super) fn lives(&mut self, now: Moment, options: &Options) -> bool {
        if self.expires <= now && matches!(self.state, State::Unbound) {
            self.settle(&Outcome::Failed(Failure::Unsolvable), now, options);
        }
        self.expires > now
    }

    /// What becomes of a poll that changes nothing but when was asked last: most of them. Nothing, where it may have to
    /// begin or to follow a flight, or the record's time is up.
    pub(super) fn try_answer(&self, now: Moment, options: &Options) -> Option<Admit> {
        if self.expires <= now {
            return None;
        }
        match &self.state {
            State::Unbound => Some(Admit::Recent(Ok(Outcome::NotReady))),
            State::Settled(outcome) => Some(Admit::Settled(outcome.clone())),
            State::Group(members) => Some(Admit::Group(Arc::clone(members))),
            State::Open(open) => open.try_answer(now, options),
        }
    }

    /// Decides what becomes of a poll. `take_off` grants a flight its number, or not.
    pub(super) fn admit(&mut self, now: Moment, options: &Options, take_off: impl FnOnce() -> Option<u64>) -> Admit {
        if let Some(admit) = self.try_answer(now, options) {
            return admit;
        }
        let State::Open(open) = &mut self.state else {
            return Admit::Unknown;
        };
        let may_be_stale = open.is_asked(now, options);
        if let Some(admit) = open.follow(options) {
            return admit;
        }
        match self.lead(now, take_off) {
            None => Admit::Recent(Ok(Outcome::NotReady)),
            Some(lead) if may_be_stale => Admit::Refresh(lead),
            Some(lead) => Admit::Lead(lead),
        }
    }

    /// The duty to ask behind for a task whose clients ask often, once it is no longer fresh, so that none of them has to
    /// begin a flight.
    pub(super) fn refresh(
        &mut self,
        now: Moment,
        options: &Options,
        take_off: impl FnOnce() -> Option<u64>,
    ) -> Option<FlightTicket> {
        match &self.state {
            State::Open(open) if open.wants_refresh(now, options) => self.lead(now, take_off),
            _ => None,
        }
    }

    /// Begins a flight, if one is granted.
    fn lead(&mut self, now: Moment, take_off: impl FnOnce() -> Option<u64>) -> Option<FlightTicket> {
        let native = self.native.clone()?;
        let State::Open(open) = &mut self.state else { return None };
        let flight = take_off()?;
        let wake = open.begin(flight, now);
        let task = TaskRef { account: self.account.clone(), native, method: self.method };
        Some(FlightTicket { task, flight, wake })
    }

    /// Ends a flight: notes what it brought, then wakes everybody who waits.
    pub(super) fn land(
        &mut self,
        number: u64,
        landing: PollResult,
        now: Moment,
        options: &Options,
        estimate: &mut Estimate,
    ) -> Landed {
        let State::Open(open) = &mut self.state else {
            return Landed::Overtaken;
        };
        let Some(landed) = open.land(number, &landing, now, options, estimate) else {
            return Landed::Overtaken;
        };
        let end = match &landing {
            Ok(outcome) if *outcome != Outcome::NotReady => {
                self.settle(outcome, now, options);
                Landed::Settled
            }
            _ => Landed::Open(landed.again),
        };
        landed.wake.send_replace(Some(landing));
        end
    }

    /// Begins a report; see [`super::table::Table::begin_report`].
    pub(super) fn begin_report(&mut self, verdict: Verdict) -> Result<Option<TaskRef>, Failure> {
        let Some(native) = self.native.clone() else {
            return Err(Failure::ReportRefused);
        };
        match self.report {
            Report::None => self.report = Report::Sent,
            Report::Recorded(recorded) if recorded == verdict => return Ok(None),
            Report::Sent | Report::Recorded(_) => return Err(Failure::ReportDuplicate),
            Report::OutcomeUnknown => return Err(Failure::ReportRefused),
        }
        Ok(Some(TaskRef { account: self.account.clone(), native, method: self.method }))
    }

    /// Ends a report. One that was refused, or never sent, may be made again.
    pub(super) fn end_report(&mut self, verdict: Verdict, result: &Result<(), Failure>) {
        self.report = match result {
            Ok(()) => Report::Recorded(verdict),
            Err(Failure::OutcomeUnknown) => Report::OutcomeUnknown,
            Err(_) => Report::None,
        };
    }

    fn settle(&mut self, outcome: &Outcome, now: Moment, options: &Options) {
        self.state = State::Settled(outcome.clone());
        self.expires = now.after_ms(options.answer_ttl_ms);
    }
}
