//! What comes back from upstream.
//!
//! The JSON body decides first and the HTTP status second: uCaptcha sends errors with 400, 401 and 404 and a body, a
//! relative of it sends everything with 200, and a failed task arrives with `errorId` 0 (uCaptcha, getTaskResult page).
//! Anything that is not the documented shape is trouble, never an answer.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Map, Value as Json};

use super::{Rate, codes};
use crate::domain::{Accepted, Failure, NativeId, Outcome, Solved};
use crate::methods::{Method, Payload, Solution, Value};

/// An HTTP answer of the upstream, whole and no longer compressed.
#[derive(Clone, Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Body, bounded by the sender.
    pub body: Bytes,
    /// What its headers say about the limit.
    pub rate: Rate,
}

impl Answer {
    /// An answer that says nothing about the limit.
    pub fn new(status: u16, body: Bytes) -> Self {
        Self { status, body, rate: Rate::default() }
    }
}

/// Longest native id that is taken, in bytes. A UUID has 36.
const NATIVE_ID_BYTES_MAX: usize = 128;

/// Reads the answer to `createTask`.
///
/// # Errors
/// What the upstream said; [`Failure::Unavailable`] or [`Failure::NotSent`] when it surely did not accept;
/// [`Failure::OutcomeUnknown`] when it may have.
pub fn created(answer: &Answer, method: &Method) -> Result<Accepted, Failure> {
    let members = match envelope(answer) {
        // An answer that is no JSON and no refusal by status may follow on an accepted task.
        Err(Failure::Unavailable) if !(300..500).contains(&answer.status) => return Err(Failure::OutcomeUnknown),
        // No worker could be found or solve it within the call: the client has submitted well and learns it by polling,
        // as it would from the legacy service.
        Err(Failure::Unsolvable) => {
            return Ok(Accepted { native: None, outcome: Some(Outcome::Failed(Failure::Unsolvable)) });
        }
        other => other.map_err(|failure| meant(failure, method))?,
    };
    let native = members.get("taskId").and_then(scalar_text);
    let native = native.filter(|id| (1..=NATIVE_ID_BYTES_MAX).contains(&id.len())).map(|id| NativeId::new(&id));
    let outcome = outcome(&members, method).ok().filter(|outcome| *outcome != Outcome::NotReady);
    if native.is_none() && outcome.is_none() {
        return Err(Failure::OutcomeUnknown);
    }
    Ok(Accepted { native, outcome })
}

/// Reads the answer to `getTaskResult`.
///
/// # Errors
/// What the upstream said of the request, or [`Failure::Unavailable`] or [`Failure::NotSent`] for trouble.
pub fn result(answer: &Answer, method: &Method) -> Result<Outcome, Failure> {
    let members = envelope(answer).map_err(|failure| match failure {
        // Said of the request and not of the task, which somebody has: it is for load.
        Failure::NoProviders => Failure::NotSent,
        said => meant(said, method),
    })?;
    outcome(&members, method)
}

/// Reads the answer to `getBalance`: USD, as a number or as its text.
///
/// # Errors
/// As [`result`].
pub fn balance(answer: &Answer) -> Result<f64, Failure> {
    let text = envelope(answer)?.get("balance").and_then(scalar_text).ok_or(Failure::Unavailable)?;
    text.trim().parse().ok().filter(|money: &f64| money.is_finite()).ok_or(Failure::Unavailable)
}

/// Reads the answer to `feedbackTask`.
///
/// # Errors
/// What the upstream said; [`Failure::OutcomeUnknown`] when it may have taken the report.
pub fn feedback(answer: &Answer) -> Result<(), Failure> {
    match envelope(answer) {
        Ok(_) => Ok(()),
        Err(Failure::Unavailable) if !(300..500).contains(&answer.status) => Err(Failure::OutcomeUnknown),
        Err(failure) => Err(failure),
    }
}

/// The members of a good answer, or what a bad one says.
fn envelope(answer: &Answer) -> Result<Map<String, Json>, Failure> {
    let trouble = || if answer.status == 429 { Failure::NotSent } else { Failure::Unavailable };
    // A byte-order mark is no JSON, but it is no lie either.
    let body = answer.body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&answer.body);
    let Ok(Json::Object(members)) = serde_json::from_slice(body) else {
        return Err(trouble());
    };
    let error_id: Option<f64> = members.get("errorId").and_then(scalar_text).and_then(|text| text.trim().parse().ok());
    match (error_id, members.get("errorCode").and_then(scalar_text)) {
        (Some(0.0), _) if answer.status < 400 => Ok(members),
        (Some(0.0), _) => Err(trouble()),
        (_, Some(code)) => Err(codes::failure(&code, answer.status)),
        // Something is wrong, but nothing that a client could act on is said.
        (Some(_), None) if answer.status < 500 => Err(codes::by_status(answer.status)),
        _ => Err(trouble()),
    }
}

/// What a failure means for a method: only reCAPTCHA has words for a bad site key; elsewhere it is a parameter like any
/// other.
fn meant(failure: Failure, method: &Method) -> Failure {
    if failure == Failure::SiteKey && !method.has_google_key() { Failure::Parameters } else { failure }
}

fn outcome(members: &Map<String, Json>, method: &Method) -> Result<Outcome, Failure> {
    match members.get("status").and_then(Json::as_str) {
        Some("idle" | "processing") => Ok(Outcome::NotReady),
        Some("ready") => solved(members, method).map(|solved| Outcome::Solved(Arc::new(solved))),
        Some("failed") => {
            let code = members.get("errorCode").and_then(scalar_text).unwrap_or_default();
            Ok(Outcome::Failed(meant(codes::of_failed_task(&code), method)))
        }
        _ => Err(Failure::Unavailable),
    }
}

/// A ready answer without a usable solution is trouble: a client that is told to ask again loses nothing.
fn solved(members: &Map<String, Json>, method: &Method) -> Result<Solved, Failure> {
    let found = match members.get("solution") {
        Some(found @ Json::Object(members)) if !members.is_empty() => value_of(found),
        _ => return Err(Failure::Unavailable),
    };
    let payload = payload(&found, method.solution);
    if payload == Payload::Text(String::new()) {
        return Err(Failure::Unavailable);
    }
    let extras = method.extras.iter().filter_map(|(native, legacy)| {
        let text = found.get(native).and_then(Value::scalar)?;
        Some((*legacy, text.to_owned()))
    });
    let cost = members.get("cost").and_then(scalar_text).and_then(|text| decimal(&text));
    let took_ms = members.get("solveTime").and_then(Json::as_u64);
    Ok(Solved { extras: extras.collect(), payload, cost, took_ms })
}

/// What the row makes of a solution; the whole of it where the row makes nothing of it.
fn payload(found: &Value, solution: Solution) -> Payload {
    let text = |keys: &[&str]| keys.iter().find_map(|key| found.get(key).and_then(Value::scalar));
    let answered = match solution {
        Solution::Text(keys) => text(keys).or_else(|| text(FALLBACK)).map(|text| Payload::Text(text.to_owned())),
        Solution::Object(members) => {
            let members = members.iter().filter_map(|(legacy, natives)| {
                let value = natives.iter().find_map(|native| found.get(native))?;
                Some(((*legacy).to_owned(), value.clone()))
            });
            let members: Vec<_> = members.collect();
            (!members.is_empty()).then_some(Payload::Structure(Value::Record(members)))
        }
        // Where a client allowed that nothing matches, a word stands in the place of places (2captcha docs).
        Solution::Composed(compose) => {
            compose(found).or_else(|| text(FALLBACK).map(|text| Payload::Text(text.to_owned())))
        }
    };
    answered.unwrap_or_else(|| Payload::Structure(found.clone()))
}

/// Where a text answer stands when it is not where the row says: names seen with services of this kind.
const FALLBACK: &[&str] = &["gRecaptchaResponse", "token", "text", "cookie", "answer", "code"];

/// A string, or a number as its text: services of this kind send one where the other is documented.
fn scalar_text(value: &Json) -> Option<String> {
    match value {
        Json::String(text) => Some(text.clone()),
        Json::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// Decimal text without an exponent and without trailing zeros beyond what was sent.
fn decimal(text: &str) -> Option<String> {
    let number: f64 = text.trim().parse().ok()?;
    number.is_finite().then(|| number.to_string())
}

fn value_of(json: &Json) -> Value {
    match json {
        Json::Null => Value::Null,
        Json::Bool(flag) => Value::Flag(*flag),
        Json::Number(number) => Value::Number(number.to_string()),
        Json::String(text) => Value::Text(text.clone()),
        Json::Array(items) => Value::List(items.iter().map(value_of).collect()),
        Json::Object(members) => {
            Value::Record(members.iter().map(|(name, value)| (name.clone(), value_of(value))).collect())
        }
    }
}
