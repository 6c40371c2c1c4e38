//! Priority classes of calls, and the reasons to deny a call.

use crate::native::Endpoint;

/// Priority class of a call, highest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// A submit: costs a client money and work if it fails.
    Submit,
    /// A report.
    Report,
    /// A balance.
    Balance,
    /// A poll: the client repeats it anyway.
    Poll,
}

impl From<Endpoint> for Class {
    fn from(endpoint: Endpoint) -> Self {
        match endpoint {
            Endpoint::CreateTask => Self::Submit,
            Endpoint::FeedbackTask => Self::Report,
            Endpoint::GetBalance => Self::Balance,
            Endpoint::GetTaskResult => Self::Poll,
        }
    }
}

impl Class {
    /// All classes.
    pub const ALL: [Self; 4] = [Self::Submit, Self::Report, Self::Balance, Self::Poll];

    /// Returns the label in metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Submit => "submit",
            Self::Report => "report",
            Self::Balance => "balance",
            Self::Poll => "poll",
        }
    }

    /// Returns the fraction of the bucket that this class leaves to the classes above it.
    pub(super) fn reserve(self) -> f64 {
        match self {
            Self::Submit => 0.0,
            Self::Report => 0.05,
            Self::Balance => 0.1,
            Self::Poll => 0.2,
        }
    }
}

/// Why a call is denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// The upstream answered 429, or reported no remaining requests, and the pause is not over.
    Paused,
    /// No token is left for the class.
    Rate,
    /// Tokens are short, and the account has used its share.
    Share,
    /// Too many concurrent calls.
    Calls,
    /// Too many concurrent calls of the account.
    AccountCalls,
}

impl Denied {
    /// All reasons.
    pub const ALL: [Self; 5] = [Self::Paused, Self::Rate, Self::Share, Self::Calls, Self::AccountCalls];

    /// Returns the label in metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Paused => "paused",
            Self::Rate => "rate",
            Self::Share => "share",
            Self::Calls => "calls",
            Self::AccountCalls => "account_calls",
        }
    }
}
