//! The supervisor that started the process, if it is systemd: sockets that it has bound (`sd_listen_fds(3)`), and what it is
//! told about the process (`sd_notify(3)`). Without systemd, there are none, and nobody is told.

use std::net::TcpListener;

use listenfd::ListenFd;
use sd_notify::NotifyState;

/// Takes the listening sockets that the supervisor has bound. Changes the environment, so it must be called before any thread
/// is started.
///
/// # Errors
/// If a file that the supervisor passed is no listening TCP socket.
pub fn take_sockets() -> Result<Vec<TcpListener>, String> {
    let mut passed = ListenFd::from_env();
    let count = passed.len();
    let take = |index| {
        let taken = passed.take_tcp_listener(index).transpose()?;
        Some(taken.map_err(|error| format!("socket {index} of systemd is no TCP listener: {error}")))
    };
    (0..count).filter_map(take).collect()
}

/// Tells the supervisor that the process serves.
pub fn report_ready() {
    notify(&NotifyState::Ready);
}

/// Tells the supervisor that the process is about to end.
pub fn report_stopping() {
    notify(&NotifyState::Stopping);
}

/// Tells the supervisor that another process has taken over from this one.
pub fn report_successor(pid: u32) {
    notify(&NotifyState::MainPid(pid));
}

fn notify(state: &NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(std::slice::from_ref(state)) {
        tracing::warn!(kind = error.to_string(), "cannot notify systemd");
    }
}
