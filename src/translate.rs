//! `capgate translate`: shows how the gateway handles one request, without a network.
//!
//! The output contains the decoded request, the resulting native call and, given a native answer, the reply to the
//! client. For a refused request, it names the parameter and the rule. Secrets are masked. Pure: text in, text out.

use std::fmt::Write;

use bytes::Bytes;
use serde_json::Value as Json;

use crate::domain::{Account, Failure, LegacyId, NativeId, Op, OpResult, Outcome, Task, TaskRef, UpstreamId};
use crate::http::{Inbound, Verb};
use crate::legacy::{self, Limits, Notation, ReplyContext, Request, Script, Style};
use crate::methods::Method;
use crate::native::{Answer, Call, answer, call};

/// Parses a request from a URL, or from its path and query, and a body if there is one.
///
/// # Errors
/// If the path is not a script of the legacy API.
pub fn from_url(url: &str, body: Option<&[u8]>, content_type: &str) -> Result<Inbound, String> {
    let target = match url.strip_prefix("http://").or_else(|| url.strip_prefix("https://")) {
        Some(rest) => rest.find('/').map_or("/", |at| rest.split_at(at).1),
        None => url,
    };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    if Script::from_path(path).is_none() {
        // The error omits the path, which contains the key if it is followed by "&" and not by "?".
        return Err("the path is neither /in.php nor /res.php".to_owned());
    }
    Ok(Inbound {
        client: None,
        verb: if body.is_some() { Verb::Post } else { Verb::Get },
        path: path.to_owned(),
        query: Bytes::copy_from_slice(query.as_bytes()),
        content_type: Bytes::copy_from_slice(content_type.as_bytes()),
        body: Bytes::copy_from_slice(body.unwrap_or_default()),
    })
}

/// Parses a raw HTTP request, as a proxy or a packet capture shows it.
///
/// # Errors
/// If there is no request line, or the path is not a script of the legacy API, or the method is neither GET nor POST.
pub fn from_http(raw: &[u8]) -> Result<Inbound, String> {
    let (head, body) = match memchr::memmem::find(raw, b"\r\n\r\n") {
        Some(at) => (raw.get(..at), raw.get(at + 4..)),
        None => match memchr::memmem::find(raw, b"\n\n") {
            Some(at) => (raw.get(..at), raw.get(at + 2..)),
            None => (Some(raw), None),
        },
    };
    let head = String::from_utf8_lossy(head.unwrap_or_default()).into_owned();
    let mut lines = head.lines();
    let mut request_line = lines.next().unwrap_or_default().split_ascii_whitespace();
    let (Some(verb), Some(target)) = (request_line.next(), request_line.next()) else {
        return Err("no request line such as \"GET /res.php?… HTTP/1.1\"".to_owned());
    };
    let headers = lines.filter_map(|line| line.split_once(':'));
    let content_type = headers
        .filter(|(name, _)| name.trim().eq_ignore_ascii_case("content-type"))
        .map(|(_, text)| text.trim())
        .next_back();
    let mut inbound = from_url(target, body.filter(|_| verb == "POST"), content_type.unwrap_or_default())?;
    if verb != "GET" && verb != "POST" {
        return Err("the HTTP method is neither GET nor POST".to_owned());
    }
    if verb == "POST" {
        inbound.verb = Verb::Post;
    }
    Ok(inbound)
}

/// Describes how a request is handled and, given the native answer (HTTP status and body), the reply to it.
///
/// `row` names the row under which a polled task was submitted, because the poll itself does not.
///
/// # Errors
/// If there is no such row.
pub fn explain(
    inbound: &Inbound,
    native: Option<&Answer>,
    row: Option<&str>,
    limits: &Limits,
) -> Result<String, String> {
    let row = row.unwrap_or("recaptcha_v2");
    let mut rows = limits.submit.table.rows().iter();
    let method = rows.find(|known| known.name == row).ok_or_else(|| format!("no row {row} in docs/methods.md"))?;
    let script = Script::from_path(&inbound.path).unwrap_or(Script::Res);
    let request = legacy::decode(script, inbound, limits);
    let mut text = String::new();
    let name = if script == Script::In { "in.php" } else { "res.php" };
    let notation = if request.style.notation == Notation::Json { "JSON" } else { "text" };
    let _ = writeln!(text, "request:   {name}, {}, reply in {notation}", request.style.context.label());
    let (account, op) = match &request.op {
        Ok(op) => op,
        Err(failure) => {
            let _ = writeln!(text, "refused:   {}", describe(failure));
            write_reply(&mut text, &Err(failure.clone()), request.style);
            return Ok(text);
        }
    };
    if request.unknown_parameters > 0 {
        let _ = writeln!(text, "ignored:   {} unknown parameters", request.unknown_parameters);
    }
    match op {
        Op::Submit(tasks) => explain_submit(&mut text, account, tasks, native, &request),
        Op::Poll(id) => explain_poll(&mut text, &placeholder_task(account, *id, method), native, request.style),
        Op::PollMany(ids) => {
            let _ = writeln!(text, "call:      getTaskResult for each of the {} ids that is not settled", ids.len());
        }
        Op::Report(id, verdict) => {
            let task = placeholder_task(account, *id, method);
            write_call(&mut text, &call::feedback_task(&task, *verdict));
            if let Some(native) = native {
                let result = answer::parse_feedback(native).map(|()| OpResult::Reported);
                write_reply(&mut text, &result, request.style);
            }
        }
        Op::Balance => {
            write_call(&mut text, &call::get_balance(account));
            if let Some(native) = native {
                write_reply(&mut text, &answer::parse_balance(native).map(OpResult::Balance), request.style);
            }
        }
        Op::ListErrors => write_reply(&mut text, &Ok(OpResult::Errors), request.style),
    }
    Ok(text)
}

fn explain_submit(text: &mut String, account: &Account, tasks: &[Task], native: Option<&Answer>, request: &Request) {
    for task in tasks {
        let _ = writeln!(text, "row:       {} (docs/methods.md)", task.method.name);
        let mut task = task.clone();
        task.resolve_previous(|previous| Some(call::id_to_value(&placeholder_native_id(previous))));
        write_call(text, &call::create_task(account, &task));
    }
    let (Some(native), Some(task)) = (native, tasks.first()) else { return };
    match answer::parse_created_task(native, task.method) {
        Ok(created) => {
            write_reply(text, &Ok(OpResult::Submitted(PLACEHOLDER_ID)), request.style);
            if let Some(outcome) = created.outcome {
                text.push_str("poll:      answered from memory\n");
                let style = Style { context: ReplyContext::Get, ..request.style };
                write_reply(text, &Ok(OpResult::Polled(outcome)), style);
            }
        }
        Err(Failure::OutcomeUnknown) => {
            text.push_str(
                "outcome:   unknown; the submit is not repeated, polls get \"not ready\" and finally \"unsolvable\"\n",
            );
            write_reply(text, &Ok(OpResult::Submitted(PLACEHOLDER_ID)), request.style);
        }
        Err(failure) => write_reply(text, &Err(failure), request.style),
    }
}

fn explain_poll(text: &mut String, task: &TaskRef, native: Option<&Answer>, style: Style) {
    write_call(text, &call::get_task_result(task));
    if let Some(native) = native {
        let _ = writeln!(text, "row:       {}", task.method.name);
        let outcome = answer::parse_task_result(native, task.method, None).unwrap_or_else(|masked| {
            let _ = writeln!(text, "masked:    {}; the answer says nothing about the task", masked.cause.label());
            Outcome::NotReady
        });
        write_reply(text, &Ok(OpResult::Polled(outcome)), style);
    }
}

/// Stands in for an id that only a running gateway issues.
const PLACEHOLDER_ID: LegacyId = LegacyId(123_456_789_012);

/// Builds a task with a placeholder for its native id, which only a running gateway knows.
fn placeholder_task(account: &Account, id: LegacyId, method: &'static Method) -> TaskRef {
    let native = placeholder_native_id(id);
    TaskRef { account: account.clone(), upstream: UpstreamId::DEFAULT, native, method }
}

fn placeholder_native_id(id: LegacyId) -> NativeId {
    NativeId::new(&format!("native id of {id}"))
}

fn write_call(text: &mut String, call: &Call) {
    let mut body = serde_json::from_slice(&call.body).unwrap_or_default();
    mask_secrets("", &mut body);
    let _ = writeln!(text, "call:      POST {} {body}", call.endpoint.path());
}

/// Masks the secrets of a call: the key, cookies, and the credentials of the proxy and of page URLs. `name` is the name
/// of the value.
fn mask_secrets(name: &str, value: &mut Json) {
    match value {
        Json::Object(members) => members.iter_mut().for_each(|(name, value)| {
            if name == "clientKey" || name.to_ascii_lowercase().contains("cookie") {
                *value = "***".into();
            } else {
                mask_secrets(name, value);
            }
        }),
        Json::Array(items) => items.iter_mut().for_each(|item| mask_secrets(name, item)),
        Json::String(text) => {
            let Some((scheme, rest)) = text.split_once("://") else { return };
            // A password of a proxy may contain a slash; in any other URL, a slash ends the host.
            let end = if name == "proxy" { rest.len() } else { rest.find(['/', '?', '#']).unwrap_or(rest.len()) };
            if let Some(at) = rest.get(..end).and_then(|authority| authority.rfind('@')) {
                *text = format!("{scheme}://***{}", rest.split_at(at).1);
            }
        }
        Json::Null | Json::Bool(_) | Json::Number(_) => {}
    }
}

fn write_reply(text: &mut String, result: &Result<OpResult, Failure>, style: Style) {
    for (name, notation) in [("text:     ", Notation::Text), ("JSON:     ", Notation::Json)] {
        let reply = legacy::render(result, Style { notation, ..style });
        let _ = writeln!(text, "{name} {}", String::from_utf8_lossy(&reply.body));
    }
    if let Ok(OpResult::Polled(Outcome::NotReady)) = result {
        text.push_str("           (the gateway polls the upstream again later)\n");
    }
}

/// Names the refused parameter and the rule that it violates.
fn describe(failure: &Failure) -> String {
    let rule = match failure {
        Failure::KeyMalformed => "key: missing, longer than 128 characters, or not printable ASCII",
        Failure::ActionMissing => "action: missing",
        Failure::ActionUnknown => "action: none of get, get2, getbalance, reportgood, reportbad",
        Failure::MethodUnknown => {
            "method: missing or in no row of docs/methods.md, and no file, body or textcaptcha implies a method"
        }
        Failure::PageUrl => "pageurl: missing, or not an absolute http or https URL with a host",
        Failure::SiteKeyMissing => "googlekey: missing",
        Failure::SiteKey => "googlekey: contains a character other than letters, digits, - and _",
        Failure::ProxyFormat => {
            "proxy: not [login:password@]host:port with a port from 1 to 65535, or proxytype none of HTTP, HTTPS, \
             SOCKS4, SOCKS5"
        }
        Failure::Upload => "file or body: missing, not base64, or a truncated multipart body",
        Failure::ImageTooSmall => "file or body: below 100 bytes",
        Failure::ImageTooBig => "file or body: above limits.image_bytes_max",
        Failure::ImageType => "file or body: not JPEG, PNG or GIF, according to its first bytes",
        Failure::IdMalformed => "id: missing, or not decimal digits",
        Failure::TaskUnknown => "id: above any id that the gateway issues",
        Failure::Parameter("proxy") => "proxy: required by this method",
        Failure::Parameter(name) => {
            return format!(
                "{name}: missing, sent twice with different texts, too long, or malformed (docs/methods.md)"
            );
        }
        other => return format!("{other:?}"),
    };
    rule.to_owned()
}
