//! Output for operators: the log and the metrics.

mod access_log;
mod clock;
mod events;
pub mod log;
mod log_queue;
mod log_writer;
pub mod metrics;
pub mod options;
pub mod panics;
mod redact;

pub use access_log::AccessEntry;
