//! Parses the upstream's answers.
//!
//! The JSON body takes precedence over the HTTP status: uCaptcha sends errors with 400, 401 and 404 and a body, a
//! related service sends every answer with 200, and a failed task arrives with `errorId` 0 (uCaptcha, getTaskResult
//! page). An answer of any other shape counts as a failed call, never as a task's outcome.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Map, Value as Json};

use super::codes;
use super::rate::Rate;
use crate::domain::{CreatedTask, Failure, NativeId, Outcome, Solved};
use crate::methods::{Method, Payload, Solution, Value};

/// A complete, decompressed HTTP answer of the upstream.
#[derive(Clone, Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Body. The HTTP client bounds its size.
    pub body: Bytes,
    /// Rate-limit headers.
    pub rate: Rate,
}

impl Answer {
    /// Creates an answer without rate-limit headers.
    pub fn new(status: u16, body: Bytes) -> Self {
        Self { status, body, rate: Rate::default() }
    }
}

/// Longest accepted native id, in bytes. A UUID has 36.
const NATIVE_ID_BYTES_MAX: usize = 128;

/// Parses the answer to `createTask`.
///
/// # Errors
/// The upstream's refusal; [`Failure::Unavailable`] or [`Failure::NotSent`] if it certainly did not accept the task;
/// [`Failure::OutcomeUnknown`] if it may have accepted it.
pub fn parse_created_task(answer: &Answer, method: &Method) -> Result<CreatedTask, Failure> {
    let members = match parse_envelope(answer) {
        // The upstream may have accepted the task: the answer is unusable, but its status is not a refusal.
        Err(Failure::Unavailable) if !(300..500).contains(&answer.status) => return Err(Failure::OutcomeUnknown),
        // The upstream found no worker, or none that could solve the task, within this call. The submit itself is
        // valid: the client learns of the failure by polling, as with the legacy service.
        Err(Failure::Unsolvable) => {
            return Ok(CreatedTask { native: None, outcome: Some(Outcome::Failed(Failure::Unsolvable)) });
        }
        other => other.map_err(|failure| for_method(failure, method))?,
    };
    let native = members.get("taskId").and_then(scalar_text);
    let native = native.filter(|id| (1..=NATIVE_ID_BYTES_MAX).contains(&id.len())).map(|id| NativeId::new(&id));
    let outcome = parse_outcome(&members, method).ok().filter(|outcome| *outcome != Outcome::NotReady);
    if native.is_none() && outcome.is_none() {
        return Err(Failure::OutcomeUnknown);
    }
    Ok(CreatedTask { native, outcome })
}

/// Parses the answer to `getTaskResult`.
///
/// # Errors
/// The upstream's refusal of the request; [`Failure::Unavailable`] or [`Failure::NotSent`] if the call failed.
pub fn parse_task_result(answer: &Answer, method: &Method) -> Result<Outcome, Failure> {
    let members = parse_envelope(answer).map_err(|failure| match failure {
        // A provider already has the task, so this code describes the request: it is refused because of load.
        Failure::NoProviders => Failure::NotSent,
        failure => for_method(failure, method),
    })?;
    parse_outcome(&members, method)
}

/// Parses the answer to `getBalance`: USD, as a number or as text.
///
/// # Errors
/// Same as [`parse_task_result`].
pub fn parse_balance(answer: &Answer) -> Result<f64, Failure> {
    let text = parse_envelope(answer)?.get("balance").and_then(scalar_text).ok_or(Failure::Unavailable)?;
    text.trim().parse().ok().filter(|money: &f64| money.is_finite()).ok_or(Failure::Unavailable)
}

/// Parses the answer to `feedbackTask`.
///
/// # Errors
/// The upstream's refusal; [`Failure::OutcomeUnknown`] if it may have recorded the report.
pub fn parse_feedback(answer: &Answer) -> Result<(), Failure> {
    match parse_envelope(answer) {
        Ok(_) => Ok(()),
        Err(Failure::Unavailable) if !(300..500).contains(&answer.status) => Err(Failure::OutcomeUnknown),
        Err(failure) => Err(failure),
    }
}

/// Returns the members of a successful answer, or the failure of any other.
fn parse_envelope(answer: &Answer) -> Result<Map<String, Json>, Failure> {
    let unusable = || if answer.status == 429 { Failure::NotSent } else { Failure::Unavailable };
    // JSON allows no byte-order mark, but one is harmless.
    let body = answer.body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&answer.body);
    let Ok(Json::Object(members)) = serde_json::from_slice(body) else {
        return Err(unusable());
    };
    let error_id: Option<f64> = members.get("errorId").and_then(scalar_text).and_then(|text| text.trim().parse().ok());
    match (error_id, members.get("errorCode").and_then(scalar_text)) {
        (Some(0.0), _) if answer.status < 400 => Ok(members),
        (Some(0.0), _) => Err(unusable()),
        (_, Some(code)) => Err(codes::from_error_code(&code, answer.status)),
        // An error without a code.
        (Some(_), None) if answer.status < 500 => Err(codes::from_status(answer.status)),
        _ => Err(unusable()),
    }
}

/// Adapts a failure to the method: only reCAPTCHA has codes for a bad site key. For other methods it is a parameter
/// like any other.
fn for_method(failure: Failure, method: &Method) -> Failure {
    if failure == Failure::SiteKey && !method.has_google_key() { Failure::Parameters } else { failure }
}

fn parse_outcome(members: &Map<String, Json>, method: &Method) -> Result<Outcome, Failure> {
    match members.get("status").and_then(Json::as_str) {
        Some("idle" | "processing") => Ok(Outcome::NotReady),
        Some("ready") => parse_solved(members, method).map(|solved| Outcome::Solved(Arc::new(solved))),
        Some("failed") => {
            let code = members.get("errorCode").and_then(scalar_text).unwrap_or_default();
            Ok(Outcome::Failed(for_method(codes::from_failed_task(&code), method)))
        }
        _ => Err(Failure::Unavailable),
    }
}

/// Parses a ready task. Without a usable solution the call counts as failed, because a client that polls again loses
/// nothing.
fn parse_solved(members: &Map<String, Json>, method: &Method) -> Result<Solved, Failure> {
    let solution = match members.get("solution") {
        Some(solution @ Json::Object(members)) if !members.is_empty() => to_value(solution),
        _ => return Err(Failure::Unavailable),
    };
    let payload = extract_payload(&solution, method.solution);
    if payload == Payload::Text(String::new()) {
        return Err(Failure::Unavailable);
    }
    let extras = method.extras.iter().filter_map(|(native, legacy)| {
        let text = solution.get(native).and_then(Value::scalar)?;
        Some((*legacy, text.to_owned()))
    });
    let cost = members.get("cost").and_then(scalar_text).and_then(|text| decimal(&text));
    let took_ms = members.get("solveTime").and_then(Json::as_u64);
    Ok(Solved { extras: extras.collect(), payload, cost, took_ms })
}

/// Extracts the answer as the row defines. Returns the whole solution if that yields nothing.
fn extract_payload(solution: &Value, rule: Solution) -> Payload {
    let text = |keys: &[&str]| keys.iter().find_map(|key| solution.get(key).and_then(Value::scalar));
    let payload = match rule {
        Solution::Text(keys) => text(keys).or_else(|| text(FALLBACK_KEYS)).map(|text| Payload::Text(text.to_owned())),
        Solution::Object(members) => {
            let members = members.iter().filter_map(|(legacy, natives)| {
                let value = natives.iter().find_map(|native| solution.get(native))?;
                Some(((*legacy).to_owned(), value.clone()))
            });
            let members: Vec<_> = members.collect();
            (!members.is_empty()).then_some(Payload::Structure(Value::Record(members)))
        }
        // If the client allowed for no match, a text may replace the positions (2captcha docs).
        Solution::Composed(compose) => {
            compose(solution).or_else(|| text(FALLBACK_KEYS).map(|text| Payload::Text(text.to_owned())))
        }
    };
    payload.unwrap_or_else(|| Payload::Structure(solution.clone()))
}

/// Keys to try for a text answer if the row's keys are absent. Seen with services of this kind.
const FALLBACK_KEYS: &[&str] = &["gRecaptchaResponse", "token", "text", "cookie", "answer", "code"];

/// Returns a string, or a number as text: services of this kind send one where the other is documented.
fn scalar_text(value: &Json) -> Option<String> {
    match value {
        Json::String(text) => Some(text.clone()),
        Json::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// Normalises a number to decimal text without an exponent and without trailing zeros.
fn decimal(text: &str) -> Option<String> {
    let number: f64 = text.trim().parse().ok()?;
    number.is_finite().then(|| number.to_string())
}

fn to_value(json: &Json) -> Value {
    match json {
        Json::Null => Value::Null,
        Json::Bool(flag) => Value::Flag(*flag),
        Json::Number(number) => Value::Number(number.to_string()),
        Json::String(text) => Value::Text(text.clone()),
        Json::Array(items) => Value::List(items.iter().map(to_value).collect()),
        Json::Object(members) => {
            Value::Record(members.iter().map(|(name, value)| (name.clone(), to_value(value))).collect())
        }
    }
}
