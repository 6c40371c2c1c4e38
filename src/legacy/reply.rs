//! Results in the legacy words, as text and as JSON.
//!
//! Text answers have no line end and no byte-order mark: clients compare the whole body. JSON is compact, `status` is a
//! number and an id or a price is a string, since clients test them so (2captcha docs, python-rucaptcha, 2captcha-java).

use std::fmt::Write;
use std::sync::LazyLock;

use bytes::Bytes;

use super::codes::{self, NOT_READY, REPORT_RECORDED, code};
use super::{Notation, ReplyContext, Style};
use crate::domain::{Failure, OpResult, Outcome, Solved};
use crate::methods::{Payload, Value, json_text};

/// An HTTP answer, complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// HTTP status; 200 for everything that the protocol words.
    pub status: u16,
    /// `Content-Type`, where there is a body.
    pub content_type: Option<&'static str>,
    /// Further headers.
    pub headers: &'static [(&'static str, &'static str)],
    /// Body.
    pub body: Bytes,
}

/// Our choice: PHP's default would be `text/html`, in which an answer that holds markup runs in a browser; no client
/// was seen that looks at the type of a text answer.
const TEXT: &str = "text/plain; charset=utf-8";
/// aiohttp's strict check, which python-rucaptcha relied on, wants exactly this type.
const JSON: &str = "application/json";

/// Never more than this one header, never the caller's own origin, and no credentials: an answer is worth nothing
/// without the key, which the page has anyway.
const OPEN: &[(&str, &str)] = &[("Access-Control-Allow-Origin", "*")];

/// Words a result.
pub fn render(result: &Result<OpResult, Failure>, style: Style) -> Reply {
    let body = match (result, style.notation) {
        // Nearly every answer, worded once.
        (Ok(OpResult::Polled(Outcome::NotReady)), Notation::Text) => Bytes::from_static(NOT_READY.as_bytes()),
        (Ok(OpResult::Polled(Outcome::NotReady)), Notation::Json) => {
            static JSON: LazyLock<Bytes> = LazyLock::new(|| Bytes::from(Worded::bare(0, NOT_READY).json()));
            JSON.clone()
        }
        (result, Notation::Text) => Bytes::from(Worded::of(result, style.place).text),
        (result, Notation::Json) => Bytes::from(Worded::of(result, style.place).json()),
    };
    Reply {
        status: 200,
        content_type: Some(if style.notation == Notation::Json { JSON } else { TEXT }),
        headers: if style.open_to_browsers { OPEN } else { &[] },
        body,
    }
}

/// The answer to a browser that asks before it posts JSON (2captcha-javascript in a page).
pub fn preflight() -> Reply {
    const HEADERS: &[(&str, &str)] = &[
        ("Access-Control-Allow-Origin", "*"),
        ("Access-Control-Allow-Methods", "GET, POST, OPTIONS"),
        ("Access-Control-Allow-Headers", "Content-Type"),
        ("Access-Control-Max-Age", "86400"),
    ];
    Reply { status: 204, content_type: None, headers: HEADERS, body: Bytes::new() }
}

/// One result in both notations.
struct Worded {
    /// 1 for success, 0 for everything else, `CAPCHA_NOT_READY` included.
    status: u8,
    /// The whole text answer.
    text: String,
    /// What stands under `request`, as JSON text.
    request: String,
    /// Further JSON members.
    extras: Vec<(&'static str, String)>,
}

impl Worded {
    fn of(result: &Result<OpResult, Failure>, place: ReplyContext) -> Self {
        match result {
            Ok(OpResult::Submitted(id)) => Self::ok(&id.to_string()),
            Ok(OpResult::Polled(Outcome::Solved(solved))) => Self::solved(solved, place),
            Ok(OpResult::Polled(Outcome::NotReady)) => Self::bare(0, NOT_READY),
            Ok(OpResult::Polled(Outcome::Failed(failure))) | Err(failure) => Self::bare(0, code(failure, place)),
            // Joined without `OK|`, in the order asked (2captcha docs; gladyshev/rucaptcha-client).
            Ok(OpResult::PolledMany(outcomes)) => {
                let words = outcomes.iter().map(|outcome| word(outcome, place));
                Self::bare(1, &words.collect::<Vec<_>>().join("|"))
            }
            // Our choice of shape: a code a line, a list in JSON; the documents only say that there is a list.
            Ok(OpResult::Errors) => {
                let list = codes::ALL.iter().map(|code| Value::Text((*code).to_owned())).collect();
                let request = Value::List(list).to_json();
                Self { status: 1, text: codes::ALL.join("\n"), request, extras: Vec::new() }
            }
            Ok(OpResult::Reported) => Self::bare(1, REPORT_RECORDED),
            // Four decimals, as uCaptcha's own res.php prints it.
            Ok(OpResult::Balance(money)) => Self::bare(1, &format!("{money:.4}")),
        }
    }

    fn solved(solved: &Solved, place: ReplyContext) -> Self {
        let mut worded = match &solved.payload {
            Payload::Text(text) => Self::ok(text),
            // Clients that read text cut off `OK|` and parse the rest (2captcha-python, 2captcha-go).
            Payload::Structure(value) => {
                let json = value.to_json();
                Self { status: 1, text: format!("OK|{json}"), request: json, extras: Vec::new() }
            }
            Payload::Composed { text, json } => {
                Self { status: 1, text: format!("OK|{text}"), request: json.to_json(), extras: Vec::new() }
            }
        };
        worded.extras.clone_from(&solved.extras);
        if place == ReplyContext::GetWithPrice {
            // Our choice for a price that the upstream did not tell: clients that split at `|` count on a third part.
            let price = solved.cost.as_deref().unwrap_or("0");
            let _ = write!(worded.text, "|{price}");
            worded.extras.push(("price", price.to_owned()));
        }
        worded
    }

    /// An answer behind `OK|`.
    fn ok(answer: &str) -> Self {
        Self { status: 1, text: format!("OK|{answer}"), request: json_text(answer), extras: Vec::new() }
    }

    /// A word that stands alone.
    fn bare(status: u8, word: &str) -> Self {
        Self { status, text: word.to_owned(), request: json_text(word), extras: Vec::new() }
    }

    fn json(&self) -> String {
        let mut json = format!("{{\"status\":{},\"request\":{}", self.status, self.request);
        for (name, text) in &self.extras {
            let _ = write!(json, ",{}:{}", json_text(name), json_text(text));
        }
        json.push('}');
        json
    }
}

/// One answer of several.
fn word(outcome: &Result<Outcome, Failure>, place: ReplyContext) -> String {
    match outcome {
        Ok(Outcome::NotReady) => NOT_READY.to_owned(),
        Ok(Outcome::Solved(solved)) => solved.payload.to_text(),
        Ok(Outcome::Failed(failure)) | Err(failure) => code(failure, place).to_owned(),
    }
}
