//! The log: one line per request and per event, as JSON or as text, on standard output.
//!
//! Lines are composed and written by a thread of their own, some twenty times a second, from a bounded queue: a request
//! costs the log a push, no more, and a log that cannot be written loses lines, which are counted, and never delays one.
//! Nothing a client sent reaches a line but its address; fields are from closed sets or numbers. As a second fence,
//! [`redact`] masks whatever looks like a key in messages of other crates.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use log::kv::{Key, VisitSource};
use log::{Level, LevelFilter, Metadata, Record};
use parking_lot::{Condvar, Mutex};
use prometheus::IntCounter;
use serde_json::{Map, Value as Json};

use super::access_log::Lines;
use crate::config::{LogFormat, LogLevel};
use crate::server::handler::Told;

/// Lines that may wait to be written: some 15 MB, twice over while they are.
const QUEUE_LINES: usize = 65_536;

/// How long lines wait for others before they are written. A wake-up of another thread costs more than a poll.
const GATHER: Duration = Duration::from_millis(50);

/// Longest line, in bytes; what is longer is cut.
const LINE_BYTES_MAX: usize = 4_096;

/// What waits to be written.
#[derive(Debug, Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    /// Something waits, and nothing did before; or somebody waits for what was written.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    entries: Vec<Entry>,
    /// Flushes that were asked for, and done.
    flushes: (u64, u64),
}

#[derive(Debug)]
enum Entry {
    Line(String),
    Request(DateTime<Utc>, Told),
}

impl Queue {
    /// `false`: it is full.
    fn push(&self, entry: Entry) -> bool {
        let mut waiting = self.waiting.lock();
        if waiting.entries.len() >= QUEUE_LINES {
            return false;
        }
        waiting.entries.push(entry);
        if waiting.entries.len() == 1 {
            self.changed.notify_all();
        }
        true
    }
}

/// Where requests are told of.
#[derive(Clone, Debug)]
pub struct Access {
    queue: Arc<Queue>,
    dropped: IntCounter,
}

impl Access {
    /// Notes a request, to be written later.
    pub fn told(&self, told: Told) {
        if !self.queue.push(Entry::Request(now(), told)) {
            self.dropped.inc();
        }
    }
}

/// The sink behind the `log` crate.
struct Sink {
    format: LogFormat,
    level: LevelFilter,
    queue: Arc<Queue>,
    dropped: IntCounter,
}

/// Ends with the process: [`Log::flush`] writes out what is queued.
#[derive(Clone, Debug)]
pub struct Log {
    queue: Arc<Queue>,
    dropped: IntCounter,
}

impl Log {
    /// Starts the log and puts it behind the `log` crate and the panic hook. Once per process.
    ///
    /// # Errors
    /// When there is a logger already, or no thread can be had.
    pub fn start(format: LogFormat, level: LogLevel, dropped: IntCounter) -> Result<Self, String> {
        let queue = Arc::new(Queue::default());
        let lines = Arc::clone(&queue);
        std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || write_lines(&lines, format))
            .map_err(|error| format!("no thread for the log: {error}"))?;
        let level = match level {
            LogLevel::Error => LevelFilter::Error,
            LogLevel::Warn => LevelFilter::Warn,
            LogLevel::Info => LevelFilter::Info,
            LogLevel::Debug => LevelFilter::Debug,
        };
        let sink = Sink { format, level, queue: Arc::clone(&queue), dropped: dropped.clone() };
        log::set_boxed_logger(Box::new(sink)).map_err(|error| error.to_string())?;
        log::set_max_level(level);
        // The default hook prints the panic's own words, which may quote what a peer sent.
        std::panic::set_hook(Box::new(|panic| {
            let place = panic.location().map(ToString::to_string).unwrap_or_default();
            log::error!(place = place.as_str(); "panic");
        }));
        Ok(Self { queue, dropped })
    }

    /// Where requests are told of.
    pub fn access(&self) -> Access {
        Access { queue: Arc::clone(&self.queue), dropped: self.dropped.clone() }
    }

    /// Waits until everything logged so far is written, at most two seconds: a pipe that nobody reads is never written.
    pub fn flush(&self) {
        const PATIENCE: Duration = Duration::from_secs(2);
        let mut waiting = self.queue.waiting.lock();
        waiting.flushes.0 += 1;
        let mine = waiting.flushes.0;
        self.queue.changed.notify_all();
        let _ = self.queue.changed.wait_while_for(&mut waiting, |waiting| waiting.flushes.1 < mine, PATIENCE);
    }
}

impl log::Log for Sink {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // Below `warn`, Pingora logs raw request bytes.
        let is_ours = metadata.target().starts_with("capgate");
        metadata.level() <= self.level && (is_ours || metadata.level() <= Level::Warn)
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) || is_noise(record) {
            return;
        }
        let line = match self.format {
            LogFormat::Json => json_line(record),
            LogFormat::Text => text_line(record),
        };
        if !self.queue.push(Entry::Line(line)) {
            self.dropped.inc();
        }
    }

    fn flush(&self) {}
}

/// Pingora 0.9.1 calls it an error that two threads met over a pooled connection, and opens a new one.
fn is_noise(record: &Record<'_>) -> bool {
    record.args().as_str() == Some("failed to acquire reusable stream")
}

/// Writes what waits, for ever.
#[expect(clippy::disallowed_methods, reason = "the log's own thread serves nobody")]
fn write_lines(queue: &Queue, format: LogFormat) {
    let mut out = std::io::BufWriter::with_capacity(64 * 1024, std::io::stdout());
    let mut lines = Lines::new(format);
    let mut entries = Vec::new();
    loop {
        let flush = {
            let mut waiting = queue.waiting.lock();
            let is_idle = |waiting: &mut Waiting| waiting.entries.is_empty() && waiting.flushes.0 == waiting.flushes.1;
            queue.changed.wait_while(&mut waiting, is_idle);
            if waiting.flushes.0 == waiting.flushes.1 {
                drop(waiting);
                std::thread::sleep(GATHER);
                waiting = queue.waiting.lock();
            }
            std::mem::swap(&mut entries, &mut waiting.entries);
            waiting.flushes.0
        };
        for entry in entries.drain(..) {
            // A closed standard output is no reason to stop serving.
            let _ = match entry {
                Entry::Line(line) => writeln!(out, "{line}"),
                Entry::Request(at, told) => out.write_all(lines.request(at, &told)),
            };
        }
        let _ = out.flush();
        queue.waiting.lock().flushes.1 = flush;
        queue.changed.notify_all();
    }
}

fn level(record: &Record<'_>) -> &'static str {
    match record.level() {
        Level::Error => "error",
        Level::Warn => "warn",
        Level::Info => "info",
        Level::Debug | Level::Trace => "debug",
    }
}

fn now() -> DateTime<Utc> {
    #[expect(clippy::disallowed_methods, reason = "wall-clock time is for people who read logs, and for nothing else")]
    Utc::now()
}

fn time() -> String {
    now().to_rfc3339_opts(SecondsFormat::Millis, true)
}

fn json_line(record: &Record<'_>) -> String {
    let mut members = Map::new();
    members.insert("time".to_owned(), time().into());
    members.insert("level".to_owned(), level(record).into());
    members.insert("message".to_owned(), message(record).into());
    if !record.target().starts_with("capgate") {
        members.insert("target".to_owned(), record.target().into());
    }
    for (key, value) in fields(record) {
        members.insert(key, value);
    }
    Json::Object(members).to_string()
}

fn text_line(record: &Record<'_>) -> String {
    let mut line = format!("{} {} {}", time(), level(record), message(record));
    for (key, value) in fields(record) {
        match value {
            Json::String(text) => line.push_str(&format!(" {key}={}", text.escape_debug())),
            other => line.push_str(&format!(" {key}={other}")),
        }
    }
    line
}

/// The message, masked, without line breaks or control characters, and cut.
fn message(record: &Record<'_>) -> String {
    cut(redact(&record.args().to_string()).escape_debug().to_string().replace("\\\"", "\""))
}

fn cut(mut text: String) -> String {
    if text.len() > LINE_BYTES_MAX {
        let end = (0..=LINE_BYTES_MAX).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
    }
    text
}

fn fields(record: &Record<'_>) -> Vec<(String, Json)> {
    struct Fields(Vec<(String, Json)>);
    impl<'kvs> VisitSource<'kvs> for Fields {
        fn visit_pair(&mut self, key: Key<'kvs>, value: log::kv::Value<'kvs>) -> Result<(), log::kv::Error> {
            let json = match value.to_u64() {
                Some(number) => number.into(),
                None => cut(redact(&value.to_string())).into(),
            };
            self.0.push((key.to_string(), json));
            Ok(())
        }
    }
    let mut fields = Fields(Vec::new());
    // Visiting fails only where a visitor says so, and this one does not.
    let _ = record.key_values().visit(&mut fields);
    fields.0
}

/// Masks the value behind every `key=` and `clientKey`, whatever spelling leads up to it.
pub fn redact(text: &str) -> String {
    let mut masked = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.to_ascii_lowercase().find("key") {
        let (before, tail) = rest.split_at(at + 3);
        masked.push_str(before);
        let lead = tail.len() - tail.trim_start_matches(['=', ':', '"', '\\', ' ', '\'']).len();
        let (lead, value) = tail.split_at(lead);
        masked.push_str(lead);
        rest = value;
        if lead.contains(['=', ':']) {
            let end = value
                .find(|c: char| !c.is_ascii_graphic() || matches!(c, '&' | '"' | '\'' | ',' | ';' | '}' | ')' | '\\'))
                .unwrap_or(value.len());
            if end > 0 {
                masked.push_str("***");
            }
            rest = value.split_at(end).1;
        }
    }
    masked.push_str(rest);
    masked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_looks_like_a_key_is_masked() {
        let seen = redact("GET /res.php?key=c0ffee&action=get {\"clientKey\":\"c0ffee-1\"} KEY: c0ffee, keyboard c0");
        assert_eq!(seen, "GET /res.php?key=***&action=get {\"clientKey\":\"***\"} KEY: ***, keyboard c0");
        assert_eq!(redact("key=a+b/c=&x"), "key=***&x");
        assert_eq!(redact("key"), "key");
        assert_eq!(redact("key="), "key=");
    }
}
