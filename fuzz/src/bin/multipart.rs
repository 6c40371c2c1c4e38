//! Decodes uploads. Input: the parameters of the content type up to the first line feed, then the body. The media type
//! is fixed, so that no run exercises another parser.
#![no_main]

use capgate::http::Verb;
use capgate::legacy::Script;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let (parameters, body) = capgate_fuzz::split_line(data);
    let content_type = [b"multipart/form-data;", parameters].concat();
    // If the body cannot be parsed, only the query can request JSON.
    for query in ["", "key=K&json=1"] {
        let inbound = capgate_fuzz::inbound(Verb::Post, query.as_bytes(), &content_type, body);
        capgate_fuzz::decode(Script::In, &inbound);
    }
});
