//! The command line. A command with arguments of its own has its own file; the others only take a configuration file.

mod config_file;
mod output;
mod run;
mod store;
mod storm;
mod translate;

use std::fmt;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use self::config_file::ConfigFile;
use self::output::{exit_code, hide_panic_messages, print_message};
use crate::wiring;

/// Compatibility gateway: the legacy 2captcha API (in.php, res.php) in front of uCaptcha's native JSON API.
#[derive(Parser)]
#[command(version, after_help = EXIT_CODES)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

/// Omits the arguments, which may contain keys.
impl fmt::Debug for Arguments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Arguments").finish_non_exhaustive()
    }
}

const EXIT_CODES: &str = "\
Exit codes: 0 success, or stopped by SIGTERM or SIGINT; 1 could not serve, or the upgrade or storm failed; 2 invalid arguments, \
or a refused target; 70 too many panics; 78 invalid configuration.
Every configuration key can be set in the environment as CAPGATE_<SECTION>_<KEY>.";

#[derive(Subcommand)]
enum Command {
    /// Run the gateway.
    Run(run::Run),
    /// Replace the running gateway by its program as it is now, without a failed request.
    Upgrade(ConfigFile),
    /// Check the configuration and exit.
    Check(ConfigFile),
    /// Inspect the store of a configuration, also while the gateway runs.
    Store(store::StoreCommand),
    /// Run the sandbox alone: a stand-in for the native API.
    Sandbox(ConfigFile),
    /// Show how the gateway handles a request, without sending anything.
    Translate(translate::Translate),
    /// Send a poll storm to a staging deployment and report how the deployment handled it.
    Storm(storm::Storm),
}

impl Arguments {
    /// Runs the command. `environment` contains every variable of the process, so that nothing else reads them.
    pub fn run(self, environment: impl Iterator<Item = (String, String)>) -> ExitCode {
        hide_panic_messages();
        match self.command {
            Command::Run(command) => command.run(environment),
            Command::Upgrade(file) => file.with_config(environment, run::request_upgrade),
            Command::Check(file) => file.with_config(environment, |_| {
                print_message("the configuration is valid");
                ExitCode::SUCCESS
            }),
            Command::Store(command) => command.run(environment),
            Command::Sandbox(file) => file.with_config(environment, |config| exit_code(wiring::run_sandbox(config))),
            Command::Translate(command) => command.run(environment),
            Command::Storm(command) => command.run(environment),
        }
    }
}
