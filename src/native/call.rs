//! Builds the calls to the upstream. The only file that writes a raw key into a request.

use bytes::Bytes;
use serde_json::{Map, Value as Json, json};

use crate::domain::{Account, NativeId, Task, TaskRef, Verdict};
use crate::methods::Value;

/// The native endpoints that the gateway uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// Submits a task. Costs money.
    CreateTask,
    /// Returns a task's result.
    GetTaskResult,
    /// Returns the account's balance.
    GetBalance,
    /// Reports whether a result was accepted.
    FeedbackTask,
}

impl Endpoint {
    /// All endpoints.
    pub const ALL: [Self; 4] = [Self::CreateTask, Self::GetTaskResult, Self::GetBalance, Self::FeedbackTask];

    /// Returns the path of the URL.
    pub fn path(self) -> &'static str {
        match self {
            Self::CreateTask => "/createTask",
            Self::GetTaskResult => "/getTaskResult",
            Self::GetBalance => "/getBalance",
            Self::FeedbackTask => "/feedbackTask",
        }
    }

    /// Returns the name for metrics and logs.
    pub fn label(self) -> &'static str {
        self.path().trim_start_matches('/')
    }

    /// Whether the call may be sent twice. Depends on the endpoint, never on the HTTP method of the client's request: a
    /// legacy submit may be a GET.
    pub fn is_idempotent(self) -> bool {
        matches!(self, Self::GetTaskResult | Self::GetBalance)
    }
}

/// One call.
///
/// `body` contains a key, so `Debug` omits it.
#[derive(Clone)]
pub struct Call {
    /// Endpoint to call.
    pub endpoint: Endpoint,
    /// JSON body.
    pub body: Bytes,
}

impl std::fmt::Debug for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Call").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

impl Call {
    fn new(endpoint: Endpoint, body: &Json) -> Self {
        // Exact in size, because the call of an image is large and in memory until the upstream answers.
        Self { endpoint, body: Bytes::from(body.to_string().into_boxed_str().into_boxed_bytes()) }
    }
}

/// Builds `createTask`: the row's type, then its fields in the order of the row.
pub fn create_task(account: &Account, task: &Task) -> Call {
    let names = &task.method.task_type;
    let proxied = task.proxy.as_ref().and(names.proxied);
    let name = proxied.or(names.proxyless).or(names.proxied).unwrap_or_default();
    let mut fields = Map::new();
    fields.insert("type".to_owned(), name.into());
    for (path, value) in &task.fields {
        insert(&mut fields, path, to_json(value));
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

/// Builds `getTaskResult`.
pub fn get_task_result(task: &TaskRef) -> Call {
    let body = json!({ "clientKey": task.account.reveal(), "taskId": id_to_json(&task.native) });
    Call::new(Endpoint::GetTaskResult, &body)
}

/// Builds `getBalance`.
pub fn get_balance(account: &Account) -> Call {
    Call::new(Endpoint::GetBalance, &json!({ "clientKey": account.reveal() }))
}

/// Builds `feedbackTask`. `message` is required, but a legacy report has no text, so it is a fixed one.
pub fn feedback_task(task: &TaskRef, verdict: Verdict) -> Call {
    let (invalid, message) = match verdict {
        Verdict::Good => (false, "reported good by the client"),
        Verdict::Bad => (true, "reported bad by the client"),
    };
    let body = json!({
        "clientKey": task.account.reveal(),
        "taskId": id_to_json(&task.native),
        "result": { "invalid": invalid, "message": message },
    });
    Call::new(Endpoint::FeedbackTask, &body)
}

/// Returns an id as the value of a field, in the type in which the upstream sent it.
pub fn id_to_value(native: &NativeId) -> Value {
    match native.as_number() {
        Some(number) => Value::Number(number.to_string()),
        None => Value::Text(native.to_string()),
    }
}

fn id_to_json(native: &NativeId) -> Json {
    to_json(&id_to_value(native))
}

/// Inserts a value at a dotted path. Creates the records on the path.
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

fn to_json(value: &Value) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Flag(flag) => Json::Bool(*flag),
        // Decoding has checked the digits. A text that is not a number is sent as a text.
        Value::Number(digits) => serde_json::from_str(digits).unwrap_or_else(|_| digits.as_str().into()),
        Value::Text(text) => text.as_str().into(),
        Value::List(items) => items.iter().map(to_json).collect(),
        Value::Record(members) => members.iter().map(|(name, value)| (name.clone(), to_json(value))).collect(),
    }
}
