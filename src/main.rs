//! Arguments → configuration → [`capgate::edge::serve`].

use std::path::PathBuf;
use std::process::ExitCode;

use capgate::config::Config;
use capgate::edge::serve;
use clap::{Args, Parser, Subcommand};

/// Exit code of a configuration that is refused (sysexits: `EX_CONFIG`).
const EXIT_CONFIG: u8 = 78;
/// Exit code when serving could not begin: an address that is taken, say.
const EXIT_SERVE: u8 = 1;

/// Compatibility gateway: the legacy 2captcha API (in.php, res.php) in front of uCaptcha's native JSON API.
#[derive(Parser)]
#[command(version, after_help = EXIT_CODES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "\
Exit codes: 0 done, or stopped by SIGTERM or SIGINT; 1 could not serve; 2 wrong arguments; 78 configuration refused.
Every key of the configuration can be set from the environment as CAPGATE_<SECTION>_<KEY>.";

#[derive(Subcommand)]
enum Command {
    /// Run the gateway.
    Run(ConfigFile),
    /// Check the configuration and exit.
    Check(ConfigFile),
    /// Run the sandbox alone: a stand-in for the native API.
    Sandbox(ConfigFile),
}

#[derive(Args)]
struct ConfigFile {
    /// Configuration file; without one, defaults and environment.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let (Command::Run(file) | Command::Check(file) | Command::Sandbox(file)) = &arguments.command;
    #[expect(clippy::disallowed_methods, reason = "the one place where the environment is read")]
    let environment =
        std::env::vars_os().filter_map(|(name, text)| Some((name.into_string().ok()?, text.into_string().ok()?)));
    let config = match Config::load(file.config.as_deref(), environment) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("capgate: {error}");
            return ExitCode::from(EXIT_CONFIG);
        }
    };
    let served = match arguments.command {
        Command::Run(_) => serve::run(&config),
        Command::Sandbox(_) => serve::run_sandbox(&config),
        Command::Check(_) => {
            eprintln!("capgate: the configuration is good");
            Ok(())
        }
    };
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("capgate: {error}");
            ExitCode::from(EXIT_SERVE)
        }
    }
}
