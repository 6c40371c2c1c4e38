//! The control socket: a Unix socket by which `capgate upgrade` asks the running process for an upgrade.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

/// Name of the socket among the files that are passed on.
pub const CONTROL: &str = "control";

/// The request for an upgrade, and the beginning of the replies.
const REQUEST: [u8; 8] = *b"upgrade\n";
const DONE: &str = "done ";
const FAILED: &str = "failed ";

/// Time for a request to arrive.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// Time for an upgrade. Longer than the running process waits for the new one.
const REPLY_TIMEOUT: Duration = Duration::from_secs(90);

/// Binds the control socket, which only the user of this process may open. Replaces a socket that no process listens on.
///
/// # Errors
/// If another process listens on it, or the path cannot be used.
pub fn bind(path: &Path) -> Result<UnixListener, String> {
    let explain = |error: io::Error| format!("control socket {}: {error}", path.display());
    let listener = match UnixListener::bind(path) {
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            match UnixStream::connect(path) {
                // Nobody listens: a process was killed.
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
                Ok(_) => return Err(explain(io::Error::other("another capgate is running"))),
                Err(error) => return Err(explain(error)),
            }
            std::fs::remove_file(path).map_err(explain)?;
            UnixListener::bind(path)
        }
        bound => bound,
    }
    .map_err(explain)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(explain)?;
    Ok(listener)
}

/// Serves requests, one after the other, until an upgrade succeeds. `upgrade` returns the id of the new process. Blocks the
/// thread.
pub fn serve(listener: &UnixListener, mut upgrade: impl FnMut() -> Result<u32, String>) {
    loop {
        let Ok((mut stream, _)) = listener.accept() else {
            // Lack of files, which must not make this loop spin.
            #[expect(clippy::disallowed_methods, reason = "a thread of its own")]
            std::thread::sleep(Duration::from_secs(1));
            continue;
        };
        let mut request = [0; REQUEST.len()];
        let read = stream.set_read_timeout(Some(REQUEST_TIMEOUT)).and_then(|()| stream.read_exact(&mut request));
        if read.is_err() || request != REQUEST {
            continue;
        }
        let result = upgrade();
        let reply = match &result {
            Ok(pid) => format!("{DONE}{pid}\n"),
            Err(error) => format!("{FAILED}{error}\n"),
        };
        // The upgrade is done, whether or not its client still waits. A short reply never blocks.
        let _ = stream.write_all(reply.as_bytes());
        if result.is_ok() {
            return;
        }
    }
}

/// Asks the running process for an upgrade, and waits for its end. Returns the id of the new process.
///
/// # Errors
/// If no process runs, or the new process does not serve.
pub fn request_upgrade(path: &Path) -> Result<u32, String> {
    let explain = |error: io::Error| format!("no capgate answers at {}: {error}", path.display());
    let mut stream = UnixStream::connect(path).map_err(explain)?;
    let mut reply = String::new();
    let exchanged = stream.set_read_timeout(Some(REPLY_TIMEOUT)).and_then(|()| {
        stream.write_all(&REQUEST)?;
        stream.take(4_096).read_to_string(&mut reply)
    });
    exchanged.map_err(explain)?;
    let reply = reply.trim_end();
    match reply.strip_prefix(DONE).and_then(|pid| pid.parse().ok()) {
        Some(pid) => Ok(pid),
        None => Err(reply.strip_prefix(FAILED).unwrap_or("the running process gave no answer").to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_served_until_an_upgrade_succeeds() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("control.sock");
        assert!(request_upgrade(&path).expect_err("no process").contains("no capgate answers"));
        let listener = bind(&path).expect("bound");
        assert_eq!(std::fs::metadata(&path).expect("a socket").permissions().mode() & 0o777, 0o600);
        assert!(bind(&path).expect_err("taken").contains("another capgate is running"));
        let mut results = vec![Ok(42), Err("no certificate".to_owned())];
        let server = std::thread::spawn(move || {
            serve(&listener, || results.pop().expect("two upgrades"));
            results.len()
        });
        // Whoever says something else, or nothing, is not served.
        UnixStream::connect(&path).expect("connected").write_all(b"GET / HTTP/1.1\r\n\r\n").expect("written");
        drop(UnixStream::connect(&path).expect("connected"));
        assert_eq!(request_upgrade(&path), Err("no certificate".to_owned()));
        assert_eq!(request_upgrade(&path), Ok(42));
        assert_eq!(server.join().expect("no panic"), 0);
        // The socket of a process that ended is replaced.
        assert!(request_upgrade(&path).is_err() && bind(&path).is_ok());
    }
}
