//! The argument `--config`, which several commands take.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::output::{EXIT_CONFIG, print_message};
use crate::config::Config;
use crate::process::core_dumps;

#[derive(Args)]
pub(super) struct ConfigFile {
    /// Configuration file. Without a file, the defaults and the environment apply.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl ConfigFile {
    /// Runs a command with the loaded configuration. Prints the error and returns its exit code if the configuration is
    /// invalid.
    pub(super) fn with_config(
        &self,
        environment: impl Iterator<Item = (String, String)>,
        command: impl FnOnce(&Config) -> ExitCode,
    ) -> ExitCode {
        match Config::load(self.config.as_deref(), environment) {
            Ok(config) => {
                if !config.has_core_dumps()
                    && let Err(warning) = core_dumps::forbid()
                {
                    print_message(warning);
                }
                command(&config)
            }
            Err(error) => {
                print_message(error);
                ExitCode::from(EXIT_CONFIG)
            }
        }
    }
}
