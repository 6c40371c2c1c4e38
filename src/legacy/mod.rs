//! The legacy dialect: 2captcha's `in.php` and `res.php`. Pure: bytes in, bytes out.
//!
//! | script | what is asked | where |
//! |---|---|---|
//! | `in.php` | submit one task: `method=` and its parameters | [`submit`] |
//! | `res.php` | `action=get`, `get2` (with the price), `get` with `ids=` | [`decode`] |
//! | `res.php` | `action=getbalance`, `reportgood`, `reportbad` | [`decode`] |
//!
//! [`decode`] turns an [`Inbound`] into a [`Request`]; [`render`] words the result. Every answer has HTTP status 200,
//! refusals included, because clients take any other status for a network fault (2captcha-python polls on until its
//! timeout, 2captcha-go and 2captcha-ruby give up). `json=1` asks for JSON, and even a refusal is worded in it.

pub mod codes;
pub mod form;
mod image;
mod multipart;
mod reply;
mod submit;

pub use form::{Form, FormLimits};
pub use reply::{Reply, preflight, render};
pub use submit::{SELECTION_MODES, SubmitLimits};

use crate::domain::{Account, Failure, LegacyId, Op, Verdict};
use crate::http::Inbound;
use crate::methods;

/// Bounds on what is decoded.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bounds on the form.
    pub form: FormLimits,
    /// What may be submitted.
    pub submit: SubmitLimits,
    /// Most ids in one `ids=`.
    pub ids_max: usize,
}

/// The two scripts of the legacy service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Script {
    /// `in.php`: submits.
    In,
    /// `res.php`: everything else.
    Res,
}

impl Script {
    /// The script that a path names. Slashes in front may be doubled, which several clients do when they join a base
    /// address and a path; nothing else is forgiven, so that a filter before the gateway sees what the gateway sees.
    pub fn of(path: &str) -> Option<Self> {
        if !path.starts_with('/') {
            return None;
        }
        match path.trim_start_matches('/') {
            "in.php" => Some(Self::In),
            "res.php" => Some(Self::Res),
            _ => None,
        }
    }
}

/// How a client wants its answer worded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// Which part of the protocol is answered: it decides what a failure is called.
    pub place: ReplyContext,
    /// Text or JSON.
    pub notation: Notation,
    /// Whether a browser of any origin may read the answer (`header_acao=1`).
    pub open_to_browsers: bool,
}

/// Text or JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notation {
    /// `OK|…` or a bare code.
    Text,
    /// `{"status":…,"request":…}`.
    Json,
}

/// The parts of the protocol that word failures and answers differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyContext {
    /// `in.php`.
    Submit,
    /// `res.php`, `action=get`.
    Get,
    /// `res.php`, `action=get2`: the answer with its price.
    GetWithPrice,
    /// `res.php`, `action=get` with `ids=`.
    GetMany,
    /// `res.php`, `action=reportgood` and `reportbad`.
    Report,
    /// `res.php`, `action=getbalance`.
    Balance,
    /// `res.php` without an action that we know.
    UnknownAction,
}

impl ReplyContext {
    /// Name for metrics and logs: a closed set.
    pub fn label(self) -> &'static str {
        match self {
            Self::Submit => "submit",
            Self::Get => "get",
            Self::GetWithPrice => "get2",
            Self::GetMany => "ids",
            Self::Report => "report",
            Self::Balance => "getbalance",
            Self::UnknownAction => "none",
        }
    }
}

/// A request, understood as far as it could be.
#[derive(Clone, Debug)]
pub struct Request {
    /// How to answer; known even where the request is refused.
    pub style: Style,
    /// Who asks for what, or why it cannot be done.
    pub meaning: Result<(Account, Op), Failure>,
    /// How many parameters mean nothing here.
    pub unknown: usize,
}

/// Understands a request.
pub fn decode(script: Script, inbound: &Inbound, limits: &Limits) -> Request {
    let (form, readable) = Form::read(inbound, &limits.form);
    let is_set = |name| form.get(name).is_some_and(methods::is_true);
    let style = Style {
        place: place(script, &form),
        notation: if is_set("json") { Notation::Json } else { Notation::Text },
        open_to_browsers: is_set("header_acao"),
    };
    let meaning = readable.and_then(|()| mean(style.place, &form, limits));
    // Without a row it cannot be said what belongs to it.
    let method = match &meaning {
        Ok((_, Op::Submit(tasks))) => tasks.first().map(|task| task.method),
        _ => None,
    };
    let unknown = method.map_or(0, |method| form.names().filter(|name| !submit::knows(method, name)).count());
    Request { style, meaning, unknown }
}

fn place(script: Script, form: &Form) -> ReplyContext {
    if script == Script::In {
        return ReplyContext::Submit;
    }
    match form.get("action").map(str::trim) {
        Some("get") if form.get("id").is_none() && form.get("ids").is_some() => ReplyContext::GetMany,
        Some("get") => ReplyContext::Get,
        Some("get2") => ReplyContext::GetWithPrice,
        Some("reportgood" | "reportbad") => ReplyContext::Report,
        Some("getbalance") => ReplyContext::Balance,
        _ => ReplyContext::UnknownAction,
    }
}

fn mean(place: ReplyContext, form: &Form, limits: &Limits) -> Result<(Account, Op), Failure> {
    // One request that names two keys, tasks or actions is a mistake or an attack: whoever looked at it before us may
    // have seen the other one.
    for name in ["key", "action", "id", "method"] {
        if form.contradicts(name) {
            return Err(Failure::Parameter(name));
        }
    }
    let key = form.get("key").unwrap_or_default();
    if place == ReplyContext::Submit && form.get("method") == Some("get_server_errors") {
        // Nobody's business but the gateway's: a key is not asked for (2captcha docs), and none is used.
        return Account::new(if key.is_empty() { "none" } else { key }).map(|account| (account, Op::ListErrors));
    }
    let account = Account::new(key)?;
    let op = match place {
        ReplyContext::Submit => Op::Submit(submit::decode(form, &limits.submit)?),
        ReplyContext::Get | ReplyContext::GetWithPrice => Op::Poll(legacy_id(form.get("id").unwrap_or_default())?),
        ReplyContext::GetMany => Op::PollMany(legacy_ids(form.get("ids").unwrap_or_default(), limits.ids_max)?),
        ReplyContext::Report => {
            let verdict =
                if form.get("action").map(str::trim) == Some("reportgood") { Verdict::Good } else { Verdict::Bad };
            Op::Report(legacy_id(form.get("id").unwrap_or_default())?, verdict)
        }
        ReplyContext::Balance => Op::Balance,
        ReplyContext::UnknownAction => {
            let said = form.get("action").is_some_and(|action| !action.trim().is_empty());
            return Err(if said { Failure::ActionUnknown } else { Failure::ActionMissing });
        }
    };
    Ok((account, op))
}

/// Reads an id: decimal digits, nothing else (2captcha docs). White space around it is forgiven, since shell scripts
/// cut ids out of `OK|…` with a line end.
///
/// # Errors
/// [`Failure::IdMalformed`]; [`Failure::TaskUnknown`] for digits beyond any id that we issue.
fn legacy_id(text: &str) -> Result<LegacyId, Failure> {
    let digits = text.trim();
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Failure::IdMalformed);
    }
    digits.parse().map(LegacyId).map_err(|_| Failure::TaskUnknown)
}

fn legacy_ids(text: &str, ids_max: usize) -> Result<Vec<Result<LegacyId, Failure>>, Failure> {
    if text.trim().is_empty() {
        return Err(Failure::IdMalformed);
    }
    if text.bytes().filter(|byte| *byte == b',').count() >= ids_max {
        return Err(Failure::Parameter("ids"));
    }
    Ok(text.split(',').map(legacy_id).collect())
}
