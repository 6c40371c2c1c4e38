//! The legacy listeners' handler: the gateway, and an access line per request.

use std::sync::Arc;

use async_trait::async_trait;

use super::app::{Handler, Response, Told, Unserved};
use super::log::ACCESS;
use super::request::Received;
use crate::gateway::{Facts, Gateway};
use crate::legacy::{Reply, Script};
use crate::op::Failure;

/// Answers with the gateway.
#[derive(Debug)]
pub struct LegacyApp {
    gateway: Gateway,
}

impl LegacyApp {
    /// Puts the gateway behind HTTP.
    pub fn new(gateway: Gateway) -> Arc<Self> {
        Arc::new(Self { gateway })
    }
}

#[async_trait]
impl Handler for LegacyApp {
    async fn handle(&self, request: &Received) -> Response {
        response(self.gateway.handle(&request.inbound).await)
    }

    async fn refuse(&self, request: &Received, why: Unserved) -> Response {
        let failure = match (why, Script::of(&request.inbound.path)) {
            // Only an image makes a submit that large.
            (Unserved::TooBig, Some(Script::In)) => Failure::ImageTooBig,
            (Unserved::TooSlow, Some(Script::In)) => Failure::Upload,
            (Unserved::Shed, _) => Failure::Shed,
            (Unserved::Panicked, _) => Failure::Unavailable,
            _ => Failure::Parameter("body"),
        };
        response(self.gateway.refuse(&request.inbound, failure))
    }

    fn written(&self, told: &Told) {
        let Some(facts) = &told.facts else { return };
        log::info!(
            target: ACCESS,
            peer = told.peer.as_str(),
            verb = told.verb,
            http = told.version,
            script = facts.script,
            action = facts.action,
            method = facts.method.unwrap_or("-"),
            outcome = facts.outcome,
            path = facts.path.map_or("-", crate::ledger::Path::label),
            status = u64::from(told.status),
            bytes_in = told.bytes_in as u64,
            bytes_out = told.bytes_out as u64,
            micros = u64::try_from(told.took.as_micros()).unwrap_or(u64::MAX);
            "request"
        );
    }
}

fn response((reply, facts): (Reply, Facts)) -> Response {
    let mut headers: Vec<(&'static str, String)> =
        reply.headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    if let Some(content_type) = reply.content_type {
        headers.push(("Content-Type", content_type.to_owned()));
    }
    Response { status: reply.status, headers, body: reply.body, facts: Some(facts) }
}
