//! Renders results as text and as JSON.
//!
//! Text replies have no line end and no byte-order mark, because clients compare the whole body. JSON is compact,
//! `status` is a number, and ids and prices are strings, because clients check for these types (2captcha docs,
//! python-rucaptcha, 2captcha-java).

use std::fmt::Write;
use std::sync::LazyLock;

use bytes::Bytes;

use super::codes::{self, NOT_READY, REPORT_RECORDED, code};
use super::style::{Notation, ReplyContext, Style};
use crate::domain::{Failure, OpResult, Outcome, Solved};
use crate::methods::{Payload, Value, json_string};

/// A complete HTTP reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// HTTP status: 200 for every rendered result.
    pub status: u16,
    /// `Content-Type`, if there is a body.
    pub content_type: Option<&'static str>,
    /// Other headers.
    pub headers: &'static [(&'static str, &'static str)],
    /// Body.
    pub body: Bytes,
}

/// Our choice. PHP's default is `text/html`, with which markup in an answer runs in a browser. No known client checks
/// the type of a text reply.
const TEXT_TYPE: &str = "text/plain; charset=utf-8";
/// The strict check of aiohttp, which python-rucaptcha relied on, accepts only this type.
const JSON_TYPE: &str = "application/json";

/// Only this header, never the caller's own origin, and no credentials: a reply is worthless without the key, which the
/// page already has.
const ALLOW_ANY_ORIGIN: &[(&str, &str)] = &[("Access-Control-Allow-Origin", "*")];

/// Renders a result.
pub fn render(result: &Result<OpResult, Failure>, style: Style) -> Reply {
    let body = match (result, style.notation) {
        // Nearly every reply, rendered once.
        (Ok(OpResult::Polled(Outcome::NotReady)), Notation::Text) => Bytes::from_static(NOT_READY.as_bytes()),
        (Ok(OpResult::Polled(Outcome::NotReady)), Notation::Json) => {
            static BODY: LazyLock<Bytes> = LazyLock::new(|| Bytes::from(Rendered::bare(0, NOT_READY).to_json()));
            BODY.clone()
        }
        (result, Notation::Text) => Bytes::from(Rendered::new(result, style.context).text),
        (result, Notation::Json) => Bytes::from(Rendered::new(result, style.context).to_json()),
    };
    Reply {
        status: 200,
        content_type: Some(if style.notation == Notation::Json { JSON_TYPE } else { TEXT_TYPE }),
        headers: if style.allow_any_origin { ALLOW_ANY_ORIGIN } else { &[] },
        body,
    }
}

/// Renders the reply to a CORS preflight, which a browser sends before it posts JSON (2captcha-javascript in a page).
pub fn render_preflight() -> Reply {
    const HEADERS: &[(&str, &str)] = &[
        ("Access-Control-Allow-Origin", "*"),
        ("Access-Control-Allow-Methods", "GET, POST, OPTIONS"),
        ("Access-Control-Allow-Headers", "Content-Type"),
        ("Access-Control-Max-Age", "86400"),
    ];
    Reply { status: 204, content_type: None, headers: HEADERS, body: Bytes::new() }
}

/// One result in both notations.
struct Rendered {
    /// 1 for success, 0 for everything else, including `CAPCHA_NOT_READY`.
    status: u8,
    /// The whole text reply.
    text: String,
    /// The JSON member `request`, as JSON text.
    request: String,
    /// Other JSON members.
    extras: Vec<(&'static str, String)>,
}

impl Rendered {
    fn new(result: &Result<OpResult, Failure>, context: ReplyContext) -> Self {
        match result {
            Ok(OpResult::Submitted(id)) => Self::ok(&id.to_string()),
            Ok(OpResult::Polled(Outcome::Solved(solved))) => Self::solved(solved, context),
            Ok(OpResult::Polled(Outcome::NotReady)) => Self::bare(0, NOT_READY),
            Ok(OpResult::Polled(Outcome::Failed(failure))) | Err(failure) => Self::bare(0, code(failure, context)),
            // Joined without `OK|`, in the order of the request (2captcha docs; gladyshev/rucaptcha-client).
            Ok(OpResult::PolledMany(outcomes)) => {
                let items = outcomes.iter().map(|outcome| render_item(outcome, context));
                Self::bare(1, &items.collect::<Vec<_>>().join("|"))
            }
            // Our choice: one code per line, a list in JSON. The documents only say that there is a list.
            Ok(OpResult::Errors) => {
                let list = codes::ALL.iter().map(|code| Value::Text((*code).to_owned())).collect();
                let request = Value::List(list).to_json();
                Self { status: 1, text: codes::ALL.join("\n"), request, extras: Vec::new() }
            }
            Ok(OpResult::Reported) => Self::bare(1, REPORT_RECORDED),
            // Four decimals, as in uCaptcha's own res.php.
            Ok(OpResult::Balance(money)) => Self::bare(1, &format!("{money:.4}")),
        }
    }

    fn solved(solved: &Solved, context: ReplyContext) -> Self {
        let mut rendered = match &solved.payload {
            Payload::Text(text) => Self::ok(text),
            // Text clients strip `OK|` and parse the rest as JSON (2captcha-python, 2captcha-go).
            Payload::Structure(value) => {
                let json = value.to_json();
                Self { status: 1, text: format!("OK|{json}"), request: json, extras: Vec::new() }
            }
            Payload::Composed { text, json } => {
                Self { status: 1, text: format!("OK|{text}"), request: json.to_json(), extras: Vec::new() }
            }
        };
        rendered.extras.clone_from(&solved.extras);
        if context == ReplyContext::GetWithPrice {
            // Our choice if the upstream sent no price: clients that split at `|` expect a third part.
            let price = solved.cost.as_deref().unwrap_or("0");
            let _ = write!(rendered.text, "|{price}");
            rendered.extras.push(("price", price.to_owned()));
        }
        rendered
    }

    /// Renders an answer after `OK|`.
    fn ok(answer: &str) -> Self {
        Self { status: 1, text: format!("OK|{answer}"), request: json_string(answer), extras: Vec::new() }
    }

    /// Renders a text without `OK|`.
    fn bare(status: u8, text: &str) -> Self {
        Self { status, text: text.to_owned(), request: json_string(text), extras: Vec::new() }
    }

    fn to_json(&self) -> String {
        let mut json = format!("{{\"status\":{},\"request\":{}", self.status, self.request);
        for (name, text) in &self.extras {
            let _ = write!(json, ",{}:{}", json_string(name), json_string(text));
        }
        json.push('}');
        json
    }
}

/// Renders one item of a reply to several ids.
fn render_item(outcome: &Result<Outcome, Failure>, context: ReplyContext) -> String {
    match outcome {
        Ok(Outcome::NotReady) => NOT_READY.to_owned(),
        Ok(Outcome::Solved(solved)) => solved.payload.to_text(),
        Ok(Outcome::Failed(failure)) | Err(failure) => code(failure, context).to_owned(),
    }
}
