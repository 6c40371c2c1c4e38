//! The gateway that a transcript is played against: in process with virtual time, or the capgate process.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use capgate::budget::Budget;
use capgate::clock::Clock;
use capgate::config::Config;
use capgate::gateway::Gateway;
use capgate::http::{Inbound, Verb};
use capgate::ledger::{Ledger, Persistence};
use capgate::methods;
use capgate::store::Store;
use capgate::store::session::IdSequence;
use capgate::store::snapshot::UnixOrigin;
use capgate::telemetry::metrics::MetricsRegistry;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::http::{self, Response};
use super::process::Process;
use super::scripted_upstream::{InProcessUpstream, UpstreamCall, UpstreamServer};

/// Unix time at the start of each gateway with a store.
const UNIX_MS: u64 = 1_700_000_000_000;

pub(crate) enum TestGateway {
    InProcess { gateway: Box<Gateway>, ledger: Ledger },
    Process(Box<Process>),
}

impl TestGateway {
    /// Builds a gateway in this process. Returns it and the calls of its upstream.
    pub(crate) fn in_process(environment: Vec<(String, String)>) -> (Self, mpsc::UnboundedReceiver<UpstreamCall>) {
        Self::in_process_with_store(environment, None)
    }

    /// Builds a gateway over a store. The test restores its ledger.
    pub(crate) fn in_process_with_store(
        environment: Vec<(String, String)>,
        store: Option<Arc<Store>>,
    ) -> (Self, mpsc::UnboundedReceiver<UpstreamCall>) {
        let config = Config::load(None, environment.into_iter()).expect("valid settings");
        let (upstream, calls) = InProcessUpstream::new();
        let clock = Clock::start();
        let persistence = store.map(|store| {
            let origin = UnixOrigin::new(clock.now(), UNIX_MS + clock.now().0);
            // Of each process its own, as if the others had used theirs up.
            let ids = Some(IdSequence { offset: RandomState::new().hash_one(0), block: 0 });
            Persistence { store, methods: methods::Table::default(), origin, ids }
        });
        let ledger = Ledger::new(config.ledger_options(), clock, config.follow_deadline(), persistence.clone());
        let gateway = Gateway::new(
            config.gateway_options(),
            ledger.clone(),
            Arc::new(upstream),
            Budget::new(config.budget_options()),
            clock,
            persistence.as_ref(),
            &MetricsRegistry::new(),
        );
        tokio::spawn(gateway.clone().run_prefetch());
        (Self::InProcess { gateway: Box::new(gateway), ledger }, calls)
    }

    /// Starts the capgate process. Returns it and the calls of its upstream.
    pub(crate) async fn process(
        mut environment: Vec<(String, String)>,
    ) -> (Self, mpsc::UnboundedReceiver<UpstreamCall>) {
        let upstream = UpstreamServer::start().await;
        environment.push(upstream.setting());
        let process = Process::start("run", &environment).await;
        (Self::Process(Box::new(process)), upstream.calls)
    }

    /// Sends a request. The response arrives through the handle.
    pub(crate) fn request(&self, verb: &str, target: &str, content_type: &str, body: Vec<u8>) -> JoinHandle<Response> {
        match self {
            Self::InProcess { gateway, .. } => {
                let (path, query) = target.split_once('?').unwrap_or((target, ""));
                let inbound = Inbound {
                    client: None,
                    verb: Verb::parse(verb),
                    path: path.to_owned(),
                    query: Bytes::copy_from_slice(query.as_bytes()),
                    content_type: Bytes::copy_from_slice(content_type.as_bytes()),
                    body: Bytes::from(body),
                };
                let gateway = gateway.clone();
                tokio::spawn(async move {
                    let (reply, _) = gateway.handle(&inbound).await;
                    let fixed = reply.headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
                    let content_type = reply.content_type.map(|value| ("Content-Type".to_owned(), value.to_owned()));
                    let headers = fixed.chain(content_type).collect();
                    Response { status: reply.status, headers, body: reply.body.to_vec() }
                })
            }
            Self::Process(process) => {
                let (address, verb, target) = (process.http, verb.to_owned(), target.to_owned());
                let content_type = content_type.to_owned();
                tokio::spawn(async move {
                    let headers: &[(&str, &str)] = &[("Content-Type", &content_type)];
                    let headers = if content_type.is_empty() { &[] } else { headers };
                    http::request(address, &verb, &target, headers, &body).await.expect("a response")
                })
            }
        }
    }

    /// Reads a counter of the ledger by its name in transcripts.
    pub(crate) fn counter(&self, name: &str) -> Result<usize, String> {
        let Self::InProcess { ledger, .. } = self else {
            return Err("counters can only be read in process".to_owned());
        };
        let stats = ledger.recount();
        match name {
            "waiting" => Ok(stats.waiting),
            "flights" => Ok(stats.flights),
            "records" => Ok(stats.records),
            other => Err(format!("unknown counter {other}")),
        }
    }

    /// Lets other tasks run. In process this only yields: a sleep would advance the paused clock.
    pub(crate) async fn pause(&self) {
        match self {
            Self::InProcess { .. } => tokio::task::yield_now().await,
            Self::Process(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }

    /// Number of [pauses](Self::pause) after which the gateway counts as idle.
    pub(crate) fn pauses_until_idle(&self) -> usize {
        if matches!(self, Self::InProcess { .. }) { 200 } else { 2 }
    }

    /// Number of [pauses](Self::pause) before an expected event counts as missing.
    pub(crate) fn pauses_max(&self) -> usize {
        if matches!(self, Self::InProcess { .. }) { 2_000 } else { 1_500 }
    }

    /// Stops the process and asserts that it ends with exit code 0.
    pub(crate) async fn stop(&mut self) {
        if let Self::Process(process) = self {
            process.stop().await;
        }
    }
}
