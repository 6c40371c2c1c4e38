//! What is sent upstream. The one place where a raw key is written.

use bytes::Bytes;
use serde_json::{Map, Value as Json, json};

use crate::domain::{Account, Task, TaskRef, Verdict};
use crate::methods::Value;

/// The native endpoints that the gateway uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// Submits a task. Costs money.
    CreateTask,
    /// Asks for a result.
    GetTaskResult,
    /// Asks for the money left.
    GetBalance,
    /// Says how good a result was.
    FeedbackTask,
}

impl Endpoint {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::CreateTask, Self::GetTaskResult, Self::GetBalance, Self::FeedbackTask];

    /// Path on the upstream.
    pub fn path(self) -> &'static str {
        match self {
            Self::CreateTask => "/createTask",
            Self::GetTaskResult => "/getTaskResult",
            Self::GetBalance => "/getBalance",
            Self::FeedbackTask => "/feedbackTask",
        }
    }

    /// Name for metrics and logs.
    pub fn label(self) -> &'static str {
        self.path().trim_start_matches('/')
    }

    /// Whether sending it twice does no harm. Decided by what is called, never by the verb of the client's request: a
    /// legacy submit is a GET.
    pub fn may_be_repeated(self) -> bool {
        matches!(self, Self::GetTaskResult | Self::GetBalance)
    }
}

/// One call, ready to be sent.
///
/// `body` holds a key, so `Debug` does not print it.
#[derive(Clone)]
pub struct Call {
    /// Where to.
    pub endpoint: Endpoint,
    /// JSON.
    pub body: Bytes,
}

impl std::fmt::Debug for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Call").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

impl Call {
    fn new(endpoint: Endpoint, body: &Json) -> Self {
        Self { endpoint, body: Bytes::from(body.to_string()) }
    }
}

/// `createTask`: the row's type, then its fields in the order of the row.
pub fn create_task(account: &Account, task: &Task) -> Call {
    let names = &task.method.task_type;
    let proxied = task.proxy.as_ref().and(names.proxied);
    let name = proxied.or(names.proxyless).or(names.proxied).unwrap_or_default();
    let mut fields = Map::new();
    fields.insert("type".to_owned(), name.into());
    for (path, value) in &task.fields {
        insert(&mut fields, path, json_of(value));
    }
    if let (Some(_), Some(proxy)) = (proxied, &task.proxy) {
        fields.insert("proxy".to_owned(), proxy.as_str().into());
    }
    let mut body = Map::new();
    body.insert("clientKey".to_owned(), account.reveal().into());
    body.insert("task".to_owned(), fields.into());
    let routing = [("selectionMode", &task.routing.selection_mode), ("provider", &task.routing.provider)];
    for (name, text) in routing {
        if let Some(text) = text {
            body.insert(name.to_owned(), text.as_str().into());
        }
    }
    Call::new(Endpoint::CreateTask, &Json::Object(body))
}

/// `getTaskResult`.
pub fn get_task_result(task: &TaskRef) -> Call {
    let body = json!({ "clientKey": task.account.reveal(), "taskId": task.native.to_string() });
    Call::new(Endpoint::GetTaskResult, &body)
}

/// `getBalance`.
pub fn get_balance(account: &Account) -> Call {
    Call::new(Endpoint::GetBalance, &json!({ "clientKey": account.reveal() }))
}

/// `feedbackTask`. `message` is required there; the legacy report has no words of its own.
pub fn feedback_task(task: &TaskRef, verdict: Verdict) -> Call {
    let (invalid, message) = match verdict {
        Verdict::Good => (false, "reported good by the client"),
        Verdict::Bad => (true, "reported bad by the client"),
    };
    let body = json!({
        "clientKey": task.account.reveal(),
        "taskId": task.native.to_string(),
        "result": { "invalid": invalid, "message": message },
    });
    Call::new(Endpoint::FeedbackTask, &body)
}

/// Puts a value at a dotted path, making the records on the way.
fn insert(fields: &mut Map<String, Json>, path: &str, value: Json) {
    match path.split_once('.') {
        None => {
            fields.insert(path.to_owned(), value);
        }
        Some((record, rest)) => {
            let inner = fields.entry(record).or_insert_with(|| Json::Object(Map::new()));
            if let Json::Object(inner) = inner {
                insert(inner, rest, value);
            }
        }
    }
}

fn json_of(value: &Value) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Flag(flag) => Json::Bool(*flag),
        // Digits were checked when they were decoded; a text that is no number after all is sent as a text.
        Value::Number(digits) => serde_json::from_str(digits).unwrap_or_else(|_| digits.as_str().into()),
        Value::Text(text) => text.as_str().into(),
        Value::List(items) => items.iter().map(json_of).collect(),
        Value::Record(members) => members.iter().map(|(name, value)| (name.clone(), json_of(value))).collect(),
    }
}
