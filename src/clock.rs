//! The one clock: monotonic, and paused where a test says so. The core never reads it; it is told what time it is.

use tokio::time::Instant;

use crate::domain::Moment;

/// Time since it was started, on tokio's clock.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    /// Starts at zero.
    pub fn start() -> Self {
        #[expect(clippy::disallowed_methods, reason = "the one place where the time is read")]
        Self { origin: Instant::now() }
    }

    /// Now.
    pub fn now(self) -> Moment {
        Moment(u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX))
    }
}
