//! A stand-in upstream: the native API as uCaptcha documents it, without solving anything.
//!
//! For trying the gateway without an account, for tests and for benchmarks. Sans-I/O: [`Sandbox::answer`] takes the
//! time as an argument and returns an answer with the delay that it should have; `edge` serves it over HTTP. Every token
//! says SANDBOX. [`triggers`] lists the keys and site keys that bring about each documented error.

mod solutions;
pub mod triggers;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use serde_json::{Map, Value as Json, json};

use self::solutions::solution;
use self::triggers::{KeyTrigger, TaskTrigger};

/// Settings.
#[derive(Clone, Debug)]
pub struct Options {
    /// Time from createTask to ready. Zero: answered inside createTask.
    pub solve_ms: u64,
    /// The same for one native task type.
    pub solve_ms_by_type: BTreeMap<String, u64>,
    /// Delay of every answer.
    pub latency_ms: u64,
    /// Share of tasks that fail, 0 to 1.
    pub failure_rate: f64,
    /// Decides which ones, and the ids.
    pub seed: u64,
    /// Requests per ten seconds before 429.
    pub requests_per_10s: u64,
}

/// An answer of the sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// `Content-Type`.
    pub content_type: &'static str,
    /// `X-RateLimit-Limit`, `-Remaining` and `-Reset` (seconds; the real one is a Unix time, which the caller adds to).
    pub rate: [u64; 3],
    /// Body.
    pub body: String,
    /// How long to wait before it is sent.
    pub delay_ms: u64,
}

/// The stand-in upstream.
#[derive(Debug)]
pub struct Sandbox {
    options: Options,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    tasks: HashMap<String, Task>,
    /// In the order they were made, so that the oldest is dropped first.
    order: VecDeque<String>,
    spent: HashMap<String, f64>,
    created: u64,
    window_began_ms: u64,
    window_requests: u64,
    counters: BTreeMap<&'static str, u64>,
    polls_per_task_max: u64,
}

#[derive(Debug)]
struct Task {
    key: String,
    kind: String,
    trigger: Option<TaskTrigger>,
    fails: bool,
    created_ms: u64,
    ready_ms: u64,
    polls: u64,
    charged: bool,
}

/// Most tasks that are remembered.
const TASKS_MAX: usize = 1_000_000;
/// Most accounts whose spending is remembered.
const ACCOUNTS_MAX: usize = 100_000;
/// How long a task can be polled.
const TASK_TTL_MS: u64 = 60 * 60 * 1000;
/// Length of the rate limit's window (uCaptcha, API overview).
const WINDOW_MS: u64 = 10_000;
/// What every account begins with, in USD: the figure of uCaptcha's documents.
const BALANCE: f64 = 50.25;
/// Price of every task, in USD: likewise.
const COST: f64 = 0.00299;
/// A delay that no client waits for.
const HANG_MS: u64 = 120_000;

/// A refusal: HTTP status, code, description.
type Refusal = (u16, &'static str, &'static str);

impl Sandbox {
    /// An empty sandbox.
    pub fn new(options: Options) -> Self {
        Self { options, state: Mutex::default() }
    }

    /// Answers one `POST`. `now_ms` is any monotonic clock.
    pub fn answer(&self, path: &str, body: &[u8], now_ms: u64) -> Reply {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let rate = state.count_request(self.options.requests_per_10s, now_ms);
        let reply = |status, content_type, body: String, delay_ms| Reply { status, content_type, rate, body, delay_ms };
        let json_reply = |status, body: &Json, delay_ms| reply(status, "application/json", body.to_string(), delay_ms);
        let refusal = |(status, code, description): Refusal| {
            let body = json!({ "errorId": 1, "errorCode": code, "errorDescription": description });
            json_reply(status, &body, self.options.latency_ms)
        };
        let Some(endpoint) = ENDPOINTS.iter().find(|endpoint| path.strip_prefix('/') == Some(endpoint)) else {
            return refusal((404, "ERROR_BAD_PARAMETERS", "no such endpoint"));
        };
        *state.counters.entry(endpoint).or_insert(0) += 1;
        if state.window_requests > self.options.requests_per_10s {
            return refusal((429, "ERROR_TOO_MANY_REQUESTS", "over the rate limit"));
        }
        let Ok(Json::Object(request)) = serde_json::from_slice(body) else {
            return refusal((400, "ERROR_BAD_PARAMETERS", "the body is no JSON object"));
        };
        let key = text(&request, "clientKey").to_owned();
        let trigger = KeyTrigger::of(&key);
        match trigger {
            Some(KeyTrigger::Unknown) => return refusal(KEY_UNKNOWN),
            Some(KeyTrigger::Wrong) => return refusal((401, "ERROR_WRONG_USER_KEY", "the key is malformed")),
            Some(KeyTrigger::RateLimited) => return refusal((429, "ERROR_TOO_MANY_REQUESTS", "over the rate limit")),
            Some(KeyTrigger::Html) => return reply(502, "text/html", "<html>502</html>".to_owned(), 0),
            Some(KeyTrigger::Hang) => return json_reply(200, &json!({ "errorId": 0 }), HANG_MS),
            Some(KeyTrigger::ZeroBalance | KeyTrigger::Lightning) | None if !key.is_empty() => {}
            _ => return refusal(KEY_UNKNOWN),
        }
        let result = match *endpoint {
            "createTask" => state.create(&self.options, key, &request, now_ms),
            "getTaskResult" => state.result(&key, text(&request, "taskId"), now_ms),
            "getBalance" => {
                let spent = state.spent.get(&key).copied().unwrap_or(0.0);
                let money = if trigger == Some(KeyTrigger::ZeroBalance) { 0.0 } else { BALANCE - spent };
                Ok((json!({ "errorId": 0, "balance": money }), 0))
            }
            _ => state.feedback(&key, &request),
        };
        match result {
            Ok((Json::Null, delay_ms)) => reply(502, "text/html", "<html>502</html>".to_owned(), delay_ms),
            Ok((body, delay_ms)) => json_reply(200, &body, delay_ms.max(self.options.latency_ms)),
            Err(said) => refusal(said),
        }
    }

    /// Requests by endpoint, tasks made, and the most polls that any task got.
    pub fn counters(&self) -> Json {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut counters = Map::new();
        for endpoint in ENDPOINTS {
            counters.insert((*endpoint).to_owned(), state.counters.get(endpoint).copied().unwrap_or(0).into());
        }
        counters.insert("tasks".to_owned(), state.created.into());
        counters.insert("pollsPerTaskMax".to_owned(), state.polls_per_task_max.into());
        Json::Object(counters)
    }

    /// Sets the counters to zero; tasks stay.
    pub fn reset_counters(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.counters.clear();
        state.created = 0;
        state.polls_per_task_max = 0;
    }
}

const ENDPOINTS: &[&str] = &["createTask", "getTaskResult", "getBalance", "feedbackTask"];
const KEY_UNKNOWN: Refusal =
    (401, "ERROR_KEY_DOES_NOT_EXIST", "The API key you provided does not exist in our system.");
const TASK_UNKNOWN: Refusal = (404, "ERROR_WRONG_CAPTCHA_ID", "no such task");

impl State {
    /// Counts a request in its window: limit, what remains, and seconds until the window ends.
    fn count_request(&mut self, limit: u64, now_ms: u64) -> [u64; 3] {
        if now_ms.saturating_sub(self.window_began_ms) >= WINDOW_MS {
            self.window_began_ms = now_ms - now_ms % WINDOW_MS;
            self.window_requests = 0;
        }
        self.window_requests += 1;
        let ends_ms = self.window_began_ms + WINDOW_MS;
        let remaining = limit.saturating_sub(self.window_requests);
        [limit, remaining, ends_ms.saturating_sub(now_ms).div_ceil(1000)]
    }

    /// `Ok(Null)` stands for an answer that is no JSON.
    fn create(
        &mut self,
        options: &Options,
        key: String,
        request: &Map<String, Json>,
        now_ms: u64,
    ) -> Result<(Json, u64), Refusal> {
        let empty = Map::new();
        let task = request.get("task").and_then(Json::as_object).unwrap_or(&empty);
        let kind = text(task, "type");
        check(kind, task)?;
        if KeyTrigger::of(&key) == Some(KeyTrigger::ZeroBalance) {
            return Err((402, "ERROR_ZERO_BALANCE", "no money left"));
        }
        let trigger = TaskTrigger::of(text(task, "websiteKey")).or_else(|| TaskTrigger::of(text(task, "comment")));
        if let Some(refusal) = trigger.and_then(TaskTrigger::refusal) {
            return Err(refusal);
        }
        self.created += 1;
        let random = mix(options.seed ^ mix(self.created));
        let solve_ms = match trigger {
            Some(TaskTrigger::Takes(ms)) => ms,
            _ => options.solve_ms_by_type.get(kind).copied().unwrap_or(options.solve_ms),
        };
        let at_once = solve_ms == 0 || KeyTrigger::of(&key) == Some(KeyTrigger::Lightning);
        let task = Task {
            key,
            kind: kind.to_owned(),
            trigger,
            #[expect(clippy::cast_precision_loss, reason = "a share, not a count")]
            fails: (random >> 11) as f64 / (1_u64 << 53) as f64 >= 1.0 - options.failure_rate,
            created_ms: now_ms,
            ready_ms: if at_once { now_ms } else { now_ms + solve_ms },
            polls: 0,
            charged: false,
        };
        let id = uuid(random, mix(random));
        self.order.push_back(id.clone());
        if self.order.len() > TASKS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.tasks.remove(&oldest);
        }
        self.tasks.insert(id.clone(), task);
        match trigger {
            Some(TaskTrigger::SubmitHangs) => return Ok((json!({ "errorId": 0, "taskId": id }), HANG_MS)),
            Some(TaskTrigger::SubmitHtml) => return Ok((Json::Null, 0)),
            _ => {}
        }
        if !at_once {
            return Ok((json!({ "errorId": 0, "taskId": id, "status": "processing" }), 0));
        }
        let mut answer = self.state_of(&id, now_ms);
        if let Json::Object(members) = &mut answer {
            members.insert("taskId".to_owned(), id.into());
        }
        Ok((answer, 0))
    }

    fn result(&mut self, key: &str, id: &str, now_ms: u64) -> Result<(Json, u64), Refusal> {
        let task = self.tasks.get_mut(id).filter(|task| task.key == key).ok_or(TASK_UNKNOWN)?;
        task.polls += 1;
        self.polls_per_task_max = self.polls_per_task_max.max(task.polls);
        if now_ms >= task.created_ms + TASK_TTL_MS || task.trigger == Some(TaskTrigger::Lost) {
            return Err(TASK_UNKNOWN);
        }
        Ok((self.state_of(id, now_ms), 0))
    }

    /// The result of a task that exists.
    fn state_of(&mut self, id: &str, now_ms: u64) -> Json {
        let Some(task) = self.tasks.get_mut(id) else {
            return json!({ "errorId": 0, "status": "processing" });
        };
        let age_ms = now_ms - task.created_ms;
        let solve_ms = task.ready_ms - task.created_ms;
        if now_ms < task.ready_ms || task.trigger == Some(TaskTrigger::Never) {
            // Nobody has taken it in the first tenth of its life.
            let status = if age_ms < solve_ms / 10 { "idle" } else { "processing" };
            return json!({ "errorId": 0, "status": status });
        }
        let failed = task.trigger.and_then(TaskTrigger::failure).or(task.fails.then_some("ERROR_CAPTCHA_UNSOLVABLE"));
        if let Some(code) = failed {
            return json!({
                "errorId": 0, "status": "failed", "errorCode": code,
                "errorDescription": "Provider could not solve the captcha",
            });
        }
        if !task.charged {
            task.charged = true;
            if self.spent.len() < ACCOUNTS_MAX || self.spent.contains_key(&task.key) {
                *self.spent.entry(task.key.clone()).or_insert(0.0) += COST;
            }
        }
        let solution = solution(&task.kind, task.trigger, id);
        json!({ "errorId": 0, "status": "ready", "solution": solution, "cost": COST, "solveTime": solve_ms })
    }

    fn feedback(&self, key: &str, request: &Map<String, Json>) -> Result<(Json, u64), Refusal> {
        if self.tasks.get(text(request, "taskId")).is_none_or(|task| task.key != key) {
            return Err(TASK_UNKNOWN);
        }
        let result = request.get("result");
        let has = |name: &str| result.and_then(|result| result.get(name)).cloned().unwrap_or(Json::Null);
        if has("invalid").is_boolean() && has("message").is_string() {
            Ok((json!({ "errorId": 0, "message": "Feedback recorded" }), 0))
        } else {
            Err((400, "ERROR_BAD_PARAMETERS", "result.invalid and result.message are required"))
        }
    }
}

/// The documented checks of a task's fields.
fn check(kind: &str, task: &Map<String, Json>) -> Result<(), Refusal> {
    let known = ["Task", "TaskProxyless", "Token", "TokenProxyLess"].iter().any(|end| kind.ends_with(end));
    if !known {
        return Err((400, "TASK_NOT_SUPPORTED", "task.type is unknown"));
    }
    // What is looked at or listened to has no page.
    if ["body", "comment", "image"].iter().any(|name| task.contains_key(*name)) && !task.contains_key("websiteURL") {
        return Ok(());
    }
    if task.contains_key("redirectUri") {
        return Ok(());
    }
    if kind == "ImageToTextTask" {
        return Err((400, "ERROR_BAD_PARAMETERS", "body is required"));
    }
    let url = text(task, "websiteURL");
    if !(url.starts_with("http://") || url.starts_with("https://")) {
        return Err((400, "ERROR_PAGEURL", "websiteURL must be fully qualified"));
    }
    if kind.to_ascii_lowercase().contains("recaptcha") && text(task, "websiteKey").is_empty() {
        return Err((400, "ERROR_SITEKEY", "websiteKey is required"));
    }
    let wants_proxy = kind.ends_with("Task") || kind.ends_with("Token");
    if wants_proxy && kind.starts_with("Re") && !text(task, "proxy").contains("://") {
        return Err((400, "ERROR_PROXY_FORMAT", "proxy must be type://user:pass@ip:port"));
    }
    Ok(())
}

fn text<'a>(members: &'a Map<String, Json>, name: &str) -> &'a str {
    members.get(name).and_then(Json::as_str).unwrap_or_default()
}

/// splitmix64: good enough to look random, and the same on every machine.
pub(crate) fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A version 4 UUID made of these bits.
fn uuid(high: u64, low: u64) -> String {
    let variant = (low >> 48) & 0x3fff | 0x8000;
    let (time_low, time_mid, time_high) = (high >> 32, (high >> 16) & 0xffff, high & 0xfff);
    format!("{time_low:08x}-{time_mid:04x}-4{time_high:03x}-{variant:04x}-{:012x}", low & 0xffff_ffff_ffff)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sandbox(solve_ms: u64, failure_rate: f64) -> Sandbox {
        Sandbox::new(Options {
            solve_ms,
            solve_ms_by_type: BTreeMap::from([("ImageToTextTask".to_owned(), 0)]),
            latency_ms: 0,
            failure_rate,
            seed: 7,
            requests_per_10s: 50,
        })
    }

    fn post(sandbox: &Sandbox, path: &str, body: &Json, now_ms: u64) -> (u16, Json) {
        let reply = sandbox.answer(path, body.to_string().as_bytes(), now_ms);
        (reply.status, serde_json::from_str(&reply.body).unwrap_or(Json::Null))
    }

    fn create(sandbox: &Sandbox, key: &str, site_key: &str) -> (u16, Json) {
        let task = json!({ "type": "RecaptchaV2TaskProxyless", "websiteURL": "https://e.com", "websiteKey": site_key });
        post(sandbox, "/createTask", &json!({ "clientKey": key, "task": task }), 1_000)
    }

    #[test]
    fn a_task_goes_from_idle_over_processing_to_ready_and_costs_once() {
        let sandbox = sandbox(1_000, 0.0);
        let (_, created) = create(&sandbox, "k", "s");
        let ask = json!({ "clientKey": "k", "taskId": created["taskId"] });
        let status = |now_ms| post(&sandbox, "/getTaskResult", &ask, now_ms).1["status"].clone();
        assert_eq!(
            [status(1_000), status(1_500), status(2_000), status(3_000)],
            ["idle", "processing", "ready", "ready"]
        );
        let (_, balance) = post(&sandbox, "/getBalance", &json!({ "clientKey": "k" }), 3_000);
        assert_eq!(balance["balance"], json!(BALANCE - COST));
        let (status, stranger) =
            post(&sandbox, "/getTaskResult", &json!({ "clientKey": "other", "taskId": created["taskId"] }), 3_000);
        assert_eq!((status, stranger["errorCode"].as_str()), (404, Some("ERROR_WRONG_CAPTCHA_ID")));
        assert_eq!(sandbox.counters()["pollsPerTaskMax"], 4);
    }

    #[test]
    fn a_site_key_says_how_long_its_task_takes() {
        let sandbox = sandbox(1_000, 0.0);
        let (_, created) = create(&sandbox, "k", "sandbox-takes-250");
        let ask = json!({ "clientKey": "k", "taskId": created["taskId"] });
        let status = |now_ms| post(&sandbox, "/getTaskResult", &ask, now_ms).1["status"].clone();
        assert_eq!([status(1_249), status(1_250)], ["processing", "ready"]);
        assert_eq!(create(&sandbox, "k", "sandbox-takes-0").1["status"], "ready");
        for odd in ["", "+5", "-5", "5s", "3600001"] {
            assert_eq!(TaskTrigger::of(&format!("sandbox-takes-{odd}")), None, "{odd}");
        }
        assert_eq!(TaskTrigger::of("sandbox-takes-3600000"), Some(TaskTrigger::Takes(3_600_000)));
    }

    #[test]
    fn images_are_answered_at_once_and_the_failure_rate_decides() {
        let image = json!({ "clientKey": "k", "task": { "type": "ImageToTextTask", "body": "AAAA" } });
        let (_, good) = post(&sandbox(1_000, 0.0), "/createTask", &image, 0);
        assert_eq!(good["solution"]["text"], "SANDBOX");
        let (_, bad) = post(&sandbox(1_000, 1.0), "/createTask", &image, 0);
        assert_eq!(bad["errorCode"], "ERROR_CAPTCHA_UNSOLVABLE");
    }

    #[test]
    fn the_rate_limit_is_said_and_kept() {
        let sandbox = sandbox(1_000, 0.0);
        let ask = json!({ "clientKey": "k" }).to_string();
        let mut statuses = (0..51).map(|_| sandbox.answer("/getBalance", ask.as_bytes(), 3_000));
        assert!(statuses.by_ref().take(50).all(|reply| reply.status == 200));
        assert_eq!(statuses.next().map(|reply| (reply.status, reply.rate)), Some((429, [50, 0, 7])));
        assert_eq!(sandbox.answer("/getBalance", ask.as_bytes(), 13_000).status, 200);
    }
}
