//! A stand-in for the upstream: the native API as uCaptcha documents it. It solves nothing; every token contains
//! SANDBOX.
//!
//! It serves trials without an account, tests and benchmarks. Sans-I/O: [`Sandbox::answer`] takes the time as an
//! argument and returns a reply with its delay. [`triggers`] lists the keys and site keys that provoke each documented
//! error.

mod endpoints;
mod fields;
mod options;
mod random;
mod rate_limit;
mod reply;
mod solutions;
mod task;
pub mod triggers;

use std::collections::BTreeMap;

use parking_lot::Mutex;
use serde_json::{Map, Value as Json, json};

pub use self::options::Options;
pub(crate) use self::random::{splitmix64, unit_interval};
pub use self::rate_limit::RateLimit;
pub use self::reply::Reply;

use self::endpoints::Service;
use self::fields::text;
use self::rate_limit::Window;
use self::reply::{Answer, Refusal};
use self::triggers::KeyTrigger;

/// Names of the endpoints; each is the path without its slash.
const ENDPOINTS: &[&str] = &["createTask", "getTaskResult", "getBalance", "feedbackTask"];

/// The stand-in upstream.
#[derive(Debug)]
pub struct Sandbox {
    options: Options,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    service: Service,
    window: Window,
    /// Requests by endpoint.
    requests: BTreeMap<&'static str, u64>,
}

impl Sandbox {
    /// Creates a sandbox without tasks.
    pub fn new(options: Options) -> Self {
        Self { options, state: Mutex::default() }
    }

    /// Answers one `POST`. `now_ms` is the time on any monotonic clock.
    pub fn answer(&self, path: &str, body: &[u8], now_ms: u64) -> Reply {
        let mut state = self.state.lock();
        let rate_limit = state.window.count(self.options.requests_per_10s, now_ms);
        let result = state.dispatch(&self.options, path, body, now_ms);
        Reply::new(result, rate_limit, self.options.latency_ms)
    }

    /// Returns the counters as JSON: requests by endpoint, created tasks, and polls of the most polled task.
    pub fn counters(&self) -> Json {
        let state = self.state.lock();
        let mut counters = Map::new();
        for endpoint in ENDPOINTS {
            counters.insert((*endpoint).to_owned(), state.requests.get(endpoint).copied().unwrap_or(0).into());
        }
        counters.insert("tasks".to_owned(), state.service.created.into());
        counters.insert("pollsPerTaskMax".to_owned(), state.service.polls_per_task_max.into());
        Json::Object(counters)
    }

    /// Resets the counters and keeps the tasks.
    pub fn reset_counters(&self) {
        let mut state = self.state.lock();
        state.requests.clear();
        state.service.created = 0;
        state.service.polls_per_task_max = 0;
    }
}

impl State {
    fn dispatch(&mut self, options: &Options, path: &str, body: &[u8], now_ms: u64) -> Result<Answer, Refusal> {
        let Some(endpoint) = ENDPOINTS.iter().find(|endpoint| path.strip_prefix('/') == Some(endpoint)) else {
            return Err(Refusal::new(404, "ERROR_BAD_PARAMETERS", "no such endpoint"));
        };
        *self.requests.entry(endpoint).or_insert(0) += 1;
        if self.window.is_over(options.requests_per_10s) {
            return Err(Refusal::RATE_LIMITED);
        }
        let Ok(Json::Object(request)) = serde_json::from_slice(body) else {
            return Err(Refusal::new(400, "ERROR_BAD_PARAMETERS", "the body is no JSON object"));
        };
        let key = text(&request, "clientKey");
        match KeyTrigger::parse(key) {
            Some(KeyTrigger::Unknown) => return Err(Refusal::KEY_UNKNOWN),
            Some(KeyTrigger::Wrong) => return Err(Refusal::new(401, "ERROR_WRONG_USER_KEY", "the key is malformed")),
            Some(KeyTrigger::RateLimited) => return Err(Refusal::RATE_LIMITED),
            Some(KeyTrigger::Html) => return Ok(Answer::BadGateway),
            Some(KeyTrigger::Hang) => return Ok(Answer::Hang(json!({ "errorId": 0 }))),
            None if key.is_empty() => return Err(Refusal::KEY_UNKNOWN),
            Some(KeyTrigger::ZeroBalance | KeyTrigger::Lightning) | None => {}
        }
        match *endpoint {
            "createTask" => self.service.create_task(options, key, &request, now_ms),
            "getTaskResult" => self.service.get_task_result(key, text(&request, "taskId"), now_ms),
            "getBalance" => Ok(self.service.get_balance(key)),
            _ => self.service.feedback_task(key, &request),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::endpoints::INITIAL_BALANCE;
    use super::task::COST;
    use super::triggers::TaskTrigger;
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

    /// Polls a task of key "k" and returns its status.
    fn poll_status(sandbox: &Sandbox, created: &Json, now_ms: u64) -> Json {
        let request = json!({ "clientKey": "k", "taskId": created["taskId"] });
        post(sandbox, "/getTaskResult", &request, now_ms).1["status"].clone()
    }

    #[test]
    fn a_task_goes_from_idle_to_processing_to_ready_and_is_charged_once() {
        let sandbox = sandbox(1_000, 0.0);
        let (_, created) = create(&sandbox, "k", "s");
        let status = |now_ms| poll_status(&sandbox, &created, now_ms);
        assert_eq!(
            [status(1_000), status(1_500), status(2_000), status(3_000)],
            ["idle", "processing", "ready", "ready"]
        );
        let (_, balance) = post(&sandbox, "/getBalance", &json!({ "clientKey": "k" }), 3_000);
        assert_eq!(balance["balance"], json!(INITIAL_BALANCE - COST));
        let (status, other) =
            post(&sandbox, "/getTaskResult", &json!({ "clientKey": "other", "taskId": created["taskId"] }), 3_000);
        assert_eq!((status, other["errorCode"].as_str()), (404, Some("ERROR_WRONG_CAPTCHA_ID")));
        assert_eq!(sandbox.counters()["pollsPerTaskMax"], 4);
    }

    #[test]
    fn a_site_key_sets_the_solve_time() {
        let sandbox = sandbox(1_000, 0.0);
        let (_, created) = create(&sandbox, "k", "sandbox-takes-250");
        let status = |now_ms| poll_status(&sandbox, &created, now_ms);
        assert_eq!([status(1_249), status(1_250)], ["processing", "ready"]);
        assert_eq!(create(&sandbox, "k", "sandbox-takes-0").1["status"], "ready");
        for invalid in ["", "+5", "-5", "5s", "3600001"] {
            assert_eq!(TaskTrigger::parse(&format!("sandbox-takes-{invalid}")), None, "{invalid}");
        }
        assert_eq!(TaskTrigger::parse("sandbox-takes-3600000"), Some(TaskTrigger::SolvedAfter(3_600_000)));
    }

    #[test]
    fn a_reset_of_the_counters_keeps_tasks_and_repeats_no_id() {
        let sandbox = sandbox(1_000, 0.0);
        let (_, first) = create(&sandbox, "k", "s");
        sandbox.reset_counters();
        let (_, second) = create(&sandbox, "k", "s");
        assert_ne!(first["taskId"], second["taskId"]);
        assert_eq!(poll_status(&sandbox, &first, 2_000), "ready");
        assert_eq!(sandbox.counters()["tasks"], 1);
    }

    #[test]
    fn images_are_solved_in_create_task_and_the_failure_rate_applies() {
        let image = json!({ "clientKey": "k", "task": { "type": "ImageToTextTask", "body": "AAAA" } });
        let (_, good) = post(&sandbox(1_000, 0.0), "/createTask", &image, 0);
        assert_eq!(good["solution"]["text"], "SANDBOX");
        let (_, bad) = post(&sandbox(1_000, 1.0), "/createTask", &image, 0);
        assert_eq!(bad["errorCode"], "ERROR_CAPTCHA_UNSOLVABLE");
    }

    #[test]
    fn the_rate_limit_is_reported_and_enforced() {
        let sandbox = sandbox(1_000, 0.0);
        let request = json!({ "clientKey": "k" }).to_string();
        let exhausted = RateLimit { limit: 50, remaining: 0, reset_secs: 7 };
        let mut replies = (0..51).map(|_| sandbox.answer("/getBalance", request.as_bytes(), 3_000));
        assert!(replies.by_ref().take(50).all(|reply| reply.status == 200));
        assert_eq!(replies.next().map(|reply| (reply.status, reply.rate_limit)), Some((429, exhausted)));
        assert_eq!(sandbox.answer("/getBalance", request.as_bytes(), 13_000).status, 200);
    }
}
