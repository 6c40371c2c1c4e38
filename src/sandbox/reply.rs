//! Replies: HTTP status, body and delay.

use serde_json::{Value as Json, json};

use super::rate_limit::RateLimit;

/// Delay of an answer that hangs, in milliseconds: longer than any client waits.
const HANG_MS: u64 = 120_000;

/// A reply of the sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// `Content-Type`.
    pub content_type: &'static str,
    /// Rate limit headers.
    pub rate_limit: RateLimit,
    /// Body.
    pub body: String,
    /// How long to wait before sending, in milliseconds.
    pub delay_ms: u64,
}

/// An answer to a request that the API accepts.
pub(super) enum Answer {
    /// A JSON body.
    Json(Json),
    /// A JSON body that arrives too late.
    Hang(Json),
    /// 502 with HTML, as from a proxy in front of the API.
    BadGateway,
}

/// An error of the API.
#[derive(Clone, Copy)]
pub(super) struct Refusal {
    status: u16,
    code: &'static str,
    description: &'static str,
}

impl Refusal {
    pub(super) const KEY_UNKNOWN: Self =
        Self::new(401, "ERROR_KEY_DOES_NOT_EXIST", "The API key you provided does not exist in our system.");
    pub(super) const RATE_LIMITED: Self = Self::new(429, "ERROR_TOO_MANY_REQUESTS", "over the rate limit");
    pub(super) const TASK_UNKNOWN: Self = Self::new(404, "ERROR_WRONG_CAPTCHA_ID", "no such task");

    pub(super) const fn new(status: u16, code: &'static str, description: &'static str) -> Self {
        Self { status, code, description }
    }
}

impl Reply {
    pub(super) fn new(result: Result<Answer, Refusal>, rate_limit: RateLimit, latency_ms: u64) -> Self {
        let json = |status, body: &Json, delay_ms| Self {
            status,
            content_type: "application/json",
            rate_limit,
            body: body.to_string(),
            delay_ms,
        };
        match result {
            Ok(Answer::Json(body)) => json(200, &body, latency_ms),
            Ok(Answer::Hang(body)) => json(200, &body, latency_ms.max(HANG_MS)),
            Ok(Answer::BadGateway) => Self {
                status: 502,
                content_type: "text/html",
                rate_limit,
                body: "<html>502</html>".to_owned(),
                delay_ms: 0,
            },
            Err(Refusal { status, code, description }) => {
                let body = json!({ "errorId": 1, "errorCode": code, "errorDescription": description });
                json(status, &body, latency_ms)
            }
        }
    }
}
