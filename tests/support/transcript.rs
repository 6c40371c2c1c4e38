//! The grammar of a transcript; `tests/README.md` documents it.

use std::path::{Path, PathBuf};

use super::samples::{png, png_base64};
use super::upstream_reply::UpstreamReply;

#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) number: usize,
    pub(crate) step: Step,
}

/// `client` and `label` are the prefixes of a line (`C1`, `U2`) that tell concurrent requests and calls apart.
#[derive(Debug)]
pub(crate) enum Step {
    /// `= set section.key value`
    Set { key: String, value: String },
    /// `= task #name of KEY is row native`
    Task { placeholder: String, key: String, row: String, native: String },
    /// `C> VERB target [content type] body`
    Request { client: String, verb: String, target: String, content_type: String, body: Vec<u8> },
    /// `C< status body`
    Response { client: String, status: u16, body: String },
    /// `C= Header: value`
    ResponseHeader { client: String, name: String, value: String },
    /// `U> POST path body`
    UpstreamCall { label: String, path: String, body: String },
    /// `U< status body`, `U< reset`, `U< refused`
    UpstreamReply { label: String, reply: UpstreamReply },
    /// `@ +400ms`
    Advance { ms: u64 },
    /// `? name == number`
    Counter { name: String, expected: usize },
}

/// The folder of all transcripts.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts")
}

/// Lists all transcripts, sorted by path.
pub(crate) fn files() -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
            if entry.is_dir() {
                folders.push(entry);
            } else {
                files.push(entry);
            }
        }
    }
    files.sort();
    files
}

/// Whether a transcript cannot be played on the wire: it moves virtual time, reads counters, or drops connections. On
/// the wire a single call cannot be refused, and a reset makes the gateway repeat a poll.
pub(crate) fn needs_process(lines: &[Line]) -> bool {
    lines.iter().any(|line| {
        matches!(
            line.step,
            Step::Advance { .. }
                | Step::Counter { .. }
                | Step::UpstreamReply { reply: UpstreamReply::Refused | UpstreamReply::Reset, .. }
        )
    })
}

/// The environment variables of the `= set` lines.
pub(crate) fn environment(lines: &[Line]) -> Vec<(String, String)> {
    let settings = lines.iter().filter_map(|line| match &line.step {
        Step::Set { key, value } => {
            Some((format!("CAPGATE_{}", key.replace('.', "_").to_ascii_uppercase()), value.clone()))
        }
        _ => None,
    });
    settings.collect()
}

pub(crate) fn parse(text: &str) -> Vec<Line> {
    let mut lines = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let line = line.trim_end();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let number = at + 1;
        let step = parse_step(line).unwrap_or_else(|| panic!("line {number} is malformed: {line}"));
        lines.push(Line { number, step });
    }
    lines
}

fn parse_step(line: &str) -> Option<Step> {
    let (prefix, rest) = line.split_once(' ')?;
    let rest = rest.trim_start();
    let words = || rest.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    if let Some(sender) = prefix.strip_suffix('>') {
        let (verb, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        let (target, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        if sender.starts_with('U') {
            assert_eq!(verb, "POST", "native calls are POST");
            let (label, path, body) = (sender.to_owned(), target.to_owned(), rest.to_owned());
            return Some(Step::UpstreamCall { label, path, body });
        }
        let rest = rest.trim_start();
        let (content_type, body) = match rest.strip_prefix('[') {
            Some(rest) => rest.split_once(']')?,
            None if rest.is_empty() => ("", ""),
            None => ("application/x-www-form-urlencoded", rest),
        };
        return Some(Step::Request {
            client: sender.to_owned(),
            verb: verb.to_owned(),
            target: target.to_owned(),
            content_type: content_type.to_owned(),
            body: unescape(body.trim_start()),
        });
    }
    if let Some(sender) = prefix.strip_suffix('<') {
        let sender = sender.to_owned();
        if rest == "reset" {
            return Some(Step::UpstreamReply { label: sender, reply: UpstreamReply::Reset });
        }
        if rest == "refused" {
            return Some(Step::UpstreamReply { label: sender, reply: UpstreamReply::Refused });
        }
        let (status, body) = rest.split_once(' ').unwrap_or((rest, ""));
        let (status, body) = (status.parse().ok()?, unescape(body));
        if sender.starts_with('U') {
            return Some(Step::UpstreamReply { label: sender, reply: UpstreamReply::Response { status, body } });
        }
        return Some(Step::Response { client: sender, status, body: String::from_utf8(body).ok()? });
    }
    if prefix.len() > 1 && prefix.ends_with('=') {
        let (name, value) = rest.split_once(':')?;
        let client = prefix.trim_end_matches('=').to_owned();
        return Some(Step::ResponseHeader { client, name: name.to_owned(), value: value.trim().to_owned() });
    }
    match (prefix, words().as_slice()) {
        ("=", [set, key, value]) if set == "set" => Some(Step::Set { key: key.clone(), value: value.clone() }),
        ("=", [task, name, of, key, is, row, native]) if task == "task" && of == "of" && is == "is" => {
            Some(Step::Task { placeholder: name.clone(), key: key.clone(), row: row.clone(), native: native.clone() })
        }
        ("@", [step]) => Some(Step::Advance { ms: step.strip_prefix('+')?.strip_suffix("ms")?.parse().ok()? }),
        ("?", [name, operator, number]) if operator == "==" => {
            Some(Step::Counter { name: name.clone(), expected: number.parse().ok()? })
        }
        _ => None,
    }
}

/// Replaces `${png}` (base64), `${png:url}` (the same, form-encoded) and `${png:raw}`, and the escapes `\r`, `\n`
/// and `\xHH`.
fn unescape(text: &str) -> Vec<u8> {
    let base64 = png_base64();
    let escaped: String = url::form_urlencoded::byte_serialize(base64.as_bytes()).collect();
    let text = text.replace("${png}", &base64).replace("${png:url}", &escaped);
    let mut bytes = Vec::new();
    for (at, piece) in text.split("${png:raw}").enumerate() {
        if at > 0 {
            bytes.extend(png());
        }
        let mut rest = piece;
        while let Some((before, tail)) = rest.split_once('\\') {
            bytes.extend_from_slice(before.as_bytes());
            rest = match tail.as_bytes() {
                [b'r', ..] => {
                    bytes.push(b'\r');
                    &tail[1..]
                }
                [b'n', ..] => {
                    bytes.push(b'\n');
                    &tail[1..]
                }
                [b'x', ..] => {
                    bytes.push(u8::from_str_radix(&tail[1..3], 16).expect("two hexadecimal digits"));
                    &tail[3..]
                }
                _ => {
                    bytes.push(b'\\');
                    tail
                }
            };
        }
        bytes.extend_from_slice(rest.as_bytes());
    }
    bytes
}
