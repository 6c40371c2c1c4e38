//! The vocabulary that both dialects share: accounts, ids, tasks, outcomes and failures.
//!
//! The legacy and the native dialect meet here and nowhere else. This module knows no JSON, no HTTP and no wire code:
//! wire structs live in their dialect and are converted by hand, so that neither dialect's quirks spread.

use std::fmt;
use std::sync::Arc;

use uuid::Uuid;

use crate::methods::{Kind, Method, Payload, Value};

/// Longest accepted API key, in bytes. uCaptcha's own keys have 37 characters (its authentication page), 2captcha's 32;
/// the rest is headroom.
const KEY_BYTES_MAX: usize = 128;

/// The owner of a task: one API key of the upstream. Compared as a whole, never by hash, so that no account reaches
/// another account's task.
///
/// Never printed: `Debug` writes a placeholder, there is no `Display`, and only [`Account::reveal`] returns the raw
/// key.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Account(Arc<str>);

impl Account {
    /// Checks a key as a client sent it.
    ///
    /// # Errors
    /// [`Failure::KeyMalformed`] if the key is empty, longer than [`KEY_BYTES_MAX`], or contains a character outside
    /// printable ASCII. No service of this kind issues such keys, so the upstream call would be wasted.
    pub fn new(key: &str) -> Result<Self, Failure> {
        let fits = (1..=KEY_BYTES_MAX).contains(&key.len());
        if fits && key.bytes().all(|byte| byte.is_ascii_graphic()) {
            Ok(Self(Arc::from(key)))
        } else {
            Err(Failure::KeyMalformed)
        }
    }

    /// Returns the raw key. Called only where a native call is encoded, where `capgate translate` masks one, and where
    /// a record becomes a snapshot for a store.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Account(redacted)")
    }
}

/// A point in time, in milliseconds since the start of the [clock](crate::clock). Monotonic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub u64);

impl Moment {
    /// Returns the moment `milliseconds` later.
    #[must_use]
    pub fn after_ms(self, milliseconds: u64) -> Self {
        Self(self.0.saturating_add(milliseconds))
    }

    /// Returns the milliseconds since an earlier moment; zero if it is later.
    #[must_use]
    pub fn millis_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// The id under which a legacy client knows a task. Issued by the gateway, because the native id is a UUID and legacy
/// ids are integers (2captcha docs: digits only; python-rucaptcha and others call `int`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LegacyId(pub u64);

impl fmt::Display for LegacyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The upstream's id of a task; opaque to the gateway. Every id of uCaptcha seen so far is a UUID, which is stored as its
/// sixteen bytes, because the ledger may hold a million of them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NativeId(NativeIdRepr);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum NativeIdRepr {
    /// A UUID in uCaptcha's spelling: 36 characters, lower case.
    Uuid([u8; 16]),
    /// Any other text, which must be sent back unchanged.
    Text(Arc<str>),
    /// A number, which must be sent back as one.
    Number(u64),
}

impl NativeId {
    /// Stores an id in the upstream's spelling.
    pub fn new(text: &str) -> Self {
        let uuid = Uuid::try_parse(text).ok().map(|uuid| Self(NativeIdRepr::Uuid(uuid.into_bytes())));
        let unchanged = uuid.filter(|uuid| uuid.to_string() == text);
        unchanged.unwrap_or_else(|| Self(NativeIdRepr::Text(Arc::from(text))))
    }

    /// Stores an id that the upstream writes as a number (2captcha, CapMonster).
    pub fn from_number(number: u64) -> Self {
        Self(NativeIdRepr::Number(number))
    }

    /// Returns an id that the upstream writes as a number.
    pub fn as_number(&self) -> Option<u64> {
        match self.0 {
            NativeIdRepr::Number(number) => Some(number),
            NativeIdRepr::Uuid(_) | NativeIdRepr::Text(_) => None,
        }
    }
}

impl fmt::Display for NativeId {
    /// Writes the id in the upstream's spelling.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            NativeIdRepr::Uuid(bytes) => Uuid::from_bytes(*bytes).fmt(f),
            NativeIdRepr::Text(text) => f.write_str(text),
            NativeIdRepr::Number(number) => number.fmt(f),
        }
    }
}

/// The number of a configured upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct UpstreamId(pub u16);

impl UpstreamId {
    /// The only upstream so far.
    pub const DEFAULT: Self = Self(0);
}

/// A task of an upstream, as a poll or a report addresses it.
#[derive(Clone, Debug)]
pub struct TaskRef {
    /// Owner of the task.
    pub account: Account,
    /// The upstream that accepted the task.
    pub upstream: UpstreamId,
    /// The upstream's id of the task.
    pub native: NativeId,
    /// The row of the method table under which the task was submitted.
    pub method: &'static Method,
}

/// The operation that a request asks for.
#[derive(Clone, Debug)]
pub enum Op {
    /// Submit a task, or several if the client sent several images to be solved one by one. Their answers are joined.
    Submit(Vec<Task>),
    /// Return the outcome of one task.
    Poll(LegacyId),
    /// Return the outcomes of several tasks. A malformed id keeps its place in the list.
    PollMany(Vec<Result<LegacyId, Failure>>),
    /// Report whether an answer was accepted.
    Report(LegacyId, Verdict),
    /// Return the account's balance.
    Balance,
    /// Return the list of error codes.
    ListErrors,
}

/// A task to submit: a row of the method table and its fields under their native names.
#[derive(Clone, Debug)]
pub struct Task {
    /// The row.
    pub method: &'static Method,
    /// Native field path (dots descend into nested records) and value, in the order of the row.
    pub fields: Vec<(&'static str, Value)>,
    /// `type://user:password@host:port`. Only set if the row takes a proxy.
    pub proxy: Option<String>,
    /// Provider selection.
    pub routing: Routing,
    /// URL at which the client wants to receive the answer. Kept with the task.
    pub pingback: Option<Box<str>>,
}

impl Task {
    /// Returns the approximate heap size, in bytes.
    pub fn size_bytes(&self) -> usize {
        self.fields.iter().map(|(_, value)| value.size_bytes() + size_of::<Value>()).sum()
    }

    /// Replaces the legacy id of an earlier task by what `native` returns for it. Omits the field if that is `None`.
    pub fn resolve_previous(&mut self, native: impl Fn(LegacyId) -> Option<Value>) {
        let method = self.method;
        for param in method.params.iter().filter(|param| param.kind == Kind::PreviousTask) {
            let Some(at) = self.fields.iter().position(|(name, _)| *name == param.native) else { continue };
            let id = self.fields.get(at).and_then(|(_, value)| value.scalar()?.parse().ok());
            match (id.map(LegacyId).and_then(&native), self.fields.get_mut(at)) {
                (Some(resolved), Some((_, value))) => *value = resolved,
                _ => drop(self.fields.remove(at)),
            }
        }
    }
}

/// uCaptcha's own options of a submit (createTask page). The legacy protocol has no equivalent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routing {
    /// `autoCheapest`, `autoFastest`, `autoMostReliable` or `priority`.
    pub selection_mode: Option<String>,
    /// Name of a provider.
    pub provider: Option<String>,
}

/// The client's report on a solution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The target site accepted the solution.
    Good,
    /// The target site rejected the solution.
    Bad,
}

/// The outcome of a task, as a poll returns it.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// No answer yet.
    NotReady,
    /// Final: the answer. Shared, because every follower and every later poll gets the same one.
    Solved(Arc<Solved>),
    /// Final: the task failed.
    Failed(Failure),
}

/// The answer of a solved task.
#[derive(Clone, Debug, PartialEq)]
pub struct Solved {
    /// The solution.
    pub payload: Payload,
    /// Additional JSON members next to the solution, such as `useragent`.
    pub extras: Vec<(&'static str, String)>,
    /// Price in USD as decimal text without an exponent, if the upstream sent one.
    pub cost: Option<String>,
    /// Solve time in milliseconds, if the upstream sent one.
    pub took_ms: Option<u64>,
}

impl Solved {
    /// Returns the approximate size of this answer in memory, in bytes. The ledger counts it against its limit.
    pub fn size_bytes(&self) -> usize {
        let extras: usize = self.extras.iter().map(|(_, text)| text.len() + 48).sum();
        self.payload.size_bytes() + extras + self.cost.as_ref().map_or(0, String::len) + 96
    }
}

/// A task that the upstream accepted. At least one of the two fields is set.
#[derive(Clone, Debug, PartialEq)]
pub struct CreatedTask {
    /// The upstream's id of the task.
    pub native: Option<NativeId>,
    /// The outcome, if the upstream returned it at once (images, pre-solved tokens).
    pub outcome: Option<Outcome>,
}

/// The result of a successful operation.
#[derive(Clone, Debug, PartialEq)]
pub enum OpResult {
    /// Result of a submit: the new task's id.
    Submitted(LegacyId),
    /// Result of a poll.
    Polled(Outcome),
    /// Results of a poll of several ids, in the order of the request.
    PolledMany(Vec<Result<Outcome, Failure>>),
    /// The report was recorded.
    Reported,
    /// The account's balance, in USD.
    Balance(f64),
    /// The list of error codes.
    Errors,
}

/// Why a request failed. Every variant has a legacy code in every reply context (`legacy::codes`), and none contains a
/// key or a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The key is missing or malformed.
    KeyMalformed,
    /// The upstream does not know the key.
    KeyUnknown,
    /// The account's balance is zero.
    ZeroBalance,
    /// The upstream refuses the gateway's IP address.
    AddressRefused,
    /// `action` is missing.
    ActionMissing,
    /// `action` is unknown.
    ActionUnknown,
    /// `method` is unknown.
    MethodUnknown,
    /// A parameter is missing, contradictory or malformed. Names it, for logs and `capgate translate`.
    Parameter(&'static str),
    /// The upstream rejects a parameter without naming it in a way that legacy clients know.
    Parameters,
    /// `pageurl` is missing or not an absolute http(s) URL.
    PageUrl,
    /// `googlekey` is missing.
    SiteKeyMissing,
    /// The site key is malformed, or the upstream rejects it.
    SiteKey,
    /// The proxy is malformed.
    ProxyFormat,
    /// The proxy does not work.
    ProxyBad,
    /// The image is missing or cannot be decoded.
    Upload,
    /// The image is smaller than any captcha.
    ImageTooSmall,
    /// The image exceeds the size limit.
    ImageTooBig,
    /// The image has an unsupported type.
    ImageType,
    /// The id is missing or not a number.
    IdMalformed,
    /// The task is unknown, has expired, or belongs to another account. Clients cannot tell these apart.
    TaskUnknown,
    /// No worker could solve the task.
    Unsolvable,
    /// The upstream does not support the type of this task.
    TaskUnsupported,
    /// No provider can take the task now.
    NoProviders,
    /// The request certainly had no effect: the upstream refused it because of load, the gateway did so on its behalf,
    /// or nothing could be sent.
    NotSent,
    /// The upstream sent no usable answer. A submit was certainly not accepted.
    Unavailable,
    /// A submit or a report was sent, and whether the upstream accepted it is unknown.
    OutcomeUnknown,
    /// The task was reported before.
    ReportDuplicate,
    /// The upstream rejected the report.
    ReportRefused,
    /// An upstream code with the legacy prefix and no variant here; passed through. Matches `ERROR_[A-Z0-9_]{1,60}`.
    Other(Box<str>),
}
