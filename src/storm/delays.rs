//! A histogram of delays.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value as Json, json};

/// Delays from a microsecond to an hour, with three significant digits; the longest exactly.
#[derive(Clone, Debug)]
pub struct Delays {
    histogram: Histogram<u64>,
    longest_us: u64,
}

impl Delays {
    /// One hour. Longer delays count as one hour.
    const DELAY_MAX_US: u64 = 3_600_000_000;

    /// Creates an empty histogram.
    ///
    /// # Panics
    /// Never: the bounds are constant and valid.
    #[expect(clippy::expect_used, reason = "constant bounds; a test builds one")]
    pub fn new() -> Self {
        let histogram = Histogram::new_with_bounds(1, Self::DELAY_MAX_US, 3).expect("valid bounds");
        Self { histogram, longest_us: 0 }
    }

    /// Records a delay.
    pub fn record(&mut self, delay: Duration) {
        let delay_us = u64::try_from(delay.as_micros()).unwrap_or(u64::MAX).min(Self::DELAY_MAX_US);
        self.histogram.saturating_record(delay_us);
        self.longest_us = self.longest_us.max(delay_us);
    }

    /// Returns the number of recorded delays.
    pub fn len(&self) -> u64 {
        self.histogram.len()
    }

    /// Whether no delay is recorded.
    pub fn is_empty(&self) -> bool {
        self.histogram.is_empty()
    }

    /// Returns a quantile (0 to 1) in milliseconds, or `None` without delays.
    pub fn quantile_ms(&self, quantile: f64) -> Option<f64> {
        (!self.is_empty()).then(|| self.value_ms(quantile))
    }

    /// Returns the quantiles that are printed, in milliseconds, or `None` without delays.
    fn quantiles_ms(&self) -> Option<[f64; 5]> {
        (!self.is_empty()).then(|| [0.5, 0.9, 0.99, 0.999, 1.0].map(|quantile| self.value_ms(quantile)))
    }

    #[expect(clippy::cast_precision_loss, reason = "at most an hour in microseconds")]
    fn value_ms(&self, quantile: f64) -> f64 {
        // The upper end of a bucket may exceed every delay in it.
        self.histogram.value_at_quantile(quantile).min(self.longest_us) as f64 / 1_000.0
    }

    /// Returns the common quantiles in milliseconds as JSON; null without delays.
    pub fn to_json(&self) -> Json {
        let Some([p50, p90, p99, p999, max]) = self.quantiles_ms() else { return Json::Null };
        json!({ "p50": p50, "p90": p90, "p99": p99, "p999": p999, "max": max })
    }

    /// Returns the common quantiles as text, followed by a description of the delay.
    pub fn to_text(&self, description: &str) -> String {
        let Some([p50, p90, p99, p999, max]) = self.quantiles_ms() else { return format!("{description}: none") };
        format!("p50 {p50:.1}, p90 {p90:.1}, p99 {p99:.1}, p99.9 {p999:.1}, max {max:.1} ms {description}")
    }

    /// Removes all delays.
    pub fn clear(&mut self) {
        self.histogram.reset();
        self.longest_us = 0;
    }
}

impl Default for Delays {
    fn default() -> Self {
        Self::new()
    }
}
