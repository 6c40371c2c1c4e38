//! The domain's words: what a client asks for, what came back, and why not.
//!
//! The legacy and the native dialect meet here and nowhere else. Nothing in this module knows JSON, HTTP or a wire
//! code; wire structs live in their dialect and are converted by hand, so that neither dialect's habits leak inward.

use std::fmt;
use std::sync::Arc;

use uuid::Uuid;

use crate::methods::{Method, Payload, Value};

/// Longest API key that is taken for one, in bytes. uCaptcha's own keys have 37 characters (its authentication page),
/// 2captcha's 32; the rest is room.
pub const KEY_BYTES_MAX: usize = 128;

/// Who asks: one API key of the upstream. Compared as a whole, never by hash, so that no account meets another's task.
///
/// Never printed: `Debug` shows a placeholder, there is no `Display`, and the raw key leaves through [`Account::reveal`].
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Account(Arc<str>);

impl Account {
    /// Takes a key as a client sent it.
    ///
    /// # Errors
    /// [`Failure::KeyMalformed`] when it is empty, longer than [`KEY_BYTES_MAX`], or holds a character outside of
    /// printable ASCII: no service of this kind issues such keys, so asking the upstream would only cost a call.
    pub fn new(key: &str) -> Result<Self, Failure> {
        let fits = (1..=KEY_BYTES_MAX).contains(&key.len());
        if fits && key.bytes().all(|byte| byte.is_ascii_graphic()) {
            Ok(Self(Arc::from(key)))
        } else {
            Err(Failure::KeyMalformed)
        }
    }

    /// The raw key, for the one place that encodes a native call.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Account(redacted)")
    }
}

/// A moment, in milliseconds since the [clock](crate::clock) was started. Monotonic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub u64);

impl Moment {
    /// This long after.
    #[must_use]
    pub fn after_ms(self, milliseconds: u64) -> Self {
        Self(self.0.saturating_add(milliseconds))
    }

    /// Milliseconds since an earlier moment.
    #[must_use]
    pub fn millis_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// The number that a legacy client knows a task by. Issued here, since several clients parse it as an integer and the
/// native id is a UUID (2captcha docs: digits only; python-rucaptcha and others call `int`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LegacyId(pub u64);

impl fmt::Display for LegacyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The id that the upstream gave a task: opaque to us. A UUID so far, which is kept as its sixteen bytes, since there is
/// one for each of a million tasks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NativeId(Native);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Native {
    /// Written as uCaptcha writes it: 36 characters, lower case.
    Uuid([u8; 16]),
    /// Anything else, which must come back to the letter.
    Text(Arc<str>),
}

impl NativeId {
    /// Takes an id as the upstream wrote it.
    pub fn new(text: &str) -> Self {
        let uuid = Uuid::try_parse(text).ok();
        let native = uuid.map(|uuid| Self(Native::Uuid(uuid.into_bytes()))).filter(|native| native.to_string() == text);
        native.unwrap_or_else(|| Self(Native::Text(Arc::from(text))))
    }
}

impl fmt::Display for NativeId {
    /// As the upstream wrote it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Native::Uuid(bytes) => Uuid::from_bytes(*bytes).fmt(f),
            Native::Text(text) => f.write_str(text),
        }
    }
}

/// What the flight of a poll needs to know of its task.
#[derive(Clone, Debug)]
pub struct TaskRef {
    /// Whose task it is.
    pub account: Account,
    /// What the upstream calls it.
    pub native: NativeId,
    /// The row of the method table that it was submitted under.
    pub method: &'static Method,
}

/// One request, understood: who asks for what.
#[derive(Clone, Debug)]
pub enum Op {
    /// Submit a task; several where the client sent several images to be solved one by one, with answers joined.
    Submit(Vec<Task>),
    /// Ask for one answer.
    Poll(LegacyId),
    /// Ask for several answers at once; a malformed id keeps its place in the list.
    PollMany(Vec<Result<LegacyId, Failure>>),
    /// Say how good an answer was.
    Report(LegacyId, Verdict),
    /// Ask for the money left.
    Balance,
    /// Ask for the codes that there are.
    ListErrors,
}

/// What a submit asks to be solved: a row of the method table and its fields under their native names.
#[derive(Clone, Debug)]
pub struct Task {
    /// The row.
    pub method: &'static Method,
    /// Native field path (dots descend into nested records) and value, in the order of the row.
    pub fields: Vec<(&'static str, Value)>,
    /// `type://user:password@host:port`, only where the row takes a proxy.
    pub proxy: Option<String>,
    /// How the upstream chooses who solves it.
    pub routing: Routing,
    /// Where the client wants to be told of the answer; kept with the task.
    pub pingback: Option<Box<str>>,
}

/// uCaptcha's own options of a submit (createTask page), which no legacy client knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routing {
    /// `autoCheapest`, `autoFastest`, `autoMostReliable` or `priority`.
    pub selection_mode: Option<String>,
    /// A provider by name.
    pub provider: Option<String>,
}

/// Whether the target site took the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It did.
    Good,
    /// It did not.
    Bad,
}

/// What is known of a task that was polled.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// No answer yet.
    NotReady,
    /// Final: an answer. Shared, since every follower and every later poll gets the same one.
    Solved(Arc<Solved>),
    /// Final: there will be no answer, and why.
    Failed(Failure),
}

/// A final answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Solved {
    /// The answer itself.
    pub payload: Payload,
    /// Members that stand beside the answer in JSON, such as `useragent`.
    pub extras: Vec<(&'static str, String)>,
    /// Price in USD as decimal text without an exponent, where the upstream told it.
    pub cost: Option<String>,
    /// How long it took in milliseconds, where the upstream told it.
    pub took_ms: Option<u64>,
}

impl Solved {
    /// Bytes that this answer keeps allocated, roughly: what the ledger charges for it.
    pub fn bytes(&self) -> usize {
        let extras: usize = self.extras.iter().map(|(_, text)| text.len() + 48).sum();
        self.payload.bytes() + extras + self.cost.as_ref().map_or(0, String::len) + 96
    }
}

/// How the upstream took a submit. At least one of the two is there.
#[derive(Clone, Debug, PartialEq)]
pub struct Accepted {
    /// What it calls the task.
    pub native: Option<NativeId>,
    /// Its answer, where it gave one at once (images, pre-solved tokens).
    pub outcome: Option<Outcome>,
}

/// What a request achieved.
#[derive(Clone, Debug, PartialEq)]
pub enum OpResult {
    /// A submit got this id.
    Submitted(LegacyId),
    /// A poll found this.
    Polled(Outcome),
    /// A poll of several ids found these, in the order asked.
    PolledMany(Vec<Result<Outcome, Failure>>),
    /// A report was taken down.
    Reported,
    /// The money left, in USD.
    Balance(f64),
    /// The codes that there are.
    Errors,
}

/// Why not. Each one has a rendering on every script and action (`legacy::codes`), and none carries a key or a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The key is missing or cannot be one.
    KeyMalformed,
    /// The upstream does not know the key.
    KeyUnknown,
    /// The account has no money.
    ZeroBalance,
    /// The upstream refuses the address that we call from.
    AddressRefused,
    /// `action` is missing.
    ActionMissing,
    /// `action` is none that we know.
    ActionUnknown,
    /// `method` is none that we know.
    MethodUnknown,
    /// A parameter is missing, contradicts itself or cannot be read. Names it, for logs and `capgate translate`.
    Parameter(&'static str),
    /// The upstream calls a parameter bad without saying which in a way that legacy clients know.
    Parameters,
    /// `pageurl` is missing or no absolute http(s) URL.
    PageUrl,
    /// `googlekey` is missing.
    SiteKeyMissing,
    /// The site key cannot be one, or the upstream refuses it.
    SiteKey,
    /// The proxy cannot be read.
    ProxyFormat,
    /// The proxy does not work.
    ProxyBad,
    /// No image came, or it cannot be decoded.
    Upload,
    /// The image is smaller than any captcha.
    ImageTooSmall,
    /// The image is larger than the service takes.
    ImageTooBig,
    /// The bytes are none of the image types that the service takes.
    ImageType,
    /// The id is missing or not a number.
    IdMalformed,
    /// No such task: unknown, forgotten, or another account's, which nobody can tell apart.
    TaskUnknown,
    /// Nobody could solve it.
    Unsolvable,
    /// The upstream has no such kind of task.
    TaskUnsupported,
    /// Nobody can take the task now.
    NoProviders,
    /// The upstream, or we for it, refuse for load; or nothing could be sent. Surely nothing was taken.
    NotSent,
    /// The upstream did not answer in a way that can be used. On a submit: it surely did not accept.
    Unavailable,
    /// A submit or a report was sent and its fate is unknown.
    OutcomeUnknown,
    /// A report was made before.
    ReportDuplicate,
    /// The upstream did not take the report.
    ReportRefused,
    /// A code with the legacy prefix that we have no word for: passed through. Checked to be `ERROR_[A-Z0-9_]{1,60}`.
    Other(Box<str>),
}
