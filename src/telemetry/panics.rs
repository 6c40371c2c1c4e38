//! The panic hook: counts each panic, and logs its place. The message of a panic may quote a client's bytes, so it is
//! written nowhere.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::metrics::MetricsRegistry;

/// The time in which panics are counted against their limit.
const MINUTE: Duration = Duration::from_secs(60);

/// Replaces the panic hook. Calls `end`, which ends the process, if more than `per_minute_max` threads or tasks panic in any
/// minute: a supervisor can then start a process in a good state. 0 means no limit.
pub fn install_hook(per_minute_max: usize, registry: &MetricsRegistry, end: impl Fn() + Send + Sync + 'static) {
    let panics = registry.counter("capgate_panics_total", "Panics: bugs, each of which costs at most one request.");
    let recent = Mutex::new(RecentPanics::new(per_minute_max));
    #[expect(clippy::disallowed_methods, reason = "the origin of the times of panics")]
    let origin = Instant::now();
    std::panic::set_hook(Box::new(move |panic| {
        panics.inc();
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, "panic");
        if recent.lock().add(origin.elapsed()) {
            tracing::error!(per_minute_max = per_minute_max as u64, "too many panics: the process ends");
            end();
        }
    }));
}

/// The times of the latest panics.
struct RecentPanics {
    per_minute_max: usize,
    at: VecDeque<Duration>,
}

impl RecentPanics {
    fn new(per_minute_max: usize) -> Self {
        Self { per_minute_max, at: VecDeque::new() }
    }

    /// Adds a panic. Returns whether there were more than allowed in the last minute.
    fn add(&mut self, now: Duration) -> bool {
        if self.per_minute_max == 0 {
            return false;
        }
        self.at.retain(|at| now.saturating_sub(*at) < MINUTE);
        self.at.push_back(now);
        self.at.len() > self.per_minute_max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panics_above_the_limit_of_any_minute_are_too_many() {
        let add = |limit, seconds: &[u64]| -> Vec<bool> {
            let mut recent = RecentPanics::new(limit);
            seconds.iter().map(|at| recent.add(Duration::from_secs(*at))).collect()
        };
        assert_eq!(add(2, &[0, 0, 0]), [false, false, true]);
        assert_eq!(add(2, &[0, 30, 60, 89, 120]), [false, false, false, true, false]);
        assert_eq!(add(0, &[0; 100]), [false; 100]);
    }
}
