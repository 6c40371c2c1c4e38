//! The plan of a storm: which tasks are submitted and when.

use std::time::Duration;

use url::form_urlencoded;

use super::random::{Random, TASK_STREAM};
use crate::sandbox::triggers::{SOLVE_MS_MAX, SOLVE_MS_PREFIX};

/// The plan of a storm.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Number of tasks, submitted evenly over the first interval. At least one.
    pub tasks: usize,
    /// Number of clients. Client i polls task i modulo `tasks`. At least one.
    pub clients: usize,
    /// Time from one poll of a client to its next. Above zero.
    pub interval: Duration,
    /// Share by which the interval varies, 0 to 1.
    pub jitter: f64,
    /// Time from the first submit to the last poll that is due.
    pub duration: Duration,
    /// How long tasks take. Only the sandbox accepts this.
    pub solve_times: Option<SolveTimes>,
    /// Whether a client stops once its task has its final answer.
    pub stop_when_answered: bool,
    /// Seed of all random numbers.
    pub seed: u64,
    /// Parameters of every submit, without the key.
    pub task_params: Vec<(String, String)>,
}

/// Distribution of the time that tasks take.
#[derive(Clone, Copy, Debug)]
pub struct SolveTimes {
    /// Median, at most [`SOLVE_MS_MAX`].
    pub median_ms: u64,
    /// Sigma of a log-normal distribution. With zero, every task takes the median.
    pub sigma: f64,
}

/// Legacy parameters in which the sandbox looks for its triggers.
const TRIGGER_PARAMS: &[&str] = &["sitekey", "googlekey", "textinstructions"];

impl Plan {
    /// Parses the parameters of a submit from a query string.
    ///
    /// # Errors
    /// If `method` is missing, if `key` or `json` is present, or if there are solve times and no parameter for them.
    pub fn parse_task_params(query: &str, solve_times: Option<SolveTimes>) -> Result<Vec<(String, String)>, String> {
        let params: Vec<(String, String)> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let has = |name: &str| params.iter().any(|(param, _)| param == name);
        if !has("method") {
            return Err("--task: the parameter method is missing".to_owned());
        }
        if has("key") || has("json") {
            return Err("--task: key and json are not allowed; set the key in CAPGATE_STORM_KEY".to_owned());
        }
        if solve_times.is_some() && !TRIGGER_PARAMS.iter().any(|name| has(name)) {
            return Err(format!("--solve-ms: the task needs one of {}", TRIGGER_PARAMS.join(", ")));
        }
        Ok(params)
    }

    /// Returns the due time of a task's submit.
    pub fn submit_due(&self, task: usize) -> Duration {
        self.offset(task, self.tasks)
    }

    /// Returns the solve time of a task, if the plan determines it.
    pub fn solve_time(&self, task: usize) -> Option<Duration> {
        let SolveTimes { median_ms, sigma } = self.solve_times?;
        let mut random = Random::new(self.seed, TASK_STREAM + task as u64);
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "milliseconds far below 2^53, and never negative"
        )]
        let ms = random.log_normal(median_ms as f64, sigma).round() as u64;
        Some(Duration::from_millis(ms.min(SOLVE_MS_MAX)))
    }

    /// Builds the form that submits a task. Contains the key.
    pub fn submit_body(&self, task: usize, key: &str) -> String {
        let trigger = self.solve_time(task).map(|time| format!("{SOLVE_MS_PREFIX}{}", time.as_millis()));
        let trigger_param = TRIGGER_PARAMS.iter().find(|name| self.task_params.iter().any(|(param, _)| param == *name));
        let mut body = form_urlencoded::Serializer::new(String::new());
        body.append_pair("key", key);
        for (name, value) in &self.task_params {
            let trigger = trigger.as_deref().filter(|_| trigger_param.is_some_and(|param| param == name));
            body.append_pair(name, trigger.unwrap_or(value));
        }
        body.finish()
    }

    /// Returns the offset of the `index`th of `count` even steps within one interval.
    pub(super) fn offset(&self, index: usize, count: usize) -> Duration {
        #[expect(clippy::cast_precision_loss, reason = "counts far below 2^53")]
        self.interval.mul_f64(index as f64 / count.max(1) as f64)
    }
}

#[cfg(test)]
impl Plan {
    /// Builds a small plan for the tests of this folder.
    pub(super) fn sample() -> Self {
        Self {
            tasks: 4,
            clients: 8,
            interval: Duration::from_secs(1),
            jitter: 0.2,
            duration: Duration::from_secs(10),
            solve_times: None,
            stop_when_answered: false,
            seed: 7,
            task_params: vec![("method".to_owned(), "turnstile".to_owned()), ("sitekey".to_owned(), "S".to_owned())],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn submits_are_spread_over_the_first_interval_and_contain_their_solve_time() {
        let mut plan = Plan::sample();
        let due: Vec<u128> = (0..4).map(|task| plan.submit_due(task).as_millis()).collect();
        assert_eq!(due, [0, 250, 500, 750]);
        assert_eq!(plan.submit_body(0, "K&"), "key=K%26&method=turnstile&sitekey=S");
        plan.solve_times = Some(SolveTimes { median_ms: 1_500, sigma: 0.0 });
        assert_eq!(plan.submit_body(0, "K"), "key=K&method=turnstile&sitekey=sandbox-takes-1500");
        plan.solve_times = Some(SolveTimes { median_ms: SOLVE_MS_MAX, sigma: 3.0 });
        let longest = (0..100).filter_map(|task| plan.solve_time(task)).max();
        assert_eq!(longest, Some(Duration::from_millis(SOLVE_MS_MAX)));
    }

    #[test]
    fn unusable_task_parameters_are_refused() {
        let solve_times = Some(SolveTimes { median_ms: 1, sigma: 0.0 });
        assert!(Plan::parse_task_params("method=turnstile&sitekey=S", solve_times).is_ok());
        assert!(Plan::parse_task_params("sitekey=S", None).is_err());
        assert!(Plan::parse_task_params("method=post&body=AAAA", None).is_ok());
        assert!(Plan::parse_task_params("method=post&body=AAAA", solve_times).is_err());
        let error = Plan::parse_task_params("method=post&key=c0ffee", None).expect_err("refused");
        assert!(!error.contains("c0ffee"));
    }
}
