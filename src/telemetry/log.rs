//! The log: one line for each request and each event, as JSON or text, on standard output. A separate thread writes the
//! lines about twenty times a second from a bounded queue. A request costs one push. Lines that cannot be written are
//! dropped and counted, and no request is delayed. The fields of an access line are numbers, values from closed sets,
//! and the client's address.

use std::io::Write;
use std::sync::Arc;

use tracing_log::LogTracer;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::Registry;

use super::access_log::{AccessEntry, AccessFormatter};
use super::clock::now;
use super::events::EventLayer;
use super::log_queue::{Entry, LogQueue};
use super::metrics::MetricsRegistry;
use super::options::{LogFormat, LogLevel};

/// The log of this process. It ends with the process; [`Log::flush`] writes what is queued.
#[derive(Clone, Debug)]
pub struct Log {
    queue: Arc<LogQueue>,
}

/// A handle that queues access lines. Cheap to clone.
#[derive(Clone, Debug)]
pub struct AccessLog {
    queue: Arc<LogQueue>,
}

impl AccessLog {
    /// Queues the line of a request.
    pub fn push(&self, entry: AccessEntry) {
        self.queue.push(Entry::Access(now(), entry));
    }
}

impl Log {
    /// Starts the writer, and makes it the subscriber of `tracing`, of the `log` crate and of the panic hook. Once per
    /// process.
    ///
    /// # Errors
    /// If there is a subscriber already, or the thread cannot be started.
    pub fn start(format: LogFormat, level: LogLevel, registry: &MetricsRegistry) -> Result<Self, String> {
        let dropped = registry.counter(
            "capgate_log_lines_dropped_total",
            "Log lines dropped because the log could not be written fast enough.",
        );
        let queue = Arc::new(LogQueue::new(dropped));
        let entries = Arc::clone(&queue);
        std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || write_entries(&entries, format))
            .map_err(|error| format!("cannot start the log thread: {error}"))?;
        let level = match level {
            LogLevel::Error => LevelFilter::ERROR,
            LogLevel::Warn => LevelFilter::WARN,
            LogLevel::Info => LevelFilter::INFO,
            LogLevel::Debug => LevelFilter::DEBUG,
        };
        let layer = EventLayer::new(format, level, Arc::clone(&queue));
        tracing::subscriber::set_global_default(Registry::default().with(layer)).map_err(|error| error.to_string())?;
        // Only other crates use `log`, and nothing of theirs below `warn` is written.
        let other_crates = if level == LevelFilter::ERROR { log::LevelFilter::Error } else { log::LevelFilter::Warn };
        LogTracer::builder().with_max_level(other_crates).init().map_err(|error| error.to_string())?;
        // The default hook prints the panic's message, which may quote bytes of a client.
        std::panic::set_hook(Box::new(|panic| {
            let place = panic.location().map(ToString::to_string).unwrap_or_default();
            tracing::error!(place, "panic");
        }));
        Ok(Self { queue })
    }

    /// Returns a handle for access lines.
    pub fn access_log(&self) -> AccessLog {
        AccessLog { queue: Arc::clone(&self.queue) }
    }

    /// Waits until every line so far is written, for two seconds at most.
    pub fn flush(&self) {
        self.queue.flush();
    }
}

/// Writes entries forever.
fn write_entries(queue: &LogQueue, format: LogFormat) {
    let mut out = std::io::BufWriter::with_capacity(64 * 1024, std::io::stdout());
    let mut formatter = AccessFormatter::new(format);
    let mut entries = Vec::new();
    loop {
        let flush = queue.take(&mut entries);
        for entry in entries.drain(..) {
            // A closed standard output is no reason to stop serving.
            let _ = match entry {
                Entry::Event(line) => writeln!(out, "{line}"),
                Entry::Access(at, entry) => out.write_all(formatter.line(at, &entry)),
            };
        }
        let _ = out.flush();
        queue.complete_flush(flush);
    }
}
