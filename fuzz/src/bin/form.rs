//! Query and body through both scripts. The input is a digit that chooses verb and content type, the query up to the
//! first line feed, and the body.
#![no_main]

use capgate::http::Verb;
use capgate::legacy::Script;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let (line, body) = capgate_fuzz::line(data);
    let Some((choice, query)) = line.split_first() else { return };
    let (verb, content_type) = match choice % 4 {
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
