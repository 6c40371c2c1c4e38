//! Shared by the targets: splitting of inputs, and invariants of every reply.

use std::sync::LazyLock;

use bytes::Bytes;
use capgate::config::Config;
use capgate::domain::{Failure, Op, OpResult};
use capgate::http::{Inbound, Verb};
use capgate::legacy::{self, Limits, Notation, ReplyContext, Script, Style};
use capgate::native::call;
use serde_json::Value as Json;

static LIMITS: LazyLock<Limits> = LazyLock::new(|| Config::default().legacy_limits());

/// Splits an input at its first line feed. This format keeps crashing inputs readable and writable by hand.
pub fn split_line(data: &[u8]) -> (&[u8], &[u8]) {
    let end = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    (&data[..end], data.get(end + 1..).unwrap_or_default())
}

/// A request as the server passes it to the gateway.
pub fn inbound(verb: Verb, query: &[u8], content_type: &[u8], body: &[u8]) -> Inbound {
    Inbound {
        client: None,
        verb,
        path: String::from("/in.php"),
        query: Bytes::copy_from_slice(query),
        content_type: Bytes::copy_from_slice(content_type),
        body: Bytes::copy_from_slice(body),
    }
}

/// Decodes a request. Checks that a refusal renders, and that an accepted submit encodes as a native call.
///
/// # Panics
/// If a check fails.
pub fn decode(script: Script, inbound: &Inbound) {
    let request = legacy::decode(script, inbound, &LIMITS);
    match request.op {
        Err(failure) => check(&Err(failure), request.style),
        Ok((account, Op::Submit(tasks))) => {
            assert!(!tasks.is_empty(), "a submit without a task");
            for task in &tasks {
                let call = call::create_task(&account, task);
                let json: Json = serde_json::from_slice(&call.body).expect("a JSON call");
                assert!(json["task"]["type"].is_string(), "{} without a type", task.method.name);
            }
        }
        Ok(_) => {}
    }
}

/// Renders a result in both notations and checks both replies.
pub fn check_both(result: &Result<OpResult, Failure>, context: ReplyContext) {
    for notation in [Notation::Text, Notation::Json] {
        check(result, Style { context, notation, allow_any_origin: false });
    }
}

fn check(result: &Result<OpResult, Failure>, style: Style) {
    let reply = legacy::render(result, style);
    assert_eq!(reply.status, 200, "{result:?} at {style:?}");
    assert!(!reply.body.is_empty(), "{result:?} at {style:?} renders empty");
    assert!(std::str::from_utf8(&reply.body).is_ok(), "{result:?} at {style:?} is not UTF-8");
    if style.notation == Notation::Json {
        let json: Result<Json, _> = serde_json::from_slice(&reply.body);
        let is_complete = json.is_ok_and(|json| json["status"].is_u64() && !json["request"].is_null());
        assert!(is_complete, "{result:?} at {style:?} is {:?}", reply.body);
    }
}
