//! `capgate check`.

use std::process::ExitCode;

use clap::Args;

use super::config_file::ConfigFile;
use super::output::print_message;

#[derive(Args)]
pub(super) struct Check {
    #[command(flatten)]
    file: ConfigFile,
}

impl Check {
    pub(super) fn run(self, environment: impl Iterator<Item = (String, String)>) -> ExitCode {
        match self.file.load(environment) {
            Ok(_) => {
                print_message("the configuration is valid");
                ExitCode::SUCCESS
            }
            Err(code) => code,
        }
    }
}
