//! Requests over Pingora's sessions: HTTP/2, and whatever of HTTP/1 is out of the ordinary: chunked and large bodies,
//! HTTP/1.0, HEAD, what is malformed. [`super::http1`] hands over what it does not take, byte for byte.
//!
//! Pingora's defaults are infinite or far too large, so every wait here has a deadline of ours.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use pingora::http::{ResponseHeader, Version};
use pingora::protocols::Stream;
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::{H2Options, default_h2_options};
use pingora::server::ShutdownWatch;
use tokio::sync::SemaphorePermit;
use tokio::time::{Instant, timeout, timeout_at};

use super::handler::{App, Handler, Rejection, Response, Told};
use super::listener::unless_told_to_stop;
use super::request::{HEADER_BYTES_MAX, is_acceptable, received, version_label};

/// How long a body that will not be used is read and thrown away, so that a client that writes before it reads gets to
/// see the answer.
const DRAIN: Duration = Duration::from_secs(2);

/// Bounds of an HTTP/2 connection.
pub(super) fn h2_options() -> H2Options {
    let mut options = default_h2_options();
    options.max_header_list_size(u32::try_from(HEADER_BYTES_MAX).unwrap_or(u32::MAX));
    // The default of the h2 crate; written down because it bounds what one connection can make us hold.
    options.max_send_buffer_size(400 * 1024);
    options
}

impl<H: Handler> App<H> {
    /// Serves one request of an HTTP/1 connection of which some bytes were read. Returns the connection with what was
    /// read beyond the request, unless it is closed.
    pub(super) async fn serve_http1(
        &self,
        stream: Stream,
        read: BytesMut,
        shutdown: &ShutdownWatch,
    ) -> Option<(Stream, BytesMut)> {
        let mut session = ServerSession::new_http1(stream);
        session.set_pipelined_prefix(read);
        let session = self.serve_session(session, shutdown).await?;
        let reusable = timeout(self.options.write_timeout, session.finish()).await.ok()?.ok()??;
        let (stream, read) = reusable.into_parts();
        Some((stream, read.unwrap_or_default()))
    }

    /// Serves the one request of an HTTP/2 stream.
    pub(super) async fn serve_http2(&self, session: ServerSession, shutdown: &ShutdownWatch) {
        if let Some(session) = self.serve_session(session, shutdown).await {
            let _ = timeout(self.options.write_timeout, session.finish()).await;
        }
    }

    /// Serves one request. Returns its session, unless that is broken.
    async fn serve_session(&self, mut session: ServerSession, shutdown: &ShutdownWatch) -> Option<ServerSession> {
        if !self.read_header(&mut session, shutdown).await {
            return None;
        }
        #[expect(clippy::disallowed_methods, reason = "measured, not decided by")]
        let began = Instant::now();
        self.set_up(&mut session, shutdown);
        match self.serve(&mut session, began).await {
            Ok(()) => Some(session),
            // The client is gone or breaks the protocol; there is nobody to tell.
            Err(error) => {
                log::debug!(kind = error.etype().as_str(); "request abandoned");
                // Dropping an HTTP/1 connection closes it; shutting it down would first write what nobody takes.
                if session.is_http2() {
                    session.shutdown().await;
                }
                None
            }
        }
    }

    /// Waits for a whole header. `false`: none came, and the connection is to be closed.
    async fn read_header(&self, session: &mut ServerSession, shutdown: &ShutdownWatch) -> bool {
        // Of HTTP/1 it is half here, of HTTP/2 wholly.
        let limit = self.options.header_timeout;
        session.set_write_timeout(Some(self.options.write_timeout));
        session.set_total_drain_timeout(Some(DRAIN));
        match unless_told_to_stop(timeout(limit, session.read_request()), shutdown).await {
            Some(Ok(Ok(true))) => {}
            None | Some(Ok(Ok(false)) | Err(_)) => return false,
            Some(Ok(Err(_))) => {
                // Whatever it was, it was no HTTP. Its bytes are not repeated anywhere.
                self.refuse(session).await;
                return false;
            }
        }
        if is_acceptable(session) {
            return true;
        }
        self.refuse(session).await;
        false
    }

    /// Answers what is not to be served, if the client takes it in time.
    async fn refuse(&self, session: &mut ServerSession) {
        let _ = timeout(self.options.write_timeout, session.respond_error(400)).await;
    }

    /// One write within its time. Pingora bounds the writing of bodies, but not of headers.
    async fn in_time(&self, writing: impl Future<Output = pingora::Result<()>>) -> pingora::Result<()> {
        let timed_out = || pingora::Error::explain(pingora::ErrorType::WriteTimedout, "the client does not read");
        timeout(self.options.write_timeout, writing).await.unwrap_or_else(|_| Err(timed_out()))
    }

    /// What Pingora leaves open for every request.
    fn set_up(&self, session: &mut ServerSession, shutdown: &ShutdownWatch) {
        // `Some` is what the client wants, with an infinite timeout unless we set one.
        if session.get_keepalive().is_some() {
            let idle = self.options.idle_timeout.as_secs().max(1);
            session.set_keepalive(if *shutdown.borrow() { None } else { Some(idle) });
        }
        session.set_pipelining_enabled(true);
    }

    async fn serve(&self, session: &mut ServerSession, began: Instant) -> pingora::Result<()> {
        let mut request = received(session);
        let verb = request.verb.label();
        let version = version_label(session.req_header().version);
        let (response, bytes_in) = match self.read_body(session, began).await? {
            Ok(body) => {
                request.body = body;
                (self.answer(&request).await, request.body.len())
            }
            Err(why) => {
                session.set_keepalive(None);
                (self.handler.refuse(&request, why), 0)
            }
        };
        let told = Told {
            facts: response.facts,
            peer: session.client_addr().and_then(|address| address.as_inet().copied()),
            verb,
            version,
            status: response.status,
            bytes_in,
            bytes_out: response.body.len(),
            took: began.elapsed(),
        };
        let written = self.in_time(write(session, response)).await;
        self.handler.told(told);
        written?;
        if !session.is_body_done() {
            // Fails only by the clock or the client, and the connection is closed either way.
            let _ = session.drain_request_body().await;
        }
        Ok(())
    }

    /// Reads the whole body, within its bounds.
    async fn read_body(
        &self,
        session: &mut ServerSession,
        began: Instant,
    ) -> pingora::Result<Result<Bytes, Rejection>> {
        if session.is_body_empty() {
            return Ok(Ok(Bytes::new()));
        }
        let announced = session.get_header("content-length").and_then(|text| text.to_str().ok()?.trim().parse().ok());
        if announced.is_some_and(|length: usize| length > self.options.body_bytes_max) {
            return Ok(Err(Rejection::BodyTooLarge));
        }
        // curl and .NET wait a second for this before they send a larger body.
        let expects = session.get_header_bytes("expect").eq_ignore_ascii_case(b"100-continue");
        if expects && session.req_header().version == Version::HTTP_11 {
            self.in_time(session.write_continue_response()).await?;
        }
        let deadline = began + self.options.body_timeout;
        let mut body = BytesMut::new();
        // Given back when the body has been read: from then on it is a request like any other, and short-lived.
        let mut held: Option<SemaphorePermit<'_>> = None;
        loop {
            match timeout_at(deadline, session.read_request_body()).await {
                Err(_) => return Ok(Err(Rejection::BodyTimeout)),
                Ok(read) => match read? {
                    None => return Ok(Ok(body.freeze())),
                    Some(chunk) if body.len() + chunk.len() > self.options.body_bytes_max => {
                        return Ok(Err(Rejection::BodyTooLarge));
                    }
                    Some(chunk) => {
                        let bytes = u32::try_from(chunk.len()).unwrap_or(u32::MAX);
                        let Ok(more) = self.options.bodies.try_acquire_many(bytes) else {
                            return Ok(Err(Rejection::Overloaded));
                        };
                        match &mut held {
                            Some(held) => held.merge(more),
                            None => held = Some(more),
                        }
                        body.extend_from_slice(&chunk);
                    }
                },
            }
        }
    }
}

async fn write(session: &mut ServerSession, response: Response) -> pingora::Result<()> {
    let mut header = ResponseHeader::build(response.status, Some(response.headers.len() + 8))?;
    for (name, value) in response.lines() {
        header.insert_header(name, value)?;
    }
    if response.status != 204 {
        header.insert_header("Content-Length", response.body.len())?;
    }
    session.write_response_header(Box::new(header)).await?;
    session.write_response_body(response.body, true).await
}
