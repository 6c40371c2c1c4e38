//! A task as plain, serialisable data. Times are Unix milliseconds, because [`Moment`] is relative to the start of
//! a process.
//!
//! `domain` knows no wire format, so its types are converted by hand. The order of fields and variants is the stored
//! format (`codec.rs`): a change makes stored tasks unreadable.
//!
//! The serialised form contains the account's key and the answer. `Debug` shows neither.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::domain::{Failure, LegacyId, Moment, NativeId, Outcome, Solved};
use crate::methods::{Method, Payload, Value};

/// The Unix time at which the [clock](crate::clock) of this process started: converts between [`Moment`] and Unix
/// milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnixOrigin(i64);

impl UnixOrigin {
    /// Computes the origin from the same instant on both clocks.
    pub fn new(now: Moment, now_unix_ms: u64) -> Self {
        Self(saturating_i64(now_unix_ms).saturating_sub(saturating_i64(now.0)))
    }

    /// Converts a moment to Unix milliseconds.
    pub fn to_unix_ms(self, moment: Moment) -> u64 {
        self.unix_ms_from_start(saturating_i64(moment.0))
    }

    /// Converts Unix milliseconds to a moment; zero if the time is before the start of the process.
    pub fn to_moment(self, unix_ms: u64) -> Moment {
        Moment(u64::try_from(self.ms_since_start(unix_ms)).unwrap_or(0))
    }

    /// Converts milliseconds since the start of the process, which may be negative, to Unix milliseconds.
    pub(crate) fn unix_ms_from_start(self, since_start_ms: i64) -> u64 {
        u64::try_from(self.0.saturating_add(since_start_ms)).unwrap_or(0)
    }

    /// Returns the milliseconds from the start of the process to a Unix time; negative if the time is earlier.
    pub(crate) fn ms_since_start(self, unix_ms: u64) -> i64 {
        saturating_i64(unix_ms).saturating_sub(self.0)
    }
}

fn saturating_i64(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The persistent facts of one record.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskSnapshot {
    /// Id that the client knows.
    pub legacy_id: u64,
    /// API key of the account.
    pub account_key: String,
    /// Name of the row of the method table.
    pub method: String,
    /// Number of the upstream.
    pub upstream: u16,
    /// Id that the upstream knows, once it is known.
    pub native_id: Option<NativeIdSnapshot>,
    /// URL to notify of the answer.
    pub pingback: Option<String>,
    /// State of the task.
    pub state: StateSnapshot,
    /// State of the report on the task.
    pub report: ReportSnapshot,
    /// When the record is forgotten or, unbound, counts as unsolvable.
    pub expires_unix_ms: u64,
}

impl fmt::Debug for TaskSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A pingback URL may carry a secret of the client.
        f.debug_struct("TaskSnapshot")
            .field("legacy_id", &self.legacy_id)
            .field("method", &self.method)
            .field("upstream", &self.upstream)
            .field("native_id", &self.native_id)
            .field("state", &self.state)
            .field("report", &self.report)
            .field("expires_unix_ms", &self.expires_unix_ms)
            .finish_non_exhaustive()
    }
}

/// Recent solve times of a method.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SolveTimesSnapshot {
    /// Name of the row of the method table.
    pub method: String,
    /// Weights of the bins of a histogram.
    pub weights: Vec<f32>,
    /// Their total.
    pub total: f64,
}

/// The upstream's id of a task, in the JSON type in which the upstream sent it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NativeIdSnapshot {
    /// A number.
    Number(u64),
    /// A text.
    Text(String),
}

impl NativeIdSnapshot {
    pub(crate) fn from_native(native: &NativeId) -> Self {
        native.as_number().map_or_else(|| Self::Text(native.to_string()), Self::Number)
    }

    pub(crate) fn into_native(self) -> NativeId {
        match self {
            Self::Number(number) => NativeId::from_number(number),
            Self::Text(text) => NativeId::new(&text),
        }
    }
}

/// State of a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StateSnapshot {
    /// Submitted; its native id is not known.
    Unbound,
    /// Accepted by the upstream and polled.
    Open {
        /// When the upstream accepted the task.
        accepted_unix_ms: u64,
        /// Age at which a poll last found it not ready, in milliseconds.
        not_ready_age_ms: u32,
        /// Polls of the upstream so far.
        polls_used: u16,
    },
    /// Joins the answers of other tasks.
    Group {
        /// Legacy ids of those tasks.
        members: Vec<u64>,
    },
    /// Final: an answer.
    Solved(SolvedSnapshot),
    /// Final: a failure.
    Failed(FailureSnapshot),
}

impl StateSnapshot {
    pub(crate) fn from_outcome(outcome: &Outcome) -> Self {
        match outcome {
            // Never final, so a record is never settled with it.
            Outcome::NotReady => Self::Unbound,
            Outcome::Solved(solved) => Self::Solved(SolvedSnapshot::from_solved(solved)),
            Outcome::Failed(failure) => Self::Failed(FailureSnapshot::from_failure(failure)),
        }
    }
}

/// State of the report on a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReportSnapshot {
    /// Not reported.
    None,
    /// A report is in progress.
    Sent,
    /// A report was sent, and its outcome is unknown.
    OutcomeUnknown,
    /// Reported as good.
    Good,
    /// Reported as bad.
    Bad,
    /// Acknowledged as good, and to be sent.
    QueuedGood,
    /// Acknowledged as bad, and to be sent.
    QueuedBad,
}

/// A final answer. Opaque, so that nothing prints it.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct SolvedSnapshot {
    payload: PayloadSnapshot,
    extras: Vec<(String, String)>,
    cost: Option<String>,
    took_ms: Option<u64>,
}

impl fmt::Debug for SolvedSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SolvedSnapshot(redacted)")
    }
}

impl SolvedSnapshot {
    fn from_solved(solved: &Solved) -> Self {
        let extras = solved.extras.iter().map(|(name, text)| ((*name).to_owned(), text.clone()));
        Self {
            payload: PayloadSnapshot::from_payload(&solved.payload),
            extras: extras.collect(),
            cost: solved.cost.clone(),
            took_ms: solved.took_ms,
        }
    }

    /// Restores the answer to a task of this method. Omits an extra that the row no longer lists.
    pub(crate) fn into_outcome(self, method: &'static Method) -> Outcome {
        let extras = self.extras.into_iter().filter_map(|(stored, text)| {
            let listed = method.extras.iter().find(|(_, legacy)| *legacy == stored);
            listed.map(|(_, legacy)| (*legacy, text))
        });
        Outcome::Solved(Arc::new(Solved {
            extras: extras.collect(),
            payload: self.payload.into_payload(),
            cost: self.cost,
            took_ms: self.took_ms,
        }))
    }
}

#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum PayloadSnapshot {
    Text(String),
    Structure(ValueSnapshot),
    Composed { text: String, json: ValueSnapshot },
}

impl PayloadSnapshot {
    fn from_payload(payload: &Payload) -> Self {
        match payload {
            Payload::Text(text) => Self::Text(text.clone()),
            Payload::Structure(value) => Self::Structure(ValueSnapshot::from_value(value)),
            Payload::Composed { text, json } => {
                Self::Composed { text: text.clone(), json: ValueSnapshot::from_value(json) }
            }
        }
    }

    fn into_payload(self) -> Payload {
        match self {
            Self::Text(text) => Payload::Text(text),
            Self::Structure(value) => Payload::Structure(value.into_value()),
            Self::Composed { text, json } => Payload::Composed { text, json: json.into_value() },
        }
    }
}

/// A value in which numbers keep their text and members their order, unlike in a JSON value.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ValueSnapshot {
    Null,
    Flag(bool),
    Number(String),
    Text(String),
    List(Vec<ValueSnapshot>),
    Record(Vec<(String, ValueSnapshot)>),
}

impl ValueSnapshot {
    fn from_value(value: &Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Flag(flag) => Self::Flag(*flag),
            Value::Number(digits) => Self::Number(digits.clone()),
            Value::Text(text) => Self::Text(text.clone()),
            Value::List(items) => Self::List(items.iter().map(Self::from_value).collect()),
            Value::Record(members) => {
                Self::Record(members.iter().map(|(name, value)| (name.clone(), Self::from_value(value))).collect())
            }
        }
    }

    fn into_value(self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Flag(flag) => Value::Flag(flag),
            Self::Number(digits) => Value::Number(digits),
            Self::Text(text) => Value::Text(text),
            Self::List(items) => Value::List(items.into_iter().map(Self::into_value).collect()),
            Self::Record(members) => {
                Value::Record(members.into_iter().map(|(name, value)| (name, value.into_value())).collect())
            }
        }
    }
}

/// A failure by its stable name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureSnapshot {
    /// A failure of the domain.
    Named(String),
    /// A legacy code that is passed through.
    Code(String),
}

/// Generates both directions from one list, so that neither can miss a failure.
macro_rules! failure_names {
    ($($failure:ident = $name:literal,)*) => {
        impl FailureSnapshot {
            fn from_failure(failure: &Failure) -> Self {
                Self::Named(String::from(match failure {
                    $(Failure::$failure => $name,)*
                    // Only decoding a request names a parameter, so a record never holds this failure.
                    Failure::Parameter(_) => "parameters",
                    Failure::Other(code) => return Self::Code(String::from(code.as_ref())),
                }))
            }

            /// Restores the failure.
            ///
            /// # Errors
            /// [`RestoreError::UnknownFailure`].
            pub(crate) fn into_failure(self) -> Result<Failure, RestoreError> {
                match self {
                    Self::Code(code) => Ok(Failure::Other(code.into())),
                    Self::Named(name) => match name.as_str() {
                        $($name => Ok(Failure::$failure),)*
                        _ => Err(RestoreError::UnknownFailure(name)),
                    }
                }
            }
        }

        #[cfg(test)]
        const NAMED_FAILURES: &[Failure] = &[$(Failure::$failure),*];
    };
}

failure_names! {
    KeyMalformed = "key_malformed",
    KeyUnknown = "key_unknown",
    ZeroBalance = "zero_balance",
    AddressRefused = "address_refused",
    ActionMissing = "action_missing",
    ActionUnknown = "action_unknown",
    MethodUnknown = "method_unknown",
    Parameters = "parameters",
    PageUrl = "page_url",
    SiteKeyMissing = "site_key_missing",
    SiteKey = "site_key",
    ProxyFormat = "proxy_format",
    ProxyBad = "proxy_bad",
    Upload = "upload",
    ImageTooSmall = "image_too_small",
    ImageTooBig = "image_too_big",
    ImageType = "image_type",
    IdMalformed = "id_malformed",
    TaskUnknown = "task_unknown",
    Unsolvable = "unsolvable",
    TaskUnsupported = "task_unsupported",
    NoProviders = "no_providers",
    NotSent = "not_sent",
    Unavailable = "unavailable",
    OutcomeUnknown = "outcome_unknown",
    ReportDuplicate = "report_duplicate",
    ReportRefused = "report_refused",
}

/// Why a task was not restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RestoreError {
    /// The record has expired.
    Expired,
    /// A record of this id exists.
    Taken(LegacyId),
    /// The method table has no row of this name.
    UnknownMethod(String),
    /// No failure has this name.
    UnknownFailure(String),
    /// The account's key is malformed.
    MalformedKey,
}

impl fmt::Display for RestoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expired => f.write_str("the task has expired"),
            Self::Taken(id) => write!(f, "legacy id {id} is in use"),
            Self::UnknownMethod(name) => write!(f, "unknown method {name:?}"),
            Self::UnknownFailure(name) => write!(f, "unknown failure {name:?}"),
            Self::MalformedKey => f.write_str("malformed account key"),
        }
    }
}

impl std::error::Error for RestoreError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failure_survives_a_round_trip() {
        let code = Failure::Other("ERROR_SOMETHING".into());
        for failure in NAMED_FAILURES.iter().chain([&code]) {
            let snapshot = FailureSnapshot::from_failure(failure);
            let text = serde_json::to_string(&snapshot).expect("serialisable");
            let read: FailureSnapshot = serde_json::from_str(&text).expect("deserialisable");
            assert_eq!(read.into_failure().as_ref(), Ok(failure));
        }
    }

    #[test]
    fn an_unknown_failure_is_named_in_the_error() {
        let error = FailureSnapshot::Named("melted".into()).into_failure().expect_err("unknown");
        assert_eq!(error.to_string(), "unknown failure \"melted\"");
    }

    #[test]
    fn moments_and_unix_times_convert_both_ways() {
        let origin = UnixOrigin::new(Moment(5_000), 1_700_000_005_000);
        assert_eq!(origin.to_unix_ms(Moment(7)), 1_700_000_000_007);
        assert_eq!(origin.to_moment(1_700_000_000_007), Moment(7));
        assert_eq!(origin.to_moment(1_699_999_999_999), Moment(0));
        assert_eq!(origin.ms_since_start(1_699_999_999_999), -1);
        assert_eq!(origin.unix_ms_from_start(-1), 1_699_999_999_999);
    }
}
