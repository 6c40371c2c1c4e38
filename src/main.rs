//! Arguments → configuration → [`capgate::edge::serve`].

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use capgate::config::Config;
use capgate::edge::serve;
use capgate::native::Answer;
use capgate::translate;
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
    /// Show what the gateway would make of a request; nothing is sent.
    Translate(Translate),
}

#[derive(Args)]
struct Translate {
    /// The request's URL, or the part behind the host: "/in.php?key=…&method=…".
    #[arg(required_unless_present = "request")]
    url: Option<String>,
    /// A file with a raw HTTP request instead; "-" for standard input.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["url", "data"])]
    request: Option<PathBuf>,
    /// The body of a POST to the URL; "@FILE" for a file.
    #[arg(long, value_name = "BODY")]
    data: Option<String>,
    /// The type of that body.
    #[arg(long, value_name = "TYPE", default_value = "application/x-www-form-urlencoded")]
    content_type: String,
    /// A native answer, to show what the client would be told: JSON, or "@FILE".
    #[arg(long, value_name = "JSON")]
    answer: Option<String>,
    /// The HTTP status of that answer.
    #[arg(long, value_name = "STATUS", default_value_t = 200)]
    status: u16,
    /// The row of the method table that a polled task was submitted under.
    #[arg(long, value_name = "ROW")]
    row: Option<String>,
    #[command(flatten)]
    file: ConfigFile,
}

#[derive(Args)]
struct ConfigFile {
    /// Configuration file; without one, defaults and environment.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Translate {
    fn show(&self, config: &Config) -> Result<String, String> {
        let read = |file: &Path| -> Result<Vec<u8>, String> {
            let mut bytes = Vec::new();
            let read = match file.to_str() {
                Some("-") => std::io::stdin().read_to_end(&mut bytes).map(drop),
                _ => std::fs::read(file).map(|read| bytes = read),
            };
            read.map(|()| bytes).map_err(|error| format!("{}: {error}", file.display()))
        };
        let text_or_file = |text: &String| match text.strip_prefix('@') {
            Some(file) => read(Path::new(file)),
            None => Ok(text.clone().into_bytes()),
        };
        let inbound = match (&self.request, &self.url) {
            (Some(file), _) => translate::from_http(&read(file)?)?,
            (None, url) => {
                let data = self.data.as_ref().map(text_or_file).transpose()?;
                translate::from_url(url.as_deref().unwrap_or_default(), data.as_deref(), &self.content_type)?
            }
        };
        let body = self.answer.as_ref().map(text_or_file).transpose()?;
        let answer = body.map(|body| Answer::new(self.status, body.into()));
        translate::explain(&inbound, answer.as_ref(), self.row.as_deref(), &config.legacy_limits())
    }
}

/// Prints what was asked for, or why not.
#[expect(clippy::print_stdout, reason = "the answer of a command that is no server")]
fn shown(shown: &Result<String, String>) -> ExitCode {
    match shown {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("capgate: {why}");
            ExitCode::from(EXIT_SERVE)
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let file = match &arguments.command {
        Command::Run(file) | Command::Check(file) | Command::Sandbox(file) => file,
        Command::Translate(translate) => &translate.file,
    };
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
        Command::Translate(translate) => return shown(&translate.show(&config)),
    };
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("capgate: {error}");
            ExitCode::from(EXIT_SERVE)
        }
    }
}
