//! The admin listener: metrics and health, apart from the legacy listeners so that neither can be reached through the
//! other's address.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::Bytes;

use crate::budget::Budget;
use crate::clock::Clock;
use crate::ledger::Ledger;

use crate::http::{Inbound, Step, Verb};
use crate::server::handler::{Handler, Rejection, Response};
use crate::server::listener::Connections;
use crate::telemetry::metrics::Metrics;

/// What there is to be told of.
#[derive(Debug)]
pub struct Observed {
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Tasks.
    pub ledger: Ledger,
    /// What may go upstream.
    pub budget: Arc<Budget>,
    /// The time for it.
    pub clock: Clock,
    /// Those of the legacy listeners.
    pub connections: Arc<Connections>,
    /// False while the process drains.
    pub ready: Arc<AtomicBool>,
}

/// Answers `/metrics`, `/livez` and `/readyz`.
#[derive(Debug)]
pub struct AdminApp(Observed);

impl AdminApp {
    /// Tells of these.
    pub fn new(observed: Observed) -> Arc<Self> {
        Arc::new(Self(observed))
    }

    fn metrics(&self) -> Response {
        let Observed { metrics, ledger, budget, clock, connections, .. } = &self.0;
        metrics.stats(ledger.stats());
        metrics.tokens(budget.tokens(clock.now()));
        metrics.connections.set(i64::try_from(connections.open()).unwrap_or(i64::MAX));
        text(200, "text/plain; version=0.0.4; charset=utf-8", Bytes::from(metrics.text()))
    }
}

#[async_trait]
impl Handler for AdminApp {
    type Rest = ();

    fn begin(&self, request: &Inbound) -> Step<Response, ()> {
        Step::Ready(self.answer(request))
    }

    async fn finish(&self, request: &Inbound, (): ()) -> Response {
        self.answer(request)
    }

    fn refuse(&self, _request: &Inbound, _why: Rejection) -> Response {
        text(413, "text/plain; charset=utf-8", Bytes::new())
    }
}

impl AdminApp {
    fn answer(&self, request: &Inbound) -> Response {
        let plain = |status, body: &'static str| text(status, "text/plain; charset=utf-8", body.into());
        match (request.verb, request.path.as_str()) {
            (Verb::Get, "/metrics") => self.metrics(),
            // That this answers at all is what is asked.
            (Verb::Get, "/livez") => plain(200, "live\n"),
            // The upstream's health is left out on purpose: polls are answered from memory without it, and a fleet that
            // turns itself off together with its upstream helps nobody.
            (Verb::Get, "/readyz") if self.0.ready.load(Ordering::Relaxed) => plain(200, "ready\n"),
            (Verb::Get, "/readyz") => plain(503, "draining\n"),
            _ => plain(404, "no such page: /metrics, /livez, /readyz\n"),
        }
    }
}

fn text(status: u16, content_type: &'static str, body: Bytes) -> Response {
    Response { status, content_type: Some(content_type), body, ..Response::default() }
}
