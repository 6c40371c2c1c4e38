//! Compares embedded stores on capgate's workload; see `README.md`.

#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

mod crash;
#[cfg(feature = "journal")]
mod journal;
mod measure;
#[cfg(feature = "redb")]
mod redb_store;
#[cfg(feature = "sqlite")]
mod sqlite_store;
mod store;
mod workload;

use std::path::Path;
use std::process::ExitCode;

use store::Result;

const USAGE: &str = "usage: capgate-stores batches FOLDER LIVE ROUNDS | turnover FOLDER LIVE TURNOVERS [STORE...] |
    burst FOLDER RECORDS random|ordered [STORE...] | shrink FOLDER LIVE RECORDS [STORE...] | kills FOLDER TIMES |
    faults STORE FOLDER BATCHES [FILLER] | hold STORE FOLDER | write-recorded STORE FOLDER BATCHES |
    check-recorded STORE FOLDER BATCHES EXPIRED";

fn choose<'a>(kinds: &'a [&'a str]) -> &'a [&'a str] {
    if kinds.is_empty() { store::MAIN_KINDS } else { kinds }
}

fn run(arguments: &[&str]) -> Result<()> {
    match arguments {
        ["batches", root, live, rounds] => measure::batches(Path::new(root), live.parse()?, rounds.parse()?),
        ["turnover", root, live, turnovers, kinds @ ..] => {
            measure::turnover(Path::new(root), live.parse()?, turnovers.parse()?, choose(kinds))
        }
        ["burst", root, records, order @ ("random" | "ordered"), kinds @ ..] => {
            measure::burst(Path::new(root), records.parse()?, *order == "ordered", choose(kinds))
        }
        ["shrink", root, live, records, kinds @ ..] => {
            measure::shrink(Path::new(root), live.parse()?, records.parse()?, choose(kinds))
        }
        ["kills", root, times] => crash::kills(Path::new(root), times.parse()?),
        ["faults", kind, dir, batches] => crash::write_under_faults(kind, Path::new(dir), batches.parse()?, None),
        ["faults", kind, dir, batches, filler] => {
            crash::write_under_faults(kind, Path::new(dir), batches.parse()?, Some(Path::new(filler)))
        }
        ["hold", kind, dir] => crash::hold(kind, Path::new(dir)),
        ["write-until-killed", kind, dir, first, size] => {
            crash::write_until_killed(kind, Path::new(dir), first.parse()?, size.parse()?)
        }
        ["write-recorded", kind, dir, batches] => crash::write_recorded(kind, Path::new(dir), batches.parse()?),
        ["check-recorded", kind, dir, batches, expired] => {
            crash::check_recorded(kind, Path::new(dir), batches.parse()?, expired.parse()?)
        }
        _ => Err(USAGE.into()),
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("capgate-stores: {error}");
            ExitCode::FAILURE
        }
    }
}
