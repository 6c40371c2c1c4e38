//! The log: one line per request and per event, as JSON or as text, on standard output.
//!
//! Lines are written by a thread of their own behind a bounded queue: a log that cannot be written loses lines, which
//! are counted, and never delays a request. Nothing a client sent reaches a line but its address; fields are from closed
//! sets or numbers. As a second fence, [`redact`] masks whatever looks like a key in messages of other crates.

use std::io::Write;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{SecondsFormat, Utc};
use log::kv::{Key, VisitSource};
use log::{Level, LevelFilter, Metadata, Record};
use prometheus::IntCounter;
use serde_json::{Map, Value as Json};

use crate::config::{LogFormat, LogLevel};

/// Lines that may wait to be written. At 300 bytes each this is 5 MB.
const QUEUE_LINES: usize = 16_384;

/// Longest line, in bytes; what is longer is cut.
const LINE_BYTES_MAX: usize = 4_096;

/// Target of access lines, which are switched on and off apart from the level.
pub const ACCESS: &str = "access";

/// The sink behind the `log` crate.
struct Sink {
    format: LogFormat,
    access: bool,
    level: LevelFilter,
    queue: SyncSender<Message>,
    dropped: IntCounter,
}

enum Message {
    Line(String),
    /// Answered once everything before it is written.
    Flush(SyncSender<()>),
}

/// Ends with the process: [`Log::flush`] writes out what is queued.
#[derive(Clone, Debug)]
pub struct Log {
    queue: Arc<Mutex<SyncSender<Message>>>,
}

impl Log {
    /// Starts the log and puts it behind the `log` crate and the panic hook. Once per process.
    ///
    /// # Errors
    /// When there is a logger already, or no thread can be had.
    pub fn start(format: LogFormat, access: bool, level: LogLevel, dropped: IntCounter) -> Result<Self, String> {
        let (queue, lines) = sync_channel(QUEUE_LINES);
        std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || write_lines(&lines))
            .map_err(|error| format!("no thread for the log: {error}"))?;
        let level = match level {
            LogLevel::Error => LevelFilter::Error,
            LogLevel::Warn => LevelFilter::Warn,
            LogLevel::Info => LevelFilter::Info,
            LogLevel::Debug => LevelFilter::Debug,
        };
        let sink = Sink { format, access, level, queue: queue.clone(), dropped };
        log::set_boxed_logger(Box::new(sink)).map_err(|error| error.to_string())?;
        // Access lines are switched apart from the level, and are of the level info.
        log::set_max_level(if access { level.max(LevelFilter::Info) } else { level });
        // The default hook prints the panic's own words, which may quote what a peer sent.
        std::panic::set_hook(Box::new(|panic| {
            let place = panic.location().map(ToString::to_string).unwrap_or_default();
            log::error!(place = place.as_str(); "panic");
        }));
        Ok(Self { queue: Arc::new(Mutex::new(queue)) })
    }

    /// Waits until everything logged so far is written, at most two seconds.
    pub fn flush(&self) {
        const PATIENCE: Duration = Duration::from_secs(2);
        let (done, wait) = sync_channel(1);
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // From a thread of its own, which may be left behind: a pipe that nobody reads fills the queue for ever.
        let flush = std::thread::Builder::new().spawn(move || queue.send(Message::Flush(done)));
        if flush.is_ok() {
            let _ = wait.recv_timeout(PATIENCE);
        }
    }
}

impl log::Log for Sink {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        if metadata.target() == ACCESS {
            return self.access;
        }
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
        if let Err(TrySendError::Full(_)) = self.queue.try_send(Message::Line(line)) {
            self.dropped.inc();
        }
    }

    fn flush(&self) {}
}

/// Pingora 0.9.1 calls it an error that two threads met over a pooled connection, and opens a new one.
fn is_noise(record: &Record<'_>) -> bool {
    record.args().as_str() == Some("failed to acquire reusable stream")
}

fn write_lines(lines: &Receiver<Message>) {
    let mut out = std::io::BufWriter::new(std::io::stdout());
    loop {
        match lines.recv_timeout(Duration::from_millis(100)) {
            // A closed standard output is no reason to stop serving.
            Ok(Message::Line(line)) => drop(writeln!(out, "{line}")),
            Ok(Message::Flush(done)) => {
                let _ = out.flush();
                let _ = done.send(());
            }
            Err(RecvTimeoutError::Timeout) => drop(out.flush()),
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

fn level(record: &Record<'_>) -> &'static str {
    match record.level() {
        _ if record.target() == ACCESS => "access",
        Level::Error => "error",
        Level::Warn => "warn",
        Level::Info => "info",
        Level::Debug | Level::Trace => "debug",
    }
}

fn time() -> String {
    #[expect(clippy::disallowed_methods, reason = "wall-clock time is for people who read logs, and for nothing else")]
    Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true)
}

fn json_line(record: &Record<'_>) -> String {
    let mut members = Map::new();
    members.insert("time".to_owned(), time().into());
    members.insert("level".to_owned(), level(record).into());
    members.insert("message".to_owned(), message(record).into());
    if !record.target().starts_with("capgate") && record.target() != ACCESS {
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
    let mut text = redact(&record.args().to_string()).escape_debug().to_string().replace("\\\"", "\"");
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
                None => redact(&value.to_string()).into(),
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
                .find(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '_' | '-' | '%' | '.'))
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
        assert_eq!(redact("key"), "key");
        assert_eq!(redact("key="), "key=");
    }
}
