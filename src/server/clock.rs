//! The server's clock: tokio's, which tests pause. It sets deadlines, measures durations and meters requests.

use tokio::time::Instant;

/// Returns the current time.
pub(super) fn now() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "the clock itself")]
    Instant::now()
}
