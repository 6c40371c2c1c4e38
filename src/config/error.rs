//! The error for an invalid configuration.

use std::fmt;

/// Why a configuration is invalid. The text names the file or variable, the key and the allowed values.
#[derive(Debug)]
pub struct ConfigError(pub String);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConfigError {}
