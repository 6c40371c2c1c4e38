//! The commands `capgate run` and `capgate upgrade`.

use std::process::ExitCode;

use clap::Args;

use super::config_file::ConfigFile;
use super::output::{EXIT_FAILURE, exit_code, print_message};
use crate::config::Config;
use crate::upgrade::control;
use crate::wiring::{self, Inheritance};

#[derive(Args)]
pub(super) struct Run {
    #[command(flatten)]
    file: ConfigFile,
    /// Take over from the process that started this one. Only `capgate upgrade` uses it.
    #[arg(long, hide = true)]
    take_over: bool,
}

impl Run {
    pub(super) fn run(self, environment: impl Iterator<Item = (String, String)>) -> ExitCode {
        self.file.with_config(environment, |config| {
            let inheritance =
                if self.take_over { Inheritance::from_predecessor() } else { Inheritance::from_supervisor() };
            exit_code(inheritance.and_then(|inheritance| wiring::run(config, inheritance)))
        })
    }
}

/// Asks the running process for an upgrade.
pub(super) fn request_upgrade(config: &Config) -> ExitCode {
    let Some(path) = config.control_socket() else {
        print_message("cannot upgrade: without store.path, the tasks in memory would be lost");
        return ExitCode::from(EXIT_FAILURE);
    };
    match control::request_upgrade(&path) {
        Ok(pid) => {
            print_message(format_args!("process {pid} has taken over"));
            ExitCode::SUCCESS
        }
        Err(error) => {
            print_message(format_args!("not upgraded: {error}"));
            ExitCode::from(EXIT_FAILURE)
        }
    }
}
