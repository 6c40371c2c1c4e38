//! One task: its status over time.

use serde_json::{Value as Json, json};

use super::solutions::solution;
use super::triggers::TaskTrigger;

/// Price of a task in USD: the figure of uCaptcha's documents.
pub(super) const COST: f64 = 0.00299;
/// How long a task can be polled, in milliseconds.
const TTL_MS: u64 = 60 * 60 * 1000;

/// One task.
#[derive(Debug)]
pub(super) struct Task {
    /// API key of the submit.
    pub(super) key: String,
    /// Native task type.
    pub(super) kind: String,
    pub(super) trigger: Option<TaskTrigger>,
    /// Whether the failure rate makes this task fail.
    pub(super) is_unsolvable: bool,
    pub(super) created_at_ms: u64,
    pub(super) ready_at_ms: u64,
    pub(super) polls: u64,
    pub(super) is_charged: bool,
}

/// Status of a task.
pub(super) enum Status {
    /// No worker has taken the task yet.
    Idle,
    Processing,
    /// Failed with this code.
    Failed(&'static str),
    Solved,
}

impl Task {
    /// Whether polls find the task.
    pub(super) fn is_known(&self, now_ms: u64) -> bool {
        now_ms < self.created_at_ms + TTL_MS && self.trigger != Some(TaskTrigger::Lost)
    }

    pub(super) fn status(&self, now_ms: u64) -> Status {
        if now_ms < self.ready_at_ms || self.trigger == Some(TaskTrigger::Never) {
            // A worker takes the task after a tenth of its solve time.
            let is_idle = now_ms - self.created_at_ms < self.solve_ms() / 10;
            return if is_idle { Status::Idle } else { Status::Processing };
        }
        let unsolvable = self.is_unsolvable.then_some("ERROR_CAPTCHA_UNSOLVABLE");
        match self.trigger.and_then(TaskTrigger::failure).or(unsolvable) {
            Some(code) => Status::Failed(code),
            None => Status::Solved,
        }
    }

    /// Returns the body of a getTaskResult answer.
    pub(super) fn to_json(&self, id: &str, status: &Status) -> Json {
        match status {
            Status::Idle => json!({ "errorId": 0, "status": "idle" }),
            Status::Processing => json!({ "errorId": 0, "status": "processing" }),
            Status::Failed(code) => json!({
                "errorId": 0, "status": "failed", "errorCode": code,
                "errorDescription": "Provider could not solve the captcha",
            }),
            Status::Solved => {
                let solution = solution(&self.kind, self.trigger, id);
                let solve_ms = self.solve_ms();
                json!({ "errorId": 0, "status": "ready", "solution": solution, "cost": COST, "solveTime": solve_ms })
            }
        }
    }

    fn solve_ms(&self) -> u64 {
        self.ready_at_ms - self.created_at_ms
    }
}
