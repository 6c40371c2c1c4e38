//! The endpoints, and the tasks and balances that they share.

use std::collections::{HashMap, VecDeque};

use serde_json::{Map, Value as Json, json};

use super::fields::{check_task, text};
use super::options::Options;
use super::random::{splitmix64, unit_interval, uuid};
use super::reply::{Answer, Refusal};
use super::task::{COST, Status, Task};
use super::triggers::{KeyTrigger, TaskTrigger};

/// Most tasks that are kept.
const TASKS_MAX: usize = 1_000_000;
/// Most keys whose spending is kept.
const KEYS_MAX: usize = 100_000;
/// Initial balance of every key in USD: the figure of uCaptcha's documents.
pub(super) const INITIAL_BALANCE: f64 = 50.25;

/// Tasks and balances.
#[derive(Debug, Default)]
pub(super) struct Service {
    tasks: HashMap<String, Task>,
    /// Ids in order of creation. The oldest task is dropped first.
    order: VecDeque<String>,
    /// Spending by key, in USD.
    spent: HashMap<String, f64>,
    /// Ids issued so far, which a reset of the counters must not repeat.
    issued: u64,
    /// Tasks since the last reset of the counters.
    pub(super) created: u64,
    /// Polls of the most polled task since the last reset of the counters.
    pub(super) polls_per_task_max: u64,
}

impl Service {
    pub(super) fn create_task(
        &mut self,
        options: &Options,
        key: &str,
        request: &Map<String, Json>,
        now_ms: u64,
    ) -> Result<Answer, Refusal> {
        let empty = Map::new();
        let fields = request.get("task").and_then(Json::as_object).unwrap_or(&empty);
        let kind = text(fields, "type");
        check_task(kind, fields)?;
        let key_trigger = KeyTrigger::parse(key);
        if key_trigger == Some(KeyTrigger::ZeroBalance) {
            return Err(Refusal::new(402, "ERROR_ZERO_BALANCE", "no money left"));
        }
        let trigger =
            TaskTrigger::parse(text(fields, "websiteKey")).or_else(|| TaskTrigger::parse(text(fields, "comment")));
        if let Some(refusal) = trigger.and_then(TaskTrigger::refusal) {
            return Err(refusal);
        }
        self.created += 1;
        self.issued += 1;
        let random = splitmix64(options.seed ^ splitmix64(self.issued));
        let solve_ms = match trigger {
            Some(TaskTrigger::SolvedAfter(ms)) => ms,
            _ => options.solve_ms_by_type.get(kind).copied().unwrap_or(options.solve_ms),
        };
        let is_immediate = solve_ms == 0 || key_trigger == Some(KeyTrigger::Lightning);
        let id = uuid(random, splitmix64(random));
        self.insert(
            id.clone(),
            Task {
                key: key.to_owned(),
                kind: kind.to_owned(),
                trigger,
                is_unsolvable: unit_interval(random) >= 1.0 - options.failure_rate,
                created_at_ms: now_ms,
                ready_at_ms: if is_immediate { now_ms } else { now_ms + solve_ms },
                polls: 0,
                is_charged: false,
            },
        );
        match trigger {
            Some(TaskTrigger::SubmitHangs) => return Ok(Answer::Hang(json!({ "errorId": 0, "taskId": id }))),
            Some(TaskTrigger::SubmitHtml) => return Ok(Answer::BadGateway),
            _ => {}
        }
        if !is_immediate {
            return Ok(Answer::Json(json!({ "errorId": 0, "taskId": id, "status": "processing" })));
        }
        let mut result = self.task_result(&id, now_ms);
        if let Json::Object(members) = &mut result {
            members.insert("taskId".to_owned(), id.into());
        }
        Ok(Answer::Json(result))
    }

    pub(super) fn get_task_result(&mut self, key: &str, id: &str, now_ms: u64) -> Result<Answer, Refusal> {
        let task = self.tasks.get_mut(id).filter(|task| task.key == key).ok_or(Refusal::TASK_UNKNOWN)?;
        task.polls += 1;
        self.polls_per_task_max = self.polls_per_task_max.max(task.polls);
        if !task.is_known(now_ms) {
            return Err(Refusal::TASK_UNKNOWN);
        }
        Ok(Answer::Json(self.task_result(id, now_ms)))
    }

    pub(super) fn get_balance(&self, key: &str) -> Answer {
        let is_zero = KeyTrigger::parse(key) == Some(KeyTrigger::ZeroBalance);
        let spent = self.spent.get(key).copied().unwrap_or(0.0);
        let balance = if is_zero { 0.0 } else { INITIAL_BALANCE - spent };
        Answer::Json(json!({ "errorId": 0, "balance": balance }))
    }

    pub(super) fn feedback_task(&self, key: &str, request: &Map<String, Json>) -> Result<Answer, Refusal> {
        if self.tasks.get(text(request, "taskId")).is_none_or(|task| task.key != key) {
            return Err(Refusal::TASK_UNKNOWN);
        }
        let field = |name: &str| request.get("result").and_then(|result| result.get(name));
        if field("invalid").is_some_and(Json::is_boolean) && field("message").is_some_and(Json::is_string) {
            Ok(Answer::Json(json!({ "errorId": 0, "message": "Feedback recorded" })))
        } else {
            Err(Refusal::new(400, "ERROR_BAD_PARAMETERS", "result.invalid and result.message are required"))
        }
    }

    fn insert(&mut self, id: String, task: Task) {
        self.order.push_back(id.clone());
        if self.order.len() > TASKS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.tasks.remove(&oldest);
        }
        self.tasks.insert(id, task);
    }

    /// Returns the result of an existing task. Charges its key once the task is solved.
    fn task_result(&mut self, id: &str, now_ms: u64) -> Json {
        let Some(task) = self.tasks.get_mut(id) else {
            return json!({ "errorId": 0, "status": "processing" });
        };
        let status = task.status(now_ms);
        if matches!(status, Status::Solved) && !task.is_charged {
            task.is_charged = true;
            if self.spent.len() < KEYS_MAX || self.spent.contains_key(&task.key) {
                *self.spent.entry(task.key.clone()).or_insert(0.0) += COST;
            }
        }
        task.to_json(id, &status)
    }
}
