//! Types that the files of the ledger share, and that its users see.

use std::sync::Arc;

use tokio::sync::watch;

use super::pacing::Pacing;
use crate::domain::{Failure, LegacyId, Moment, Outcome, TaskRef, Verdict};

/// Bounds and lifetimes. `conf/capgate.toml` contains the defaults and their reasons.
#[derive(Clone, Debug)]
pub struct Options {
    /// Schedule of the upstream polls, which determines how long "not ready" is answered from memory.
    pub pacing: Pacing,
    /// Pause after a failed flight before the next; polls are answered "not ready" from memory meanwhile.
    pub trouble_ttl_ms: u64,
    /// How long the upstream must answer that it does not know a task before this is final.
    pub unknown_after_ms: u64,
    /// How long after a result stops being fresh a frequent client gets "not ready" at once, while a flight
    /// refreshes the record.
    pub stale_ms: u64,
    /// Longest time since the last poll of a client that counts as frequent.
    pub recent_ms: u64,
    /// How long a task may stay open before it is forgotten.
    pub open_ttl_ms: u64,
    /// How long a final answer is kept.
    pub answer_ttl_ms: u64,
    /// How long a submit without a known outcome reads as not ready before it counts as unsolvable.
    pub unbound_ttl_ms: u64,
    /// How long after the answer the upstream accepts a report.
    pub report_window_ms: u64,
    /// Most records.
    pub records_max: usize,
    /// Most records of one account, so that none can fill the ledger for the others.
    pub account_records_max: usize,
    /// Bytes of records and answers above which submits are refused.
    pub bytes_max: usize,
    /// Most flights at once.
    pub flights_max: usize,
    /// Most requests that wait for one flight.
    pub followers_max: usize,
}

/// Result of a poll, whether from memory or from a flight. Of a flight, a failure is not about the task: it is a failed
/// call, and the task stays open.
pub type PollResult = Result<Outcome, Failure>;

/// A receiver of a flight's result.
pub type FlightReceiver = watch::Receiver<Option<PollResult>>;

/// How a poll was answered, for metrics and logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PollSource {
    /// From memory.
    Hit,
    /// From memory, while a flight refreshes the record.
    Stale,
    /// By a flight that was in progress.
    Follow,
    /// By a flight that this poll started.
    Miss,
    /// The task does not exist.
    Unknown,
}

impl PollSource {
    /// Every source.
    pub const ALL: [Self; 5] = [Self::Hit, Self::Stale, Self::Follow, Self::Miss, Self::Unknown];

    /// Returns the label for metrics and logs.
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

/// Reply to a poll.
#[derive(Debug)]
pub enum PollReply {
    /// A result, and how it was obtained. The result is [`Failure::TaskUnknown`] if the account has no such task.
    Answer(PollResult, PollSource),
    /// The task is a group: its members must be polled instead.
    Group(Arc<[LegacyId]>),
}

impl PollReply {
    /// The account has no such task.
    pub(super) const UNKNOWN: Self = Self::Answer(Err(Failure::TaskUnknown), PollSource::Unknown);
    /// "Not ready" from memory.
    pub(super) const NOT_READY: Self = Self::Answer(Ok(Outcome::NotReady), PollSource::Hit);
    /// "Not ready" from memory, although a flight may already know better.
    pub(super) const STALE: Self = Self::Answer(Ok(Outcome::NotReady), PollSource::Stale);
}

/// The action that a poll requires.
#[derive(Debug)]
pub enum Admit {
    /// Reply from memory.
    Reply(PollReply),
    /// Reply [`PollReply::STALE`], and start a flight in the background.
    Refresh(FlightTicket),
    /// Wait for the flight in progress.
    Follow(FlightReceiver),
    /// Start a flight, for this poll and all followers.
    Lead(FlightTicket),
}

/// A ticket that obliges its holder to poll the upstream and to complete the flight; see
/// [`super::Table::complete_flight`].
#[derive(Debug)]
pub struct FlightTicket {
    /// The task to poll.
    pub task: TaskRef,
    /// Number of the flight.
    pub flight: u64,
    /// Receives the result, as for every follower.
    pub receiver: FlightReceiver,
}

/// Why a record was not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotOpened {
    /// The id is in use: try another.
    Taken,
    /// A bound is reached.
    Full,
}

/// Size of the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LedgerStats {
    /// Records.
    pub records: usize,
    /// Bytes charged for records and answers.
    pub bytes: usize,
    /// Flights in progress.
    pub flights: usize,
    /// Requests that wait for a flight, its leader included. Zero in [`super::Table::stats`]; only
    /// [`super::Table::recount`] counts them.
    pub waiting: usize,
    /// Accounts with a record.
    pub accounts: usize,
}

/// What became of the tasks of an earlier process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RestoreStats {
    /// Tasks that are known again.
    pub restored: u64,
    /// Tasks that have expired.
    pub expired: u64,
    /// Tasks that could not be read.
    pub unreadable: u64,
}

/// A report that was acknowledged, and is sent again.
#[derive(Debug)]
pub struct QueuedReport {
    /// The task.
    pub id: LegacyId,
    /// The task, as the upstream knows it.
    pub task: TaskRef,
    /// The client's verdict.
    pub verdict: Verdict,
    /// Attempts that have failed.
    pub attempts: u32,
}

/// The next step of the loop that sends reports again.
#[derive(Debug)]
pub enum NextQueuedReport {
    /// Send this report now.
    Send(QueuedReport),
    /// The upstream accepts no report on this task any more, or the task is gone.
    GivenUp(LegacyId),
    /// Nothing is due before this moment.
    At(Moment),
    /// Nothing waits.
    Idle,
}

/// The next step of the prefetch loop, which polls tasks of frequent clients ahead of them.
#[derive(Debug)]
pub enum NextPrefetch {
    /// Start this flight now.
    Start(LegacyId, FlightTicket),
    /// Nothing is due before this moment.
    At(Moment),
    /// Nothing is scheduled until a task is bound or a flight completes.
    Idle,
}
