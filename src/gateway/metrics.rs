//! Metrics of requests and of native calls.

use std::time::Duration;

use prometheus::{HistogramVec, IntCounter, IntCounterVec};

use super::labels::{Action, OutcomeLabel, RequestLabels};
use crate::budget::{Class, Denied};
use crate::ledger::PollSource;
use crate::legacy::{ReplyContext, Script};
use crate::native::{Endpoint, MaskedCause};
use crate::telemetry::metrics::MetricsRegistry;

/// Upper bounds of the latency histogram, in seconds: from a local answer to the longest configured timeout.
const CALL_SECONDS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// Counters of legacy requests.
#[derive(Debug)]
pub(super) struct RequestMetrics {
    requests: IntCounterVec,
    /// The two series of nearly all requests, kept here because a look-up takes longer than an increment.
    gets_not_ready: IntCounter,
    gets_ok: IntCounter,
    /// One counter for each of [`PollSource::ALL`].
    polls: [IntCounter; PollSource::ALL.len()],
    unknown_parameters: IntCounter,
}

impl RequestMetrics {
    /// Registers the counters.
    pub(super) fn register(registry: &MetricsRegistry) -> Self {
        let requests = registry.counters(
            "capgate_requests_total",
            "Legacy requests answered, by script, action and outcome (ok, not_ready or the legacy code).",
            &["script", "action", "outcome"],
        );
        let polls = registry.counters(
            "capgate_polls_total",
            "Polled ids by source of the answer: hit (memory), stale (memory, while the upstream is polled), follow (a \
             flight in progress), miss (a new flight), unknown (no such task).",
            &["path"],
        );
        let res_get =
            |outcome: OutcomeLabel| requests.with_label_values(&["res", ReplyContext::Get.label(), outcome.label()]);
        Self {
            gets_not_ready: res_get(OutcomeLabel::NotReady),
            gets_ok: res_get(OutcomeLabel::Ok),
            requests,
            polls: PollSource::ALL.map(|source| polls.with_label_values(&[source.label()])),
            unknown_parameters: registry
                .counter("capgate_unknown_parameters_total", "Submit parameters that are unknown and ignored."),
        }
    }

    /// Counts a request.
    pub(super) fn count_request(&self, labels: &RequestLabels) {
        let is_get = labels.script == Some(Script::Res) && labels.action == Action::Legacy(ReplyContext::Get);
        match labels.outcome {
            OutcomeLabel::NotReady if is_get => self.gets_not_ready.inc(),
            OutcomeLabel::Ok if is_get => self.gets_ok.inc(),
            outcome => {
                let values = [labels.script_label(), labels.action.label(), outcome.label()];
                self.requests.with_label_values(&values).inc();
            }
        }
    }

    /// Counts a polled id.
    pub(super) fn count_poll(&self, source: PollSource) {
        for (counter, known) in self.polls.iter().zip(PollSource::ALL) {
            if known == source {
                counter.inc();
            }
        }
    }

    /// Counts unknown parameters of a submit.
    pub(super) fn count_unknown_parameters(&self, count: usize) {
        self.unknown_parameters.inc_by(count as u64);
    }
}

/// Counters and latencies of native calls.
#[derive(Debug)]
pub(super) struct CallMetrics {
    calls: IntCounterVec,
    seconds: HistogramVec,
    not_sent: IntCounterVec,
    /// One counter for each of [`MaskedCause::ALL`].
    masked_polls: [IntCounter; MaskedCause::ALL.len()],
}

/// How a native call ended.
#[derive(Clone, Copy, Debug)]
pub(super) enum CallResult {
    /// The answer was usable.
    Ok,
    /// The answer was an error code.
    Refused,
    /// The upstream answered 429.
    RateLimited,
    /// The answer could not be interpreted.
    Unusable,
    /// No answer arrived, for this cause.
    Failed(&'static str),
}

impl CallResult {
    fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Refused => "refused",
            Self::RateLimited => "rate_limited",
            Self::Unusable => "unusable",
            Self::Failed(cause) => cause,
        }
    }
}

/// Why a native call was not sent.
#[derive(Clone, Copy, Debug)]
pub(super) enum NotSentReason {
    /// The budget denied it.
    Budget(Denied),
    /// The upstream recently refused the key.
    RefusedKey,
    /// The upstream has not accepted the key yet, and no slot for such keys was free in time.
    NewKeys,
}

impl NotSentReason {
    fn label(self) -> &'static str {
        match self {
            Self::Budget(denied) => denied.label(),
            Self::RefusedKey => "refused",
            Self::NewKeys => "new_keys",
        }
    }
}

impl CallMetrics {
    /// Registers the metrics. Series that an alert may watch start at zero.
    pub(super) fn register(registry: &MetricsRegistry) -> Self {
        let masked_polls = registry.counters(
            "capgate_masked_polls_total",
            "Answers to native polls that say nothing about the task and read as not ready, by cause: key, balance, \
             address, load, service, request, unknown_code, other_task, unusable.",
            &["cause"],
        );
        let metrics = Self {
            masked_polls: MaskedCause::ALL.map(|cause| masked_polls.with_label_values(&[cause.label()])),
            calls: registry.counters(
                "capgate_upstream_calls_total",
                "Native calls by endpoint and result: ok, refused, rate_limited, unusable, or why no answer arrived.",
                &["endpoint", "result"],
            ),
            seconds: registry.histograms(
                "capgate_upstream_call_seconds",
                "Time from sending a native call to its whole answer, by endpoint.",
                &["endpoint"],
                CALL_SECONDS,
            ),
            not_sent: registry.counters(
                "capgate_shed_total",
                "Native calls that were not sent, by class (submit, report, balance, poll) and reason (paused, rate, \
                 share, calls, account_calls; refused: the upstream recently refused the key; new_keys: it has not \
                 accepted the key yet, and too many such keys were tried).",
                &["class", "reason"],
            ),
        };
        for endpoint in Endpoint::ALL {
            metrics.calls.with_label_values(&[endpoint.label(), CallResult::Ok.label()]);
            metrics.seconds.with_label_values(&[endpoint.label()]);
        }
        for class in Class::ALL {
            for denied in Denied::ALL {
                metrics.not_sent.with_label_values(&[class.label(), denied.label()]);
            }
            metrics.not_sent.with_label_values(&[class.label(), NotSentReason::NewKeys.label()]);
        }
        metrics
    }

    /// Counts a call and its duration.
    pub(super) fn count_call(&self, endpoint: Endpoint, result: CallResult, duration: Duration) {
        self.calls.with_label_values(&[endpoint.label(), result.label()]).inc();
        self.seconds.with_label_values(&[endpoint.label()]).observe(duration.as_secs_f64());
    }

    /// Counts an answer to a poll that says nothing about the task.
    pub(super) fn count_masked_poll(&self, cause: MaskedCause) {
        for (counter, known) in self.masked_polls.iter().zip(MaskedCause::ALL) {
            if known == cause {
                counter.inc();
            }
        }
    }

    /// Counts a call that was not sent.
    pub(super) fn count_not_sent(&self, class: Class, reason: NotSentReason) {
        self.not_sent.with_label_values(&[class.label(), reason.label()]).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_that_alerts_watch_exist_before_the_first_request() {
        let registry = MetricsRegistry::new();
        RequestMetrics::register(&registry);
        CallMetrics::register(&registry);
        let text = String::from_utf8(registry.render()).expect("text");
        assert!(text.contains("capgate_polls_total{path=\"follow\"} 0"), "{text}");
        assert!(text.contains("capgate_upstream_calls_total{endpoint=\"createTask\",result=\"ok\"} 0"), "{text}");
    }

    #[test]
    fn masked_polls_are_counted_by_cause() {
        let registry = MetricsRegistry::new();
        let metrics = CallMetrics::register(&registry);
        metrics.count_masked_poll(MaskedCause::Key);
        metrics.count_masked_poll(MaskedCause::OtherTask);
        metrics.count_masked_poll(MaskedCause::Key);
        let text = String::from_utf8(registry.render()).expect("text");
        for (cause, count) in [("key", 2), ("other_task", 1), ("balance", 0), ("unusable", 0)] {
            let series = format!("capgate_masked_polls_total{{cause=\"{cause}\"}} {count}\n");
            assert!(text.contains(&series), "{series}: {text}");
        }
    }

    #[test]
    fn every_request_is_counted_in_its_own_series() {
        let registry = MetricsRegistry::new();
        let metrics = RequestMetrics::register(&registry);
        let labels = RequestLabels {
            script: Some(Script::Res),
            action: Action::Legacy(ReplyContext::Get),
            method: None,
            outcome: OutcomeLabel::NotReady,
            source: Some(PollSource::Hit),
        };
        metrics.count_request(&labels);
        metrics.count_request(&RequestLabels { action: Action::Legacy(ReplyContext::GetWithPrice), ..labels });
        metrics.count_request(&RequestLabels { outcome: OutcomeLabel::Code("ERROR_WRONG_CAPTCHA_ID"), ..labels });
        metrics.count_poll(PollSource::Hit);
        let text = String::from_utf8(registry.render()).expect("text");
        for series in [
            "capgate_requests_total{action=\"get\",outcome=\"not_ready\",script=\"res\"} 1",
            "capgate_requests_total{action=\"get2\",outcome=\"not_ready\",script=\"res\"} 1",
            "capgate_requests_total{action=\"get\",outcome=\"ERROR_WRONG_CAPTCHA_ID\",script=\"res\"} 1",
            "capgate_polls_total{path=\"hit\"} 1",
        ] {
            assert!(text.contains(series), "{series}: {text}");
        }
    }
}
