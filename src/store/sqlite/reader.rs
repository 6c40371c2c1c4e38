//! The thread that reads, on a connection of its own, so that a restart of a large store does not keep writes waiting.
//! It also copies the log, and checks a large file in the background.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;

use tokio::sync::oneshot;

use super::super::backend::{Place, Space, StoreError};
use super::database::{Database, Page, explain};
use super::status::Status;

/// Work for the reader.
pub(super) enum Command {
    Read(Place, oneshot::Sender<Result<Option<Vec<u8>>, StoreError>>),
    Page { space: Space, from: i64, rows_max: usize, page_tx: oneshot::Sender<Result<Page, StoreError>> },
    Checkpoint,
}

/// The reader.
pub(super) struct Reader {
    pub(super) database: Database,
    pub(super) commands: Receiver<Command>,
    pub(super) status: Arc<Status>,
}

impl Reader {
    /// Runs until the backend and the writer are dropped.
    pub(super) fn run(self) {
        for command in &self.commands {
            match command {
                Command::Read(place, value_tx) => {
                    drop(value_tx.send(self.database.read(place).map_err(|error| explain(&error))));
                }
                Command::Page { space, from, rows_max, page_tx } => {
                    let page = self.database.read_page(space, from, rows_max);
                    drop(page_tx.send(page.map_err(|error| explain(&error))));
                }
                Command::Checkpoint => match self.database.checkpoint() {
                    Ok(()) => self.status.is_log_copied.store(true, Ordering::Relaxed),
                    Err(error) => {
                        tracing::warn!(kind = explain(&error).to_string(), "cannot copy the log of the store");
                    }
                },
            }
        }
    }
}

/// Checks a large file, which takes seconds. A damaged one must not be written any further.
pub(super) fn check_in_background(database: &Database, status: &Status) {
    if let Err(error) = database.check() {
        tracing::error!(kind = error.to_string(), "the store is damaged: submits are refused");
        status.set_damaged(&error.to_string());
    }
}
