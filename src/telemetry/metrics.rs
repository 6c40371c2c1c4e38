//! Counters and gauges, in Prometheus' words. Every label is from a closed set, so that the number of series does not
//! depend on what clients send.

use std::time::Duration;

use prometheus::{
    Encoder, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry, TextEncoder,
};

use crate::budget::{Class, Denied};
use crate::gateway::RequestLabels;
use crate::ledger::PollSource;
use crate::ledger::table::LedgerStats;
use crate::native::Endpoint;

/// All metrics of one gateway, with a registry of their own, so that tests can have many.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    polls: IntCounterVec,
    /// The series that nearly all polls count for: looking one up takes longer than counting.
    gets_not_ready: IntCounter,
    gets_ok: IntCounter,
    hits: IntCounter,
    upstream_calls: IntCounterVec,
    upstream_seconds: HistogramVec,
    shed: IntCounterVec,
    tokens: IntGauge,
    records: IntGauge,
    record_bytes: IntGauge,
    flights: IntGauge,
    accounts: IntGauge,
    /// Parameters of submits that mean nothing here, and are ignored.
    pub unknown_parameters: IntCounter,
    /// Connections open on the legacy listeners.
    pub connections: IntGauge,
    /// Connections closed unserved because too many were open.
    pub connections_shed: IntCounter,
    /// Lines of the log that were dropped because its writer could not keep up.
    pub log_lines_dropped: IntCounter,
}

/// Upper bounds of the latency histogram, in seconds: from a local answer to the longest configured timeout.
const SECONDS: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

impl Metrics {
    /// A fresh set, all zero.
    ///
    /// # Panics
    /// Never: names are constant, valid and distinct, which the first test of this module shows.
    #[expect(clippy::expect_used, reason = "constant names; a test builds one")]
    pub fn new() -> Self {
        let registry = Registry::new();
        let counters = |name: &str, help: &str, labels: &[&str]| {
            let counters = IntCounterVec::new(Opts::new(name, help), labels).expect("valid names");
            registry.register(Box::new(counters.clone())).expect("distinct names");
            counters
        };
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::new(name, help).expect("a valid name");
            registry.register(Box::new(counter.clone())).expect("distinct names");
            counter
        };
        let gauge = |name: &str, help: &str| {
            let gauge = IntGauge::new(name, help).expect("a valid name");
            registry.register(Box::new(gauge.clone())).expect("distinct names");
            gauge
        };
        let histogram = HistogramOpts::new(
            "capgate_upstream_call_seconds",
            "Time from sending a native call to its whole answer, by endpoint.",
        );
        let upstream_seconds =
            HistogramVec::new(histogram.buckets(SECONDS.to_vec()), &["endpoint"]).expect("valid names");
        registry.register(Box::new(upstream_seconds.clone())).expect("distinct names");
        let requests = counters(
            "capgate_requests_total",
            "Legacy requests answered, by script, action and outcome (ok, not_ready or the legacy code).",
            &["script", "action", "outcome"],
        );
        let polls = counters(
            "capgate_polls_total",
            "Polled ids by how they were answered: hit (memory), stale (memory, while the upstream is asked \
                 behind), follow (a flight under way), miss (a new flight), unknown (no such task).",
            &["path"],
        );
        let metrics = Self {
            gets_not_ready: requests.with_label_values(&["res", "get", "not_ready"]),
            gets_ok: requests.with_label_values(&["res", "get", "ok"]),
            hits: polls.with_label_values(&[PollSource::Hit.label()]),
            requests,
            polls,
            upstream_calls: counters(
                "capgate_upstream_calls_total",
                "Native calls by endpoint and result: ok, refused, rate_limited, unusable, or why none came.",
                &["endpoint", "result"],
            ),
            upstream_seconds,
            shed: counters(
                "capgate_shed_total",
                "Native calls that were not sent, by class (submit, report, balance, poll) and reason (paused, rate, \
                 share, calls, account_calls; refused: the key was refused a moment ago).",
                &["class", "reason"],
            ),
            tokens: gauge("capgate_upstream_tokens", "Native calls that could be sent at once."),
            records: gauge("capgate_records", "Tasks in the ledger."),
            record_bytes: gauge("capgate_record_bytes", "Bytes charged for the tasks in the ledger."),
            flights: gauge("capgate_flights", "Polls of the upstream under way."),
            accounts: gauge("capgate_accounts", "Accounts with a task in the ledger."),
            unknown_parameters: counter(
                "capgate_unknown_parameters_total",
                "Parameters of submits that mean nothing here, and are ignored.",
            ),
            connections: gauge("capgate_connections", "Connections open on the legacy listeners."),
            connections_shed: counter(
                "capgate_connections_shed_total",
                "Connections closed unserved because connections_max were open.",
            ),
            log_lines_dropped: counter(
                "capgate_log_lines_dropped_total",
                "Log lines dropped because the log could not be written fast enough.",
            ),
            registry,
        };
        for endpoint in Endpoint::ALL {
            // A series that begins at zero can be alerted on; one that begins at one cannot.
            metrics.upstream_calls.with_label_values(&[endpoint.label(), "ok"]);
            metrics.upstream_seconds.with_label_values(&[endpoint.label()]);
        }
        for path in PollSource::ALL {
            metrics.polls.with_label_values(&[path.label()]);
        }
        for class in Class::ALL {
            for why in Denied::ALL {
                metrics.shed.with_label_values(&[class.label(), why.label()]);
            }
        }
        metrics
    }

    /// Counts a native call that was not sent.
    pub fn shed(&self, class: Class, why: &'static str) {
        self.shed.with_label_values(&[class.label(), why]).inc();
    }

    /// Notes how many native calls could be sent at once.
    #[expect(clippy::cast_possible_truncation, reason = "rounded down")]
    pub fn tokens(&self, tokens: f64) {
        self.tokens.set(tokens as i64);
    }

    /// Counts a legacy request.
    pub fn request(&self, facts: &RequestLabels) {
        match (facts.script, facts.action, facts.outcome) {
            ("res", "get", "not_ready") => self.gets_not_ready.inc(),
            ("res", "get", "ok") => self.gets_ok.inc(),
            (script, action, outcome) => self.requests.with_label_values(&[script, action, outcome]).inc(),
        }
    }

    /// Counts a polled id.
    pub fn poll(&self, path: PollSource) {
        match path {
            PollSource::Hit => self.hits.inc(),
            other => self.polls.with_label_values(&[other.label()]).inc(),
        }
    }

    /// Counts a native call.
    pub fn upstream_call(&self, endpoint: Endpoint, result: &str, took: Duration) {
        self.upstream_calls.with_label_values(&[endpoint.label(), result]).inc();
        self.upstream_seconds.with_label_values(&[endpoint.label()]).observe(took.as_secs_f64());
    }

    /// Notes what is in the ledger.
    pub fn stats(&self, stats: LedgerStats) {
        let gauge = |gauge: &IntGauge, number: usize| gauge.set(i64::try_from(number).unwrap_or(i64::MAX));
        gauge(&self.records, stats.records);
        gauge(&self.record_bytes, stats.bytes);
        gauge(&self.flights, stats.flights);
        gauge(&self.accounts, stats.accounts);
    }

    /// Everything in Prometheus' text format.
    pub fn text(&self) -> Vec<u8> {
        let mut text = Vec::new();
        // Writing to a vector does not fail; a family that cannot be encoded is left out.
        let _ = TextEncoder::new().encode(&self.registry.gather(), &mut text);
        text
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_there_before_the_first_request() {
        let metrics = Metrics::new();
        metrics.stats(LedgerStats { records: 3, ..LedgerStats::default() });
        let text = String::from_utf8(metrics.text()).expect("text");
        assert!(text.contains("capgate_polls_total{path=\"follow\"} 0"), "{text}");
        assert!(text.contains("capgate_upstream_calls_total{endpoint=\"createTask\",result=\"ok\"} 0"), "{text}");
        assert!(text.contains("capgate_records 3"), "{text}");
    }
}
