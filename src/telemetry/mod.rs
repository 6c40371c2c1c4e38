//! What operators see of the process: its log and its metrics.

mod access_log;
mod clock;
mod events;
pub mod log;
mod log_queue;
pub mod metrics;
pub mod options;
mod redact;

pub use access_log::AccessEntry;
