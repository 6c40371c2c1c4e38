//! What a storm has shown: for programs as JSON, for eyes as text.

use std::fmt::Write;
use std::time::Duration;

use serde_json::{Map, Value as Json, json};

use super::Plan;
use super::admin::{Calls, POLLS};
use super::answer::Trouble;
use super::tally::{Counts, Delays, Tally};

/// What happened, and under which plan.
#[derive(Clone, Debug)]
pub struct Summary {
    /// What was meant to happen.
    pub plan: Plan,
    /// What happened.
    pub tally: Tally,
    /// How long it went on, at most the plan's length.
    pub length: Duration,
    /// Whether it was stopped before its end.
    pub stopped: bool,
    /// Connections that had died unused, and were replaced.
    pub reconnects: u64,
    /// Calls that the gateway made upstream, where its admin listener told.
    pub calls: Option<Calls>,
}

/// A share of two counts; nothing of nothing.
fn ratio(part: u64, whole: u64) -> Option<f64> {
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^53")]
    (whole > 0).then(|| part as f64 / whole as f64)
}

impl Summary {
    fn upstream_polls(&self) -> Option<u64> {
        self.calls.as_ref().map(|calls| calls.get(POLLS).copied().unwrap_or(0))
    }

    fn polls_per_second(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "counts far below 2^53")]
        let polls = self.tally.polls as f64;
        polls / self.length.as_secs_f64().max(0.001)
    }

    /// Upstream polls for each task that was accepted.
    fn polls_per_task(&self) -> Option<f64> {
        ratio(self.upstream_polls()?, self.tally.submits.ok)
    }

    /// Upstream polls for each poll of a client.
    fn amplification(&self) -> Option<f64> {
        ratio(self.upstream_polls()?, self.tally.polls)
    }

    /// One object. Delays are in milliseconds; what is not known is null.
    pub fn json(&self) -> Json {
        let tally = &self.tally;
        json!({
            "tasks": self.plan.tasks,
            "clients": self.plan.clients,
            "seconds": self.length.as_secs_f64(),
            "stopped": self.stopped,
            "submits": {
                "accepted": tally.submits.ok,
                "refused": codes(&tally.submits),
                "errors": troubles(&tally.submits),
            },
            "polls": tally.polls,
            "polls_per_second": self.polls_per_second(),
            "answers": {
                "not_ready": tally.counts.not_ready,
                "ready": tally.counts.ok,
                "failed": tally.counts.failed,
                "errors": codes(&tally.counts),
            },
            "errors": troubles(&tally.counts),
            "tasks_answered": tally.tasks_answered(),
            "late": tally.late,
            "late_here": tally.late_here,
            "cut_short": tally.cut_short,
            "unsent": tally.unsent,
            "reconnects": self.reconnects,
            "delay_ms": tally.delay.json(),
            "answer_ms": tally.answer.json(),
            "submit_ms": tally.submit.json(),
            "upstream_polls": self.upstream_polls(),
            "upstream_calls": self.calls,
            "polls_per_task": self.polls_per_task(),
            "amplification": self.amplification(),
            "ready_to_seen_ms": tally.ready_to_seen().json(),
        })
    }

    /// Some lines.
    pub fn text(&self) -> String {
        let tally = &self.tally;
        let mut text = String::new();
        let mut line = |name: &str, said: String| {
            let _ = writeln!(text, "{name:<12} {said}");
        };
        let stopped = if self.stopped { ", stopped before its end" } else { "" };
        line("storm", format!("{} clients for {:.1} s{stopped}", self.plan.clients, self.length.as_secs_f64()));
        line(
            "tasks",
            format!("{} submitted, {} accepted{}", submits(&tally.submits), tally.submits.ok, errors(&tally.submits)),
        );
        line("", format!("{} answered", tally.tasks_answered()));
        line("polls", format!("{}, {:.1} a second", tally.polls, self.polls_per_second()));
        let Counts { not_ready, ok, failed, .. } = &tally.counts;
        line("answers", format!("{not_ready} not ready, {ok} ready, {failed} failed{}", errors(&tally.counts)));
        line(
            "late",
            format!(
                "{} sent late, {} of them because this machine was busy; {} never sent, {} cut short",
                tally.late, tally.late_here, tally.unsent, tally.cut_short
            ),
        );
        line("delay", delays(&tally.delay, "from due to answered"));
        line("answer", delays(&tally.answer, "from sent to answered"));
        line("submit", delays(&tally.submit, "from due to answered"));
        match &self.calls {
            None => line("upstream", "not known: --admin was not given, or did not answer".to_owned()),
            Some(calls) => {
                let calls: Vec<String> = calls.iter().map(|(endpoint, count)| format!("{endpoint} {count}")).collect();
                line("upstream", if calls.is_empty() { "no call".to_owned() } else { calls.join(", ") });
                if let (Some(per_task), Some(per_poll)) = (self.polls_per_task(), self.amplification()) {
                    line("", format!("{per_task:.2} polls for each task, {per_poll:.4} for each poll of a client"));
                }
            }
        }
        if self.plan.solve.is_some() {
            line("ready", delays(&tally.ready_to_seen(), "from ready upstream to seen by a client"));
        }
        text
    }
}

/// How many submits were tried.
fn submits(counts: &Counts) -> u64 {
    counts.ok + counts.not_ready + counts.failed + counts.errors()
}

/// Codes and how often; `failed` is a poll's word, and not among them.
fn codes(counts: &Counts) -> Json {
    let mut codes: Map<String, Json> =
        counts.codes.iter().map(|(code, count)| (code.clone(), (*count).into())).collect();
    if counts.codes_beyond > 0 {
        codes.insert("others".to_owned(), counts.codes_beyond.into());
    }
    Json::Object(codes)
}

/// Every trouble and how often.
fn troubles(counts: &Counts) -> Json {
    let count = |trouble: Trouble| counts.troubles.get(trouble.label()).copied().unwrap_or(0);
    Json::Object(Trouble::ALL.iter().map(|trouble| (trouble.label().to_owned(), count(*trouble).into())).collect())
}

/// Codes and troubles that there were, to be put behind a list.
fn errors(counts: &Counts) -> String {
    let codes = counts.codes.iter().map(|(code, count)| (code.as_str(), *count));
    let troubles = counts.troubles.iter().map(|(trouble, count)| (*trouble, *count));
    let beyond = (counts.codes_beyond > 0).then_some(("other codes", counts.codes_beyond));
    let errors: Vec<String> =
        codes.chain(beyond).chain(troubles).map(|(name, count)| format!(", {count} {name}")).collect();
    errors.concat()
}

fn delays(delays: &Delays, what: &str) -> String {
    let ms = |share| delays.quantile_ms(share).map(|ms| format!("{ms:.1}"));
    let [p50, p90, p99, p999, max] = [0.5, 0.9, 0.99, 0.999, 1.0].map(ms).map(Option::unwrap_or_default);
    if delays.is_empty() {
        return format!("{what}: none");
    }
    format!("p50 {p50}, p90 {p90}, p99 {p99}, p99.9 {p999}, max {max} ms {what}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storm::answer::Said;
    use crate::storm::tally::Times;
    use crate::storm::tests::plan;

    fn summary() -> Summary {
        let mut tally = Tally::new(4);
        let times = |done| Times { due: Duration::ZERO, begun: Duration::ZERO, done: Duration::from_millis(done) };
        tally.submitted(0, times(2), &Ok(Said::Ok("1".to_owned())), None);
        tally.submitted(1, times(2), &Ok(Said::Code("ERROR_NO_SLOT_AVAILABLE".to_owned())), None);
        for done in 1..=100 {
            tally.polled(0, times(done), true, &Ok(Said::NotReady));
        }
        tally.polled(0, times(1_000), true, &Err(Trouble::Timeout));
        let calls = Some(Calls::from([(POLLS.to_owned(), 5), ("createTask".to_owned(), 1)]));
        Summary { plan: plan(), tally, length: Duration::from_secs(2), stopped: false, reconnects: 0, calls }
    }

    #[test]
    fn the_object_has_every_number() {
        let json = summary().json();
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
        let unknown = Summary { calls: None, ..summary() }.json();
        assert!(
            ["upstream_polls", "upstream_calls", "polls_per_task", "amplification"]
                .iter()
                .all(|name| unknown[*name].is_null())
        );
    }

    #[test]
    fn the_text_tells_the_same() {
        let text = summary().text();
        for part in [
            "2 submitted, 1 accepted, 1 ERROR_NO_SLOT_AVAILABLE\n",
            "101, 50.5 a second",
            "100 not ready, 0 ready, 0 failed, 1 timeout\n",
            "createTask 1, getTaskResult 5",
            "5.00 polls for each task, 0.0495 for each poll",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(Summary { calls: None, ..summary() }.text().contains("not known"));
    }
}
