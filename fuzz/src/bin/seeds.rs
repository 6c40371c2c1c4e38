//! Writes the initial corpus: each request and each native answer of the transcripts is a seed, and their words form a
//! dictionary. Shares the transcript parser with the tests.
//!
//!   seeds TRANSCRIPTS OUTPUT      writes OUTPUT/corpus/TARGET/… and OUTPUT/words.dict

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

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

/// Syntax fragments that are not words, in libFuzzer's escape syntax.
const SYNTAX: &[&str] = &[
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

fn main() {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [transcripts, output] = arguments.as_slice() else {
        eprintln!("usage: seeds TRANSCRIPTS OUTPUT");
        std::process::exit(2);
    };
    let mut files = Vec::new();
    collect_files(transcripts, &mut files);
    files.sort();
    let mut words = BTreeSet::new();
    let mut count = 0;
    for file in files {
        let stem = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        for line in transcript::parse(&fs::read_to_string(&file).expect("a transcript")) {
            let Some((target, seed)) = seed(&line.step) else { continue };
            collect_words(&seed, &mut words);
            let directory = output.join("corpus").join(target);
            fs::create_dir_all(&directory).expect("a corpus directory");
            fs::write(directory.join(format!("{stem}-{}", line.number)), seed).expect("a seed");
            count += 1;
        }
    }
    let entries = words.iter().map(String::as_str).chain(SYNTAX.iter().copied());
    let entries: Vec<String> = entries.map(|entry| format!("\"{entry}\"")).collect();
    fs::write(output.join("words.dict"), entries.join("\n")).expect("the dictionary");
    println!("seeds: {count} from the transcripts, and {} words", words.len());
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
