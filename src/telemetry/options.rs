//! Options of the log.

use serde::{Deserialize, Serialize};

/// Options of the log.
#[derive(Clone, Copy, Debug)]
pub struct LogOptions {
    /// Format of every line.
    pub format: LogFormat,
    /// Least important level that is written.
    pub level: LogLevel,
    /// Whether each request on the legacy listeners gets a line.
    pub access: bool,
}

/// Format of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
    /// Text for people.
    Text,
}

/// Level of log lines; each includes those above it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Failures.
    Error,
    /// Suspicious events.
    Warn,
    /// Events that an operator needs.
    Info,
    /// Details for debugging.
    Debug,
}
