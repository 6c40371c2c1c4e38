//! A client's connection: kept between its requests, and never shared with another client, because the number of
//! connections is part of the load.

use bytes::Bytes;
use pingora::http::RequestHeader;
use pingora::protocols::Stream;
use tokio::time::{Instant, timeout};

use super::target::Target;
use crate::storm::reply::RequestError;
use crate::upstream::http::{self, ErrorKind, ExchangeError};

/// The response to a request.
pub(super) struct HttpReply {
    /// When the request was first written, after the connection was open.
    pub(super) sent_at: Instant,
    pub(super) status: u16,
    pub(super) body: Bytes,
}

/// A connection that is opened on demand.
#[derive(Default)]
pub(super) struct ClientConnection {
    idle: Option<Stream>,
}

impl ClientConnection {
    /// Sends a request and reads the response within the target's time limit. A GET is sent once more on a new connection
    /// if the kept one died before any response, as HTTP clients do. A form is sent at most once.
    ///
    /// # Errors
    /// If there is no whole response, or its status is not 200.
    pub(super) async fn send(
        &mut self,
        target: &Target,
        request: &RequestHeader,
        form: Option<&Bytes>,
    ) -> Result<HttpReply, RequestError> {
        let attempts = async {
            let idle = self.idle.take();
            let was_kept = idle.is_some();
            match self.exchange(target, idle, request, form).await {
                Err(error) if error.nothing_received && was_kept && form.is_none() => {
                    target.count_reconnect();
                    self.exchange(target, None, request, form).await
                }
                result => result,
            }
        };
        // On timeout the connection is dropped, so that the late response cannot be read as the next one.
        let result = timeout(target.timeout, attempts).await;
        let reply = result.unwrap_or(Err(ErrorKind::Timeout.into())).map_err(|error| error.kind)?;
        if reply.status == 200 { Ok(reply) } else { Err(RequestError::HttpStatus) }
    }

    async fn exchange(
        &mut self,
        target: &Target,
        idle: Option<Stream>,
        request: &RequestHeader,
        form: Option<&Bytes>,
    ) -> Result<HttpReply, ExchangeError> {
        const BODY_BYTES_MAX: usize = 1 << 20;
        let mut session = match idle {
            Some(stream) => http::resume(stream),
            None => target.connect().await?,
        };
        #[expect(clippy::disallowed_methods, reason = "measures a delay, decides nothing")]
        let sent_at = Instant::now();
        let response = http::exchange(&mut session, request.clone(), form.cloned(), BODY_BYTES_MAX).await?;
        let reply = HttpReply { sent_at, status: response.header.status.as_u16(), body: response.body };
        if target.keeps_connections {
            self.idle = http::into_stream(session).await;
        }
        Ok(reply)
    }
}

impl From<ErrorKind> for RequestError {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::Unresolved | ErrorKind::Connect => Self::Connect,
            ErrorKind::Encode | ErrorKind::Write => Self::Write,
            ErrorKind::NoAnswer => Self::NoAnswer,
            ErrorKind::CutOff => Self::CutOff,
            ErrorKind::TooBig => Self::TooBig,
            ErrorKind::Encoding => Self::Unreadable,
            ErrorKind::Timeout => Self::Timeout,
        }
    }
}
