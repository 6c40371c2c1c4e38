//! Logs and metrics of the process.

mod access_log;
pub mod log;
pub mod metrics;
