//! The `capgate` program: parses the arguments and runs a command of [`capgate::cli`].

use std::process::ExitCode;

use capgate::cli::Arguments;
use clap::Parser;
use tikv_jemallocator::Jemalloc;

/// Returns memory to the system after a wave of requests, which glibc's allocator does not
/// (`docs/decisions/0011-memory.md`).
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
    let environment = std::env::vars_os();
    let environment =
        environment.filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    arguments.run(environment)
}
