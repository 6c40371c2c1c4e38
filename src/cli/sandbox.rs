//! `capgate sandbox`.

use std::process::ExitCode;

use clap::Args;

use super::config_file::ConfigFile;
use super::output::exit_code;
use crate::wiring;

#[derive(Args)]
pub(super) struct Sandbox {
    #[command(flatten)]
    file: ConfigFile,
}

impl Sandbox {
    pub(super) fn run(self, environment: impl Iterator<Item = (String, String)>) -> ExitCode {
        match self.file.load(environment) {
            Ok(config) => exit_code(wiring::run_sandbox(&config)),
            Err(code) => code,
        }
    }
}
