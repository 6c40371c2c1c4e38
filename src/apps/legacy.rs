//! The legacy listeners' handler: the gateway, and an access line per request.

use std::sync::Arc;

use async_trait::async_trait;

use crate::domain::Failure;
use crate::gateway::{self, Facts, Gateway, Rest};
use crate::legacy::{Reply, Script};
use crate::server::handler::{Begun, Handler, Response, Told, Unserved};
use crate::server::request::Received;
use crate::telemetry::log::Access;

/// Answers with the gateway.
#[derive(Debug)]
pub struct LegacyApp {
    gateway: Gateway,
    access: Option<Access>,
}

impl LegacyApp {
    /// Puts the gateway behind HTTP, with a line for each request where that is wanted.
    pub fn new(gateway: Gateway, access: Option<Access>) -> Arc<Self> {
        Arc::new(Self { gateway, access })
    }
}

#[async_trait]
impl Handler for LegacyApp {
    type Rest = Rest;

    fn begin(&self, request: &Received) -> Begun<Rest> {
        match self.gateway.begin(&request.inbound) {
            gateway::Begun::Done(reply, facts) => Begun::Done(response((reply, facts))),
            gateway::Begun::Rest(rest) => Begun::Rest(rest),
        }
    }

    async fn finish(&self, _request: &Received, rest: Rest) -> Response {
        response(self.gateway.finish(rest).await)
    }

    fn refuse(&self, request: &Received, why: Unserved) -> Response {
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

    fn told(&self, told: Told) {
        if let Some(access) = &self.access {
            access.told(told);
        }
    }
}

fn response((reply, facts): (Reply, Facts)) -> Response {
    let Reply { status, content_type, headers, body } = reply;
    Response { status, content_type, fixed: headers, headers: Vec::new(), body, facts: Some(facts) }
}
