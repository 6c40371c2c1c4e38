//! The grammar of a transcript; `tests/README.md` explains it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

/// One line, understood. `who` tells clients and upstream calls apart.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) number: usize,
    pub(crate) step: Step,
}

#[derive(Debug)]
pub(crate) enum Step {
    /// `= set section.key value`
    Set { key: String, value: String },
    /// `= task #name of KEY is row native`
    Task { name: String, key: String, row: String, native: String },
    /// `C> VERB target [content type] body`
    Ask { who: String, verb: String, target: String, content_type: String, body: Vec<u8> },
    /// `C< status body`
    Told { who: String, status: u16, body: String },
    /// `C= Header: value`
    Header { who: String, name: String, value: String },
    /// `U> POST path body`
    Called { who: String, path: String, body: String },
    /// `U< status body`, `U< reset`, `U< refused`
    Answer { who: String, answer: UpstreamAnswer },
    /// `@ +400ms`
    Advance { ms: u64 },
    /// `? name == number`
    Count { name: String, number: usize },
}

#[derive(Clone, Debug)]
pub(crate) enum UpstreamAnswer {
    Says {
        status: u16,
        body: Vec<u8>,
    },
    /// The connection dies after the call was sent.
    Reset,
    /// No connection can be had.
    Refused,
    /// These bytes, and then the end of the connection: what a sane server would not say. On the wire only.
    Raw(Vec<u8>),
}

impl UpstreamAnswer {
    /// 200 with this JSON.
    pub(crate) fn says(body: &str) -> Self {
        Self::Says { status: 200, body: body.as_bytes().to_vec() }
    }
}

/// All transcripts, by path.
pub(crate) fn files() -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts")];
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

pub(crate) fn parse(text: &str) -> Vec<Line> {
    let mut lines = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let line = line.trim_end();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let number = at + 1;
        let step = step(line).unwrap_or_else(|| panic!("line {number} cannot be read: {line}"));
        lines.push(Line { number, step });
    }
    lines
}

fn step(line: &str) -> Option<Step> {
    let (mark, rest) = line.split_once(' ')?;
    let rest = rest.trim_start();
    let words = || rest.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    if let Some(who) = mark.strip_suffix('>') {
        let (verb, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        let (target, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        if who.starts_with('U') {
            assert_eq!(verb, "POST", "native calls are POST");
            return Some(Step::Called { who: who.to_owned(), path: target.to_owned(), body: rest.to_owned() });
        }
        let rest = rest.trim_start();
        let (content_type, body) = match rest.strip_prefix('[') {
            Some(rest) => rest.split_once(']')?,
            None if rest.is_empty() => ("", ""),
            None => ("application/x-www-form-urlencoded", rest),
        };
        return Some(Step::Ask {
            who: who.to_owned(),
            verb: verb.to_owned(),
            target: target.to_owned(),
            content_type: content_type.to_owned(),
            body: bytes(body.trim_start()),
        });
    }
    if let Some(who) = mark.strip_suffix('<') {
        let who = who.to_owned();
        if rest == "reset" {
            return Some(Step::Answer { who, answer: UpstreamAnswer::Reset });
        }
        if rest == "refused" {
            return Some(Step::Answer { who, answer: UpstreamAnswer::Refused });
        }
        let (status, body) = rest.split_once(' ').unwrap_or((rest, ""));
        let status = status.parse().ok()?;
        if who.starts_with('U') {
            return Some(Step::Answer { who, answer: UpstreamAnswer::Says { status, body: bytes(body) } });
        }
        return Some(Step::Told { who, status, body: String::from_utf8(bytes(body)).ok()? });
    }
    if mark.len() > 1 && mark.ends_with('=') {
        let (name, value) = rest.split_once(':')?;
        let who = mark.trim_end_matches('=').to_owned();
        return Some(Step::Header { who, name: name.to_owned(), value: value.trim().to_owned() });
    }
    match (mark, words().as_slice()) {
        ("=", [set, key, value]) if set == "set" => Some(Step::Set { key: key.clone(), value: value.clone() }),
        ("=", [task, name, of, key, is, row, native]) if task == "task" && of == "of" && is == "is" => {
            Some(Step::Task { name: name.clone(), key: key.clone(), row: row.clone(), native: native.clone() })
        }
        ("@", [by]) => Some(Step::Advance { ms: by.strip_prefix('+')?.strip_suffix("ms")?.parse().ok()? }),
        ("?", [name, is, number]) if is == "==" => {
            Some(Step::Count { name: name.clone(), number: number.parse().ok()? })
        }
        _ => None,
    }
}

/// The smallest file that counts as a captcha's image.
pub(crate) fn png() -> Vec<u8> {
    let mut png = b"\x89PNG\r\n\x1a\n".to_vec();
    png.resize(120, 7);
    png
}

/// Replaces `${png}` (base64), `${png:url}` (the same, escaped for a form) and `${png:raw}`, and the escapes `\r`, `\n`
/// and `\xHH` with the bytes that they stand for.
fn bytes(text: &str) -> Vec<u8> {
    let base64 = BASE64_STANDARD.encode(png());
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

/// Names for ids that are not known before the gateway has issued them: `#1` in a transcript.
#[derive(Debug, Default)]
pub(crate) struct Names {
    ids: HashMap<String, String>,
}

impl Names {
    pub(crate) fn set(&mut self, name: &str, id: &str) {
        self.ids.insert(name.to_owned(), id.to_owned());
    }

    /// Puts ids in place of their names. Names that begin alike do not hurt each other: the longest goes first.
    pub(crate) fn fill(&self, text: &str) -> String {
        let mut names: Vec<_> = self.ids.iter().collect();
        names.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
        let fill = |text: String, (name, id): &(&String, &String)| text.replace(name.as_str(), id);
        names.iter().fold(text.to_owned(), fill)
    }

    /// Learns the id that stands in `told` where `expected` has a new name, when both are otherwise equal.
    pub(crate) fn learn(&mut self, expected: &str, told: &str) {
        let Some(at) = expected.find('#') else { return };
        let name: String = expected[at..]
            .chars()
            .enumerate()
            .take_while(|(at, c)| *at == 0 || c.is_ascii_digit())
            .map(|(_, c)| c)
            .collect();
        if name.len() > 1 && !self.ids.contains_key(&name) && told.len() >= at && told.is_char_boundary(at) {
            let id: String = told[at..].chars().take_while(char::is_ascii_digit).collect();
            if !id.is_empty() {
                self.set(&name, &id);
            }
        }
    }
}
