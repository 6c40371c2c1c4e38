//! Labels of a request for metrics and the access log. All values are from closed sets, so that nothing a client sends
//! can reach either.

use crate::domain::{Failure, OpResult, Outcome};
use crate::ledger::PollSource;
use crate::legacy::codes;
use crate::legacy::{ReplyContext, Script};

/// Labels of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestLabels {
    /// The script; `None` for any other path.
    pub script: Option<Script>,
    /// The requested action.
    pub action: Action,
    /// Row of the method table, on a submit.
    pub method: Option<&'static str>,
    /// How the request ended.
    pub outcome: OutcomeLabel,
    /// Source of a poll's answer.
    pub source: Option<PollSource>,
}

impl RequestLabels {
    /// Returns the label of the script: `in`, `res` or `none`.
    pub fn script_label(&self) -> &'static str {
        match self.script {
            Some(Script::In) => "in",
            Some(Script::Res) => "res",
            None => "none",
        }
    }
}

/// The action that a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// An operation of the legacy API, as far as it could be decoded.
    Legacy(ReplyContext),
    /// A CORS preflight.
    Preflight,
    /// None: the path is unknown or the verb unsupported.
    None,
}

impl Action {
    /// Returns the name for metrics and logs.
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

    /// Returns the name for metrics and logs.
    pub fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::NotReady => "not_ready",
            Self::Code(code) => code,
            Self::None => "none",
        }
    }
}
