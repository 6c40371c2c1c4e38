//! Output and exit codes of the commands.

use std::fmt::Display;
use std::process::ExitCode;

use crate::server::lifecycle::ServeError;

/// Invalid configuration: `EX_CONFIG` of `sysexits.h`.
pub(super) const EXIT_CONFIG: u8 = 78;
/// Failure, for example an address that is in use.
pub(super) const EXIT_FAILURE: u8 = 1;
/// Invalid arguments, as clap exits.
pub(super) const EXIT_ARGUMENTS: u8 = 2;

/// Prints the result of a command, or its error.
#[expect(clippy::print_stdout, reason = "the output of a command that is not a server")]
pub(super) fn print_result<E: Display>(result: &Result<String, E>, error_code: impl FnOnce(&E) -> u8) -> ExitCode {
    match result {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            print_message(error);
            ExitCode::from(error_code(error))
        }
    }
}

/// Replaces the panic hook by one that prints the place of a panic. Its message may quote a key.
pub(super) fn hide_panic_messages() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        print_message(format_args!("panic at {place}"));
    }));
}

/// Prints a message to standard error.
pub(super) fn print_message(message: impl Display) {
    eprintln!("capgate: {message}");
}

/// Returns the exit code of a server that ended. Prints its error.
pub(super) fn exit_code(result: Result<(), ServeError>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            print_message(error);
            ExitCode::from(EXIT_FAILURE)
        }
    }
}
