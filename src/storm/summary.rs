//! The result of a storm, as JSON and as text.

use std::fmt::Write;
use std::time::Duration;

use serde_json::{Map, Value as Json, json};

use super::plan::Plan;
use super::reply::RequestError;
use super::tally::{ResultCounts, Tally};
use super::upstream_calls::{POLL_ENDPOINT, UpstreamCalls};

/// The result of a storm.
#[derive(Clone, Debug)]
pub struct Summary {
    /// The plan.
    pub plan: Plan,
    /// The counts.
    pub tally: Tally,
    /// How long the storm lasted, at most the planned duration.
    pub duration: Duration,
    /// Whether a signal stopped the storm before its end.
    pub was_stopped: bool,
    /// Kept connections that the server had closed, and that were replaced.
    pub reconnects: u64,
    /// The gateway's native calls during the storm, if its admin listener reported them.
    pub upstream_calls: Option<UpstreamCalls>,
}

fn ratio(part: u64, whole: u64) -> Option<f64> {
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^53")]
    (whole > 0).then(|| part as f64 / whole as f64)
}

impl Summary {
    fn upstream_polls(&self) -> Option<u64> {
        self.upstream_calls.as_ref().map(|calls| calls.get(POLL_ENDPOINT).copied().unwrap_or(0))
    }

    fn polls_per_second(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "counts far below 2^53")]
        let polls = self.tally.polls as f64;
        polls / self.duration.as_secs_f64().max(0.001)
    }

    /// Returns the upstream polls per accepted task.
    fn polls_per_task(&self) -> Option<f64> {
        ratio(self.upstream_polls()?, self.tally.submit_results.ok)
    }

    /// Returns the upstream polls per poll of a client.
    fn amplification(&self) -> Option<f64> {
        ratio(self.upstream_polls()?, self.tally.polls)
    }

    /// Returns one object. Delays are in milliseconds; unknown values are null.
    pub fn to_json(&self) -> Json {
        let tally = &self.tally;
        json!({
            "tasks": self.plan.tasks,
            "clients": self.plan.clients,
            "seconds": self.duration.as_secs_f64(),
            "stopped": self.was_stopped,
            "submits": {
                "accepted": tally.submit_results.ok,
                "refused": codes_to_json(&tally.submit_results),
                "errors": request_errors_to_json(&tally.submit_results),
            },
            "polls": tally.polls,
            "polls_per_second": self.polls_per_second(),
            "answers": {
                "not_ready": tally.poll_results.not_ready,
                "ready": tally.poll_results.ok,
                "failed": tally.poll_results.failed,
                "errors": codes_to_json(&tally.poll_results),
            },
            "errors": request_errors_to_json(&tally.poll_results),
            "tasks_answered": tally.tasks_answered(),
            "late": tally.late,
            "late_here": tally.late_here,
            "cut_short": tally.cut_short,
            "unsent": tally.unsent,
            "reconnects": self.reconnects,
            "delay_ms": tally.poll_delays.to_json(),
            "answer_ms": tally.response_times.to_json(),
            "submit_ms": tally.submit_delays.to_json(),
            "upstream_polls": self.upstream_polls(),
            "upstream_calls": self.upstream_calls,
            "polls_per_task": self.polls_per_task(),
            "amplification": self.amplification(),
            "ready_to_seen_ms": tally.ready_to_seen().to_json(),
        })
    }

    /// Returns a few lines for people.
    pub fn to_text(&self) -> String {
        let tally = &self.tally;
        let mut text = String::new();
        let mut line = |name: &str, value: String| {
            let _ = writeln!(text, "{name:<12} {value}");
        };
        let stopped = if self.was_stopped { ", stopped early" } else { "" };
        line("storm", format!("{} clients for {:.1} s{stopped}", self.plan.clients, self.duration.as_secs_f64()));
        let submits = &tally.submit_results;
        line("tasks", format!("{} submitted, {} accepted{}", submits.total(), submits.ok, list_errors(submits)));
        line("", format!("{} answered", tally.tasks_answered()));
        line("polls", format!("{}, {:.1} a second", tally.polls, self.polls_per_second()));
        let results = &tally.poll_results;
        let ResultCounts { not_ready, ok, failed, .. } = results;
        line("answers", format!("{not_ready} not ready, {ok} ready, {failed} failed{}", list_errors(results)));
        line(
            "late",
            format!(
                "{} sent late, {} of them because this machine was busy; {} never sent, {} cut short",
                tally.late, tally.late_here, tally.unsent, tally.cut_short
            ),
        );
        line("delay", tally.poll_delays.to_text("from due to answered"));
        line("answer", tally.response_times.to_text("from sent to answered"));
        line("submit", tally.submit_delays.to_text("from due to answered"));
        match &self.upstream_calls {
            None => line("upstream", "not known: --admin is not set, or did not answer".to_owned()),
            Some(calls) => {
                let calls: Vec<String> = calls.iter().map(|(endpoint, count)| format!("{endpoint} {count}")).collect();
                line("upstream", if calls.is_empty() { "no calls".to_owned() } else { calls.join(", ") });
                if let (Some(per_task), Some(per_poll)) = (self.polls_per_task(), self.amplification()) {
                    line("", format!("{per_task:.2} polls for each task, {per_poll:.4} for each poll of a client"));
                }
            }
        }
        if self.plan.solve_times.is_some() {
            line("ready", tally.ready_to_seen().to_text("from ready upstream to seen by a client"));
        }
        text
    }
}

fn codes_to_json(results: &ResultCounts) -> Json {
    let mut codes: Map<String, Json> =
        results.codes.iter().map(|(code, count)| (code.clone(), (*count).into())).collect();
    if results.other_codes > 0 {
        codes.insert("others".to_owned(), results.other_codes.into());
    }
    Json::Object(codes)
}

/// Lists every request error, including those that did not occur.
fn request_errors_to_json(results: &ResultCounts) -> Json {
    let count = |label| results.request_errors.get(label).copied().unwrap_or(0);
    let errors = RequestError::ALL.map(RequestError::label);
    Json::Object(errors.into_iter().map(|label| (label.to_owned(), count(label).into())).collect())
}

/// Lists the codes and request errors that occurred, each after a comma.
fn list_errors(results: &ResultCounts) -> String {
    let codes = results.codes.iter().map(|(code, count)| (code.as_str(), *count));
    let other_codes = (results.other_codes > 0).then_some(("other codes", results.other_codes));
    let request_errors = results.request_errors.iter().map(|(label, count)| (*label, *count));
    let mut text = String::new();
    for (name, count) in codes.chain(other_codes).chain(request_errors) {
        let _ = write!(text, ", {count} {name}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storm::reply::LegacyReply;
    use crate::storm::tally::Timing;

    fn summary() -> Summary {
        let mut tally = Tally::new(4);
        let timing = |ms| Timing { due: Duration::ZERO, started: Duration::ZERO, ended: Duration::from_millis(ms) };
        tally.record_submit(0, timing(2), &Ok(LegacyReply::Ok("1".to_owned())), None);
        tally.record_submit(1, timing(2), &Ok(LegacyReply::Code("ERROR_NO_SLOT_AVAILABLE".to_owned())), None);
        for ms in 1..=100 {
            tally.record_poll(0, timing(ms), true, &Ok(LegacyReply::NotReady));
        }
        tally.record_poll(0, timing(1_000), true, &Err(RequestError::Timeout));
        let upstream_calls = Some(UpstreamCalls::from([(POLL_ENDPOINT.to_owned(), 5), ("createTask".to_owned(), 1)]));
        Summary {
            plan: Plan::sample(),
            tally,
            duration: Duration::from_secs(2),
            was_stopped: false,
            reconnects: 0,
            upstream_calls,
        }
    }

    #[test]
    fn the_json_object_has_every_number() {
        let json = summary().to_json();
        assert_eq!(json["polls"], 101);
        assert_eq!(json["polls_per_second"], 50.5);
        assert_eq!(json["answers"], json!({ "not_ready": 100, "ready": 0, "failed": 0, "errors": {} }));
        assert_eq!(json["errors"]["timeout"], 1);
        assert_eq!(json["errors"]["connect"], 0);
        assert_eq!(json["submits"]["refused"], json!({ "ERROR_NO_SLOT_AVAILABLE": 1 }));
        let within =
            |name: &str, ms: f64| (json["delay_ms"][name].as_f64().expect("a number") / ms - 1.0).abs() < 0.002;
        assert!(within("p50", 51.0) && within("p90", 91.0) && within("p99", 100.0) && within("max", 1_000.0), "{json}");
        assert_eq!((&json["upstream_polls"], &json["polls_per_task"]), (&json!(5), &json!(5.0)));
        assert_eq!(json["amplification"], json!(5.0 / 101.0));
        assert_eq!(json["ready_to_seen_ms"], Json::Null);
        let unknown = Summary { upstream_calls: None, ..summary() }.to_json();
        assert!(
            ["upstream_polls", "upstream_calls", "polls_per_task", "amplification"]
                .iter()
                .all(|name| unknown[*name].is_null())
        );
    }

    #[test]
    fn the_text_has_the_same_numbers() {
        let text = summary().to_text();
        for part in [
            "2 submitted, 1 accepted, 1 ERROR_NO_SLOT_AVAILABLE\n",
            "101, 50.5 a second",
            "100 not ready, 0 ready, 0 failed, 1 timeout\n",
            "createTask 1, getTaskResult 5",
            "5.00 polls for each task, 0.0495 for each poll",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(Summary { upstream_calls: None, ..summary() }.to_text().contains("not known"));
    }
}
