//! The application of the legacy listeners: the gateway, with an access line for each request.

use std::sync::Arc;

use async_trait::async_trait;
use prometheus::IntCounterVec;

use crate::domain::Failure;
use crate::gateway::labels::RequestLabels;
use crate::gateway::{Gateway, PendingRequest};
use crate::http::{Inbound, Step, Verb};
use crate::ledger::PollSource;
use crate::legacy::{Reply, Script};
use crate::memory::MemoryCharge;
use crate::server::handler::{
    AccessRecord, Handler, RefusalReason, RefusedRequest, Rejection, Response, TARGET_BYTES_MAX,
};
use crate::telemetry::AccessEntry;
use crate::telemetry::log::AccessLog;
use crate::telemetry::metrics::MetricsRegistry;

/// An application that answers with the gateway.
#[derive(Debug)]
pub struct LegacyApp {
    gateway: Gateway,
    access_log: Option<AccessLog>,
    refused_requests: IntCounterVec,
    rejected_requests: IntCounterVec,
}

impl LegacyApp {
    /// Creates the application. Without an access log, requests are not logged.
    pub fn new(gateway: Gateway, access_log: Option<AccessLog>, registry: &MetricsRegistry) -> Arc<Self> {
        let refused_requests = registry.counters(
            "capgate_refused_requests_total",
            "Requests refused before they could be decoded, by reason: malformed (400), header_too_large (431), \
             overloaded (503).",
            &["reason"],
        );
        for why in RefusalReason::ALL {
            refused_requests.with_label_values(&[why.label()]);
        }
        let rejected_requests = registry.counters(
            "capgate_rejected_requests_total",
            "Requests answered with a refusal by the server, by reason: body_too_large, body_timeout, overloaded (memory), \
             too_many_requests (limits.address_requests_per_second), panicked.",
            &["reason"],
        );
        for why in Rejection::ALL {
            rejected_requests.with_label_values(&[why.label()]);
        }
        Arc::new(Self { gateway, access_log, refused_requests, rejected_requests })
    }
}

#[async_trait]
impl Handler for LegacyApp {
    type Labels = RequestLabels;
    type Pending = PendingRequest;

    fn try_respond(&self, request: &Inbound) -> Step<Response<RequestLabels>, PendingRequest> {
        match self.gateway.try_answer(request) {
            Step::Ready(reply) => Step::Ready(to_response(reply)),
            Step::Pending(pending) => Step::Pending(pending),
        }
    }

    async fn respond(
        &self,
        request: Inbound,
        pending: PendingRequest,
        charge: MemoryCharge,
    ) -> Response<RequestLabels> {
        drop(request);
        to_response(self.gateway.answer(pending, charge).await)
    }

    fn reject(&self, request: &Inbound, why: Rejection) -> Response<RequestLabels> {
        self.rejected_requests.with_label_values(&[why.label()]).inc();
        let failure = match (why, Script::from_path(&request.path)) {
            // Only an image makes a submit that large.
            (Rejection::BodyTooLarge, Some(Script::In)) => Failure::ImageTooBig,
            (Rejection::BodyTimeout, Some(Script::In)) => Failure::Upload,
            (Rejection::Overloaded | Rejection::TooManyRequests, _) => Failure::NotSent,
            (Rejection::Panicked, _) => Failure::Unavailable,
            (Rejection::BodyTooLarge | Rejection::BodyTimeout, _) => Failure::Parameter("body"),
        };
        to_response(self.gateway.refuse(request, failure))
    }

    fn on_complete(&self, record: AccessRecord<RequestLabels>) {
        let Some(access_log) = &self.access_log else { return };
        let AccessRecord { labels, peer, verb, version, status, bytes_in, bytes_out, duration } = record;
        access_log.push(AccessEntry {
            peer,
            verb,
            version,
            script: labels.script_label(),
            action: labels.action.label(),
            method: labels.method,
            outcome: labels.outcome.label(),
            source: labels.source.map(PollSource::label),
            status,
            bytes_in,
            bytes_out,
            micros: u64::try_from(duration.as_micros()).unwrap_or(u64::MAX),
        });
    }

    fn on_refused(&self, refused: RefusedRequest) {
        let RefusedRequest { peer, version, why } = refused;
        self.refused_requests.with_label_values(&[why.label()]).inc();
        let Some(access_log) = &self.access_log else { return };
        access_log.push(AccessEntry {
            peer,
            verb: Verb::Other,
            version,
            script: "none",
            action: "none",
            method: None,
            outcome: why.label(),
            source: None,
            status: why.status(),
            bytes_in: 0,
            bytes_out: 0,
            micros: 0,
        });
    }

    fn target_bytes_max(&self, target: &[u8]) -> usize {
        let path = target.split(|byte| *byte == b'?').next().unwrap_or_default();
        let script = std::str::from_utf8(path).ok().and_then(Script::from_path);
        if script == Some(Script::In) { SUBMIT_TARGET_BYTES_MAX } else { TARGET_BYTES_MAX }
    }
}

/// Longest target on `in.php`: pyLoad's add-on sends a base64 image in the query of a GET, and the client of
/// solvecaptcha.com sends everything in the query of a POST.
const SUBMIT_TARGET_BYTES_MAX: usize = 256 * 1024;

fn to_response((reply, labels): (Reply, RequestLabels)) -> Response<RequestLabels> {
    let Reply { status, content_type, headers, body } = reply;
    Response { status, content_type, static_headers: headers, dynamic_headers: Vec::new(), body, labels }
}
