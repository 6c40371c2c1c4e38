//! What a request asked for and how it ended, as labels of metrics and of the access log: closed sets, so that nothing
//! that a client sent can reach either.

use crate::domain::{Failure, OpResult, Outcome};
use crate::ledger::PollSource;
use crate::legacy::codes;
use crate::legacy::{ReplyContext, Script};

/// Labels of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestLabels {
    /// The script; `None` for any other path.
    pub script: Option<Script>,
    /// What the request asked for.
    pub action: Action,
    /// Row of the method table, on a submit.
    pub method: Option<&'static str>,
    /// How the request ended.
    pub outcome: OutcomeLabel,
    /// Where the answer of a poll came from.
    pub source: Option<PollSource>,
}

impl RequestLabels {
    /// Label of the script: `in`, `res` or `none`.
    pub fn script_label(&self) -> &'static str {
        match self.script {
            Some(Script::In) => "in",
            Some(Script::Res) => "res",
            None => "none",
        }
    }
}

/// What a request asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// An operation of the legacy API, or what was recognized of one.
    Legacy(ReplyContext),
    /// A CORS preflight.
    Preflight,
    /// Nothing that is served: an unknown path or an unsupported verb.
    None,
}

impl Action {
    /// Name for metrics and logs.
    pub fn label(self) -> &'static str {
        match self {
            Self::Legacy(context) => context.label(),
            Self::Preflight => "preflight",
            Self::None => "none",
        }
    }
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutcomeLabel {
    /// The operation succeeded.
    Ok,
    /// The task has no answer yet.
    NotReady,
    /// The legacy code of a failure.
    Code(&'static str),
    /// No operation was run.
    None,
}

impl OutcomeLabel {
    /// Returns the label of a result.
    pub(super) fn of(result: &Result<OpResult, Failure>, context: ReplyContext) -> Self {
        match result {
            Ok(OpResult::Polled(Outcome::NotReady)) => Self::NotReady,
            Ok(OpResult::Polled(Outcome::Failed(failure))) | Err(failure) => Self::Code(codes::label(failure, context)),
            Ok(_) => Self::Ok,
        }
    }

    /// Name for metrics and logs.
    pub fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::NotReady => "not_ready",
            Self::Code(code) => code,
            Self::None => "none",
        }
    }
}
