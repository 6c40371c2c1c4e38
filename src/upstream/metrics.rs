//! Metrics of the upstream's addresses, of retries and of health checks.

use prometheus::{IntCounter, IntCounterVec};

use crate::telemetry::metrics::MetricsRegistry;

/// Counters of ejections, retries and health checks.
#[derive(Debug)]
pub(super) struct UpstreamMetrics {
    ejections_connect: IntCounter,
    ejections_call: IntCounter,
    retries: IntCounterVec,
    checks: IntCounterVec,
}

impl UpstreamMetrics {
    pub(super) fn register(registry: &MetricsRegistry) -> Self {
        let ejections = registry.counters(
            "capgate_upstream_ejections_total",
            "Ejections of an upstream address, by cause: connect (no connection), call (no answer).",
            &["cause"],
        );
        let metrics = Self {
            ejections_connect: ejections.with_label_values(&["connect"]),
            ejections_call: ejections.with_label_values(&["call"]),
            retries: registry.counters(
                "capgate_upstream_retries_total",
                "Calls that may be repeated and whose pooled connection died: sent again, or denied by the retry budget.",
                &["result"],
            ),
            checks: registry.counters(
                "capgate_upstream_health_checks_total",
                "Health checks of an upstream address: ok, or failed.",
                &["result"],
            ),
        };
        metrics.checks.with_label_values(&["failed"]);
        metrics.checks.with_label_values(&["ok"]);
        metrics.retries.with_label_values(&["denied"]);
        metrics.retries.with_label_values(&["sent"]);
        metrics
    }

    pub(super) fn count_ejection(&self, is_connect: bool) {
        if is_connect { self.ejections_connect.inc() } else { self.ejections_call.inc() }
    }

    pub(super) fn count_check(&self, is_ok: bool) {
        self.checks.with_label_values(&[if is_ok { "ok" } else { "failed" }]).inc();
    }

    pub(super) fn count_retry(&self, is_sent: bool) {
        self.retries.with_label_values(&[if is_sent { "sent" } else { "denied" }]).inc();
    }
}
