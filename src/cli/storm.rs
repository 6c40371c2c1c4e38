//! The arguments of `capgate storm`.

use std::process::ExitCode;
use std::time::Duration;

use clap::builder::RangedU64ValueParser;
use clap::{Args, ValueEnum};
use url::Url;

use super::output::{EXIT_ARGUMENTS, EXIT_FAILURE, print_message, print_result};
use crate::process::core_dumps;
use crate::storm::net::{self, StormError, StormOptions};
use crate::storm::plan::{Plan, SolveTimes};

/// Environment variable of the key. Other users of the machine can see arguments, but not the environment.
const KEY_VARIABLE: &str = "CAPGATE_STORM_KEY";

#[derive(Args)]
pub(super) struct Storm {
    /// Base URL of the gateway, or of any other legacy service.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    target: String,
    /// Key for the sandbox. Set a real key in the environment as `CAPGATE_STORM_KEY`.
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// Number of tasks, submitted evenly over the first interval.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = integer(1, 1_000_000))]
    tasks: u64,
    /// Parameters of every submit.
    #[arg(
        long,
        value_name = "QUERY",
        default_value = "method=turnstile&sitekey=0x4AAAAAAAC3DHQFLr1GavRN&pageurl=https://example.com/storm"
    )]
    task: String,
    /// Number of polling clients, each with its own connection. Client i polls task i modulo the number of tasks.
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = integer(1, 1_000_000))]
    clients: u64,
    /// Interval between the polls of a client, regardless of the answers and of their delay.
    #[arg(long, value_name = "MS", default_value_t = 5_000, value_parser = integer(1, 3_600_000))]
    every_ms: u64,
    /// Share by which the interval varies, 0.0 to 1.0.
    #[arg(long, value_name = "SHARE", default_value_t = 0.1, value_parser = |text: &str| decimal(text, 1.0))]
    jitter: f64,
    /// Duration of the storm.
    #[arg(long, value_name = "S", default_value_t = 60, value_parser = integer(1, 86_400))]
    seconds: u64,
    /// Whether a client keeps its connection between polls.
    #[arg(long, value_enum, default_value_t = Connections::Keep)]
    connections: Connections,
    /// Median time to solve a task. Only for the sandbox, which takes it from the site key.
    #[arg(long, value_name = "MS", value_parser = integer(0, 3_600_000))]
    solve_ms: Option<u64>,
    /// Sigma of a log-normal distribution of the time to solve a task, 0.0 to 5.0; 0 for a constant time.
    #[arg(
        long,
        value_name = "SIGMA",
        default_value_t = 0.0,
        requires = "solve_ms",
        value_parser = |text: &str| decimal(text, 5.0)
    )]
    solve_spread: f64,
    /// Stop each client at its final answer, instead of polling until the end.
    #[arg(long)]
    stop_when_answered: bool,
    /// Time limit of a whole request.
    #[arg(long, value_name = "MS", default_value_t = 10_000, value_parser = integer(1, 600_000))]
    timeout_ms: u64,
    /// Seed of all random numbers.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Base URL of the gateway's admin listener, to report the gateway's upstream calls.
    #[arg(long, value_name = "URL")]
    admin: Option<String>,
    /// Number of sending threads.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = integer(1, 1_024))]
    threads: u64,
    /// Print the summary as one JSON object.
    #[arg(long)]
    json: bool,
    /// Allow hosts other than this machine. Each also needs --confirm.
    #[arg(long)]
    remote: bool,
    /// Name of an allowed host, exactly as in its URL. May be repeated, for --admin.
    #[arg(long, value_name = "HOST")]
    confirm: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Connections {
    /// One connection for all polls of a client.
    Keep,
    /// A new connection for each poll.
    New,
}

fn integer(min: u64, max: u64) -> RangedU64ValueParser {
    RangedU64ValueParser::new().range(min..=max)
}

/// Parses a number from zero to `max`.
fn decimal(text: &str, max: f64) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number| (0.0..=max).contains(number));
    number.ok_or_else(|| format!("not a number from 0.0 to {max:.1}"))
}

/// Parses the URL of an argument. Not a parser of clap, whose error contains the text: it may hold a password.
fn parse_url(argument: &str, text: &str) -> Result<Url, StormError> {
    Url::parse(text).map_err(|error| StormError::Refused(format!("{argument} is not a URL: {error}")))
}

impl Storm {
    pub(super) fn run(self, mut environment: impl Iterator<Item = (String, String)>) -> ExitCode {
        if let Err(warning) = core_dumps::forbid() {
            print_message(warning);
        }
        let key = environment.find(|(name, _)| name == KEY_VARIABLE).map(|(_, key)| key);
        print_result(&self.run_storm(key), |error| match error {
            StormError::Refused(_) => EXIT_ARGUMENTS,
            StormError::Failed(_) => EXIT_FAILURE,
        })
    }

    /// Runs the storm and returns its summary. `key` applies if `--key` is absent.
    fn run_storm(self, key: Option<String>) -> Result<String, StormError> {
        let size = |count| usize::try_from(count).unwrap_or(usize::MAX);
        let solve_times = self.solve_ms.map(|median_ms| SolveTimes { median_ms, sigma: self.solve_spread });
        let plan = Plan {
            tasks: size(self.tasks),
            clients: size(self.clients),
            interval: Duration::from_millis(self.every_ms),
            jitter: self.jitter,
            duration: Duration::from_secs(self.seconds),
            solve_times,
            stop_when_answered: self.stop_when_answered,
            seed: self.seed,
            task_params: Plan::parse_task_params(&self.task, solve_times).map_err(StormError::Refused)?,
        };
        let summary = net::run(StormOptions {
            plan,
            target: parse_url("--target", &self.target)?,
            admin: self.admin.as_deref().map(|text| parse_url("--admin", text)).transpose()?,
            key: self.key.or(key).unwrap_or_else(|| "storm".to_owned()),
            timeout: Duration::from_millis(self.timeout_ms),
            keeps_connections: self.connections == Connections::Keep,
            remote: self.remote,
            confirmed: self.confirm,
            threads: size(self.threads),
        })?;
        Ok(if self.json { format!("{}\n", summary.to_json()) } else { summary.to_text() })
    }
}
