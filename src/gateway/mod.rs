//! The gateway itself: one inbound request in, one reply out. The only place where all parts meet.

mod balance;
mod group;
mod keys;
mod upstream_client;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use self::balance::Balances;
use self::keys::Keys;
use self::upstream_client::UpstreamClient;
use crate::budget::Budget;
use crate::clock::Clock;
use crate::domain::{Account, CreatedTask, Failure, LegacyId, Op, OpResult, Outcome, Task, TaskRef, Verdict};
use crate::http::{Inbound, Step, Verb};
use crate::ledger::table::PollResult;
use crate::ledger::{Ledger, PollSource};
use crate::legacy::{self, Limits, Reply, ReplyContext, Script, Style};
use crate::native::{Answer, Call, answer, call};
use crate::telemetry::metrics::Metrics;

/// Sends a native call and brings the whole answer. The one seam that tests replace.
///
/// The future borrows nothing, since a flight outlives the request that began it.
pub trait Upstream: Send + Sync + 'static {
    /// Sends one call, at most once unless [`crate::native::Endpoint::is_idempotent`], within a bounded time.
    fn send(&self, call: Call) -> Pin<Box<dyn Future<Output = Result<Answer, SendError>> + Send>>;
}

/// Why no answer came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendError {
    /// Whether any byte of the call may have reached the upstream.
    pub sent: bool,
    /// What happened, as a fixed word for logs and metrics.
    pub what: &'static str,
}

/// What happened to a request, for its line in the access log. Closed sets and numbers: nothing that a client sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestLabels {
    /// `in`, `res`, or `none` for a path that is no script.
    pub script: &'static str,
    /// What was asked for.
    pub action: &'static str,
    /// Row of the method table, on a submit.
    pub method: Option<&'static str>,
    /// `ok`, `not_ready`, or the legacy code.
    pub outcome: &'static str,
    /// How a poll was answered.
    pub path: Option<PollSource>,
}

/// A request that is understood, and waits for something.
#[derive(Debug)]
pub struct Rest {
    script: Script,
    style: Style,
    account: Account,
    op: Op,
}

/// What the gateway itself decides. Defaults and reasons stand in `conf/capgate.toml`.
#[derive(Clone, Debug)]
pub struct Options {
    /// Bounds on what is decoded.
    pub limits: Limits,
    /// How long a submitting client waits for the upstream's word before it is told its id anyway.
    pub submit_wait: Duration,
    /// How long a balance is answered from memory, in milliseconds.
    pub balance_ttl_ms: u64,
    /// How long a key that the upstream refused is refused without asking, in milliseconds.
    pub refused_ttl_ms: u64,
}

/// The gateway. Cheap to clone.
#[derive(Clone)]
pub struct Gateway {
    limits: Arc<Limits>,
    ledger: Ledger,
    outlet: Arc<UpstreamClient>,
    balances: Arc<Balances>,
    metrics: Arc<Metrics>,
    submit_wait: Duration,
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gateway").field("ledger", &self.ledger).finish_non_exhaustive()
    }
}

impl Gateway {
    /// Puts the parts together.
    pub fn new(
        options: Options,
        ledger: Ledger,
        upstream: Arc<dyn Upstream>,
        budget: Arc<Budget>,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> Self {
        let keys = Keys::new(options.refused_ttl_ms);
        Self {
            limits: Arc::new(options.limits),
            ledger,
            outlet: Arc::new(UpstreamClient { upstream, metrics: Arc::clone(&metrics), budget, clock, keys }),
            balances: Arc::new(Balances::new(options.balance_ttl_ms)),
            metrics,
            submit_wait: options.submit_wait,
        }
    }

    /// Asks ahead for tasks that clients ask for often, for ever; see [`Ledger::run_prefetch`].
    pub async fn run_prefetch(self) {
        let ledger = self.ledger.clone();
        ledger.run_prefetch(|task| self.ask_for_result(task)).await;
    }

    /// Answers one request. Never fails: whatever goes wrong has a legacy rendering.
    pub async fn handle(&self, inbound: &Inbound) -> (Reply, RequestLabels) {
        match self.begin(inbound) {
            Step::Ready(answer) => answer,
            Step::Pending(rest) => self.finish(rest).await,
        }
    }

    /// Answers a request, if that needs no waiting: most polls.
    pub fn begin(&self, inbound: &Inbound) -> Step<(Reply, RequestLabels), Rest> {
        let done = Step::Ready;
        let Some(script) = asked_of(inbound) else {
            return done(self.turn_away(inbound));
        };
        let request = legacy::decode(script, inbound, &self.limits);
        if request.unknown_parameters > 0 {
            self.metrics.unknown_parameters.inc_by(request.unknown_parameters as u64);
        }
        let (account, op) = match request.op {
            Ok(meaning) => meaning,
            Err(failure) => return done(self.word(script, &Err(failure), request.style, None, None)),
        };
        if let Op::Poll(id) = op
            && let Some((landing, path)) = self.ledger.try_answer(&account, id)
        {
            self.metrics.poll(path);
            return done(self.word(script, &landing.map(OpResult::Polled), request.style, None, Some(path)));
        }
        Step::Pending(Rest { script, style: request.style, account, op })
    }

    /// Answers what could not be answered at once.
    pub async fn finish(&self, rest: Rest) -> (Reply, RequestLabels) {
        let Rest { script, style, account, op } = rest;
        let method = match &op {
            Op::Submit(tasks) => tasks.first().map(|task| task.method.name),
            _ => None,
        };
        let (result, path) = self.act(&account, op).await;
        self.word(script, &result, style, method, path)
    }

    /// Words a refusal for a request whose body was not even read, in the style that its query asks for.
    pub fn refuse(&self, inbound: &Inbound, failure: Failure) -> (Reply, RequestLabels) {
        let Some(script) = asked_of(inbound) else {
            return self.turn_away(inbound);
        };
        let style = legacy::decode(script, inbound, &self.limits).style;
        self.word(script, &Err(failure), style, None, None)
    }

    /// Answers what asks nothing of a script.
    fn turn_away(&self, inbound: &Inbound) -> (Reply, RequestLabels) {
        let script = Script::from_path(&inbound.path);
        let (reply, action) = match (script, inbound.verb) {
            (Some(_), Verb::Options) => (legacy::render_preflight(), "preflight"),
            (Some(_), _) => (refuse_verb(), "none"),
            (None, _) => (plain(404, "no such path\n"), "none"),
        };
        let script = script.map_or("none", script_label);
        let facts = RequestLabels { script, action, method: None, outcome: "none", path: None };
        self.metrics.request(&facts);
        (reply, facts)
    }

    /// Words a result, and counts it.
    fn word(
        &self,
        script: Script,
        result: &Result<OpResult, Failure>,
        style: Style,
        method: Option<&'static str>,
        path: Option<PollSource>,
    ) -> (Reply, RequestLabels) {
        let outcome = outcome_label(result, style.context);
        let facts =
            RequestLabels { script: script_label(script), action: style.context.label(), method, outcome, path };
        self.metrics.request(&facts);
        (legacy::render(result, style), facts)
    }

    async fn act(&self, account: &Account, op: Op) -> (Result<OpResult, Failure>, Option<PollSource>) {
        match op {
            Op::Submit(tasks) => (self.submit_all(account, tasks).await.map(OpResult::Submitted), None),
            Op::ListErrors => (Ok(OpResult::Errors), None),
            Op::Poll(id) => {
                let (landing, path) = self.poll(account, id).await;
                (landing.map(OpResult::Polled), Some(path))
            }
            Op::PollMany(ids) => (Ok(OpResult::PolledMany(self.poll_many(account, ids).await)), None),
            Op::Report(id, verdict) => (self.report_all(account, id, verdict).await.map(|()| OpResult::Reported), None),
            Op::Balance => (self.balance(account).await.map(OpResult::Balance), None),
        }
    }

    /// Submits once. The call runs in a task of its own: neither a client that leaves nor one that waits too long
    /// changes what becomes of it, and a late answer still finds the record.
    async fn submit(&self, account: &Account, task: Task) -> Result<LegacyId, Failure> {
        let id = self.ledger.open(account, task.method)?;
        if let Some(pingback) = &task.pingback {
            self.ledger.set_pingback(id, pingback.clone());
        }
        match self.create(account, task, id).await {
            Ok(()) => Ok(id),
            Err(refusal) => {
                // Nobody has heard of the id.
                self.ledger.withdraw(id);
                Err(refusal)
            }
        }
    }

    /// Sends the submit of a task that has its record, and notes there what becomes of it.
    async fn create(&self, account: &Account, task: Task, id: LegacyId) -> Result<(), Failure> {
        let (told, hears) = oneshot::channel();
        let call = call::create_task(account, &task);
        let (outlet, ledger, account) = (Arc::clone(&self.outlet), self.ledger.clone(), account.clone());
        #[expect(clippy::disallowed_methods, reason = "a submit outlives the client that asked for it")]
        tokio::spawn(async move {
            let method = task.method;
            let accepted = outlet.ask(&account, call, |answer| answer::parse_created_task(answer, method)).await;
            let refusal = match accepted {
                Ok(CreatedTask { native, outcome: Some(outcome) }) => {
                    ledger.settle(id, native, &outcome);
                    None
                }
                Ok(CreatedTask { native, outcome: None }) => {
                    if let Some(native) = native {
                        ledger.bind(id, native);
                    }
                    None
                }
                // The record stays open, in case the upstream works on it after all, until its own deadline.
                Err(Failure::OutcomeUnknown) => None,
                Err(failure) => {
                    ledger.settle(id, None, &Outcome::Failed(as_final(failure.clone())));
                    Some(failure)
                }
            };
            // A client that no longer listens has its id and will poll.
            let _ = told.send(refusal);
        });
        match tokio::time::timeout(self.submit_wait, hears).await {
            Ok(Ok(Some(refusal))) => Err(refusal),
            Ok(Ok(None) | Err(_)) | Err(_) => Ok(()),
        }
    }

    async fn poll(&self, account: &Account, id: LegacyId) -> (PollResult, PollSource) {
        let polled = match self.ledger.poll(account, id, |task| self.ask_for_result(task)).await {
            Ok(polled) => polled,
            Err(members) => self.poll_group(account, &members).await,
        };
        self.metrics.poll(polled.1);
        polled
    }

    /// All at once, so that the slowest decides how long it takes and not their sum.
    async fn poll_many(&self, account: &Account, ids: Vec<Result<LegacyId, Failure>>) -> Vec<PollResult> {
        let polls = ids.into_iter().map(|id| {
            let (gateway, account) = (self.clone(), account.clone());
            async move {
                match id {
                    Ok(id) => gateway.poll(&account, id).await.0,
                    Err(failure) => Err(failure),
                }
            }
        });
        together(polls).await
    }

    /// Reports once. In a task of its own, so that its end is noted even if the client leaves.
    async fn report(&self, account: &Account, id: LegacyId, verdict: Verdict) -> Result<(), Failure> {
        let Some(task) = self.ledger.begin_report(account, id, verdict)? else {
            return Ok(());
        };
        let call = call::feedback_task(&task, verdict);
        let (outlet, ledger) = (Arc::clone(&self.outlet), self.ledger.clone());
        #[expect(clippy::disallowed_methods, reason = "a report outlives the client that made it")]
        let sent = tokio::spawn(async move {
            let result = outlet.ask(&task.account, call, answer::parse_feedback).await;
            ledger.end_report(id, verdict, &result);
            result
        });
        sent.await.unwrap_or(Err(Failure::OutcomeUnknown))
    }

    /// One flight's question. Owned: it borrows nothing of the gateway or of the client.
    fn ask_for_result(&self, task: TaskRef) -> impl Future<Output = PollResult> + Send + 'static + use<> {
        let outlet = Arc::clone(&self.outlet);
        async move {
            let call = call::get_task_result(&task);
            outlet.ask(&task.account, call, |answer| answer::parse_task_result(answer, task.method)).await
        }
    }
}

/// Runs all of them at once, each in a task of its own, and brings what they bring in their order.
async fn together<T: Send + 'static>(
    futures: impl Iterator<Item = impl Future<Output = T> + Send + 'static>,
) -> Vec<T> {
    #[expect(clippy::disallowed_methods, reason = "as many as a request may name, and awaited below")]
    let tasks: Vec<_> = futures.map(tokio::spawn).collect();
    let mut results = Vec::with_capacity(tasks.len());
    for task in tasks {
        match task.await {
            Ok(result) => results.push(result),
            // The panic of one is the panic of the request, as if it had been awaited in place.
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
    results
}

/// How a refused submit reads when it is polled after all: trouble would read as not ready for ever.
fn as_final(failure: Failure) -> Failure {
    match failure {
        Failure::NotSent | Failure::Unavailable | Failure::OutcomeUnknown => Failure::Unsolvable,
        said => said,
    }
}

fn outcome_label(result: &Result<OpResult, Failure>, place: ReplyContext) -> &'static str {
    match result {
        Ok(OpResult::Polled(Outcome::NotReady)) => "not_ready",
        Ok(OpResult::Polled(Outcome::Failed(failure))) | Err(failure) => legacy::codes::label(failure, place),
        Ok(_) => "ok",
    }
}

/// The script that is asked, if the path names one and the verb asks.
fn asked_of(inbound: &Inbound) -> Option<Script> {
    Script::from_path(&inbound.path).filter(|_| matches!(inbound.verb, Verb::Get | Verb::Post))
}

fn script_label(script: Script) -> &'static str {
    match script {
        Script::In => "in",
        Script::Res => "res",
    }
}

/// Our choice for what the protocol has no words for: a path or a verb that no client of it uses.
fn plain(status: u16, body: &'static str) -> Reply {
    Reply { status, content_type: Some("text/plain; charset=utf-8"), headers: &[], body: body.into() }
}

fn refuse_verb() -> Reply {
    Reply { headers: &[("Allow", "GET, POST, OPTIONS")], ..plain(405, "use GET or POST\n") }
}
