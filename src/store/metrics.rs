//! Metrics of writes to the store.

use std::time::Duration;

use prometheus::{Histogram, IntCounter};

use crate::telemetry::metrics::MetricsRegistry;

/// Handles of the metrics. Cheap to clone.
#[derive(Clone, Debug)]
pub struct StoreMetrics {
    written: IntCounter,
    failed: IntCounter,
    expired: IntCounter,
    seconds: Histogram,
    changes: Histogram,
}

impl StoreMetrics {
    /// Registers the metrics.
    pub fn register(registry: &MetricsRegistry) -> Self {
        let help = "Changes of stored values, by whether they became durable.";
        let changes = registry.counters("capgate_store_changes_total", help, &["result"]);
        let seconds = registry.histograms(
            "capgate_store_write_seconds",
            "Duration of a transaction of the store, its sync included.",
            &[],
            &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0],
        );
        let batches = registry.histograms(
            "capgate_store_write_changes",
            "Changes in one transaction of the store.",
            &[],
            &[1.0, 3.0, 10.0, 30.0, 100.0],
        );
        Self {
            written: changes.with_label_values(&["ok"]),
            failed: changes.with_label_values(&["failed"]),
            expired: registry.counter("capgate_store_expired_total", "Values that were removed because they expired."),
            seconds: seconds.with_label_values::<&str>(&[]),
            changes: batches.with_label_values::<&str>(&[]),
        }
    }

    /// Observes a transaction.
    #[expect(clippy::cast_precision_loss, reason = "some hundred changes")]
    pub fn observe_write(&self, changes: usize, duration: Duration, is_ok: bool) {
        let counter = if is_ok { &self.written } else { &self.failed };
        counter.inc_by(changes as u64);
        if changes > 0 {
            self.seconds.observe(duration.as_secs_f64());
            self.changes.observe(changes as f64);
        }
    }

    /// Counts values that were removed because they expired.
    pub fn count_expired(&self, removed: usize) {
        self.expired.inc_by(removed as u64);
    }
}
