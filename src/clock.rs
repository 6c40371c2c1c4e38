//! The monotonic clock, which tests pause. The core does not read it, but takes the time as an argument.

use tokio::time::Instant;

use crate::domain::Moment;

/// A clock that counts milliseconds from its start, on tokio's clock.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    /// Starts the clock at zero.
    pub fn start() -> Self {
        #[expect(clippy::disallowed_methods, reason = "the clock itself")]
        Self { origin: Instant::now() }
    }

    /// Returns the current time.
    pub fn now(self) -> Moment {
        Moment(u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX))
    }
}
