//! Writes the initial corpus: the kept corpora, each request and each native answer of the transcripts, the documented
//! configuration, and the inputs below. Their words form a dictionary for each target. Shares the transcript parser with the
//! tests.
//!
//!   seeds ROOT OUTPUT      writes OUTPUT/corpus/TARGET/… and OUTPUT/dictionaries/TARGET

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use transcript::Step;
use upstream_reply::UpstreamReply;

#[allow(dead_code, clippy::pedantic, reason = "the tests use all of it and have their own lints")]
#[path = "../../../tests/support/samples.rs"]
mod samples;
#[allow(dead_code, clippy::pedantic, reason = "as above")]
#[path = "../../../tests/support/transcript.rs"]
mod transcript;
#[allow(dead_code, clippy::pedantic, reason = "as above")]
#[path = "../../../tests/support/upstream_reply.rs"]
mod upstream_reply;

/// Fragments of syntax that are not words, in libFuzzer's escape syntax.
const DIALECT_SYNTAX: &[&str] = &[
    "\\x0d\\x0a\\x0d\\x0a",
    "\\x0d\\x0a--x",
    "--x--",
    "Content-Disposition: form-data; name=\\\"",
    "; filename=\\\"a\\\"",
    "; filename*=",
    "; boundary=x",
    "data:image/png;base64,",
    "{\\\"errorId\\\":0,\\\"status\\\":\\\"ready\\\",\\\"solution\\\":{",
    "\\xef\\xbb\\xbf",
    "1e999",
    "\\\\ud800",
];
const HTTP1_SYNTAX: &[&str] = &[
    "\\x0d\\x0a",
    "\\x0d\\x0a\\x0d\\x0a",
    "GET / HTTP/1.1\\x0d\\x0aHost: x\\x0d\\x0a",
    "POST /later HTTP/1.1\\x0d\\x0aHost: x\\x0d\\x0a",
    "OPTIONS",
    "HEAD",
    "CONNECT",
    "TRACE",
    "HTTP/1.0",
    "HTTP/2.0",
    "http://x/",
    "Content-Length: 3\\x0d\\x0a",
    "Content-Length: 0\\x0d\\x0a",
    "Content-Length: 20001\\x0d\\x0a",
    "Transfer-Encoding: chunked\\x0d\\x0a",
    "Transfer-Encoding: identity\\x0d\\x0a",
    "3\\x0d\\x0aabc\\x0d\\x0a",
    "0\\x0d\\x0a\\x0d\\x0a",
    ";extension=1",
    "Connection: close\\x0d\\x0a",
    "Connection: keep-alive\\x0d\\x0a",
    "Expect: 100-continue\\x0d\\x0a",
    "Upgrade: h2c\\x0d\\x0a",
    "Content-Type: a/b\\x0d\\x0a",
];
const CONFIGURATION_SYNTAX: &[&str] =
    &["https://user:pa55word@api.test", "[\\\"10.0.0.0/8\\\"]", "[methods.turnstile]", "\\\"\\\"\\\"", "{ A = 5 }"];

/// Requests that servers read differently, or that only one of the HTTP/1 paths serves.
const HTTP1: &[&str] = &[
    "GET / HTTP/1.0\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "GET /later HTTP/1.1\r\nHost: x\r\n\r\nHEAD / HTTP/1.1\r\nHost: x\r\n\r\nOPTIONS / HTTP/1.1\r\nHost: x\r\n\r\n",
    "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET /?a#b HTTP/1.1\r\nhost:\tx \r\n\r\n",
    "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n0\r\nT: 1\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
    "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc",
    "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 20001\r\n\r\nabc",
    "POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "GET / HTTP/1.1\nHost: x\n\nGET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "\r\nGET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
    "GET http://x/a HTTP/1.1\r\nHost: x\r\n\r\n",
    "GET /\u{e9} HTTP/1.1\r\nHost: u@x\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n",
];

/// Configurations that set what the documented file does not.
const CONFIGURATIONS: &[&str] = &[
    "CAPGATE_UPSTREAM_URL=https://user:pa55word@api.test\n",
    "CAPGATE_LISTEN_HTTP=[::1]:80\nCAPGATE_SANDBOX_SOLVE_MS_BY_TYPE={ A = 5 }\nCAPGATE_LOG_ACCESS=false\n",
    "CAPGATE_LIMITS_EXEMPT_NETWORKS=[\"10.0.0.0/8\", \"fd00::/8\"]\n[limits]\nids_max = 7\n",
    "[upstream]\nurl = \"https://user:pa55word@api.test\"\n",
    "[listen]\nhttp = \"socks5://user:pa55word@api.test\"\n",
    "[listen]\n\"http://user:pa55word@x/\" = 1\n",
    "[methods.turnstile]\nproxyless = \"A\"\nfields = { websiteURL = \"url\" }\n",
    "[methods.turnstile]\nfields = { nonsense = \"url\" }\n[methods.nonsense]\n",
    "[tls]\ncert = \"c.pem\"\nkey = \"k.pem\"\n[log]\nformat = \"text\"\nlevel = \"debug\"\n",
];

/// The initial corpora: for each target, names and inputs.
#[derive(Default)]
struct Corpora(BTreeMap<&'static str, BTreeMap<String, Vec<u8>>>);

impl Corpora {
    fn add(&mut self, target: &'static str, name: String, input: Vec<u8>) {
        self.0.entry(target).or_default().insert(name, input);
    }
}

fn main() {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [root, output] = arguments.as_slice() else {
        eprintln!("usage: seeds ROOT OUTPUT");
        std::process::exit(2);
    };
    let mut corpora = Corpora::default();
    add_transcripts(&mut corpora, &root.join("tests/transcripts"));
    add_connections(&mut corpora);
    add_configurations(&mut corpora, &root.join("conf/capgate.toml"));
    add_ledger_runs(&mut corpora);
    let dictionaries = output.join("dictionaries");
    fs::create_dir_all(&dictionaries).expect("a folder of dictionaries");
    for (target, seeds) in &corpora.0 {
        let words = dictionary(target, seeds.values());
        if !words.is_empty() {
            fs::write(dictionaries.join(target), words.join("\n")).expect("a dictionary");
        }
        let folder = output.join("corpus").join(target);
        fs::create_dir_all(&folder).expect("a corpus folder");
        for (name, input) in seeds.iter().map(|(name, input)| (name.clone(), input)) {
            fs::write(folder.join(name), input).expect("a seed");
        }
        let kept = kept(&root.join("fuzz/corpus").join(target).with_extension("txt"));
        for (number, input) in kept.iter().enumerate() {
            fs::write(folder.join(format!("kept-{number}")), input).expect("a kept input");
        }
        println!("seeds: {target}: {} kept, {} generated, {} words", kept.len(), seeds.len(), words.len());
    }
}

/// Reads a kept corpus: one input a line, in base64.
fn kept(file: &Path) -> Vec<Vec<u8>> {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.lines().map(|line| BASE64_STANDARD.decode(line).expect("base64")).collect()
}

fn add_transcripts(corpora: &mut Corpora, transcripts: &Path) {
    let mut files = Vec::new();
    collect_files(transcripts, &mut files);
    files.sort();
    for file in files {
        let stem = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        for line in transcript::parse(&fs::read_to_string(&file).expect("a transcript")) {
            let name = format!("{stem}-{}", line.number);
            if let Step::Request { verb, target, content_type, body, .. } = &line.step
                && body.len() < 1_000
            {
                let target = target.replace('#', "");
                corpora.add("http1", name.clone(), http1_request(verb, &target, content_type, body));
                corpora.add("http2", name.clone(), http2_request(verb, &target, content_type, body));
            }
            if let Step::Set { key, value } = &line.step {
                let variable = format!("CAPGATE_{}={value}\n", key.replace('.', "_").to_ascii_uppercase());
                corpora.add("configuration", name.clone(), variable.into_bytes());
            }
            if let Some((target, seed)) = seed(&line.step) {
                corpora.add(target, name, seed);
            }
        }
    }
}

/// A request, and another on the same connection.
fn http1_request(verb: &str, target: &str, content_type: &str, body: &[u8]) -> Vec<u8> {
    let mut request =
        format!("7\n{verb} {target} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n", body.len()).into_bytes();
    if !content_type.is_empty() {
        request.extend_from_slice(format!("Content-Type: {content_type}\r\n").as_bytes());
    }
    [&request, &b"\r\n"[..], body, b"GET /later HTTP/1.1\r\nHost: x\r\n\r\n"].concat()
}

/// A record of the target `http2`.
fn record(kind: u8, flags: u8, stream: u8, repetitions: u8, payload: &[u8]) -> Vec<u8> {
    let [high, low] = u16::try_from(payload.len()).expect("a short payload").to_be_bytes();
    [&[kind, flags, stream, repetitions, high, low], payload].concat()
}

/// A header block with a field that is not indexed (RFC 7541, section 6.2.2).
fn literal(name: &str, value: &str) -> Vec<u8> {
    let length = |text: &str| u8::try_from(text.len()).ok().filter(|length| *length < 127).unwrap_or(126);
    let mut field = vec![0];
    for text in [name, value] {
        field.push(length(text));
        field.extend(text.bytes().take(126));
    }
    field
}

fn http2_request(verb: &str, target: &str, content_type: &str, body: &[u8]) -> Vec<u8> {
    const END_STREAM: u8 = 1;
    const END_HEADERS: u8 = 4;
    let block = [
        literal(":method", verb),
        literal(":scheme", "http"),
        literal(":authority", "x"),
        literal(":path", target),
        literal("content-type", content_type),
    ];
    let (first, second) = block.split_at(3);
    [
        record(1, 0, 1, 0, &first.concat()),
        record(9, END_HEADERS, 1, 0, &second.concat()),
        record(0, END_STREAM, 1, 0, body),
    ]
    .concat()
}

fn add_connections(corpora: &mut Corpora) {
    for (number, bytes) in HTTP1.iter().enumerate() {
        for (name, cuts) in [("whole", "\n"), ("bytes", "\x01\n"), ("pieces", "\x20\x03\x11\n")] {
            corpora.add("http1", format!("{name}-{number}"), format!("{cuts}{bytes}").into_bytes());
        }
    }
    // :method GET, :scheme http, :path /, and an authority that is added to the dynamic table.
    const BLOCK: &[u8] = b"\x82\x86\x84\x41\x01x";
    let inputs: &[(&str, Vec<u8>)] = &[
        ("requests", record(1, 5, 1, 40, BLOCK)),
        ("open", record(1, 4, 1, 40, BLOCK)),
        ("malformed", record(1, 5, 1, 40, b"\x82")),
        ("reset", [record(1, 4, 1, 0, BLOCK), record(3, 0, 1, 0, &[0, 0, 0, 8])].concat()),
        ("continuation", [record(1, 0, 1, 0, BLOCK), record(9, 0, 1, 200, &literal("a", "b"))].concat()),
        (
            "window",
            [record(4, 0, 0, 0, &[0, 4, 0, 0, 0, 0]), record(1, 5, 1, 0, BLOCK), record(8, 0, 1, 0, &[0, 0, 0, 9])]
                .concat(),
        ),
        ("ping", record(6, 0, 0, 100, &[0; 8])),
        ("settings", record(4, 0, 0, 100, &[0, 1, 0, 0, 0, 0])),
        ("goaway", record(7, 0, 0, 0, &[0; 8])),
        ("table", record(1, 5, 1, 20, &[BLOCK, b"\x3f\xe1\x1f\x40\x04name\x05value\xbe\xbe\xbe\xbe"].concat())),
        (
            "priority",
            [record(2, 0, 1, 3, &[0, 0, 0, 1, 9]), record(1, 0x25, 3, 0, &[&[0, 0, 0, 0, 9], BLOCK].concat())].concat(),
        ),
        ("padded", record(1, 0xd, 1, 0, &[b"\x03", BLOCK, b"\0\0\0"].concat())),
        ("push", record(5, 4, 1, 0, &[&[0, 0, 0, 2], BLOCK].concat())),
        ("raw", record(255, 0, 0, 3, b"\0\x40\0\x01\x04\0\0\0\x01abc")),
        (
            "body",
            [record(1, 4, 1, 0, BLOCK), record(0, 0, 1, 20, &[b'x'; 100]), record(1, 5, 1, 0, &literal("t", "u"))]
                .concat(),
        ),
    ];
    for (name, input) in inputs {
        corpora.add("http2", (*name).to_owned(), input.clone());
    }
}

/// The documented file, and each of its keys alone.
fn add_configurations(corpora: &mut Corpora, file: &Path) {
    let text = fs::read_to_string(file).expect("the documented configuration");
    let mut section = "";
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.starts_with('#')) {
        if line.starts_with('[') {
            section = line;
        } else if !line.is_empty() {
            corpora.add("configuration", format!("line-{number}"), format!("{section}\n{line}\n").into_bytes());
        }
    }
    corpora.add("configuration", "file".to_owned(), text.into_bytes());
    for (number, input) in CONFIGURATIONS.iter().enumerate() {
        corpora.add("configuration", format!("other-{number}"), input.as_bytes().to_vec());
    }
}

/// Runs of random choices.
fn add_ledger_runs(corpora: &mut Corpora) {
    let mut state = 1_u64;
    for number in 0..16 {
        let run = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state.to_be_bytes()[0]
        });
        corpora.add("ledger", format!("run-{number}"), run.take(100 << (number % 4)).collect());
    }
}

/// Lists the entries of a target's dictionary, in libFuzzer's syntax.
fn dictionary<'s>(target: &str, seeds: impl Iterator<Item = &'s Vec<u8>>) -> Vec<String> {
    let mut words = BTreeSet::new();
    let syntax = match target {
        "http1" => HTTP1_SYNTAX,
        "http2" | "ledger" => &[],
        "configuration" => {
            seeds.for_each(|seed| collect_words(seed, &mut words));
            CONFIGURATION_SYNTAX
        }
        _ => {
            seeds.for_each(|seed| collect_words(seed, &mut words));
            DIALECT_SYNTAX
        }
    };
    let entries = words.iter().map(String::as_str).chain(syntax.iter().copied());
    entries.map(|entry| format!("\"{entry}\"")).collect()
}

fn collect_files(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("a directory of transcripts") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect_files(&path, files);
        } else {
            files.push(path);
        }
    }
}

/// The target for a transcript line, and the line in the input format of that target.
fn seed(step: &Step) -> Option<(&'static str, Vec<u8>)> {
    match step {
        Step::Request { verb, target, content_type, body, .. } => {
            if let Some(parameters) = content_type.strip_prefix("multipart/form-data") {
                return Some(("multipart", join_lines(parameters.trim_start_matches(';'), body)));
            }
            let selector = match (verb.as_str(), content_type.as_str()) {
                ("POST", "application/json") => 3,
                ("POST", "application/x-www-form-urlencoded") => 2,
                ("POST", _) => 1,
                _ => 0,
            };
            // Transcripts name ids `#1`; real ids are digits.
            let query = target.split_once('?').map_or("", |(_, query)| query).replace('#', "");
            Some(("form", join_lines(&format!("{selector}{query}"), body)))
        }
        Step::UpstreamReply { reply: UpstreamReply::Response { status, body }, .. } => {
            Some(("native_answer", join_lines(&status.to_string(), body)))
        }
        _ => None,
    }
}

fn join_lines(first: &str, rest: &[u8]) -> Vec<u8> {
    [first.as_bytes(), b"\n", rest].concat()
}

/// Collects names and values. Anything longer than a name is image data.
fn collect_words(seed: &[u8], words: &mut BTreeSet<String>) {
    let text = String::from_utf8_lossy(seed);
    for word in text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_') {
        if (3..=40).contains(&word.len()) && word.starts_with(|c: char| c.is_ascii_alphabetic()) {
            words.insert(word.to_owned());
        }
    }
}
