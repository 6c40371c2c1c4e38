//! The wall clock of the log.

use chrono::{DateTime, Utc};

/// Returns the time for a line of the log.
pub(super) fn now() -> DateTime<Utc> {
    #[expect(
        clippy::disallowed_methods,
        reason = "wall-clock time is for the readers of the log, and for nothing else"
    )]
    Utc::now()
}
