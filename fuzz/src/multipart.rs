//! Decodes uploads. Input: the parameters of the content type up to the first line feed, then the body. The media type
//! is fixed, so that no run exercises another parser.

use capgate::http::Verb;
use capgate::legacy::Script;

use super::checks;

/// Runs one input.
///
/// # Panics
/// If a check fails.
pub fn run(data: &[u8]) {
    let (parameters, body) = checks::split_line(data);
    let content_type = [b"multipart/form-data;", parameters].concat();
    // If the body cannot be parsed, only the query can request JSON.
    for query in ["", "key=K&json=1"] {
        let inbound = checks::inbound(Verb::Post, query.as_bytes(), &content_type, body);
        checks::decode(Script::In, &inbound);
    }
}
