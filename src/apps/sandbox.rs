//! The application of the sandbox's listener: its native API, and its counters.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::Utc;
use serde_json::Value as Json;
use tokio::time::{Instant, sleep};

use crate::http::{Inbound, Step, Verb};
use crate::memory::MemoryCharge;
use crate::sandbox::Sandbox;
use crate::server::handler::{Handler, Rejection, Response};

/// An application that answers with the sandbox.
#[derive(Debug)]
pub struct SandboxApp {
    sandbox: Sandbox,
    origin: Instant,
    in_flight: AtomicUsize,
    in_flight_max: AtomicUsize,
}

impl SandboxApp {
    /// Creates the application.
    pub fn new(sandbox: Sandbox) -> Arc<Self> {
        #[expect(clippy::disallowed_methods, reason = "the origin of the sandbox's clock")]
        let origin = Instant::now();
        Arc::new(Self { sandbox, origin, in_flight: AtomicUsize::new(0), in_flight_max: AtomicUsize::new(0) })
    }

    async fn call(&self, request: &Inbound) -> Response<()> {
        let _in_flight = InFlight::begin(self);
        let now_ms = u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX);
        let reply = self.sandbox.answer(&request.path, &request.body, now_ms);
        if reply.delay_ms > 0 {
            sleep(Duration::from_millis(reply.delay_ms)).await;
        }
        let rate_limit = reply.rate_limit;
        #[expect(clippy::disallowed_methods, reason = "the header holds a Unix time")]
        let reset_at = u64::try_from(Utc::now().timestamp()).unwrap_or(0) + rate_limit.reset_secs;
        Response {
            status: reply.status,
            content_type: Some(reply.content_type),
            dynamic_headers: vec![
                ("X-RateLimit-Limit", rate_limit.limit.to_string()),
                ("X-RateLimit-Remaining", rate_limit.remaining.to_string()),
                ("X-RateLimit-Reset", reset_at.to_string()),
            ],
            body: Bytes::from(reply.body),
            ..Response::default()
        }
    }

    fn counters(&self) -> Json {
        let mut counters = self.sandbox.counters();
        if let Json::Object(members) = &mut counters {
            members.insert("inFlightMax".to_owned(), self.in_flight_max.load(Ordering::Relaxed).into());
        }
        counters
    }
}

/// A call in flight. Ends when dropped, even if its client leaves before the answer.
struct InFlight<'a>(&'a AtomicUsize);

impl<'a> InFlight<'a> {
    fn begin(app: &'a SandboxApp) -> Self {
        let in_flight = app.in_flight.fetch_add(1, Ordering::Relaxed) + 1;
        app.in_flight_max.fetch_max(in_flight, Ordering::Relaxed);
        Self(&app.in_flight)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[async_trait]
impl Handler for SandboxApp {
    type Labels = ();
    type Pending = ();

    fn try_respond(&self, _request: &Inbound) -> Step<Response<()>, ()> {
        Step::Pending(())
    }

    async fn respond(&self, request: Inbound, (): (), _charge: MemoryCharge) -> Response<()> {
        match (request.verb, request.path.as_str()) {
            (Verb::Get, "/sandbox/counters") => json(200, self.counters().to_string()),
            (Verb::Post, "/sandbox/reset") => {
                self.sandbox.reset_counters();
                self.in_flight_max.store(0, Ordering::Relaxed);
                json(200, "{}".to_owned())
            }
            (Verb::Post, _) => self.call(&request).await,
            _ => json(405, "{}".to_owned()),
        }
    }

    fn reject(&self, _request: &Inbound, why: Rejection) -> Response<()> {
        json(why.status(), "{}".to_owned())
    }
}

fn json(status: u16, body: String) -> Response<()> {
    Response { status, content_type: Some("application/json"), body: Bytes::from(body), ..Response::default() }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::sandbox::Options;

    fn app() -> Arc<SandboxApp> {
        SandboxApp::new(Sandbox::new(Options {
            solve_ms: 0,
            solve_ms_by_type: BTreeMap::new(),
            latency_ms: 1_000,
            failure_rate: 0.0,
            seed: 1,
            requests_per_10s: 100,
        }))
    }

    fn request(path: &str) -> Inbound {
        let body = br#"{"clientKey":"K"}"#;
        let request = crate::translate::from_url("/in.php", Some(body), "application/json").expect("a request");
        Inbound { path: path.to_owned(), ..request }
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_whose_client_leaves_is_no_longer_in_flight() {
        let app = app();
        let call = || app.respond(request("/getBalance"), (), MemoryCharge::unlimited());
        for _ in 0..3 {
            let left = tokio::time::timeout(Duration::from_millis(1), call()).await;
            assert!(left.is_err());
        }
        assert_eq!(call().await.status, 200);
        assert_eq!(app.counters()["inFlightMax"], 1);
    }

    #[test]
    fn a_rejection_has_a_status_of_its_kind() {
        let status = |why| app().reject(&request("/"), why).status;
        let kinds = [Rejection::BodyTooLarge, Rejection::BodyTimeout, Rejection::Overloaded, Rejection::Panicked];
        assert_eq!(kinds.map(status), [413, 408, 503, 500]);
    }
}
