//! The log: one line for each request and each event, as JSON or text, on standard output. A separate thread writes the
//! lines about twenty times a second from a bounded queue. A request costs one push. Lines that cannot be written are
//! dropped and counted, and no request is delayed. The fields of an access line are numbers, values from closed sets,
//! and the client's address.

use std::fs::File;
use std::os::fd::AsFd;
use std::sync::Arc;

use tracing_log::LogTracer;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::Registry;

use super::access_log::AccessEntry;
use super::clock::now;
use super::events::EventLayer;
use super::log_queue::{Entry, LogQueue};
use super::log_writer::LogWriter;
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
    /// Starts the writer, and makes it the subscriber of `tracing` and of the `log` crate. Once per process.
    ///
    /// # Errors
    /// If there is a subscriber already, or the thread cannot be started.
    pub fn start(format: LogFormat, level: LogLevel, registry: &MetricsRegistry) -> Result<Self, String> {
        let dropped = registry.counter(
            "capgate_log_lines_dropped_total",
            "Log lines that were not written: standard output is closed, full, or not read fast enough.",
        );
        let queue = Arc::new(LogQueue::new(dropped.clone()));
        let entries = Arc::clone(&queue);
        // Without the standard library's own buffer, which hides how much was written before an error.
        let out = std::io::stdout().as_fd().try_clone_to_owned();
        let out = File::from(out.map_err(|error| format!("cannot use standard output: {error}"))?);
        let writer = LogWriter::new(out, format, dropped);
        std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || write_entries(&entries, writer))
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
fn write_entries(queue: &LogQueue, mut writer: LogWriter<File>) {
    let mut entries = Vec::new();
    loop {
        let flush = queue.take(&mut entries);
        writer.write(&mut entries);
        queue.complete_flush(flush);
    }
}
