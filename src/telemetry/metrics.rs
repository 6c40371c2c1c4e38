//! The metrics registry, in Prometheus' text format.
//!
//! Each part of the program registers the metrics that it owns and keeps the handles. Label values come from closed
//! sets, so the number of series does not depend on what clients send.

use std::fmt;
use std::sync::Arc;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{
    Encoder, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry, TextEncoder,
};

/// All metrics of one process. Not global, so that tests can have many. Cheap to clone.
///
/// # Panics
/// Every method that registers panics if a name is invalid or taken. Names are constants, and each owner has a test
/// that registers its metrics.
#[derive(Clone, Debug, Default)]
pub struct MetricsRegistry(Registry);

#[expect(
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "names are constants, and tests register each of them; see the type"
)]
impl MetricsRegistry {
    /// Creates an empty registry.
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers a counter.
    pub fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.register(IntCounter::new(name, help).expect("a valid name"))
    }

    /// Registers a family of counters with these labels.
    pub fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.register(IntCounterVec::new(Opts::new(name, help), labels).expect("valid names"))
    }

    /// Registers a family of histograms with these labels and these upper bounds of buckets.
    pub fn histograms(&self, name: &str, help: &str, labels: &[&str], buckets: &[f64]) -> HistogramVec {
        let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        self.register(HistogramVec::new(options, labels).expect("valid names"))
    }

    /// Registers a gauge whose value is read at each scrape. Values above `i64::MAX` are clamped.
    pub fn gauge(&self, name: &str, help: &str, read: impl Fn() -> usize + Send + Sync + 'static) {
        self.register_gauge(Opts::new(name, help), read);
    }

    /// Registers one gauge of a family, as [`Self::gauge`]. `label` is its name and value; the others of the family
    /// have other values.
    pub fn gauge_with_label(
        &self,
        name: &str,
        help: &str,
        (label, value): (&str, &str),
        read: impl Fn() -> usize + Send + Sync + 'static,
    ) {
        self.register_gauge(Opts::new(name, help).const_label(label, value), read);
    }

    fn register_gauge(&self, options: Opts, read: impl Fn() -> usize + Send + Sync + 'static) {
        let gauge = IntGauge::with_opts(options).expect("a valid name");
        self.register(ScrapedGauge { gauge, read: Arc::new(read) });
    }

    fn register<C: Collector + Clone + 'static>(&self, collector: C) -> C {
        self.0.register(Box::new(collector.clone())).expect("distinct names");
        collector
    }

    /// Renders all metrics in Prometheus' text format.
    pub fn render(&self) -> Vec<u8> {
        let mut text = Vec::new();
        // Writing to a vector does not fail; a family that cannot be encoded is left out.
        let _ = TextEncoder::new().encode(&self.0.gather(), &mut text);
        text
    }
}

/// A gauge that reads its value when it is collected.
#[derive(Clone)]
struct ScrapedGauge {
    gauge: IntGauge,
    read: Arc<dyn Fn() -> usize + Send + Sync>,
}

impl Collector for ScrapedGauge {
    fn desc(&self) -> Vec<&Desc> {
        self.gauge.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.gauge.set(i64::try_from((self.read)()).unwrap_or(i64::MAX));
        self.gauge.collect()
    }
}

impl fmt::Debug for ScrapedGauge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScrapedGauge").field("gauge", &self.gauge).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn a_gauge_is_read_at_each_scrape() {
        let registry = MetricsRegistry::new();
        let value = Arc::new(AtomicUsize::new(1));
        let source = Arc::clone(&value);
        registry.gauge("open", "Open things.", move || source.load(Ordering::Relaxed));
        let render = || String::from_utf8(registry.render()).expect("text");
        assert!(render().contains("# HELP open Open things.\n# TYPE open gauge\nopen 1\n"), "{}", render());
        value.store(7, Ordering::Relaxed);
        assert!(render().contains("open 7\n"), "{}", render());
    }

    #[test]
    fn gauges_of_a_family_differ_in_their_label() {
        let registry = MetricsRegistry::new();
        for (state, value) in [("on", 1), ("off", 2)] {
            registry.gauge_with_label("lamps", "Lamps.", ("state", state), move || value);
        }
        let text = String::from_utf8(registry.render()).expect("text");
        assert!(text.contains("# TYPE lamps gauge\nlamps{state=\"off\"} 2\nlamps{state=\"on\"} 1\n"), "{text}");
    }

    #[test]
    fn counters_and_histograms_render_their_labels() {
        let registry = MetricsRegistry::new();
        registry.counter("lines", "Lines.").inc();
        registry.counters("calls", "Calls.", &["result"]).with_label_values(&["ok"]).inc_by(2);
        registry.histograms("seconds", "Seconds.", &["endpoint"], &[0.1]).with_label_values(&["x"]).observe(0.05);
        let text = String::from_utf8(registry.render()).expect("text");
        for line in ["lines 1\n", "calls{result=\"ok\"} 2\n", "seconds_bucket{endpoint=\"x\",le=\"0.1\"} 1\n"] {
            assert!(text.contains(line), "{line}: {text}");
        }
    }
}
