//! Decodes a query and a body for both scripts. Input: a digit that selects verb and content type, the query up to the
//! first line feed, then the body.

use capgate::http::Verb;
use capgate::legacy::Script;

use super::checks;

/// Runs one input.
///
/// # Panics
/// If a check fails.
pub fn run(data: &[u8]) {
    let (line, body) = checks::split_line(data);
    let Some((selector, query)) = line.split_first() else { return };
    let (verb, content_type) = match selector % 4 {
        0 => (Verb::Get, ""),
        1 => (Verb::Post, ""),
        2 => (Verb::Post, "application/x-www-form-urlencoded"),
        _ => (Verb::Post, "application/json"),
    };
    let inbound = checks::inbound(verb, query, content_type.as_bytes(), body);
    for script in [Script::In, Script::Res] {
        checks::decode(script, &inbound);
    }
}
