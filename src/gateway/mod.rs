//! The gateway: turns one inbound request into one reply.
//!
//! [`Gateway::try_answer`] decodes a request and answers it if that requires no waiting; [`Gateway::answer`] does the
//! remaining work. Each operation has a file of its own.

mod balance;
mod balance_cache;
mod call_end;
mod group;
mod key_store;
mod keys;
pub mod labels;
mod metrics;
mod operations;
mod poll;
mod report;
mod slots;
mod submit;
pub mod upstream;
mod upstream_client;

use std::sync::Arc;
use std::time::Duration;

use self::balance_cache::BalanceCache;
use self::key_store::KeyStore;
use self::keys::Keys;
use self::labels::{Action, OutcomeLabel, RequestLabels};
use self::metrics::{CallMetrics, RequestMetrics};
use self::operations::Operations;
use self::slots::Slots;
use self::upstream::Upstream;
use self::upstream_client::{Caller, UpstreamClient};
use crate::budget::{Budget, NewKeysOptions};
use crate::clock::Clock;
use crate::domain::{Account, Failure, LegacyId, Op, OpResult, Task, Verdict};
use crate::http::{ClientNetwork, Inbound, Step, Verb};
use crate::ledger::{Ledger, Persistence, PollReply, PollResult, PollSource};
use crate::legacy::{self, Limits, Reply, Script, Style};
use crate::memory::MemoryCharge;
use crate::telemetry::metrics::MetricsRegistry;

/// Options of the gateway. `conf/capgate.toml` contains the defaults and their reasons.
#[derive(Clone, Debug)]
pub struct Options {
    /// Bounds on decoding.
    pub limits: Limits,
    /// How long a client waits for the upstream to accept its submit, before it gets its id anyway.
    pub submit_wait: Duration,
    /// How long a balance is answered from memory, in milliseconds.
    pub balance_ttl_ms: u64,
    /// How long a key is refused without a call after the upstream refused it, in milliseconds.
    pub refused_ttl_ms: u64,
    /// Limits on keys that the upstream has not accepted yet.
    pub new_keys: NewKeysOptions,
}

/// A decoded request whose reply requires waiting.
#[derive(Debug)]
pub struct PendingRequest {
    script: Script,
    style: Style,
    account: Account,
    client: Option<ClientNetwork>,
    work: Work,
}

/// The work that remains after the fast path.
#[derive(Debug)]
enum Work {
    /// Poll a task that the ledger could not answer from memory.
    Poll(LegacyId),
    /// Poll the members of a group.
    PollGroup(Arc<[LegacyId]>),
    /// Poll several ids.
    PollMany(Vec<Result<LegacyId, Failure>>),
    /// Submit one task, or several as a group.
    Submit(Vec<Task>),
    /// Report on a task.
    Report(LegacyId, Verdict),
    /// Fetch the account's balance.
    Balance,
}

/// The gateway. Cheap to clone.
#[derive(Clone)]
pub struct Gateway {
    limits: Arc<Limits>,
    metrics: Arc<RequestMetrics>,
    operations: Operations,
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gateway").field("ledger", &self.operations.ledger).finish_non_exhaustive()
    }
}

impl Gateway {
    /// Creates a gateway over its parts, and registers its metrics.
    pub fn new(
        options: Options,
        ledger: Ledger,
        upstream: Arc<dyn Upstream>,
        budget: Arc<Budget>,
        clock: Clock,
        persistence: Option<&Persistence>,
        registry: &MetricsRegistry,
    ) -> Self {
        let keys = Keys::new(options.refused_ttl_ms);
        let slots = Slots::new(options.new_keys, clock);
        let metrics = CallMetrics::register(registry);
        let key_store = persistence.map(KeyStore::new);
        let upstream = UpstreamClient { upstream, metrics, budget, clock, keys, key_store, slots };
        Self {
            limits: Arc::new(options.limits),
            metrics: Arc::new(RequestMetrics::register(registry)),
            operations: Operations {
                ledger,
                upstream: Arc::new(upstream),
                balances: Arc::new(BalanceCache::new(options.balance_ttl_ms)),
                submit_wait: options.submit_wait,
            },
        }
    }

    /// Restores the keys that the upstream has accepted.
    pub async fn restore_keys(&self) {
        let UpstreamClient { keys, key_store, clock, .. } = &*self.operations.upstream;
        if let Some(key_store) = key_store {
            key_store.restore(keys, clock.now()).await;
        }
    }

    /// Polls the upstream ahead of clients that poll often; see [`Ledger::run_prefetch`]. Never returns.
    pub async fn run_prefetch(self) {
        let ledger = self.operations.ledger.clone();
        ledger.run_prefetch(|task| self.operations.fetch_result(task)).await;
    }

    /// Sends reports again; see [`Ledger::run_reports`]. Never returns.
    pub async fn run_reports(self) {
        let ledger = self.operations.ledger.clone();
        ledger.run_reports(|task, verdict| self.operations.send_report(&task, verdict)).await;
    }

    /// Answers a request. Never fails: every failure has a legacy rendering.
    pub async fn handle(&self, inbound: &Inbound) -> (Reply, RequestLabels) {
        match self.try_answer(inbound) {
            Step::Ready(answer) => answer,
            Step::Pending(request) => self.answer(request, MemoryCharge::unlimited()).await,
        }
    }

    /// Answers a request if that requires no waiting, as for most polls.
    pub fn try_answer(&self, inbound: &Inbound) -> Step<(Reply, RequestLabels), PendingRequest> {
        let Some(script) = route(inbound) else {
            return Step::Ready(self.respond_unroutable(inbound));
        };
        let request = legacy::decode(script, inbound, &self.limits);
        if request.unknown_parameters > 0 {
            self.metrics.count_unknown_parameters(request.unknown_parameters);
        }
        let style = request.style;
        let (account, op) = match request.op {
            Ok(account_and_op) => account_and_op,
            Err(failure) => return Step::Ready(self.render_and_count(script, style, &Err(failure), None, None)),
        };
        let work = match op {
            Op::Poll(id) => match self.operations.ledger.try_answer(&account, id) {
                Some(PollReply::Answer(result, source)) => {
                    let (result, source) = self.count_poll((result, source));
                    return Step::Ready(self.render_and_count(script, style, &result, None, source));
                }
                Some(PollReply::Group(members)) => Work::PollGroup(members),
                None => Work::Poll(id),
            },
            Op::PollMany(ids) => Work::PollMany(ids),
            Op::Submit(tasks) => Work::Submit(tasks),
            Op::Report(id, verdict) => Work::Report(id, verdict),
            Op::Balance => Work::Balance,
            Op::ListErrors => {
                return Step::Ready(self.render_and_count(script, style, &Ok(OpResult::Errors), None, None));
            }
        };
        Step::Pending(PendingRequest { script, style, account, client: inbound.client, work })
    }

    /// Answers a request that [`Gateway::try_answer`] left pending. `charge` is for its body, of which nothing is left
    /// but what was decoded.
    pub async fn answer(&self, request: PendingRequest, charge: MemoryCharge) -> (Reply, RequestLabels) {
        let PendingRequest { script, style, account, client, work } = request;
        let caller = Caller { account: &account, client };
        let operations = &self.operations;
        let method = match &work {
            Work::Submit(tasks) => tasks.first().map(|task| task.method.name),
            _ => None,
        };
        let (result, source) = match work {
            Work::Poll(id) => self.count_poll(operations.poll_unanswered(&account, id).await),
            Work::PollGroup(members) => self.count_poll(operations.poll_group(&account, &members).await),
            Work::PollMany(ids) => (Ok(self.count_polls(operations.poll_many(&account, ids).await)), None),
            Work::Submit(tasks) => (operations.submit(caller, tasks, charge).await.map(OpResult::Submitted), None),
            Work::Report(id, verdict) => {
                (operations.report(caller, id, verdict).await.map(|()| OpResult::Reported), None)
            }
            Work::Balance => (operations.balance(caller).await.map(OpResult::Balance), None),
        };
        self.render_and_count(script, style, &result, method, source)
    }

    /// Renders a refusal of a request whose body was not read, in the style that its query asks for.
    pub fn refuse(&self, inbound: &Inbound, failure: Failure) -> (Reply, RequestLabels) {
        let Some(script) = route(inbound) else {
            return self.respond_unroutable(inbound);
        };
        let style = legacy::decode(script, inbound, &self.limits).style;
        self.render_and_count(script, style, &Err(failure), None, None)
    }

    fn count_poll(&self, polled: (PollResult, PollSource)) -> (Result<OpResult, Failure>, Option<PollSource>) {
        let (result, source) = polled;
        self.metrics.count_poll(source);
        (result.map(OpResult::Polled), Some(source))
    }

    fn count_polls(&self, polled: Vec<(PollResult, Option<PollSource>)>) -> OpResult {
        polled.iter().filter_map(|(_, source)| *source).for_each(|source| self.metrics.count_poll(source));
        OpResult::PolledMany(polled.into_iter().map(|(result, _)| result).collect())
    }

    /// Handles unknown paths, unsupported verbs and CORS preflights.
    fn respond_unroutable(&self, inbound: &Inbound) -> (Reply, RequestLabels) {
        let script = Script::from_path(&inbound.path);
        let (reply, action) = match (script, inbound.verb) {
            (Some(_), Verb::Options) => (legacy::render_preflight(), Action::Preflight),
            (Some(_), _) => (verb_not_allowed(), Action::None),
            (None, _) => (plain_text(404, "no such path\n"), Action::None),
        };
        let labels = RequestLabels { script, action, method: None, outcome: OutcomeLabel::None, source: None };
        self.metrics.count_request(&labels);
        (reply, labels)
    }

    fn render_and_count(
        &self,
        script: Script,
        style: Style,
        result: &Result<OpResult, Failure>,
        method: Option<&'static str>,
        source: Option<PollSource>,
    ) -> (Reply, RequestLabels) {
        let outcome = OutcomeLabel::of(result, style.context);
        let labels =
            RequestLabels { script: Some(script), action: Action::Legacy(style.context), method, outcome, source };
        self.metrics.count_request(&labels);
        (legacy::render(result, style), labels)
    }
}

/// Returns the script that a request calls, if its verb can call one.
fn route(inbound: &Inbound) -> Option<Script> {
    Script::from_path(&inbound.path).filter(|_| matches!(inbound.verb, Verb::Get | Verb::Post))
}

/// Builds a plain reply for a path or a verb that the protocol does not define. Our choice.
fn plain_text(status: u16, body: &'static str) -> Reply {
    Reply { status, content_type: Some("text/plain; charset=utf-8"), headers: &[], body: body.into() }
}

fn verb_not_allowed() -> Reply {
    Reply { headers: &[("Allow", "GET, POST, OPTIONS")], ..plain_text(405, "use GET or POST\n") }
}
