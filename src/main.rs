//! Arguments → configuration → [`capgate::edge::serve`].

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use capgate::config::Config;
use capgate::native::Answer;
use capgate::storm::net as storm;
use capgate::storm::{Plan, Solve};
use capgate::translate;
use capgate::wiring;
use clap::builder::RangedU64ValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use url::Url;

/// Exit code of a configuration that is refused (sysexits: `EX_CONFIG`).
const EXIT_CONFIG: u8 = 78;
/// Exit code when serving could not begin: an address that is taken, say.
const EXIT_SERVE: u8 = 1;
/// Exit code of arguments that are refused, as clap has it.
const EXIT_ARGUMENTS: u8 = 2;
/// Where a real key for a storm is looked for, so that it does not stand in the list of processes.
const STORM_KEY: &str = "CAPGATE_STORM_KEY";

/// Compatibility gateway: the legacy 2captcha API (in.php, res.php) in front of uCaptcha's native JSON API.
#[derive(Parser)]
#[command(version, after_help = EXIT_CODES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "\
Exit codes: 0 done, or stopped by SIGTERM or SIGINT; 1 could not serve, or could not storm; 2 wrong arguments, or a \
target that is refused; 78 configuration refused.
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
    /// Send a poll storm to a staging deployment, and tell how it took it.
    Storm(Storm),
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
struct Storm {
    /// The gateway, or any other legacy service.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    target: Url,
    /// A key for the sandbox; a real one belongs into the environment, as `CAPGATE_STORM_KEY`.
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// Tasks, submitted evenly over the first interval.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = up_to(1, 1_000_000))]
    tasks: u64,
    /// Parameters of every submit.
    #[arg(
        long,
        value_name = "QUERY",
        default_value = "method=turnstile&sitekey=0x4AAAAAAAC3DHQFLr1GavRN&pageurl=https://example.com/storm"
    )]
    task: String,
    /// Clients that poll, each with a connection of its own; client i polls task i modulo the number of tasks.
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = up_to(1, 1_000_000))]
    clients: u64,
    /// From one poll of a client to its next, whatever the answer and however late.
    #[arg(long, value_name = "MS", default_value_t = 5_000, value_parser = up_to(1, 3_600_000))]
    every_ms: u64,
    /// Share by which that is more or less, 0.0 to 1.0.
    #[arg(long, value_name = "SHARE", default_value_t = 0.1, value_parser = |text: &str| number(text, 1.0))]
    jitter: f64,
    /// Length of the storm.
    #[arg(long, value_name = "S", default_value_t = 60, value_parser = up_to(1, 86_400))]
    seconds: u64,
    /// Whether a client keeps its connection between polls.
    #[arg(long, value_enum, default_value_t = Connections::Keep)]
    connections: Connections,
    /// How long tasks take: against the sandbox only, which is told so with each site key.
    #[arg(long, value_name = "MS", value_parser = up_to(0, 3_600_000))]
    solve_ms: Option<u64>,
    /// Sigma of a log-normal distribution around it, 0.0 to 5.0; 0 for constant.
    #[arg(long, value_name = "SIGMA", default_value_t = 0.0, requires = "solve_ms", value_parser = |text: &str| number(text, 5.0))]
    solve_spread: f64,
    /// Each client ends with its final answer, instead of polling on.
    #[arg(long)]
    stop_when_answered: bool,
    /// For a whole request.
    #[arg(long, value_name = "MS", default_value_t = 10_000, value_parser = up_to(1, 600_000))]
    timeout_ms: u64,
    /// Decides everything that is drawn.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// The gateway's admin listener, to tell the calls that it made upstream.
    #[arg(long, value_name = "URL")]
    admin: Option<Url>,
    /// Threads that send.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = up_to(1, 1_024))]
    threads: u64,
    /// Print the summary as one JSON object.
    #[arg(long)]
    json: bool,
    /// Allow hosts that are not this machine; each has to be confirmed as well.
    #[arg(long)]
    remote: bool,
    /// The name of such a host, exactly as in its URL. May be said again, for --admin.
    #[arg(long, value_name = "HOST")]
    confirm: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Connections {
    /// One for all polls of a client.
    Keep,
    /// A new one for each poll.
    New,
}

fn up_to(least: u64, most: u64) -> RangedU64ValueParser {
    RangedU64ValueParser::new().range(least..=most)
}

/// A number from zero up to this.
fn number(text: &str, most: f64) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number| (0.0..=most).contains(number));
    number.ok_or_else(|| format!("not a number from 0.0 to {most:.1}"))
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

impl Storm {
    fn run(self, key: Option<String>) -> Result<String, storm::StormError> {
        let size = |count| usize::try_from(count).unwrap_or(usize::MAX);
        let solve = self.solve_ms.map(|median_ms| Solve { median_ms, spread: self.solve_spread });
        let summary = storm::run(storm::Options {
            plan: Plan {
                tasks: size(self.tasks),
                clients: size(self.clients),
                every: Duration::from_millis(self.every_ms),
                jitter: self.jitter,
                length: Duration::from_secs(self.seconds),
                solve,
                stop_when_answered: self.stop_when_answered,
                seed: self.seed,
                task: Plan::read_task(&self.task, solve).map_err(storm::StormError::Refused)?,
            },
            target: self.target,
            admin: self.admin,
            key: self.key.or(key).unwrap_or_else(|| "storm".to_owned()),
            timeout: Duration::from_millis(self.timeout_ms),
            keeps_connections: self.connections == Connections::Keep,
            remote: self.remote,
            confirmed: self.confirm,
            threads: size(self.threads),
        })?;
        Ok(if self.json { format!("{}\n", summary.json()) } else { summary.text() })
    }
}

/// Prints what was asked for, or why not.
#[expect(clippy::print_stdout, reason = "the answer of a command that is no server")]
fn shown<E: std::fmt::Display>(shown: &Result<String, E>, exit_code: impl FnOnce(&E) -> u8) -> ExitCode {
    match shown {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("capgate: {why}");
            ExitCode::from(exit_code(why))
        }
    }
}

/// Reads the configuration, or says why not.
fn load(file: &ConfigFile, environment: impl Iterator<Item = (String, String)>) -> Result<Config, ExitCode> {
    Config::load(file.config.as_deref(), environment).map_err(|error| {
        eprintln!("capgate: {error}");
        ExitCode::from(EXIT_CONFIG)
    })
}

fn served(served: Result<(), capgate::server::lifecycle::ServeError>) -> ExitCode {
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("capgate: {error}");
            ExitCode::from(EXIT_SERVE)
        }
    }
}

fn main() -> ExitCode {
    let command = Arguments::parse().command;
    #[expect(clippy::disallowed_methods, reason = "the one place where the environment is read")]
    let mut environment =
        std::env::vars_os().filter_map(|(name, text)| Some((name.into_string().ok()?, text.into_string().ok()?)));
    let done = match command {
        Command::Run(file) => load(&file, environment).map(|config| served(wiring::run(&config))),
        Command::Sandbox(file) => load(&file, environment).map(|config| served(wiring::run_sandbox(&config))),
        Command::Check(file) => load(&file, environment).map(|_| {
            eprintln!("capgate: the configuration is good");
            ExitCode::SUCCESS
        }),
        Command::Translate(translate) => {
            load(&translate.file, environment).map(|config| shown(&translate.show(&config), |_| EXIT_SERVE))
        }
        Command::Storm(arguments) => {
            let key = environment.find(|(name, _)| name == STORM_KEY).map(|(_, key)| key);
            Ok(shown(&arguments.run(key), |error| match error {
                storm::StormError::Refused(_) => EXIT_ARGUMENTS,
                storm::StormError::Failed(_) => EXIT_SERVE,
            }))
        }
    };
    done.unwrap_or_else(|refused| refused)
}
