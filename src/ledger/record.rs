//! One task: what it knows, and what becomes of a poll, a landing or a report. [`super::table`] holds all of them.
//!
//! A record goes from unbound (submitted, its native id not known yet) to open (polled) to settled (final), never back.

use std::sync::Arc;

use tokio::sync::watch;

use super::table::{Moment, Options};
use crate::methods::Method;
use crate::op::{Account, Failure, LegacyId, NativeId, Outcome, TaskRef, Verdict};

/// What a flight brings home.
pub type Landing = Result<Outcome, Failure>;

/// Where a follower hears of a landing.
pub type Wake = watch::Receiver<Option<Landing>>;

/// The duty to ask.
#[derive(Debug)]
pub struct Lead {
    /// What to ask for.
    pub task: TaskRef,
    /// Number of the flight, for [`super::table::Table::land`].
    pub flight: u64,
    /// Where the one who leads hears of the landing, like every follower.
    pub wake: Wake,
}

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

#[derive(Debug)]
struct Open {
    /// Until when the last flight's word is answered from memory.
    fresh_until: Moment,
    /// That word, where it is a refusal and not "not ready".
    refused: Option<Failure>,
    flight: Option<Flight>,
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
    Recorded(Verdict),
}

/// What a record is charged beyond its answer: itself, its places in the map and the queue, and its native id.
const RECORD_BYTES: usize = size_of::<Record>() + 2 * size_of::<(Moment, LegacyId)>() + 56;

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

    pub(super) fn bytes(&self) -> usize {
        let answer = match &self.state {
            State::Settled(Outcome::Solved(solved)) => solved.bytes(),
            State::Group(members) => members.len() * size_of::<LegacyId>(),
            _ => 0,
        };
        RECORD_BYTES + answer + self.pingback.as_ref().map_or(0, |url| url.len())
    }

    /// Requests that wait for its flight, if it has one.
    pub(super) fn waiting(&self) -> Option<usize> {
        match &self.state {
            State::Open(Open { flight: Some(flight), .. }) => Some(flight.wake.receiver_count()),
            _ => None,
        }
    }

    pub(super) fn bind(&mut self, native: NativeId, now: Moment, options: &Options) {
        if matches!(self.state, State::Unbound) {
            self.native = Some(native);
            self.expires = now.after_ms(options.open_ttl_ms);
            self.state = State::Open(Open { fresh_until: now, refused: None, flight: None });
        }
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

    /// Decides what becomes of a poll. `take_off` grants a flight its number, or not.
    pub(super) fn admit(&mut self, now: Moment, options: &Options, take_off: impl FnOnce() -> Option<u64>) -> Admit {
        let open = match &mut self.state {
            State::Unbound => return Admit::Recent(Ok(Outcome::NotReady)),
            State::Settled(outcome) => return Admit::Settled(outcome.clone()),
            State::Group(members) => return Admit::Group(Arc::clone(members)),
            State::Open(open) => open,
        };
        if let Some(flight) = &open.flight {
            if flight.wake.receiver_count() >= options.followers_max {
                return Admit::Recent(Ok(Outcome::NotReady));
            }
            return Admit::Follow(flight.wake.subscribe());
        }
        if now < open.fresh_until {
            return Admit::Recent(open.refused.clone().map_or(Ok(Outcome::NotReady), Err));
        }
        let granted = self.native.clone().and_then(|native| Some((native, take_off()?)));
        let Some((native, number)) = granted else {
            return Admit::Recent(Ok(Outcome::NotReady));
        };
        let (sender, wake) = watch::channel(None);
        open.flight = Some(Flight { number, wake: sender });
        let task = TaskRef { account: self.account.clone(), native, method: self.method };
        Admit::Lead(Lead { task, flight: number, wake })
    }

    /// Ends a flight: notes what it brought, then wakes everybody who waits. `false`: it is not the flight under way.
    ///
    /// Trouble is not remembered as an answer, but it costs the same pause as "not ready", so that an upstream in
    /// trouble is not asked at the speed of its clients.
    pub(super) fn land(&mut self, number: u64, landing: Landing, now: Moment, options: &Options) -> bool {
        let State::Open(open) = &mut self.state else {
            return false;
        };
        let Some(landed) = open.flight.take_if(|flight| flight.number == number) else {
            return false;
        };
        open.fresh_until = now.after_ms(options.not_ready_ttl_ms);
        open.refused = None;
        match &landing {
            Ok(Outcome::NotReady) | Err(Failure::Shed | Failure::Unavailable | Failure::FateUnknown) => {}
            Err(failure) => open.refused = Some(failure.clone()),
            Ok(outcome) => self.settle(outcome, now, options),
        }
        landed.wake.send_replace(Some(landing));
        true
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
            Report::FateUnknown => return Err(Failure::ReportRefused),
        }
        Ok(Some(TaskRef { account: self.account.clone(), native, method: self.method }))
    }

    /// Ends a report. One that was refused, or never sent, may be made again.
    pub(super) fn end_report(&mut self, verdict: Verdict, result: &Result<(), Failure>) {
        self.report = match result {
            Ok(()) => Report::Recorded(verdict),
            Err(Failure::FateUnknown) => Report::FateUnknown,
            Err(_) => Report::None,
        };
    }

    fn settle(&mut self, outcome: &Outcome, now: Moment, options: &Options) {
        self.state = State::Settled(outcome.clone());
        self.expires = now.after_ms(options.answer_ttl_ms);
    }
}
