//! `capgate translate`: one request, and what the gateway would make of it, without a network.
//!
//! The tool to reach for when an integration misbehaves: it shows how the request was read, the native call that would be
//! sent and, given a native answer, what the client would be told; of a refusal it names the parameter and the rule.
//! Keys are never shown. Pure: text in, text out.

use std::fmt::Write;

use bytes::Bytes;

use crate::domain::{Account, Failure, LegacyId, NativeId, Op, OpResult, Outcome, Task, TaskRef};
use crate::http::{Inbound, Verb};
use crate::legacy::{self, Limits, Notation, ReplyContext, Request, Script, Style};
use crate::methods::{Method, json_text};
use crate::native::{Answer, Call, answer, call};

/// Why nothing could be translated: the request is none of this API's.
pub type Unreadable = String;

/// Reads a request: a URL (or the part behind the host), with a body where there is one.
///
/// # Errors
/// When the path is no script of the legacy API.
pub fn from_url(url: &str, body: Option<&[u8]>, content_type: &str) -> Result<Inbound, Unreadable> {
    let target = match url.strip_prefix("http://").or_else(|| url.strip_prefix("https://")) {
        Some(rest) => rest.find('/').map_or("/", |at| rest.split_at(at).1),
        None => url,
    };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let inbound = Inbound {
        verb: if body.is_some() { Verb::Post } else { Verb::Get },
        path: path.to_owned(),
        query: Bytes::copy_from_slice(query.as_bytes()),
        content_type: Bytes::copy_from_slice(content_type.as_bytes()),
        body: Bytes::copy_from_slice(body.unwrap_or_default()),
    };
    check(inbound)
}

/// Reads a raw HTTP request, as a proxy or a packet capture shows it.
///
/// # Errors
/// When it has no request line, or the path is no script of the legacy API.
pub fn from_http(raw: &[u8]) -> Result<Inbound, Unreadable> {
    let (head, body) = match memchr::memmem::find(raw, b"\r\n\r\n") {
        Some(at) => (raw.get(..at), raw.get(at + 4..)),
        None => match memchr::memmem::find(raw, b"\n\n") {
            Some(at) => (raw.get(..at), raw.get(at + 2..)),
            None => (Some(raw), None),
        },
    };
    let head = String::from_utf8_lossy(head.unwrap_or_default()).into_owned();
    let mut lines = head.lines();
    let mut words = lines.next().unwrap_or_default().split_ascii_whitespace();
    let (Some(verb), Some(target)) = (words.next(), words.next()) else {
        return Err("the file has no request line, such as \"GET /res.php?… HTTP/1.1\"".to_owned());
    };
    let headers = lines.filter_map(|line| line.split_once(':'));
    let content_type = headers
        .filter(|(name, _)| name.trim().eq_ignore_ascii_case("content-type"))
        .map(|(_, text)| text.trim())
        .next_back();
    let mut inbound = from_url(target, body.filter(|_| verb == "POST"), content_type.unwrap_or_default())?;
    if verb != "GET" && verb != "POST" {
        return Err(format!("the verb {verb} asks for nothing here: GET or POST"));
    }
    if verb == "POST" {
        inbound.verb = Verb::Post;
    }
    Ok(inbound)
}

fn check(inbound: Inbound) -> Result<Inbound, Unreadable> {
    match Script::of(&inbound.path) {
        Some(_) => Ok(inbound),
        None => Err(format!("the path {} is neither /in.php nor /res.php", inbound.path)),
    }
}

/// What becomes of a request and, if one is given, of the native answer to it (HTTP status and body).
///
/// A poll does not name the row that its task was submitted under; `row` does.
///
/// # Errors
/// When there is no such row.
pub fn explain(
    inbound: &Inbound,
    native: Option<&Answer>,
    row: Option<&str>,
    limits: &Limits,
) -> Result<String, Unreadable> {
    let row = row.unwrap_or("recaptcha_v2");
    let mut rows = limits.submit.table.rows().iter();
    let method = rows.find(|known| known.name == row).ok_or(format!("no row {row} in docs/methods.md"))?;
    let script = Script::of(&inbound.path).unwrap_or(Script::Res);
    let request = legacy::decode(script, inbound, limits);
    let mut text = String::new();
    let name = if script == Script::In { "in.php" } else { "res.php" };
    let notation = if request.style.notation == Notation::Json { "JSON" } else { "text" };
    let _ = writeln!(text, "request:   {name}, {}, to be answered in {notation}", request.style.place.label());
    let (account, op) = match &request.meaning {
        Ok(meaning) => meaning,
        Err(failure) => {
            let _ = writeln!(text, "refused:   {}", rule(failure));
            tell(&mut text, &Err(failure.clone()), request.style);
            return Ok(text);
        }
    };
    if request.unknown > 0 {
        let _ = writeln!(text, "ignored:   {} parameters that mean nothing here", request.unknown);
    }
    match op {
        Op::Submit(tasks) => submits(&mut text, account, tasks, native, &request),
        Op::Poll(id) => polls(&mut text, account, &stand_in(account, *id, method), native, request.style),
        Op::PollMany(ids) => {
            let _ = writeln!(text, "call:      one getTaskResult for each of {} ids that is not settled", ids.len());
        }
        Op::Report(id, verdict) => {
            show(&mut text, account, &call::feedback_task(&stand_in(account, *id, method), *verdict));
            if let Some(native) = native {
                tell(&mut text, &answer::feedback(native).map(|()| OpResult::Reported), request.style);
            }
        }
        Op::Balance => {
            show(&mut text, account, &call::get_balance(account));
            if let Some(native) = native {
                tell(&mut text, &answer::balance(native).map(OpResult::Balance), request.style);
            }
        }
        Op::ListErrors => tell(&mut text, &Ok(OpResult::Errors), request.style),
    }
    Ok(text)
}

fn submits(text: &mut String, account: &Account, tasks: &[Task], native: Option<&Answer>, request: &Request) {
    for task in tasks {
        let _ = writeln!(text, "row:       {} (docs/methods.md)", task.method.name);
        show(text, account, &call::create_task(account, task));
    }
    let (Some(native), Some(task)) = (native, tasks.first()) else { return };
    match answer::created(native, task.method) {
        Ok(accepted) => {
            tell(text, &Ok(OpResult::Submitted(STAND_IN_ID)), request.style);
            if let Some(outcome) = accepted.outcome {
                text.push_str("polled:    answered from memory\n");
                tell(text, &Ok(OpResult::Polled(outcome)), Style { place: ReplyContext::Get, ..request.style });
            }
        }
        // Whether it was taken is unknown: the client gets an id, and "not ready" when it polls.
        Err(Failure::OutcomeUnknown) => {
            text.push_str("fate:      unknown; the id reads as not ready, then as unsolvable; never sent again\n");
            tell(text, &Ok(OpResult::Submitted(STAND_IN_ID)), request.style);
        }
        Err(failure) => tell(text, &Err(failure), request.style),
    }
}

fn polls(text: &mut String, account: &Account, task: &TaskRef, native: Option<&Answer>, style: Style) {
    show(text, account, &call::get_task_result(task));
    if let Some(native) = native {
        let _ = writeln!(text, "row:       {}", task.method.name);
        tell(text, &answer::result(native, task.method).map(OpResult::Polled), style);
    }
}

/// What stands for an id that only a running gateway knows.
const STAND_IN_ID: LegacyId = LegacyId(123_456_789_012);

fn stand_in(account: &Account, id: LegacyId, method: &'static Method) -> TaskRef {
    TaskRef { account: account.clone(), native: NativeId::new(&format!("native id of {id}")), method }
}

fn show(text: &mut String, account: &Account, call: &Call) {
    let body = String::from_utf8_lossy(&call.body);
    // The key stands there as JSON text; nothing else of the call is secret.
    let body = body.replacen(&format!("\"clientKey\":{}", json_text(account.reveal())), "\"clientKey\":\"***\"", 1);
    let _ = writeln!(text, "call:      POST {} {body}", call.endpoint.path());
}

fn tell(text: &mut String, result: &Result<OpResult, Failure>, style: Style) {
    for (name, notation) in [("text:     ", Notation::Text), ("JSON:     ", Notation::Json)] {
        let reply = legacy::render(result, Style { notation, ..style });
        let _ = writeln!(text, "{name} {}", String::from_utf8_lossy(&reply.body));
    }
    if let Ok(OpResult::Polled(Outcome::NotReady)) = result {
        text.push_str("           (asked again after the not-ready time)\n");
    }
}

/// Which parameter is at fault, and against which rule.
fn rule(failure: &Failure) -> String {
    match failure {
        Failure::KeyMalformed => "key: missing, longer than 128 characters, or not printable ASCII".to_owned(),
        Failure::ActionMissing => "action: missing".to_owned(),
        Failure::ActionUnknown => "action: none of get, get2, getbalance, reportgood, reportbad".to_owned(),
        Failure::MethodUnknown => {
            "method: missing or in no row of docs/methods.md, and no file, body or textcaptcha says what is meant".to_owned()
        }
        Failure::PageUrl => "pageurl: missing, or not an absolute http or https URL with a host".to_owned(),
        Failure::SiteKeyMissing => "googlekey: missing".to_owned(),
        Failure::SiteKey => "googlekey: holds a character other than letters, digits, - and _".to_owned(),
        Failure::ProxyFormat => {
            "proxy: not [login:password@]host:port with a port from 1 to 65535, or proxytype none of HTTP, HTTPS, SOCKS4, \
             SOCKS5"
                .to_owned()
        }
        Failure::Upload => "file or body: missing, not base64, or a multipart body that is cut off".to_owned(),
        Failure::ImageTooSmall => "file or body: below 100 bytes".to_owned(),
        Failure::ImageTooBig => "file or body: above limits.image_bytes_max".to_owned(),
        Failure::ImageType => "file or body: neither JPEG nor PNG nor GIF, by its first bytes".to_owned(),
        Failure::IdMalformed => "id: missing, or not decimal digits".to_owned(),
        Failure::TaskUnknown => "id: beyond any id that a gateway issues".to_owned(),
        Failure::Parameter("proxy") => "proxy: required by this method".to_owned(),
        Failure::Parameter(name) => {
            format!("{name}: missing, said twice with different texts, too long, or not of its kind (docs/methods.md)")
        }
        other => format!("{other:?}"),
    }
}
