//! Parses the upstream's answers.
//!
//! The JSON body takes precedence over the HTTP status: uCaptcha sends errors with 400, 401 and 404 and a body, a
//! related service sends every answer with 200, and a failed task arrives with `errorId` 0 (uCaptcha, getTaskResult
//! page). An answer of any other shape counts as a failed call, never as a task's outcome.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::{Map, Value as Json};

use super::codes::{self, MaskedCause, PollError};
use super::rate::Rate;
use crate::domain::{CreatedTask, Failure, NativeId, Outcome, Solved};
use crate::json::has_few_values;
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

/// An answer to a poll that says nothing about its task. The task stays open, and the poll reads as not ready.
#[derive(Clone, Debug, PartialEq)]
pub struct Masked {
    /// Why.
    pub cause: MaskedCause,
    /// The failure of the call, which may concern the account.
    pub failure: Failure,
}

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
    let native = members.get("taskId").and_then(native_id);
    let outcome = parse_outcome(&members, method).ok().filter(|outcome| *outcome != Outcome::NotReady);
    if native.is_none() && outcome.is_none() {
        return Err(Failure::OutcomeUnknown);
    }
    Ok(CreatedTask { native, outcome })
}

/// Parses the answer to `getTaskResult`. Given the task's native id, checks that the answer carries no other. Both a
/// failed task and a refusal that is about the task are outcomes.
///
/// # Errors
/// [`Masked`] if the answer says nothing about the task.
pub fn parse_task_result(answer: &Answer, method: &Method, native: Option<&NativeId>) -> Result<Outcome, Masked> {
    let unusable = || {
        let cause = if answer.status == 429 { MaskedCause::Load } else { MaskedCause::Unusable };
        Masked { cause, failure: unusable_failure(answer) }
    };
    let members = parse_members(answer).ok_or_else(unusable)?;
    if native.is_some_and(|native| is_about_another_task(&members, native)) {
        return Err(Masked { cause: MaskedCause::OtherTask, failure: Failure::Unavailable });
    }
    let error = match check_envelope(&members, answer.status) {
        Ok(()) => return parse_outcome(&members, method).map_err(|()| unusable()),
        Err(Refusal::Unusable) => return Err(unusable()),
        Err(Refusal::Code(code)) => codes::from_poll_error(Some(&code), answer.status),
        Err(Refusal::NoCode) => codes::from_poll_error(None, answer.status),
    };
    match error {
        PollError::Final(failure) => Ok(Outcome::Failed(for_method(failure, method))),
        PollError::Pending => Ok(Outcome::NotReady),
        PollError::Masked(cause, failure) => Err(Masked { cause, failure }),
    }
}

/// Parses the answer to `getBalance`: USD, as a number or as text. A debt reads as zero, because clients compare the
/// balance with a price, and some expect digits only.
///
/// # Errors
/// The upstream's refusal; [`Failure::Unavailable`] or [`Failure::NotSent`] if the call failed.
pub fn parse_balance(answer: &Answer) -> Result<f64, Failure> {
    /// Above any account, in any currency or points.
    const BALANCE_MAX: f64 = 1e12;
    let text = parse_envelope(answer)?.get("balance").and_then(scalar_text).ok_or(Failure::Unavailable)?;
    let money: f64 = text.trim().parse().map_err(|_| Failure::Unavailable)?;
    if !money.is_finite() || money.abs() > BALANCE_MAX {
        return Err(Failure::Unavailable);
    }
    Ok(if money > 0.0 { money } else { 0.0 })
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

/// Why an answer is not a successful one.
enum Refusal {
    /// An error with this code.
    Code(String),
    /// An error without a code.
    NoCode,
    /// Neither a success nor an error.
    Unusable,
}

/// Returns the members of a successful answer, or the failure of any other.
fn parse_envelope(answer: &Answer) -> Result<Map<String, Json>, Failure> {
    let members = parse_members(answer).ok_or_else(|| unusable_failure(answer))?;
    match check_envelope(&members, answer.status) {
        Ok(()) => Ok(members),
        Err(Refusal::Code(code)) => Err(codes::from_error_code(&code, answer.status)),
        Err(Refusal::NoCode) => Err(codes::from_status(answer.status)),
        Err(Refusal::Unusable) => Err(unusable_failure(answer)),
    }
}

fn unusable_failure(answer: &Answer) -> Failure {
    if answer.status == 429 { Failure::NotSent } else { Failure::Unavailable }
}

fn parse_members(answer: &Answer) -> Option<Map<String, Json>> {
    // JSON allows no byte-order mark, but one is harmless.
    let body = answer.body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&answer.body);
    if !has_few_values(body) {
        return None;
    }
    serde_json::from_slice::<UniqueMembers>(body).ok().map(|UniqueMembers(members)| members)
}

/// The members of a JSON object, each of which occurs once. Parsers differ in which of two they take, so an answer with
/// two has no certain meaning.
struct UniqueMembers(Map<String, Json>);

impl<'de> Deserialize<'de> for UniqueMembers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = UniqueMembers;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<UniqueMembers, A::Error> {
                let mut members = Map::new();
                while let Some((name, value)) = access.next_entry::<String, Json>()? {
                    if members.insert(name, value).is_some() {
                        return Err(A::Error::custom("a member occurs twice"));
                    }
                }
                Ok(UniqueMembers(members))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

/// Decides by `errorId`, then by `errorCode`, then by the HTTP status. A code that is null or empty counts as absent:
/// CapMonster, EZ-Captcha and YesCaptcha send one with every success.
fn check_envelope(members: &Map<String, Json>, status: u16) -> Result<(), Refusal> {
    let error_id: Option<f64> = members.get("errorId").and_then(scalar_text).and_then(|text| text.trim().parse().ok());
    let code = members.get("errorCode").and_then(scalar_text).filter(|code| !code.trim().is_empty());
    match (error_id, code) {
        (Some(0.0), _) if status < 400 => Ok(()),
        (Some(0.0), _) => Err(Refusal::Unusable),
        (_, Some(code)) => Err(Refusal::Code(code)),
        (Some(_), None) if status < 500 => Err(Refusal::NoCode),
        // A service without `errorId`, whose answer has the members of a success.
        (None, None) if status < 400 && ["status", "taskId", "balance"].iter().any(|name| has_value(members, name)) => {
            Ok(())
        }
        _ => Err(Refusal::Unusable),
    }
}

fn has_value(members: &Map<String, Json>, name: &str) -> bool {
    members.get(name).is_some_and(|value| !value.is_null())
}

/// Returns an id in the upstream's spelling and JSON type: 2captcha and CapMonster send numbers. A number that is not
/// a positive integer is no id; CapMonster sends 0 beside an error.
fn native_id(value: &Json) -> Option<NativeId> {
    match value {
        Json::String(id) => (1..=NATIVE_ID_BYTES_MAX).contains(&id.len()).then(|| NativeId::new(id)),
        Json::Number(number) => number.as_u64().filter(|number| *number > 0).map(NativeId::from_number),
        _ => None,
    }
}

/// Whether an answer carries the id of another task. The JSON type and the case of the letters may differ. No id, null, 0
/// and an empty text name no task; anything else that is not the id is another one.
fn is_about_another_task(members: &Map<String, Json>, native: &NativeId) -> bool {
    let Some(answered) = members.get("taskId").filter(|id| !id.is_null()) else { return false };
    if answered.as_u64() == Some(0) || answered.as_str() == Some("") {
        return false;
    }
    native_id(answered)
        .is_none_or(|answered| answered != *native && !answered.to_string().eq_ignore_ascii_case(&native.to_string()))
}

/// Adapts a failure to the method: only reCAPTCHA has codes for a bad site key. For other methods it is a parameter
/// like any other.
fn for_method(failure: Failure, method: &Method) -> Failure {
    if failure == Failure::SiteKey && !method.has_google_key() { Failure::Parameters } else { failure }
}

/// # Errors
/// `()` if the answer cannot be interpreted.
fn parse_outcome(members: &Map<String, Json>, method: &Method) -> Result<Outcome, ()> {
    match members.get("status").and_then(Json::as_str) {
        // NextCaptcha sends `pending`.
        Some("idle" | "pending" | "processing") => Ok(Outcome::NotReady),
        Some("ready") => match parse_solved(members, method) {
            Some(solved) => Ok(Outcome::Solved(Arc::new(solved))),
            None => Err(()),
        },
        Some("failed") => {
            let code = members.get("errorCode").and_then(scalar_text).unwrap_or_default();
            if codes::is_pending(&code) {
                return Ok(Outcome::NotReady);
            }
            Ok(Outcome::Failed(for_method(codes::from_failed_task(&code), method)))
        }
        _ => Err(()),
    }
}

/// Parses a ready task. Without a usable solution the call counts as failed, because a client that polls again loses
/// nothing.
fn parse_solved(members: &Map<String, Json>, method: &Method) -> Option<Solved> {
    let solution = match members.get("solution") {
        Some(solution @ Json::Object(members)) if !members.is_empty() => to_value(solution),
        _ => return None,
    };
    let payload = extract_payload(&solution, method.solution);
    if payload == Payload::Text(String::new()) {
        return None;
    }
    let extras = method.extras.iter().filter_map(|(native, legacy)| {
        let text = solution.get(native).and_then(Value::scalar)?;
        Some((*legacy, text.to_owned()))
    });
    let cost = members.get("cost").and_then(scalar_text).and_then(|text| price(&text));
    let took_ms = members.get("solveTime").and_then(Json::as_u64);
    Some(Solved { extras: extras.collect(), payload, cost, took_ms })
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
const FALLBACK_KEYS: &[&str] = &["gRecaptchaResponse", "token", "text", "cookie", "answer", "code", "aws-waf-token"];

/// Returns a string, or a number as text: services of this kind send one where the other is documented.
fn scalar_text(value: &Json) -> Option<String> {
    match value {
        Json::String(text) => Some(text.clone()),
        Json::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// Normalises a price in USD: decimal text without an exponent and without trailing zeros, rounded to eight decimals.
/// Returns `None` for a number that is no price: negative, or above any task's.
fn price(text: &str) -> Option<String> {
    const PRICE_MAX: f64 = 1e6;
    let number: f64 = text.trim().parse().ok()?;
    // A zero may be negative.
    let rounded = (number * 1e8).round() / 1e8 + 0.0;
    (0.0..=PRICE_MAX).contains(&rounded).then(|| rounded.to_string())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_with_any_other_id_is_about_another_task() {
        let native = NativeId::from_number(7_001);
        let of = |id: &str| {
            let members: Map<String, Json> = serde_json::from_str(&format!(r#"{{"taskId":{id}}}"#)).expect("JSON");
            is_about_another_task(&members, &native)
        };
        for id in ["7001", r#""7001""#, "null", "0", r#""""#] {
            assert!(!of(id), "{id}");
        }
        assert!(!is_about_another_task(&Map::new(), &native));
        for id in ["9999", r#""9999""#, "9999.0", "-9999", "99999999999999999999999", r#"["9999"]"#, "{}", "true"] {
            assert!(of(id), "{id}");
        }
    }
}
