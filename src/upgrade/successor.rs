//! Starts the process that takes over from this one.

use std::ffi::OsString;
use std::io::{ErrorKind, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::files::{self, NamedFile};
use super::predecessor::READY;

/// Argument of a process that takes over from the one that started it.
pub const TAKE_OVER: &str = "--take-over";

/// Time for the new process to serve.
const READY_TIMEOUT: Duration = Duration::from_secs(60);

/// The program of this process and its arguments, with which it is started anew.
#[derive(Clone, Debug)]
pub struct Program {
    path: PathBuf,
    arguments: Vec<OsString>,
}

impl Program {
    /// Reads how this process was started. Keeps the path as it was given, so that a new program in its place, or behind
    /// a symbolic link, is found.
    ///
    /// # Errors
    /// If the working directory is gone.
    pub fn of_this_process() -> Result<Self, String> {
        let mut arguments = std::env::args_os();
        let path = PathBuf::from(arguments.next().unwrap_or_default());
        // A name without a slash is looked up in PATH.
        let has_directory = path.parent().is_some_and(|parent| parent != Path::new(""));
        let path = if has_directory { std::path::absolute(path).map_err(|error| error.to_string())? } else { path };
        Ok(Self { path, arguments: arguments.filter(|argument| argument != TAKE_OVER).collect() })
    }

    /// Starts the program with these files, and waits until it serves. Returns its process id. Blocks the thread.
    ///
    /// # Errors
    /// If it cannot be started, ends, or does not serve in time. It does not run then.
    pub fn start(&self, files: &[NamedFile]) -> Result<u32, String> {
        let (stream, theirs) = UnixStream::pair().map_err(|error| error.to_string())?;
        let mut command = Command::new(&self.path);
        command.args(&self.arguments).arg(TAKE_OVER).stdin(Stdio::from(OwnedFd::from(theirs)));
        let child = command.spawn().map_err(|error| format!("cannot start {}: {error}", self.path.display()))?;
        // Closes this process's copy of the other end, so that the end of the new process ends the stream.
        drop(command);
        let mut child = Successor(Some(child));
        files::send(&stream, files)
            .and_then(|()| stream.set_read_timeout(Some(READY_TIMEOUT)))
            .map_err(|error| error.to_string())?;
        let mut reply = [0; READY.len()];
        match (&stream).read_exact(&mut reply) {
            Ok(()) if reply == READY => Ok(child.release()),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                Err(format!("the new process {}", child.describe_end()))
            }
            Ok(()) | Err(_) => Err(format!("the new process did not serve within {} s", READY_TIMEOUT.as_secs())),
        }
    }
}

/// A new process, which is ended unless it is released.
struct Successor(Option<Child>);

impl Successor {
    /// Lets the process run. Returns its id.
    fn release(&mut self) -> u32 {
        self.0.take().map_or(0, |child| child.id())
    }

    /// Waits for the process, which has closed its stream. Returns how it ended.
    fn describe_end(&mut self) -> String {
        // Its last act, or it closed its standard input; then it must not live on.
        const LAST_ACT: Duration = Duration::from_secs(1);
        let Some(mut child) = self.0.take() else { return String::new() };
        for _ in 0..10 {
            if let Ok(Some(status)) = child.try_wait() {
                return format!("ended with {status}; its log says why");
            }
            #[expect(clippy::disallowed_methods, reason = "a thread of its own")]
            std::thread::sleep(LAST_ACT / 10);
        }
        self.0 = Some(child);
        "closed its standard input".to_owned()
    }
}

impl Drop for Successor {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
