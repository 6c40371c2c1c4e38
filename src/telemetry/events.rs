//! The `tracing` layer that turns events into lines of the log. Every event passes through this layer, so none bypasses
//! its filter and its redaction. Below `warn`, only capgate's own events pass, because Pingora logs raw request bytes
//! there. Text that looks like a key is masked.

use std::fmt::{self, Write};
use std::sync::Arc;

use chrono::SecondsFormat;
use serde_json::{Map, Value as Json};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_log::NormalizeEvent;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;

use super::clock::now;
use super::log_queue::{Entry, LogQueue};
use super::options::LogFormat;
use super::redact::redact;

/// Longest message or field, in bytes. Longer ones are cut.
const TEXT_BYTES_MAX: usize = 4_096;

/// The layer, which formats events with the fields of the spans around them.
pub(super) struct EventLayer {
    format: LogFormat,
    level: LevelFilter,
    queue: Arc<LogQueue>,
}

/// Fields of a span, masked, for the events inside it.
struct SpanFields(Vec<(&'static str, Json)>);

impl EventLayer {
    pub(super) fn new(format: LogFormat, level: LevelFilter, queue: Arc<LogQueue>) -> Self {
        Self { format, level, queue }
    }

    fn is_enabled(&self, metadata: &Metadata<'_>) -> bool {
        let is_own = is_own_target(metadata.target());
        *metadata.level() <= self.level && (is_own || *metadata.level() <= Level::WARN)
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for EventLayer {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        // The callsite of the `log` bridge represents records of all levels and targets.
        if self.is_enabled(metadata) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>, _context: Context<'_, S>) -> bool {
        self.is_enabled(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.level)
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            let mut fields = FieldVisitor::default();
            attributes.record(&mut fields);
            span.extensions_mut().insert(SpanFields(fields.fields));
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(SpanFields(known)) = span.extensions_mut().get_mut()
        {
            let mut fields = FieldVisitor::default();
            values.record(&mut fields);
            known.extend(fields.fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let normalized = event.normalized_metadata();
        let metadata = normalized.as_ref().unwrap_or_else(|| event.metadata());
        if !self.is_enabled(metadata) {
            return;
        }
        let mut visitor = FieldVisitor::default();
        event.record(&mut visitor);
        if !is_own_target(metadata.target()) && is_noise(&visitor.message) {
            return;
        }
        let spans = context.event_scope(event).into_iter().flatten();
        for span in spans {
            if let Some(SpanFields(fields)) = span.extensions().get() {
                visitor.add_missing(fields);
            }
        }
        let line = match self.format {
            LogFormat::Json => json_line(metadata, visitor),
            LogFormat::Text => text_line(metadata, visitor),
        };
        self.queue.push(Entry::Event(line));
    }
}

fn is_own_target(target: &str) -> bool {
    target == "capgate" || target.starts_with("capgate::")
}

/// Whether a message of another crate is noise: Pingora 0.9.1 logs an error if two threads race for a pooled
/// connection, although it then opens a new one.
fn is_noise(message: &str) -> bool {
    message == "failed to acquire reusable stream"
}

/// Collector of the message and the fields of an event or a span. Masks the fields.
#[derive(Default)]
struct FieldVisitor {
    message: String,
    fields: Vec<(&'static str, Json)>,
}

impl FieldVisitor {
    fn add(&mut self, field: &Field, value: Json) {
        // Fields of the `log` bridge, which are part of the normalized metadata.
        if !field.name().starts_with("log.") {
            self.fields.push((field.name(), value));
        }
    }

    /// Adds fields of an outer span, unless an inner one has the same name.
    fn add_missing(&mut self, outer: &[(&'static str, Json)]) {
        for (name, value) in outer {
            if !self.fields.iter().any(|(known, _)| known == name) {
                self.fields.push((name, value.clone()));
            }
        }
    }
}

impl Visit for FieldVisitor {
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            value.clone_into(&mut self.message);
        } else {
            self.add(field, cut(redact(value)).into());
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        if field.name() == "message" {
            self.message = text;
        } else {
            self.add(field, cut(redact(&text)).into());
        }
    }
}

fn level_name(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        _ => "debug",
    }
}

fn timestamp() -> String {
    now().to_rfc3339_opts(SecondsFormat::Millis, true)
}

fn json_line(metadata: &Metadata<'_>, event: FieldVisitor) -> String {
    let mut members = Map::new();
    members.insert("time".to_owned(), timestamp().into());
    members.insert("level".to_owned(), level_name(*metadata.level()).into());
    members.insert("message".to_owned(), to_message(&event.message).into());
    if !is_own_target(metadata.target()) {
        members.insert("target".to_owned(), metadata.target().into());
    }
    for (name, value) in event.fields {
        members.insert(name.to_owned(), value);
    }
    Json::Object(members).to_string()
}

fn text_line(metadata: &Metadata<'_>, event: FieldVisitor) -> String {
    let mut line = format!("{} {} {}", timestamp(), level_name(*metadata.level()), to_message(&event.message));
    for (name, value) in event.fields {
        // Writing to a string does not fail.
        let _ = match value {
            Json::String(text) => write!(line, " {name}={}", text.escape_debug()),
            other => write!(line, " {name}={other}"),
        };
    }
    line
}

/// Masks a message, escapes line breaks and control characters, and cuts it.
fn to_message(text: &str) -> String {
    cut(redact(text).escape_debug().to_string().replace("\\\"", "\""))
}

fn cut(mut text: String) -> String {
    if text.len() > TEXT_BYTES_MAX {
        let end = (0..=TEXT_BYTES_MAX).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
    }
    text
}

#[cfg(test)]
mod tests {
    use prometheus::IntCounter;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    /// Runs `emit` under the layer and returns the lines as JSON, without their time.
    fn lines(level: LevelFilter, emit: impl FnOnce()) -> Vec<Json> {
        let queue = Arc::new(LogQueue::new(IntCounter::new("dropped", "Dropped.").expect("a valid name")));
        let layer = EventLayer::new(LogFormat::Json, level, Arc::clone(&queue));
        // A marker, because taking from an empty queue blocks.
        let marked = || {
            emit();
            tracing::error!("end");
        };
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), marked);
        let mut entries = Vec::new();
        queue.take(&mut entries);
        let lines = entries.into_iter().map(|entry| match entry {
            Entry::Event(line) => {
                let mut json: Json = serde_json::from_str(&line).expect("JSON");
                json.as_object_mut().expect("an object").shift_remove("time").expect("a time");
                json
            }
            Entry::Access(..) => panic!("no request was logged"),
        });
        let mut lines: Vec<Json> = lines.collect();
        assert_eq!(lines.pop().expect("the marker")["message"], "end");
        lines
    }

    #[test]
    fn an_event_carries_the_fields_of_its_spans() {
        let lines = lines(LevelFilter::INFO, || {
            let outer = tracing::info_span!("submit", task = 7_u64, endpoint = "outer").entered();
            let inner = tracing::info_span!("upstream_call", endpoint = "createTask").entered();
            tracing::warn!(what = "timeout", sent = true, "upstream call failed");
            drop((inner, outer));
            tracing::info!(connections = 3_u64, "draining");
        });
        assert_eq!(
            lines[0].to_string(),
            r#"{"level":"warn","message":"upstream call failed","what":"timeout","sent":"true","endpoint":"createTask","task":7}"#
        );
        assert_eq!(lines[1].to_string(), r#"{"level":"info","message":"draining","connections":3}"#);
    }

    #[test]
    fn keys_are_masked_in_messages_fields_and_spans() {
        let lines = lines(LevelFilter::DEBUG, || {
            let span = tracing::info_span!("call", url = "/res.php?key=c0ffee-1").entered();
            tracing::info!(body = ?"clientKey=c0ffee-2", text = "key: c0ffee-3", "GET /?key=c0ffee-4\n");
            drop(span);
        });
        let text = lines[0].to_string();
        assert!(!text.contains("c0ffee") && text.matches("***").count() == 4, "{text}");
        assert!(lines[0]["message"].as_str().expect("text").ends_with("\\n"), "{text}");
    }

    #[test]
    fn events_of_other_crates_pass_only_from_warn_on() {
        let lines = lines(LevelFilter::DEBUG, || {
            tracing::debug!("own");
            tracing::info!(target: "pingora_core::server", "GET /in.php");
            tracing::info!(target: "capgatelike", "not our crate");
            tracing::warn!(target: "pingora_core::server", "failed");
            tracing::error!(target: "pingora_pool", "failed to acquire reusable stream");
        });
        let messages: Vec<&str> = lines.iter().filter_map(|line| line["message"].as_str()).collect();
        assert_eq!(messages, ["own", "failed"]);
        assert_eq!(lines[1]["target"], "pingora_core::server");
    }

    #[test]
    fn a_long_text_is_cut_at_a_character() {
        let lines = lines(LevelFilter::INFO, || tracing::info!("{}", "é".repeat(TEXT_BYTES_MAX)));
        assert_eq!(lines[0]["message"].as_str().expect("text").len(), TEXT_BYTES_MAX);
    }
}
