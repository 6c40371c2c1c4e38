//! The admin listener: metrics and health. Its address differs from those of the legacy listeners, so that a client of
//! these cannot reach it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::Bytes;

use crate::http::{Inbound, Step, Verb};
use crate::memory::MemoryCharge;
use crate::server::handler::{Handler, Rejection, Response};
use crate::telemetry::metrics::MetricsRegistry;

/// An application that answers `/metrics`, `/livez` and `/readyz`.
pub struct AdminApp {
    registry: MetricsRegistry,
    /// False from the start of the shutdown.
    ready: Arc<AtomicBool>,
    trouble: Trouble,
}

/// Returns why submits are refused at present, if they are.
type Trouble = Box<dyn Fn() -> Option<String> + Send + Sync>;

impl fmt::Debug for AdminApp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdminApp").field("ready", &self.ready).finish_non_exhaustive()
    }
}

impl AdminApp {
    /// Creates the application. `ready` is false from the start of the shutdown. `trouble` returns why submits are
    /// refused at present, if they are.
    pub fn new(
        registry: MetricsRegistry,
        ready: Arc<AtomicBool>,
        trouble: impl Fn() -> Option<String> + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self { registry, ready, trouble: Box::new(trouble) })
    }

    fn respond_to(&self, request: &Inbound) -> Response<()> {
        match (request.verb, request.path.as_str()) {
            (Verb::Get, "/metrics") => {
                response(200, "text/plain; version=0.0.4; charset=utf-8", self.registry.render().into())
            }
            // Any response proves that the process is alive.
            (Verb::Get, "/livez") => plain_text(200, "live\n"),
            // Readiness ignores the upstream's health on purpose: polls are answered from memory without it, and a
            // whole fleet that leaves the load balancer with its upstream would make an outage worse.
            (Verb::Get, "/readyz") if self.ready.load(Ordering::Relaxed) => match (self.trouble)() {
                None => plain_text(200, "ready\n"),
                Some(why) => response(503, "text/plain; charset=utf-8", format!("store unavailable: {why}\n").into()),
            },
            (Verb::Get, "/readyz") => plain_text(503, "draining\n"),
            _ => plain_text(404, "no such page: /metrics, /livez, /readyz\n"),
        }
    }
}

#[async_trait]
impl Handler for AdminApp {
    type Labels = ();
    type Pending = ();

    fn try_respond(&self, request: &Inbound) -> Step<Response<()>, ()> {
        Step::Ready(self.respond_to(request))
    }

    async fn respond(&self, request: Inbound, (): (), _charge: MemoryCharge) -> Response<()> {
        self.respond_to(&request)
    }

    fn reject(&self, _request: &Inbound, why: Rejection) -> Response<()> {
        plain_text(why.status(), "")
    }
}

fn plain_text(status: u16, body: &'static str) -> Response<()> {
    response(status, "text/plain; charset=utf-8", body.into())
}

fn response(status: u16, content_type: &'static str, body: Bytes) -> Response<()> {
    Response { status, content_type: Some(content_type), body, ..Response::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rejection_has_a_status_of_its_kind() {
        let app = AdminApp::new(MetricsRegistry::new(), Arc::default(), || None);
        let request = crate::translate::from_url("/in.php", None, "").expect("a request");
        let status = |why| app.reject(&request, why).status;
        let kinds = [Rejection::BodyTooLarge, Rejection::BodyTimeout, Rejection::Overloaded, Rejection::Panicked];
        assert_eq!(kinds.map(status), [413, 408, 503, 500]);
    }
}
