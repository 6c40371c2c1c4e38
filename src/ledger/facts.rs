//! The persistent facts of a record: all that a store must keep of a task.

use std::sync::Arc;

use super::pacing::Estimate;
use super::types::PollResult;
use crate::domain::{Account, Failure, LegacyId, Moment, NativeId, Outcome, Solved, TaskRef, UpstreamId, Verdict};
use crate::methods::{self, Method};
use crate::store::snapshot::{NativeIdSnapshot, ReportSnapshot, RestoreError, StateSnapshot, TaskSnapshot, UnixOrigin};

/// The persistent facts of one record.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) account: Account,
    pub(super) method: &'static Method,
    pub(super) native: Option<NativeId>,
    /// URL at which the client wants to receive the answer.
    pub(super) pingback: Option<Box<str>>,
    /// When the record is forgotten or, unbound, counts as unsolvable.
    pub(super) expires: Moment,
    pub(super) state: State,
    pub(super) report: Report,
    pub(super) upstream: UpstreamId,
}

/// A record goes from unbound to open to settled, or from unbound to group or settled; never back.
#[derive(Debug)]
pub(super) enum State {
    /// Submitted; the native id is not known yet, or will never be.
    Unbound,
    /// Accepted by the upstream and polled.
    Open(Open),
    /// Joins the answers of these tasks.
    Group(Arc<[LegacyId]>),
    /// Final.
    Settled(Outcome),
}

/// The facts of an open task.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) accepted: AcceptedAt,
    /// Age at which a poll last found the task not ready, in milliseconds.
    not_ready_age_ms: u32,
    /// Polls of the upstream so far.
    pub(super) polls_used: u16,
    /// Age at which the upstream first answered that it does not know the task, in seconds rounded up; [`KNOWN`] if it
    /// has not, or has known the task since. Volatile. Seconds, because two bytes cost no memory here.
    unknown_age_s: u16,
}

/// Later than any age of an open task.
const KNOWN: u16 = u16::MAX;

/// When the upstream accepted a task, in milliseconds since the [clock](crate::clock) started. Negative if an earlier
/// process submitted the task.
#[derive(Clone, Copy, Debug)]
pub(super) struct AcceptedAt(i64);

/// State of the report on a task. Without a store, a report is sent upstream at most once; with one, until its outcome is
/// known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Report {
    None,
    /// Sent for the only time, while its client waits.
    Sent,
    /// Sent for the first time, while its client waits. If the process ends, the next one sends it again.
    Sending(Verdict),
    /// Acknowledged, and in the outbox.
    Queued(Verdict),
    OutcomeUnknown,
    Recorded(Verdict),
}

impl Report {
    pub(super) fn from_snapshot(snapshot: ReportSnapshot) -> Self {
        match snapshot {
            ReportSnapshot::None => Self::None,
            // The process ended before it learned the outcome.
            ReportSnapshot::Sent | ReportSnapshot::OutcomeUnknown => Self::OutcomeUnknown,
            ReportSnapshot::Good => Self::Recorded(Verdict::Good),
            ReportSnapshot::Bad => Self::Recorded(Verdict::Bad),
            ReportSnapshot::QueuedGood => Self::Queued(Verdict::Good),
            ReportSnapshot::QueuedBad => Self::Queued(Verdict::Bad),
        }
    }
}

impl AcceptedAt {
    /// Returns the moment, or this one if it is later: the clock of an earlier process may have been ahead.
    pub(super) fn at_most(self, now: Moment) -> Self {
        Self(self.0.min(i64::try_from(now.0).unwrap_or(i64::MAX)))
    }

    pub(super) fn age_ms(self, now: Moment) -> u64 {
        now.0.saturating_add_signed(self.0.saturating_neg())
    }

    /// Returns the moment at which the task reaches this age.
    pub(super) fn moment_at_age_ms(self, age_ms: u64) -> Moment {
        Moment(age_ms.saturating_add_signed(self.0))
    }
}

impl Open {
    pub(super) fn new(accepted: Moment) -> Self {
        let accepted = AcceptedAt(i64::try_from(accepted.0).unwrap_or(i64::MAX));
        Self { accepted, not_ready_age_ms: 0, polls_used: 0, unknown_age_s: KNOWN }
    }

    /// Notes the result of a flight, and learns from it how long tasks of the method take.
    pub(super) fn note_result(&mut self, result: &PollResult, started: Moment, now: Moment, estimate: &mut Estimate) {
        // A call that was not sent cost the task none of its polls.
        if *result != Err(Failure::NotSent) {
            self.polls_used = self.polls_used.saturating_add(1);
        }
        match result {
            Ok(Outcome::NotReady) => {
                self.not_ready_age_ms = u32::try_from(self.accepted.age_ms(started)).unwrap_or(u32::MAX);
            }
            Ok(Outcome::Solved(solved)) => estimate.record(self.took_ms(solved, now)),
            // The time of a failed task says nothing about that of a solved one.
            Ok(Outcome::Failed(_)) | Err(_) => {}
        }
    }

    /// Returns the result of a flight, or a failure if the upstream has not known the task for less than
    /// `unknown_after_ms`. The upstream has accepted the task, so this may be a replica that lags behind.
    pub(super) fn doubt_unknown(&mut self, result: PollResult, now: Moment, unknown_after_ms: u64) -> PollResult {
        match &result {
            Ok(Outcome::Failed(Failure::TaskUnknown)) => {
                let age_ms = self.accepted.age_ms(now);
                let rounded_s = u16::try_from(age_ms.div_ceil(1_000)).unwrap_or(KNOWN - 1);
                self.unknown_age_s = self.unknown_age_s.min(rounded_s);
                let unknown_ms = age_ms.saturating_sub(u64::from(self.unknown_age_s) * 1_000);
                if unknown_ms < unknown_after_ms { Err(Failure::Unavailable) } else { result }
            }
            Ok(_) => {
                self.unknown_age_s = KNOWN;
                result
            }
            Err(_) => result,
        }
    }

    /// Whether [`Open::doubt_unknown`] would replace this outcome.
    pub(super) fn is_doubtful(&self, outcome: &Outcome, now: Moment, unknown_after_ms: u64) -> bool {
        if *outcome != Outcome::Failed(Failure::TaskUnknown) {
            return false;
        }
        let age_ms = self.accepted.age_ms(now);
        let unknown_since_ms = if self.unknown_age_s == KNOWN { age_ms } else { u64::from(self.unknown_age_s) * 1_000 };
        age_ms.saturating_sub(unknown_since_ms) < unknown_after_ms
    }

    /// Returns how long the task took: the upstream's figure, if it is plausible. Otherwise the midpoint between
    /// the last poll that found the task not ready and the first that found it ready, because any time in between
    /// is equally likely.
    fn took_ms(&self, solved: &Solved, now: Moment) -> u64 {
        let age_ms = self.accepted.age_ms(now);
        let midpoint_ms = u64::from(self.not_ready_age_ms).midpoint(age_ms);
        solved.took_ms.filter(|took_ms| *took_ms <= age_ms).unwrap_or(midpoint_ms)
    }
}

impl Facts {
    pub(super) fn task(&self, native: NativeId) -> TaskRef {
        TaskRef { account: self.account.clone(), upstream: self.upstream, native, method: self.method }
    }

    pub(super) fn to_snapshot(&self, id: LegacyId, origin: UnixOrigin) -> TaskSnapshot {
        self.to_snapshot_with(id, self.state_snapshot(origin), self.expires, origin)
    }

    /// Returns a snapshot as if the task were settled with this outcome.
    pub(super) fn to_settled_snapshot(
        &self,
        id: LegacyId,
        outcome: &Outcome,
        expires: Moment,
        origin: UnixOrigin,
    ) -> TaskSnapshot {
        self.to_snapshot_with(id, StateSnapshot::from_outcome(outcome), expires, origin)
    }

    fn state_snapshot(&self, origin: UnixOrigin) -> StateSnapshot {
        match &self.state {
            State::Unbound => StateSnapshot::Unbound,
            State::Open(Open { accepted, not_ready_age_ms, polls_used, unknown_age_s: _ }) => StateSnapshot::Open {
                accepted_unix_ms: origin.unix_ms_from_start(accepted.0),
                not_ready_age_ms: *not_ready_age_ms,
                polls_used: *polls_used,
            },
            State::Group(members) => StateSnapshot::Group { members: members.iter().map(|member| member.0).collect() },
            State::Settled(outcome) => StateSnapshot::from_outcome(outcome),
        }
    }

    fn to_snapshot_with(
        &self,
        id: LegacyId,
        state: StateSnapshot,
        expires: Moment,
        origin: UnixOrigin,
    ) -> TaskSnapshot {
        TaskSnapshot {
            legacy_id: id.0,
            account_key: self.account.reveal().to_owned(),
            method: self.method.name.to_owned(),
            upstream: self.upstream.0,
            native_id: self.native.as_ref().map(NativeIdSnapshot::from_native),
            pingback: self.pingback.as_deref().map(str::to_owned),
            state,
            report: match self.report {
                Report::None => ReportSnapshot::None,
                Report::Sent => ReportSnapshot::Sent,
                Report::OutcomeUnknown => ReportSnapshot::OutcomeUnknown,
                Report::Recorded(Verdict::Good) => ReportSnapshot::Good,
                Report::Recorded(Verdict::Bad) => ReportSnapshot::Bad,
                Report::Sending(Verdict::Good) | Report::Queued(Verdict::Good) => ReportSnapshot::QueuedGood,
                Report::Sending(Verdict::Bad) | Report::Queued(Verdict::Bad) => ReportSnapshot::QueuedBad,
            },
            expires_unix_ms: origin.to_unix_ms(expires),
        }
    }

    /// Restores the facts, expired or not.
    ///
    /// # Errors
    /// [`RestoreError`] if the snapshot cannot be read.
    pub(super) fn from_snapshot(
        snapshot: TaskSnapshot,
        methods: &methods::Table,
        origin: UnixOrigin,
    ) -> Result<Self, RestoreError> {
        let account = Account::new(&snapshot.account_key).map_err(|_| RestoreError::MalformedKey)?;
        let row = methods.rows().iter().find(|row| row.name == snapshot.method).copied();
        let method = row.ok_or(RestoreError::UnknownMethod(snapshot.method))?;
        let state = match snapshot.state {
            StateSnapshot::Unbound => State::Unbound,
            StateSnapshot::Open { accepted_unix_ms, not_ready_age_ms, polls_used } => {
                let accepted = AcceptedAt(origin.ms_since_start(accepted_unix_ms));
                State::Open(Open { accepted, not_ready_age_ms, polls_used, unknown_age_s: KNOWN })
            }
            StateSnapshot::Group { members } => State::Group(members.into_iter().map(LegacyId).collect()),
            StateSnapshot::Solved(solved) => State::Settled(solved.into_outcome(method)),
            StateSnapshot::Failed(failure) => State::Settled(Outcome::Failed(failure.into_failure()?)),
        };
        let report = Report::from_snapshot(snapshot.report);
        Ok(Self {
            account,
            method,
            native: snapshot.native_id.map(NativeIdSnapshot::into_native),
            pingback: snapshot.pingback.map(String::into_boxed_str),
            expires: origin.to_moment(snapshot.expires_unix_ms),
            state,
            report,
            upstream: UpstreamId(snapshot.upstream),
        })
    }
}
