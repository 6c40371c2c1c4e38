//! What happened: counts, and delays counted from when a poll was due.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value as Json, json};

use super::answer::{Said, Trouble};

/// A poll that begins later than this after it was due is late: well above the grain of timers, well below any interval.
pub const LATE: Duration = Duration::from_millis(10);

/// Delays, in microseconds up to an hour, each told to three digits, and the longest exactly.
#[derive(Clone, Debug)]
pub struct Delays {
    histogram: Histogram<u64>,
    micros_max: u64,
}

impl Delays {
    /// Longest delay that is told apart, in microseconds: an hour.
    const MICROS_MAX: u64 = 3_600_000_000;

    /// None yet.
    ///
    /// # Panics
    /// Never: the bounds are constant, which every test here shows.
    #[expect(clippy::expect_used, reason = "constant bounds; a test builds one")]
    pub fn new() -> Self {
        let histogram = Histogram::new_with_bounds(1, Self::MICROS_MAX, 3).expect("valid bounds");
        Self { histogram, micros_max: 0 }
    }

    /// Counts one; above an hour as an hour.
    pub fn count(&mut self, delay: Duration) {
        let micros = u64::try_from(delay.as_micros()).unwrap_or(u64::MAX).min(Self::MICROS_MAX);
        self.histogram.saturating_record(micros);
        self.micros_max = self.micros_max.max(micros);
    }

    /// How many were counted.
    pub fn len(&self) -> u64 {
        self.histogram.len()
    }

    /// Whether none was.
    pub fn is_empty(&self) -> bool {
        self.histogram.is_empty()
    }

    /// The delay that this share of them does not exceed, in milliseconds; nothing where there are none.
    pub fn quantile_ms(&self, share: f64) -> Option<f64> {
        // A bucket's upper end may lie above everything that fell into it.
        let micros = self.histogram.value_at_quantile(share).min(self.micros_max);
        #[expect(clippy::cast_precision_loss, reason = "at most an hour in microseconds")]
        (!self.is_empty()).then(|| micros as f64 / 1_000.0)
    }

    /// Quantiles under their names, in milliseconds; null where there are none.
    pub fn json(&self) -> Json {
        let [p50, p90, p99, p999, max] = [0.5, 0.9, 0.99, 0.999, 1.0].map(|share| self.quantile_ms(share));
        if self.is_empty() {
            return Json::Null;
        }
        json!({ "p50": p50, "p90": p90, "p99": p99, "p999": p999, "max": max })
    }

    fn clear(&mut self) {
        self.histogram.reset();
        self.micros_max = 0;
    }
}

impl Default for Delays {
    fn default() -> Self {
        Self::new()
    }
}

/// When one poll was due, begun and over.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// When its schedule says.
    pub due: Duration,
    /// When its client turned to it.
    pub begun: Duration,
    /// When it was answered, or given up.
    pub done: Duration,
}

/// Answers and troubles.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Not ready.
    pub not_ready: u64,
    /// Answered: of submits, accepted.
    pub ok: u64,
    /// No answer will come.
    pub failed: u64,
    /// Other codes.
    pub codes: BTreeMap<String, u64>,
    /// Codes beyond [`CODES_MAX`].
    pub codes_beyond: u64,
    /// Requests without an answer.
    pub troubles: BTreeMap<&'static str, u64>,
}

/// Most codes that are told apart.
const CODES_MAX: usize = 64;

impl Counts {
    fn count(&mut self, said: &Result<Said, Trouble>) {
        match said {
            Ok(Said::NotReady) => self.not_ready += 1,
            Ok(Said::Ok(_)) => self.ok += 1,
            Ok(Said::Failed) => self.failed += 1,
            Ok(Said::Code(code)) if self.codes.len() < CODES_MAX || self.codes.contains_key(code) => {
                *self.codes.entry(code.clone()).or_insert(0) += 1;
            }
            Ok(Said::Code(_)) => self.codes_beyond += 1,
            Err(trouble) => *self.troubles.entry(trouble.label()).or_insert(0) += 1,
        }
    }

    /// Codes and troubles together.
    pub fn errors(&self) -> u64 {
        self.codes.values().chain(self.troubles.values()).sum::<u64>() + self.codes_beyond
    }
}

/// What happened since the last progress line.
#[derive(Clone, Debug, Default)]
struct Window {
    counts: Counts,
    delay: Delays,
    late: u64,
}

/// One task.
#[derive(Clone, Copy, Debug, Default)]
struct Task {
    /// When it is ready upstream, where that is known.
    ready: Option<Duration>,
    /// When a client first saw its answer.
    seen: Option<Duration>,
    /// Whether a client was told a final answer.
    is_final: bool,
}

/// Everything that is counted. Memory does not grow with the length of a storm.
#[derive(Clone, Debug)]
pub struct Tally {
    tasks: Vec<Task>,
    /// Polls that were begun.
    pub polls: u64,
    /// What they were told.
    pub counts: Counts,
    /// Polls begun more than [`LATE`] after they were due.
    pub late: u64,
    /// Those of them whose client was free in time: this machine was too busy, and the server is not to blame.
    pub late_here: u64,
    /// Polls still under way when the storm was stopped.
    pub cut_short: u64,
    /// Polls that were due and never begun, because their client was busy to the end.
    pub unsent: u64,
    /// From due to answered; for polls without an answer to when they were given up.
    pub delay: Delays,
    /// From begun to answered, of polls that got an answer: what a load generator would say that waits for its server.
    pub answer: Delays,
    /// What submits were told.
    pub submits: Counts,
    /// From due to answered, of submits.
    pub submit: Delays,
    window: Window,
}

impl Tally {
    /// Nothing yet.
    pub fn new(tasks: usize) -> Self {
        Self {
            tasks: vec![Task::default(); tasks],
            polls: 0,
            counts: Counts::default(),
            late: 0,
            late_here: 0,
            cut_short: 0,
            unsent: 0,
            delay: Delays::new(),
            answer: Delays::new(),
            submits: Counts::default(),
            submit: Delays::new(),
            window: Window::default(),
        }
    }

    /// Counts a submit. `ready`: when its task will be ready upstream, where that is known.
    pub fn submitted(&mut self, task: usize, times: Times, said: &Result<Said, Trouble>, ready: Option<Duration>) {
        self.submits.count(said);
        self.submit.count(times.done.saturating_sub(times.due));
        if let (Some(task), Ok(Said::Ok(_))) = (self.tasks.get_mut(task), said) {
            task.ready = ready;
        }
    }

    /// Counts a poll. `was_free`: its client was waiting for it to be due.
    pub fn polled(&mut self, task: usize, times: Times, was_free: bool, said: &Result<Said, Trouble>) {
        self.begun(times, was_free);
        self.counts.count(said);
        self.window.counts.count(said);
        self.waited(times);
        if said.is_ok() {
            self.answer.count(times.done.saturating_sub(times.begun));
        }
        let Some(task) = self.tasks.get_mut(task) else { return };
        if matches!(said, Ok(Said::Ok(_))) {
            task.seen = Some(task.seen.map_or(times.done, |seen| seen.min(times.done)));
        }
        task.is_final |= matches!(said, Ok(Said::Ok(_) | Said::Failed));
    }

    /// Counts a poll that was under way when the storm was stopped: it took at least so long.
    pub fn cut_short(&mut self, times: Times, was_free: bool) {
        self.begun(times, was_free);
        self.waited(times);
        self.cut_short += 1;
    }

    /// Counts a poll that was due and never begun: it would have taken at least so long.
    pub fn unsent(&mut self, due: Duration, now: Duration) {
        self.waited(Times { due, begun: now, done: now });
        self.unsent += 1;
    }

    fn begun(&mut self, times: Times, was_free: bool) {
        self.polls += 1;
        if times.begun.saturating_sub(times.due) > LATE {
            self.late += 1;
            self.window.late += 1;
            self.late_here += u64::from(was_free);
        }
    }

    fn waited(&mut self, times: Times) {
        let delay = times.done.saturating_sub(times.due);
        self.delay.count(delay);
        self.window.delay.count(delay);
    }

    /// Tasks of which a client was told a final answer.
    pub fn tasks_answered(&self) -> usize {
        self.tasks.iter().filter(|task| task.is_final).count()
    }

    /// From ready upstream to first seen by a client, of each task of which both are known.
    pub fn ready_to_seen(&self) -> Delays {
        let mut delays = Delays::new();
        for task in &self.tasks {
            if let (Some(ready), Some(seen)) = (task.ready, task.seen) {
                delays.count(seen.saturating_sub(ready));
            }
        }
        delays
    }

    /// A line about what happened since the last one. `over`: how long that was.
    pub fn progress(&mut self, since_start: Duration, over: Duration) -> String {
        let Window { counts, delay, late } = &self.window;
        let ms = |share| delay.quantile_ms(share).map_or_else(|| "-".to_owned(), |ms| format!("{ms:.1}"));
        #[expect(clippy::cast_precision_loss, reason = "polls of one second")]
        let rate = delay.len() as f64 / over.as_secs_f64().max(0.001);
        let line = format!(
            "{:>5} s  {rate:.0} polls/s  {} not ready, {} ready, {} failed, {} errors  delay p50 {} p99 {} ms  {late} late",
            since_start.as_secs(),
            counts.not_ready,
            counts.ok,
            counts.failed,
            counts.errors(),
            ms(0.5),
            ms(0.99),
        );
        self.window.counts = Counts::default();
        self.window.delay.clear();
        self.window.late = 0;
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storm::schedule::Schedule;
    use crate::storm::tests::plan;

    const NOT_READY: Result<Said, Trouble> = Ok(Said::NotReady);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// One client before a server that answers at once, but holds what it gets in the third to fifth second.
    fn storm_with_a_stall() -> Tally {
        let mut tally = Tally::new(1);
        let mut free = Duration::ZERO;
        for due in Schedule::new(&super::super::Plan { clients: 1, every: ms(100), ..plan() }, 0) {
            if due >= ms(10_000) {
                break;
            }
            let begun = due.max(free);
            let held = begun >= ms(3_000) && begun < ms(5_000);
            free = if held { ms(5_000) } else { begun + ms(1) };
            tally.polled(0, Times { due, begun, done: free }, begun == due, &NOT_READY);
        }
        tally
    }

    #[test]
    fn a_stall_delays_every_poll_that_became_due_meanwhile() {
        let tally = storm_with_a_stall();
        assert!((95..=105).contains(&tally.polls), "{}", tally.polls);
        // One request was held; twenty were due.
        assert!((17..=22).contains(&tally.late), "{}", tally.late);
        assert_eq!(tally.late_here, 0);
        let quantile = |delays: &Delays, share| delays.quantile_ms(share).expect("some");
        assert!(quantile(&tally.delay, 0.9) > 500.0 && quantile(&tally.delay, 0.5) < 2.0);
        // This is what it looks like to one who waits for the answer before looking at the clock.
        assert!(quantile(&tally.answer, 0.9) < 2.0 && quantile(&tally.answer, 1.0) > 1_800.0);
    }

    #[test]
    fn what_was_never_answered_is_late_all_the_same() {
        let mut tally = Tally::new(1);
        tally.cut_short(Times { due: ms(1_000), begun: ms(1_000), done: ms(5_000) }, true);
        tally.unsent(ms(2_000), ms(5_000));
        tally.unsent(ms(3_000), ms(5_000));
        assert_eq!((tally.polls, tally.late, tally.cut_short, tally.unsent), (1, 0, 1, 2));
        assert_eq!((tally.delay.len(), tally.answer.len()), (3, 0));
        assert!((tally.delay.quantile_ms(0.5).expect("some") / 3_000.0 - 1.0).abs() < 0.001);
    }

    #[test]
    fn a_late_poll_of_a_free_client_is_this_machines_fault() {
        let mut tally = Tally::new(1);
        let times = Times { due: ms(0), begun: ms(11), done: ms(12) };
        tally.polled(0, times, true, &NOT_READY);
        tally.polled(0, times, false, &NOT_READY);
        tally.polled(0, Times { begun: ms(10), ..times }, true, &NOT_READY);
        assert_eq!((tally.late, tally.late_here), (2, 1));
    }

    #[test]
    fn a_task_is_seen_when_the_first_of_its_clients_sees_it() {
        let mut tally = Tally::new(4);
        let ok: Result<Said, Trouble> = Ok(Said::Ok("T".to_owned()));
        let at = |done| Times { due: ms(0), begun: ms(0), done: ms(done) };
        tally.submitted(0, at(5), &ok, Some(ms(1_000)));
        tally.submitted(1, at(5), &ok, Some(ms(1_000)));
        tally.submitted(2, at(5), &ok, Some(ms(1_000)));
        tally.submitted(3, at(5), &Err(Trouble::Timeout), Some(ms(1_000)));
        tally.polled(0, at(1_300), true, &ok);
        tally.polled(0, at(1_200), true, &ok);
        tally.polled(1, at(900), true, &ok);
        tally.polled(2, at(900), true, &Ok(Said::Failed));
        tally.polled(3, at(900), true, &ok);
        let delays = tally.ready_to_seen();
        assert_eq!((delays.len(), delays.quantile_ms(0.5), delays.quantile_ms(1.0)), (2, Some(0.0), Some(200.0)));
        assert_eq!(tally.tasks_answered(), 4);
    }

    #[test]
    fn codes_are_bounded_and_the_progress_line_starts_afresh() {
        let mut tally = Tally::new(1);
        for code in 0..100 {
            let times = Times { due: ms(0), begun: ms(0), done: ms(1) };
            tally.polled(0, times, true, &Ok(Said::Code(format!("ERROR_{code}"))));
        }
        assert_eq!((tally.counts.codes.len(), tally.counts.codes_beyond, tally.counts.errors()), (64, 36, 100));
        assert!(
            tally.progress(ms(1_000), ms(1_000)).contains("100 polls/s  0 not ready, 0 ready, 0 failed, 100 errors")
        );
        assert!(tally.progress(ms(2_000), ms(1_000)).contains(" 0 polls/s  0 not ready, 0 ready, 0 failed, 0 errors"));
        assert_eq!(tally.polls, 100);
    }
}
