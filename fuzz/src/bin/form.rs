//! Decodes a query and a body for both scripts. Input: a digit that selects verb and content type, the query up to the
//! first line feed, then the body.
#![no_main]

use capgate::http::Verb;
use capgate::legacy::Script;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let (line, body) = capgate_fuzz::split_line(data);
    let Some((selector, query)) = line.split_first() else { return };
    let (verb, content_type) = match selector % 4 {
        0 => (Verb::Get, ""),
        1 => (Verb::Post, ""),
        2 => (Verb::Post, "application/x-www-form-urlencoded"),
        _ => (Verb::Post, "application/json"),
    };
    let inbound = capgate_fuzz::inbound(verb, query, content_type.as_bytes(), body);
    for script in [Script::In, Script::Res] {
        capgate_fuzz::decode(script, &inbound);
    }
});
