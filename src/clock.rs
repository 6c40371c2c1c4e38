//! The only clock: monotonic, and paused by tests. The core does not read it but takes the time as an argument.

use tokio::time::Instant;

use crate::domain::Moment;

/// Milliseconds since its start, on tokio's clock.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    /// Starts the clock at zero.
    pub fn start() -> Self {
        #[expect(clippy::disallowed_methods, reason = "the only place that reads the time")]
        Self { origin: Instant::now() }
    }

    /// The current time.
    pub fn now(self) -> Moment {
        Moment(u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX))
    }
}
