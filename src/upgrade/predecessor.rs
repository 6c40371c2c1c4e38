//! The process before this one, from which it takes over.

use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use super::files::{self, NamedFile};

/// What a new process says once it serves.
pub(super) const READY: &[u8] = b"ready\n";

/// The process before this one.
#[derive(Debug)]
pub struct Predecessor(UnixStream);

impl Predecessor {
    /// Receives the files of the process that started this one, over standard input.
    ///
    /// # Errors
    /// If that is no capgate which upgrades.
    pub fn meet() -> Result<(Self, Vec<NamedFile>), String> {
        let stream = std::io::stdin().as_fd().try_clone_to_owned().map_err(|error| error.to_string())?;
        let files = files::receive(&stream)
            .map_err(|error| format!("cannot take over: standard input: {error}; run capgate upgrade instead"))?;
        Ok((Self(UnixStream::from(stream)), files))
    }

    /// Tells the process before that this one serves, upon which that one stops.
    ///
    /// # Errors
    /// If that process is gone, or has given up this one.
    pub fn report_ready(mut self) -> Result<(), String> {
        self.0.write_all(READY).map_err(|error| format!("the process before this one is gone: {error}"))
    }
}
