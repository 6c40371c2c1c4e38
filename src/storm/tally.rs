//! Counts the requests of a storm and their results, and measures delays from the due times.

use std::collections::BTreeMap;
use std::time::Duration;

use super::delays::Delays;
use super::reply::{LegacyReply, RequestError};

/// A poll that starts later than this after it was due counts as late: well above the resolution of timers, well below
/// any interval.
const LATE_AFTER: Duration = Duration::from_millis(10);

/// The times of one request: due, started and ended.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// When the request was due.
    pub due: Duration,
    /// When its client started it.
    pub started: Duration,
    /// When its client got a reply or gave up.
    pub ended: Duration,
}

/// Results of requests.
#[derive(Clone, Debug, Default)]
pub struct ResultCounts {
    /// Replies that the task is not ready.
    pub not_ready: u64,
    /// Submits that were accepted, or polls that got an answer.
    pub ok: u64,
    /// Polls of failed tasks.
    pub failed: u64,
    /// Other error codes.
    pub codes: BTreeMap<String, u64>,
    /// Replies with a code that is not in `codes`, because [`CODES_MAX`] others are.
    pub other_codes: u64,
    /// Requests without a reply, by [`RequestError::label`].
    pub request_errors: BTreeMap<&'static str, u64>,
}

/// Most codes that are counted separately.
const CODES_MAX: usize = 64;

impl ResultCounts {
    fn count(&mut self, result: &Result<LegacyReply, RequestError>) {
        match result {
            Ok(LegacyReply::NotReady) => self.not_ready += 1,
            Ok(LegacyReply::Ok(_)) => self.ok += 1,
            Ok(LegacyReply::Failed) => self.failed += 1,
            Ok(LegacyReply::Code(code)) if self.codes.len() < CODES_MAX || self.codes.contains_key(code) => {
                *self.codes.entry(code.clone()).or_insert(0) += 1;
            }
            Ok(LegacyReply::Code(_)) => self.other_codes += 1,
            Err(error) => *self.request_errors.entry(error.label()).or_insert(0) += 1,
        }
    }

    /// Returns the number of all requests.
    pub fn total(&self) -> u64 {
        self.ok + self.not_ready + self.failed + self.errors()
    }

    /// Returns the number of error codes and request errors.
    pub fn errors(&self) -> u64 {
        self.codes.values().chain(self.request_errors.values()).sum::<u64>() + self.other_codes
    }
}

/// Polls since the last progress line.
#[derive(Clone, Debug, Default)]
struct ProgressWindow {
    results: ResultCounts,
    delays: Delays,
    late: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Task {
    /// When the task is ready upstream, if known.
    ready_at: Option<Duration>,
    /// When a client first got its answer.
    seen_at: Option<Duration>,
    /// Whether a client got a final answer.
    is_final: bool,
}

/// All counts of a storm. Uses constant memory.
#[derive(Clone, Debug)]
pub struct Tally {
    tasks: Vec<Task>,
    /// Polls that were started.
    pub polls: u64,
    /// Results of the polls that ended.
    pub poll_results: ResultCounts,
    /// Polls that were started more than 10 ms after they were due.
    pub late: u64,
    /// Late polls whose client was idle when they were due: this machine was too busy, not the server.
    pub late_here: u64,
    /// Polls in flight when the storm was stopped.
    pub cut_short: u64,
    /// Polls that were due and never started, because their client was busy until the end.
    pub unsent: u64,
    /// From due to the reply, or to when the poll was given up.
    pub poll_delays: Delays,
    /// From started to the reply, for polls with a reply. A closed-loop load generator would report these.
    pub response_times: Delays,
    /// Results of the submits.
    pub submit_results: ResultCounts,
    /// From due to the reply, or to when the submit was given up.
    pub submit_delays: Delays,
    window: ProgressWindow,
}

impl Tally {
    /// Creates an empty tally for a number of tasks.
    pub fn new(tasks: usize) -> Self {
        Self {
            tasks: vec![Task::default(); tasks],
            polls: 0,
            poll_results: ResultCounts::default(),
            late: 0,
            late_here: 0,
            cut_short: 0,
            unsent: 0,
            poll_delays: Delays::new(),
            response_times: Delays::new(),
            submit_results: ResultCounts::default(),
            submit_delays: Delays::new(),
            window: ProgressWindow::default(),
        }
    }

    /// Records a submit. `ready_at`: when its task will be ready upstream, if known.
    pub fn record_submit(
        &mut self,
        task: usize,
        timing: Timing,
        result: &Result<LegacyReply, RequestError>,
        ready_at: Option<Duration>,
    ) {
        self.submit_results.count(result);
        self.submit_delays.record(timing.ended.saturating_sub(timing.due));
        if let (Some(task), Ok(LegacyReply::Ok(_))) = (self.tasks.get_mut(task), result) {
            task.ready_at = ready_at;
        }
    }

    /// Records a poll that ended. `was_idle`: its client was idle when the poll was due.
    pub fn record_poll(
        &mut self,
        task: usize,
        timing: Timing,
        was_idle: bool,
        result: &Result<LegacyReply, RequestError>,
    ) {
        self.record_start(timing, was_idle);
        self.poll_results.count(result);
        self.window.results.count(result);
        self.record_delay(timing);
        if result.is_ok() {
            self.response_times.record(timing.ended.saturating_sub(timing.started));
        }
        let (Some(task), Ok(reply)) = (self.tasks.get_mut(task), result) else { return };
        if matches!(reply, LegacyReply::Ok(_)) {
            task.seen_at = Some(task.seen_at.map_or(timing.ended, |seen_at| seen_at.min(timing.ended)));
        }
        task.is_final |= reply.is_final();
    }

    /// Records a poll that was in flight when the storm was stopped. Its delay is a lower bound.
    pub fn record_cut_short(&mut self, timing: Timing, was_idle: bool) {
        self.record_start(timing, was_idle);
        self.record_delay(timing);
        self.cut_short += 1;
    }

    /// Records a poll that was due and never started. Its delay is a lower bound.
    pub fn record_unsent(&mut self, due: Duration, now: Duration) {
        self.record_delay(Timing { due, started: now, ended: now });
        self.unsent += 1;
    }

    fn record_start(&mut self, timing: Timing, was_idle: bool) {
        self.polls += 1;
        if timing.started.saturating_sub(timing.due) > LATE_AFTER {
            self.late += 1;
            self.window.late += 1;
            self.late_here += u64::from(was_idle);
        }
    }

    fn record_delay(&mut self, timing: Timing) {
        let delay = timing.ended.saturating_sub(timing.due);
        self.poll_delays.record(delay);
        self.window.delays.record(delay);
    }

    /// Returns the number of tasks with a final answer.
    pub fn tasks_answered(&self) -> usize {
        self.tasks.iter().filter(|task| task.is_final).count()
    }

    /// Returns the delays from ready upstream to first seen by a client, for each task of which both are known.
    pub fn ready_to_seen(&self) -> Delays {
        let mut delays = Delays::new();
        for task in &self.tasks {
            if let (Some(ready_at), Some(seen_at)) = (task.ready_at, task.seen_at) {
                delays.record(seen_at.saturating_sub(ready_at));
            }
        }
        delays
    }

    /// Returns a line about the polls since the last call, `window` ago, and resets their counts.
    pub fn take_progress_line(&mut self, elapsed: Duration, window: Duration) -> String {
        let ProgressWindow { results, delays, late } = &self.window;
        let ms = |quantile| delays.quantile_ms(quantile).map_or_else(|| "-".to_owned(), |ms| format!("{ms:.1}"));
        #[expect(clippy::cast_precision_loss, reason = "polls of one second")]
        let rate = delays.len() as f64 / window.as_secs_f64().max(0.001);
        let line = format!(
            "{:>5} s  {rate:.0} polls/s  {} not ready, {} ready, {} failed, {} errors  delay p50 {} p99 {} ms  {late} late",
            elapsed.as_secs(),
            results.not_ready,
            results.ok,
            results.failed,
            results.errors(),
            ms(0.5),
            ms(0.99),
        );
        // Clears the histogram in place, because a new one would allocate.
        self.window.results = ResultCounts::default();
        self.window.delays.clear();
        self.window.late = 0;
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storm::plan::Plan;
    use crate::storm::schedule::Schedule;

    const NOT_READY: Result<LegacyReply, RequestError> = Ok(LegacyReply::NotReady);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// One client and a server that answers at once, but stalls from the third to the fifth second.
    fn storm_with_a_stall() -> Tally {
        let mut tally = Tally::new(1);
        let mut idle_from = Duration::ZERO;
        for due in Schedule::new(&Plan { clients: 1, interval: ms(100), ..Plan::sample() }, 0) {
            if due >= ms(10_000) {
                break;
            }
            let started = due.max(idle_from);
            let held = started >= ms(3_000) && started < ms(5_000);
            idle_from = if held { ms(5_000) } else { started + ms(1) };
            tally.record_poll(0, Timing { due, started, ended: idle_from }, started == due, &NOT_READY);
        }
        tally
    }

    #[test]
    fn a_stall_delays_every_poll_that_becomes_due_during_it() {
        let tally = storm_with_a_stall();
        assert!((95..=105).contains(&tally.polls), "{}", tally.polls);
        // The server held one request, and twenty became due.
        assert!((17..=22).contains(&tally.late), "{}", tally.late);
        assert_eq!(tally.late_here, 0);
        let quantile = |delays: &Delays, quantile| delays.quantile_ms(quantile).expect("some");
        assert!(quantile(&tally.poll_delays, 0.9) > 500.0 && quantile(&tally.poll_delays, 0.5) < 2.0);
        // A closed-loop load generator would see one slow response only.
        assert!(quantile(&tally.response_times, 0.9) < 2.0 && quantile(&tally.response_times, 1.0) > 1_800.0);
    }

    #[test]
    fn polls_without_a_reply_count_with_their_delay_so_far() {
        let mut tally = Tally::new(1);
        tally.record_cut_short(Timing { due: ms(1_000), started: ms(1_000), ended: ms(5_000) }, true);
        tally.record_unsent(ms(2_000), ms(5_000));
        tally.record_unsent(ms(3_000), ms(5_000));
        assert_eq!((tally.polls, tally.late, tally.cut_short, tally.unsent), (1, 0, 1, 2));
        assert_eq!((tally.poll_delays.len(), tally.response_times.len()), (3, 0));
        assert!((tally.poll_delays.quantile_ms(0.5).expect("some") / 3_000.0 - 1.0).abs() < 0.001);
    }

    #[test]
    fn a_late_poll_of_an_idle_client_is_late_here() {
        let mut tally = Tally::new(1);
        let timing = Timing { due: ms(0), started: ms(11), ended: ms(12) };
        tally.record_poll(0, timing, true, &NOT_READY);
        tally.record_poll(0, timing, false, &NOT_READY);
        tally.record_poll(0, Timing { started: ms(10), ..timing }, true, &NOT_READY);
        assert_eq!((tally.late, tally.late_here), (2, 1));
    }

    #[test]
    fn a_task_is_seen_when_the_first_of_its_clients_sees_it() {
        let mut tally = Tally::new(4);
        let ok: Result<LegacyReply, RequestError> = Ok(LegacyReply::Ok("T".to_owned()));
        let at = |ended| Timing { due: ms(0), started: ms(0), ended: ms(ended) };
        tally.record_submit(0, at(5), &ok, Some(ms(1_000)));
        tally.record_submit(1, at(5), &ok, Some(ms(1_000)));
        tally.record_submit(2, at(5), &ok, Some(ms(1_000)));
        tally.record_submit(3, at(5), &Err(RequestError::Timeout), Some(ms(1_000)));
        tally.record_poll(0, at(1_300), true, &ok);
        tally.record_poll(0, at(1_200), true, &ok);
        tally.record_poll(1, at(900), true, &ok);
        tally.record_poll(2, at(900), true, &Ok(LegacyReply::Failed));
        tally.record_poll(3, at(900), true, &ok);
        let delays = tally.ready_to_seen();
        assert_eq!((delays.len(), delays.quantile_ms(0.5), delays.quantile_ms(1.0)), (2, Some(0.0), Some(200.0)));
        assert_eq!(tally.tasks_answered(), 4);
    }

    #[test]
    fn codes_are_bounded_and_the_progress_line_resets_its_window() {
        let mut tally = Tally::new(1);
        for code in 0..100 {
            let timing = Timing { due: ms(0), started: ms(0), ended: ms(1) };
            tally.record_poll(0, timing, true, &Ok(LegacyReply::Code(format!("ERROR_{code}"))));
        }
        assert_eq!(
            (tally.poll_results.codes.len(), tally.poll_results.other_codes, tally.poll_results.errors()),
            (64, 36, 100)
        );
        assert!(
            tally
                .take_progress_line(ms(1_000), ms(1_000))
                .contains("100 polls/s  0 not ready, 0 ready, 0 failed, 100 errors")
        );
        assert!(
            tally
                .take_progress_line(ms(2_000), ms(1_000))
                .contains(" 0 polls/s  0 not ready, 0 ready, 0 failed, 0 errors")
        );
        assert_eq!(tally.polls, 100);
    }
}
