//! The process as the operating system sees it: signals that end it, the limit of open files, core files,
//! panics, and the runtime's threads.

pub mod core_dumps;
pub mod panics;
pub mod supervisor;

use std::io;

use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGTERM, SIGINT and SIGQUIT, which request a shutdown.
#[derive(Debug)]
pub struct ShutdownSignals {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
}

impl ShutdownSignals {
    /// Installs the handlers. From then on, these signals do not end the process by themselves. Must be called in a
    /// tokio runtime.
    ///
    /// # Errors
    /// If a handler cannot be installed.
    pub fn install() -> Result<Self, String> {
        Ok(Self {
            terminate: install(SignalKind::terminate())?,
            interrupt: install(SignalKind::interrupt())?,
            quit: install(SignalKind::quit())?,
        })
    }

    /// Waits for the next signal. Cancel safe.
    pub async fn recv(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            _ = self.quit.recv() => {}
        }
    }
}

/// Logs and ignores SIGHUP, SIGUSR1 and SIGUSR2, which end a process by default: a terminal that closes, or a log rotation,
/// must not lose the tasks. SIGHUP is reserved for a reload of the configuration. Never returns. Must be called in a tokio
/// runtime.
///
/// # Errors
/// If a handler cannot be installed.
pub fn ignore_other_signals() -> Result<impl Future<Output = ()> + Send, String> {
    let mut hangup = install(SignalKind::hangup())?;
    let mut user1 = install(SignalKind::user_defined1())?;
    let mut user2 = install(SignalKind::user_defined2())?;
    Ok(async move {
        loop {
            let name = tokio::select! {
                _ = hangup.recv() => "SIGHUP",
                _ = user1.recv() => "SIGUSR1",
                _ = user2.recv() => "SIGUSR2",
            };
            tracing::info!(signal = name, "signal ignored");
        }
    })
}

fn install(kind: SignalKind) -> Result<Signal, String> {
    signal(kind).map_err(|error| format!("cannot install a signal handler: {error}"))
}

/// Raises the limit of open files as far as the system allows and returns the new limit. Each connection is an open
/// file, and the usual default of 1024 is too low for thousands of connections.
///
/// # Errors
/// If the limit cannot be read or raised.
pub fn raise_file_limit() -> io::Result<u64> {
    rlimit::increase_nofile_limit(u64::MAX)
}

/// Starts a multi-threaded runtime, with one worker thread per core if `threads` is `None`.
///
/// # Errors
/// If a thread cannot be started.
pub fn start_runtime(threads: Option<usize>) -> Result<Runtime, String> {
    let mut builder = Builder::new_multi_thread();
    if let Some(threads) = threads {
        builder.worker_threads(threads);
    }
    builder.enable_all().build().map_err(|error| format!("cannot start the runtime: {error}"))
}
