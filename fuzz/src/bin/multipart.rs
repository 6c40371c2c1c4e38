//! Uploads. The input is the content type's parameters up to the first line feed, and the body. The media type is given,
//! so that no run is spent on other readers.
#![no_main]

use capgate::http::Verb;
use capgate::legacy::Script;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let (parameters, body) = capgate_fuzz::line(data);
    let content_type = [b"multipart/form-data;", parameters].concat();
    // Of a body that cannot be read nothing is known, so only the query can ask for JSON.
    for query in ["", "key=K&json=1"] {
        let inbound = capgate_fuzz::inbound(Verb::Post, query.as_bytes(), &content_type, body);
        capgate_fuzz::decode(Script::In, &inbound);
    }
});
