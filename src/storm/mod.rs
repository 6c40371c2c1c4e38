//! `capgate storm`: what is planned, counted and told. Sans-I/O: [`crate::edge::storm`] sends and reads the clock; every
//! time here is counted from the start of the storm.
//!
//! The load is open loop: [`schedule`] says when each poll is due before anything is sent, and delays are counted from
//! then. A server that stalls is late with every poll that became due meanwhile, and not with the one it held alone.

pub mod admin;
pub mod answer;
pub mod guard;
pub mod net;
pub mod schedule;
pub mod summary;
pub mod tally;

use std::time::Duration;

use url::form_urlencoded;

use self::schedule::Draw;
use crate::sandbox::triggers::{SOLVE_MS_MAX, SOLVE_MS_PREFIX};

/// What shall happen.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Tasks that are submitted, evenly over the first interval. At least one.
    pub tasks: usize,
    /// Clients that poll; client i polls task i modulo `tasks`. At least one.
    pub clients: usize,
    /// From one poll of a client to its next. Above zero.
    pub every: Duration,
    /// Share by which that may be more or less, 0 to 1.
    pub jitter: f64,
    /// From the first submit to the last poll that is due.
    pub length: Duration,
    /// How long tasks take, where the sandbox is told so.
    pub solve: Option<Solve>,
    /// Whether a client ends once its task is answered.
    pub stop_when_answered: bool,
    /// Decides everything that is drawn.
    pub seed: u64,
    /// Names and values of every submit, without the key.
    pub task: Vec<(String, String)>,
}

/// How long tasks take.
#[derive(Clone, Copy, Debug)]
pub struct Solve {
    /// Median, at most [`SOLVE_MS_MAX`].
    pub median_ms: u64,
    /// Sigma of a log-normal distribution; zero: every task takes the median.
    pub spread: f64,
}

/// Names that a site key, or the text in which the sandbox looks instead, may have in a submit.
const SITE_KEY_NAMES: &[&str] = &["sitekey", "googlekey", "textinstructions"];

/// Streams of chance, so that the number of clients does not change the tasks.
const OF_TASKS: u64 = 0;
const OF_CLIENTS: u64 = 1 << 32;

impl Plan {
    /// Reads the parameters of a submit, written as a query.
    ///
    /// # Errors
    /// When there is no `method`, when a key is among them, or when the sandbox cannot be told how long they take.
    pub fn read_task(query: &str, solve: Option<Solve>) -> Result<Vec<(String, String)>, String> {
        let task: Vec<(String, String)> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let has = |name: &str| task.iter().any(|(known, _)| known == name);
        if !has("method") {
            return Err("--task: no method in it".to_owned());
        }
        if has("key") || has("json") {
            return Err("--task: key and json are not its own: the key goes into CAPGATE_STORM_KEY".to_owned());
        }
        if solve.is_some() && !SITE_KEY_NAMES.iter().any(|name| has(name)) {
            return Err(format!("--solve-ms: the task needs one of {}", SITE_KEY_NAMES.join(", ")));
        }
        Ok(task)
    }

    /// When a task's submit is due.
    pub fn submit_due(&self, task: usize) -> Duration {
        share(self.every, task, self.tasks)
    }

    /// How long a task takes.
    pub fn solve_time(&self, task: usize) -> Option<Duration> {
        let solve = self.solve?;
        let mut draw = Draw::new(self.seed, OF_TASKS + task as u64);
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "milliseconds far below 2^53, and never negative"
        )]
        let ms = draw.log_normal(solve.median_ms as f64, solve.spread).round() as u64;
        Some(Duration::from_millis(ms.min(SOLVE_MS_MAX)))
    }

    /// The body of a task's submit. Holds the key.
    pub fn submit_body(&self, task: usize, key: &str) -> String {
        let takes = self.solve_time(task).map(|time| format!("{SOLVE_MS_PREFIX}{}", time.as_millis()));
        let site_key = SITE_KEY_NAMES.iter().find(|name| self.task.iter().any(|(known, _)| known == *name));
        let mut body = form_urlencoded::Serializer::new(String::new());
        body.append_pair("key", key);
        for (name, value) in &self.task {
            let takes = takes.as_deref().filter(|_| site_key.is_some_and(|site_key| site_key == name));
            body.append_pair(name, takes.unwrap_or(value));
        }
        body.finish()
    }
}

/// The `index`th of `count` even steps through a duration.
fn share(of: Duration, index: usize, count: usize) -> Duration {
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^53")]
    of.mul_f64(index as f64 / count.max(1) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A small plan, for the tests of this folder.
    pub(super) fn plan() -> Plan {
        Plan {
            tasks: 4,
            clients: 8,
            every: Duration::from_secs(1),
            jitter: 0.2,
            length: Duration::from_secs(10),
            solve: None,
            stop_when_answered: false,
            seed: 7,
            task: vec![("method".to_owned(), "turnstile".to_owned()), ("sitekey".to_owned(), "S".to_owned())],
        }
    }

    #[test]
    fn submits_are_spread_over_the_first_interval_and_say_how_long_they_take() {
        let mut plan = plan();
        let due: Vec<u128> = (0..4).map(|task| plan.submit_due(task).as_millis()).collect();
        assert_eq!(due, [0, 250, 500, 750]);
        assert_eq!(plan.submit_body(0, "K&"), "key=K%26&method=turnstile&sitekey=S");
        plan.solve = Some(Solve { median_ms: 1_500, spread: 0.0 });
        assert_eq!(plan.submit_body(0, "K"), "key=K&method=turnstile&sitekey=sandbox-takes-1500");
        plan.solve = Some(Solve { median_ms: SOLVE_MS_MAX, spread: 3.0 });
        let longest = (0..100).filter_map(|task| plan.solve_time(task)).max();
        assert_eq!(longest, Some(Duration::from_millis(SOLVE_MS_MAX)));
    }

    #[test]
    fn a_task_that_cannot_be_meant_is_refused() {
        let solve = Some(Solve { median_ms: 1, spread: 0.0 });
        assert!(Plan::read_task("method=turnstile&sitekey=S", solve).is_ok());
        assert!(Plan::read_task("sitekey=S", None).is_err());
        assert!(Plan::read_task("method=post&body=AAAA", None).is_ok());
        assert!(Plan::read_task("method=post&body=AAAA", solve).is_err());
        let refusal = Plan::read_task("method=post&key=c0ffee", None).expect_err("refused");
        assert!(!refusal.contains("c0ffee"));
    }
}
