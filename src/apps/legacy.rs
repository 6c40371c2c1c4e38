//! The application of the legacy listeners: the gateway, with an access line for each request.

use std::sync::Arc;

use async_trait::async_trait;

use crate::domain::Failure;
use crate::gateway::labels::RequestLabels;
use crate::gateway::{Gateway, PendingRequest};
use crate::http::{Inbound, Step};
use crate::ledger::PollSource;
use crate::legacy::{Reply, Script};
use crate::server::handler::{AccessRecord, Handler, Rejection, Response};
use crate::telemetry::AccessEntry;
use crate::telemetry::log::AccessLog;

/// An application that answers with the gateway.
#[derive(Debug)]
pub struct LegacyApp {
    gateway: Gateway,
    access_log: Option<AccessLog>,
}

impl LegacyApp {
    /// Creates the application. Without an access log, requests are not logged.
    pub fn new(gateway: Gateway, access_log: Option<AccessLog>) -> Arc<Self> {
        Arc::new(Self { gateway, access_log })
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

    async fn respond(&self, _request: &Inbound, pending: PendingRequest) -> Response<RequestLabels> {
        to_response(self.gateway.answer(pending).await)
    }

    fn reject(&self, request: &Inbound, why: Rejection) -> Response<RequestLabels> {
        let failure = match (why, Script::from_path(&request.path)) {
            // Only an image makes a submit that large.
            (Rejection::BodyTooLarge, Some(Script::In)) => Failure::ImageTooBig,
            (Rejection::BodyTimeout, Some(Script::In)) => Failure::Upload,
            (Rejection::Overloaded, _) => Failure::NotSent,
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
}

fn to_response((reply, labels): (Reply, RequestLabels)) -> Response<RequestLabels> {
    let Reply { status, content_type, headers, body } = reply;
    Response { status, content_type, static_headers: headers, dynamic_headers: Vec::new(), body, labels }
}
