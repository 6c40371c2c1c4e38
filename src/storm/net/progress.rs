//! Progress on standard error.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use tokio::task::JoinSet;

use super::load::Storm;
use crate::process::ShutdownSignals;

/// Waits until all clients are done and prints a line about each second. A signal stops the storm.
pub(super) async fn wait_with_progress(storm: &Storm, clients: &mut JoinSet<()>, signals: &mut ShutdownSignals) {
    const PERIOD: Duration = Duration::from_secs(1);
    let is_terminal = std::io::stderr().is_terminal();
    let mut ticks = tokio::time::interval(PERIOD);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    ticks.tick().await;
    let mut last = storm.elapsed();
    loop {
        tokio::select! {
            () = signals.recv() => storm.stop(),
            _ = ticks.tick() => {
                let elapsed = storm.elapsed();
                let line = storm.tally.lock().take_progress_line(elapsed, elapsed.saturating_sub(last));
                last = elapsed;
                // On a terminal, overwrites the last line and erases its rest.
                print_progress(&if is_terminal { format!("\r{line}\x1b[K") } else { format!("{line}\n") });
            }
            done = clients.join_next() => if done.is_none() { break },
        }
    }
    if is_terminal {
        print_progress("\n");
    }
}

/// Writes to standard error, and ignores that it may be closed.
pub(super) fn print_progress(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}
