//! The configuration file that several commands take.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::output::{EXIT_CONFIG, print_message};
use crate::config::Config;

#[derive(Args)]
pub(super) struct ConfigFile {
    /// Configuration file. Without a file, the defaults and the environment apply.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl ConfigFile {
    /// Loads the configuration. Prints an error and returns its exit code if the configuration is invalid.
    pub(super) fn load(&self, environment: impl Iterator<Item = (String, String)>) -> Result<Config, ExitCode> {
        Config::load(self.config.as_deref(), environment).map_err(|error| {
            print_message(error);
            ExitCode::from(EXIT_CONFIG)
        })
    }
}
