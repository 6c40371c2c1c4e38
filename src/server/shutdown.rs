//! The shutdown signal for connections, and their grace period.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

/// How long an idle connection stays open once the process shuts down: long enough for a request that the client has
/// already sent.
pub(super) const SHUTDOWN_GRACE: Duration = Duration::from_millis(500);

/// The shutdown signal: once the process shuts down, how long an idle HTTP/1 connection stays open. An idle HTTP/2
/// connection is told that it ends, and stays open for [`SHUTDOWN_GRACE`].
pub(super) type Shutdown = watch::Receiver<Option<Duration>>;

/// Awaits an action of the client. Once the process shuts down, waits for at most its grace period more.
pub(super) async fn with_shutdown_grace<T>(action: impl Future<Output = T>, shutdown: &Shutdown) -> Option<T> {
    let mut action = std::pin::pin!(action);
    tokio::select! {
        biased;
        done = &mut action => Some(done),
        grace = shutdown_requested(shutdown) => timeout(grace, action).await.ok(),
    }
}

/// Returns the grace period once the process shuts down.
pub(super) async fn shutdown_requested(shutdown: &Shutdown) -> Duration {
    // An error means that the sender was dropped, which ends the process as well.
    let mut shutdown = shutdown.clone();
    let grace = shutdown.wait_for(Option::is_some).await.ok().and_then(|grace| *grace);
    grace.unwrap_or(SHUTDOWN_GRACE)
}
