//! The legacy listeners' handler: the gateway, and an access line per request.

use std::sync::Arc;

use async_trait::async_trait;

use crate::domain::Failure;
use crate::gateway::{Gateway, RequestLabels, Rest};
use crate::http::{Inbound, Step};
use crate::legacy::{Reply, Script};
use crate::server::handler::{Handler, Rejection, Response, Told};
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

    fn begin(&self, request: &Inbound) -> Step<Response, Rest> {
        match self.gateway.begin(request) {
            Step::Ready(answer) => Step::Ready(response(answer)),
            Step::Pending(rest) => Step::Pending(rest),
        }
    }

    async fn finish(&self, _request: &Inbound, rest: Rest) -> Response {
        response(self.gateway.finish(rest).await)
    }

    fn refuse(&self, request: &Inbound, why: Rejection) -> Response {
        let failure = match (why, Script::from_path(&request.path)) {
            // Only an image makes a submit that large.
            (Rejection::BodyTooLarge, Some(Script::In)) => Failure::ImageTooBig,
            (Rejection::BodyTimeout, Some(Script::In)) => Failure::Upload,
            (Rejection::Overloaded, _) => Failure::NotSent,
            (Rejection::Panicked, _) => Failure::Unavailable,
            _ => Failure::Parameter("body"),
        };
        response(self.gateway.refuse(request, failure))
    }

    fn told(&self, told: Told) {
        if let Some(access) = &self.access {
            access.told(told);
        }
    }
}

fn response((reply, facts): (Reply, RequestLabels)) -> Response {
    let Reply { status, content_type, headers, body } = reply;
    Response { status, content_type, fixed: headers, headers: Vec::new(), body, facts: Some(facts) }
}
