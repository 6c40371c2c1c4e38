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
        let in_flight = self.in_flight.fetch_add(1, Ordering::Relaxed) + 1;
        self.in_flight_max.fetch_max(in_flight, Ordering::Relaxed);
        let now_ms = u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX);
        let reply = self.sandbox.answer(&request.path, &request.body, now_ms);
        if reply.delay_ms > 0 {
            sleep(Duration::from_millis(reply.delay_ms)).await;
        }
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
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

#[async_trait]
impl Handler for SandboxApp {
    type Labels = ();
    type Pending = ();

    fn try_respond(&self, _request: &Inbound) -> Step<Response<()>, ()> {
        Step::Pending(())
    }

    async fn respond(&self, request: Inbound, (): ()) -> Response<()> {
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

    fn reject(&self, _request: &Inbound, _why: Rejection) -> Response<()> {
        json(413, "{}".to_owned())
    }
}

fn json(status: u16, body: String) -> Response<()> {
    Response { status, content_type: Some("application/json"), body: Bytes::from(body), ..Response::default() }
}
