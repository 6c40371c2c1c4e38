//! The shutdown signal for connections, and their grace period.

use std::time::Duration;

use pingora::server::ShutdownWatch;
use tokio::time::timeout;

/// How long an idle connection stays open once the process shuts down: long enough for a request that the client has
/// already sent.
pub(super) const SHUTDOWN_GRACE: Duration = Duration::from_millis(500);

/// Awaits an action of the client. Once the process shuts down, waits for at most [`SHUTDOWN_GRACE`] more.
pub(super) async fn with_shutdown_grace<T>(action: impl Future<Output = T>, shutdown: &ShutdownWatch) -> Option<T> {
    let mut action = std::pin::pin!(action);
    tokio::select! {
        biased;
        done = &mut action => Some(done),
        () = shutdown_requested(shutdown) => timeout(SHUTDOWN_GRACE, action).await.ok(),
    }
}

/// Returns once the process shuts down.
pub(super) async fn shutdown_requested(shutdown: &ShutdownWatch) {
    // An error means that the sender was dropped, which ends the process as well.
    drop(shutdown.clone().wait_for(|down| *down).await);
}
