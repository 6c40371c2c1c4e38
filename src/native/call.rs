//! Builds the calls to the upstream. The only file that writes a raw key into a request.

use bytes::Bytes;
use serde_json::{Value as Json, json};

use super::draft::{self, Draft};
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
    /// Account whose key the body contains.
    pub account: Account,
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
    fn new(account: &Account, endpoint: Endpoint, body: &Json) -> Self {
        Self { account: account.clone(), endpoint, body: Bytes::from(body.to_string()) }
    }
}

/// Builds `createTask`: the row's type, then its fields in the order of the row.
pub fn create_task(account: &Account, task: &Task) -> Call {
    draft_create_task(account, task).encode()
}

/// A `createTask` call before it is encoded. Borrows the task, whose image may be large.
#[derive(Debug)]
pub struct DraftCall<'t> {
    account: &'t Account,
    body: Draft<'t>,
    size_bytes: usize,
}

impl DraftCall<'_> {
    /// Returns the size of the encoded call.
    pub fn size_bytes(&self) -> usize {
        self.size_bytes
    }

    /// Encodes the call into a buffer of its exact size.
    pub fn encode(&self) -> Call {
        let mut text = String::with_capacity(self.size_bytes);
        self.body.write(&mut |part| text.push_str(part));
        Call { account: self.account.clone(), endpoint: Endpoint::CreateTask, body: Bytes::from(text) }
    }
}

/// Drafts `createTask`, as [`create_task`].
pub fn draft_create_task<'t>(account: &'t Account, task: &'t Task) -> DraftCall<'t> {
    let names = &task.method.task_type;
    let proxied = task.proxy.as_ref().and(names.proxied);
    let name = proxied.or(names.proxyless).or(names.proxied).unwrap_or_default();
    let mut fields = vec![("type", Draft::Text(name))];
    for (path, value) in &task.fields {
        draft::insert(&mut fields, path, Draft::Value(value));
    }
    if let (Some(_), Some(proxy)) = (proxied, &task.proxy) {
        draft::insert(&mut fields, "proxy", Draft::Text(proxy));
    }
    let mut body = vec![("clientKey", Draft::Text(account.reveal())), ("task", Draft::Record(fields))];
    let routing = [("selectionMode", &task.routing.selection_mode), ("provider", &task.routing.provider)];
    body.extend(routing.into_iter().filter_map(|(name, text)| Some((name, Draft::Text(text.as_deref()?)))));
    let body = Draft::Record(body);
    let mut size_bytes = 0;
    body.write(&mut |part| size_bytes += part.len());
    DraftCall { account, body, size_bytes }
}

/// Builds `getTaskResult`.
pub fn get_task_result(task: &TaskRef) -> Call {
    let body = json!({ "clientKey": task.account.reveal(), "taskId": id_to_json(&task.native) });
    Call::new(&task.account, Endpoint::GetTaskResult, &body)
}

/// Builds `getBalance`.
pub fn get_balance(account: &Account) -> Call {
    Call::new(account, Endpoint::GetBalance, &json!({ "clientKey": account.reveal() }))
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
    Call::new(&task.account, Endpoint::FeedbackTask, &body)
}

/// Returns an id as the value of a field, in the type in which the upstream sent it.
pub fn id_to_value(native: &NativeId) -> Value {
    match native.as_number() {
        Some(number) => Value::Number(number.to_string()),
        None => Value::Text(native.to_string()),
    }
}

fn id_to_json(native: &NativeId) -> Json {
    match native.as_number() {
        Some(number) => number.into(),
        None => native.to_string().into(),
    }
}
