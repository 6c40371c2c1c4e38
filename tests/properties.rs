//! Properties of the pure core over generated inputs.

use std::sync::Arc;

use bytes::Bytes;
use capgate::config::Config;
use capgate::domain::{Account, Failure, Op, OpResult, Outcome, Solved};
use capgate::http::{Inbound, Verb};
use capgate::legacy::{self, Notation, ReplyContext, Script, Style};
use capgate::methods::{Method, Payload, Table};
use capgate::native::{Answer, answer, call};
use proptest::prelude::*;
use serde_json::Value as Json;

use crate::support::samples::append_samples;

fn limits() -> legacy::Limits {
    Config::default().legacy_limits()
}

fn post(content_type: &str, body: Vec<u8>) -> Inbound {
    Inbound {
        client: None,
        verb: Verb::Post,
        path: "/in.php".to_owned(),
        query: Bytes::new(),
        content_type: Bytes::copy_from_slice(content_type.as_bytes()),
        body: Bytes::from(body),
    }
}

/// Bytes that resemble a form.
fn form_like_bytes() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        Just("key=K&method=userrecaptcha&".to_owned()),
        Just("--x\r\nContent-Disposition: form-data; name=\"".to_owned()),
        Just("--x--".to_owned()),
        Just("\r\n\r\n".to_owned()),
        Just("{\"key\":\"K\",".to_owned()),
        Just("body=data:image/png;base64,".to_owned()),
        Just("filename=\"".to_owned()),
        "[ -~]{0,12}",
    ];
    let bytes = prop::collection::vec(any::<u8>(), 0..12);
    let piece = prop_oneof![4 => word.prop_map(String::into_bytes), 1 => bytes];
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

fn content_type() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(String::new()),
        Just("application/json".to_owned()),
        Just("application/x-www-form-urlencoded".to_owned()),
        Just("multipart/form-data; boundary=x".to_owned()),
        Just("multipart/form-data; boundary=\"x".to_owned()),
        "[ -~]{0,30}",
    ]
}

fn style(context: ReplyContext, notation: Notation) -> Style {
    Style { context, notation, allow_any_origin: false }
}

const CONTEXTS: [ReplyContext; 7] = [
    ReplyContext::Submit,
    ReplyContext::Get,
    ReplyContext::GetWithPrice,
    ReplyContext::GetMany,
    ReplyContext::Report,
    ReplyContext::Balance,
    ReplyContext::UnknownAction,
];

fn failures() -> Vec<Failure> {
    use Failure as F;
    vec![
        F::KeyMalformed,
        F::KeyUnknown,
        F::ZeroBalance,
        F::AddressRefused,
        F::ActionMissing,
        F::ActionUnknown,
        F::MethodUnknown,
        F::Parameter("x"),
        F::Parameters,
        F::PageUrl,
        F::SiteKeyMissing,
        F::SiteKey,
        F::ProxyFormat,
        F::ProxyBad,
        F::Upload,
        F::ImageTooSmall,
        F::ImageTooBig,
        F::ImageType,
        F::IdMalformed,
        F::TaskUnknown,
        F::Unsolvable,
        F::TaskUnsupported,
        F::NoProviders,
        F::NotSent,
        F::Unavailable,
        F::OutcomeUnknown,
        F::ReportDuplicate,
        F::ReportRefused,
        F::Other("ERROR_BAD_DUPLICATES".into()),
    ]
}

#[test]
fn every_failure_has_a_code_that_clients_recognise() {
    for failure in failures() {
        for context in CONTEXTS {
            let code = legacy::codes::code(&failure, context);
            let is_poll = matches!(context, ReplyContext::Get | ReplyContext::GetWithPrice | ReplyContext::GetMany);
            let is_recognisable = code.starts_with("ERROR_") || (is_poll && code == legacy::codes::NOT_READY);
            assert!(is_recognisable, "{failure:?} in {context:?} has code {code}");
            let reply = legacy::render(&Err(failure.clone()), style(context, Notation::Json));
            let json: Json = serde_json::from_slice(&reply.body).expect("JSON");
            assert_eq!((reply.status, &json["status"], json["request"].as_str()), (200, &Json::from(0), Some(code)));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn every_request_is_decoded_or_refused(
        content_type in content_type(),
        query in "[ -~]{0,60}",
        body in form_like_bytes(),
        is_post: bool,
    ) {
        for script in [Script::In, Script::Res] {
            let mut inbound = post(&content_type, body.clone());
            inbound.query = Bytes::from(query.clone().into_bytes());
            inbound.verb = if is_post { Verb::Post } else { Verb::Get };
            let request = legacy::decode(script, &inbound, &limits());
            if let Err(failure) = request.op {
                let reply = legacy::render(&Err(failure), request.style);
                prop_assert_eq!(reply.status, 200);
            }
        }
    }

    #[test]
    fn every_native_answer_is_parsed_or_a_failure(status in 200_u16..600, body in prop_oneof![
        prop::collection::vec(any::<u8>(), 0..60),
        "\\{\"errorId\":[01],\"(status|taskId|errorCode|balance)\":(\"ready\"|\"failed\"|1e999|null|\\[\\]|\"ERROR_X\")(,\"solution\":(\\{\\}|\\{\"token\":\"T\"\\}|7))?\\}".prop_map(String::into_bytes),
    ]) {
        let answer = Answer::new(status, Bytes::from(body));
        for method in Table::default().rows() {
            if let Ok(Outcome::Solved(solved)) = answer::parse_task_result(&answer, method, None) {
                prop_assert!(solved.size_bytes() > 0 && solved.payload != Payload::Text(String::new()));
            }
            let _ = answer::parse_created_task(&answer, method);
        }
        prop_assert!(answer::parse_balance(&answer).map_or(true, f64::is_finite));
        let _ = answer::parse_feedback(&answer);
    }

    #[test]
    fn text_and_json_carry_the_same_answer(
        text in "\\PC{1,40}|[|\"\\\\<>&\u{0}-\u{1f}]{1,10}",
        price in "0\\.[0-9]{1,6}",
    ) {
        let solved = Solved {
            payload: Payload::Text(text.clone()),
            extras: vec![("useragent", text.clone())],
            cost: Some(price.clone()),
            took_ms: None,
        };
        let done = Ok(OpResult::Polled(Outcome::Solved(Arc::new(solved))));
        let get = (ReplyContext::Get, format!("OK|{text}"));
        let get_with_price = (ReplyContext::GetWithPrice, format!("OK|{text}|{price}"));
        for (context, expected) in [get, get_with_price] {
            let reply = legacy::render(&done, style(context, Notation::Text));
            prop_assert_eq!(&reply.body[..], expected.as_bytes());
            let reply = legacy::render(&done, style(context, Notation::Json));
            let json: Json = serde_json::from_slice(&reply.body).expect("JSON");
            prop_assert_eq!(json["request"].as_str(), Some(text.as_str()));
            prop_assert_eq!(json["useragent"].as_str(), Some(text.as_str()));
            prop_assert_eq!(json["price"].as_str(), (context == ReplyContext::GetWithPrice).then_some(price.as_str()));
        }
    }

    #[test]
    fn a_submit_sends_only_the_fields_of_its_row(
        extra in prop::collection::vec(("[a-z_]{1,12}", "[ -~]{0,20}"), 0..12),
    ) {
        for method in Table::default().rows() {
            let mut form = url::form_urlencoded::Serializer::new(String::new());
            form.append_pair("key", "K").append_pair("method", method.legacy[0]);
            append_samples(&mut form, method, |_| true);
            let names: Vec<&str> = method.params.iter().flat_map(|param| param.legacy.iter().copied()).collect();
            let selects_the_row = [
                "key", "method", "version", "enterprise", "proxy", "proxytype", "recaptcha", "canvas",
                "coordinatescaptcha", "textcaptcha", "selectionMode", "provider",
            ];
            let known = |name: &str| names.contains(&name) || selects_the_row.contains(&name);
            form.extend_pairs(extra.iter().filter(|(name, _)| !known(name)));
            let inbound = post("application/x-www-form-urlencoded", form.finish().into_bytes());
            let request = legacy::decode(Script::In, &inbound, &limits());
            let Ok((account, Op::Submit(tasks))) = request.op else {
                return Err(TestCaseError::fail(format!("{} was not decoded: {:?}", method.name, request.op)));
            };
            prop_assert_eq!((tasks.len(), tasks[0].method.name), (1, method.name));
            check_fields(method, &call::create_task(&account, &tasks[0]).body)?;
        }
    }
}

fn check_fields(method: &Method, body: &[u8]) -> Result<(), TestCaseError> {
    let json: Json = serde_json::from_slice(body).expect("JSON");
    prop_assert_eq!(json.as_object().map(serde_json::Map::len), Some(2));
    prop_assert_eq!(json["clientKey"].as_str(), Some("K"));
    for (name, value) in json["task"].as_object().expect("a task") {
        let is_proxy = name == "proxy" && method.task_type.proxied.is_some();
        let is_named = name == "type"
            || is_proxy
            || method.params.iter().any(|param| {
                param.native.split('.').next() == Some(name) && (param.native == name || value.is_object())
            });
        prop_assert!(is_named, "{} sends {}", method.name, name);
    }
    Ok(())
}

#[test]
fn an_account_is_never_printed() {
    let account = Account::new("c0ffee00").expect("a key");
    let op = Op::Balance;
    assert!(!format!("{account:?} {op:?} {:?}", call::get_balance(&account)).contains("c0ffee"));
    for bad in ["", " ", "a b", "\u{e9}", &"a".repeat(129)] {
        assert_eq!(Account::new(bad).expect_err("a malformed key"), Failure::KeyMalformed);
    }
}

/// Runs a submit of every row through decoding, the sandbox, and both renderings.
#[test]
fn every_row_has_the_same_answer_in_text_and_json() {
    let sandbox = capgate::sandbox::Sandbox::new(capgate::sandbox::Options {
        solve_ms: 0,
        ..Config::default().sandbox_options()
    });
    for method in Table::default().rows() {
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.append_pair("key", "K").append_pair("method", method.legacy[0]);
        append_samples(&mut form, method, |need| need == capgate::methods::Need::Required);
        let inbound = post("application/x-www-form-urlencoded", form.finish().into_bytes());
        let Ok((account, Op::Submit(tasks))) = legacy::decode(Script::In, &inbound, &limits()).op else {
            panic!("{} was not decoded", method.name);
        };
        let reply = sandbox.answer("/createTask", &call::create_task(&account, &tasks[0]).body, 0);
        let answer = Answer::new(reply.status, Bytes::from(reply.body.clone()));
        let accepted =
            answer::parse_created_task(&answer, method).unwrap_or_else(|why| panic!("{}: {why:?}", method.name));
        let outcome = accepted.outcome.unwrap_or_else(|| panic!("{}: {}", method.name, reply.body));
        assert!(matches!(outcome, Outcome::Solved(_)), "{}: {outcome:?}", method.name);
        let render =
            |notation| legacy::render(&Ok(OpResult::Polled(outcome.clone())), style(ReplyContext::Get, notation)).body;
        let text = String::from_utf8(render(Notation::Text).to_vec()).expect("text");
        let text = text.strip_prefix("OK|").unwrap_or_else(|| panic!("{}: {text}", method.name));
        let json: Json = serde_json::from_slice(&render(Notation::Json)).expect("JSON");
        match &json["request"] {
            Json::String(same) => assert_eq!(text, same, "{}", method.name),
            // Text composes coordinates; it contains the numbers of the JSON list in the same order.
            list if text.starts_with("coordinates:") => {
                let numbers: Vec<&str> = list
                    .as_array()
                    .expect("a list")
                    .iter()
                    .flat_map(|point| [&point["x"], &point["y"]])
                    .map(|number| number.as_str().expect("a string"))
                    .collect();
                let found: Vec<&str> =
                    text.split(|c: char| !c.is_ascii_digit()).filter(|digits| !digits.is_empty()).collect();
                assert_eq!(found, numbers, "{}", method.name);
            }
            object => assert_eq!(&serde_json::from_str::<Json>(text).expect("JSON"), object, "{}", method.name),
        }
    }
}
