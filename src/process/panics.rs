//! Futures that may panic: caught, and started again if they belong to a task that the process cannot do without.

use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

/// Exit code after too many panics: `EX_SOFTWARE` of `sysexits.h`.
pub const EXIT_PANICS: i32 = 70;

/// Pause before a task that panicked starts again. Short enough that a task that always panics exceeds
/// `server.panics_per_minute_max` within its minute.
const RESTART_PAUSE: Duration = Duration::from_millis(500);

/// Awaits a future. Returns `None` if it panics; the panic hook has logged the panic by then.
pub async fn catch_unwind<F: Future + ?Sized>(mut future: Pin<&mut F>) -> Option<F::Output> {
    // The future is not polled again after a panic.
    let poll = |context: &mut Context<'_>| {
        let polled = std::panic::catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context)));
        polled.map_or(Poll::Ready(None), |polled| polled.map(Some))
    };
    std::future::poll_fn(poll).await
}

/// Runs a background task to its end, and starts it again each time that it panics.
pub async fn keep_running<F: Future<Output = ()>>(name: &'static str, mut start: impl FnMut() -> F) {
    loop {
        let task = pin!(async { start().await });
        if catch_unwind(task).await.is_some() {
            return;
        }
        tracing::error!(task = name, "background task starts again after a panic");
        tokio::time::sleep(RESTART_PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_task_that_panics_is_started_again_until_it_ends() {
        let starts = Cell::new(0);
        let start = || {
            starts.set(starts.get() + 1);
            assert!(starts.get() != 2, "panics before it waits");
            async {
                tokio::task::yield_now().await;
                assert!(starts.get() > 3, "panics after it has waited");
            }
        };
        keep_running("test", start).await;
        assert_eq!(starts.get(), 4);
    }
}
