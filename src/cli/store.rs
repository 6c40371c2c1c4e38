//! The commands `capgate store check`, `stats` and `export`. The store may be in use.

use std::io::{BufWriter, Write};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};

use super::config_file::ConfigFile;
use super::output::{EXIT_FAILURE, print_result};
use crate::config::Config;
use crate::store::inspect::{Inspection, Stats};

#[derive(Args)]
pub(super) struct StoreCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Check that the whole store can be read.
    Check(ConfigFile),
    /// Print the contents of the store in numbers, as one JSON object.
    Stats(ConfigFile),
    /// Print each task as a line of JSON, without its key and answer.
    Export(ConfigFile),
}

impl StoreCommand {
    pub(super) fn run(self, environment: impl Iterator<Item = (String, String)>) -> ExitCode {
        let (Action::Check(file) | Action::Stats(file) | Action::Export(file)) = &self.action;
        file.with_config(environment, |config| {
            let result = open(config).and_then(|inspection| match self.action {
                Action::Check(_) => check(&inspection),
                Action::Stats(_) => to_json(&read_all(&inspection)?).map(|json| json + "\n"),
                Action::Export(_) => export(&inspection),
            });
            print_result(&result, |_| EXIT_FAILURE)
        })
    }
}

fn open(config: &Config) -> Result<Inspection, String> {
    let (path, key_file) = config.store_paths().ok_or("store.path is not set")?;
    Inspection::open(&path, key_file.as_deref())
}

fn check(inspection: &Inspection) -> Result<String, String> {
    let bar = ProgressBar::new_spinner().with_message("checking the structure");
    bar.enable_steady_tick(std::time::Duration::from_millis(200));
    let checked = inspection.check_structure();
    bar.finish_and_clear();
    checked?;
    let stats = read_all(inspection)?;
    let tasks: u64 = stats.tasks.values().sum();
    if stats.unreadable > 0 {
        return Err(format!("{} values cannot be read, {tasks} tasks can", stats.unreadable));
    }
    Ok(format!("the store can be read: {tasks} tasks, {} accepted keys, {} bytes\n", stats.accepted_keys, stats.bytes))
}

/// Reads every value, with a progress bar on a terminal.
fn read_all(inspection: &Inspection) -> Result<Stats, String> {
    let style = ProgressStyle::with_template("{bar:40} {percent} % of {len} values, {eta} left");
    let bar = ProgressBar::new(inspection.values()?);
    bar.set_style(style.map_err(|error| error.to_string())?);
    let stats = inspection.stats(|| bar.inc(1));
    bar.finish_and_clear();
    stats
}

/// Prints the tasks one by one, because they may not fit into memory.
fn export(inspection: &Inspection) -> Result<String, String> {
    let mut out = BufWriter::new(std::io::stdout().lock());
    let mut written = Ok(());
    let unreadable = inspection.export(|task| {
        if written.is_ok() {
            written = to_json(&task).and_then(|line| writeln!(out, "{line}").map_err(|error| error.to_string()));
        }
    })?;
    written.and_then(|()| out.flush().map_err(|error| error.to_string()))?;
    match unreadable {
        0 => Ok(String::new()),
        _ => Err(format!("{unreadable} tasks cannot be read")),
    }
}

fn to_json<T: serde::Serialize>(value: &T) -> Result<String, String> {
    serde_json::to_string(value).map_err(|error| error.to_string())
}
