//! Serves requests on Pingora's sessions: HTTP/2, and the HTTP/1 requests that [`super::http1`] does not support and
//! hands over byte for byte: chunked and large bodies, HTTP/1.0, HEAD, malformed headers.
//!
//! Most of Pingora's timeouts are infinite or far too long by default, so every wait here has a deadline.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use pingora::http::ResponseHeader;
use pingora::protocols::Stream;
use pingora::protocols::http::ServerSession;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::app::App;
use super::chunked::{ChunkCheck, ChunkedStream, MalformedChunk};
use super::client::Client;
use super::clock::now;
use super::connections::ConnectionGuard;
use super::handler::{AccessRecord, Handler, RefusalReason, RefusedRequest, Rejection, Response};
use super::http1::FREE_RESPONSE_BYTES;
use super::request::{RawHeader, forwarded, is_acceptable, to_inbound, to_version};
use super::shutdown::{Shutdown, with_shutdown_grace};
use crate::http::{Inbound, Step, Verb, Version};
use crate::memory::MemoryCharge;

/// What Pingora's session takes to read a body of HTTP/1: its buffer of 64 KiB, and itself.
const BODY_READER_BYTES: usize = 72 * 1_024;

/// How long a body that is not used is read and discarded, so that a client that writes before it reads can see the
/// response.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a connection stays open after a refusal for which there is no memory to read the body, so that a client that
/// is about to finish a small body can see the response.
const LINGER: Duration = Duration::from_millis(500);

impl<H: Handler> App<H> {
    /// Serves one request of an HTTP/1 connection of which `buffer` was read. Returns the connection with the bytes
    /// that were read beyond the request, unless it is closed.
    pub(super) async fn serve_http1(
        &self,
        stream: Stream,
        buffer: BytesMut,
        charge: &mut MemoryCharge,
        connection: &ConnectionGuard,
        shutdown: &Shutdown,
    ) -> Option<(Stream, BytesMut)> {
        let header = RawHeader::of(&buffer);
        let mut check = ChunkCheck::default();
        let chunks = header.chunks_at.and_then(|at| buffer.get(at..));
        let is_malformed = header.is_malformed || check.check(chunks.unwrap_or_default()).is_err();
        let has_chunks = chunks.is_some();
        let stream = if has_chunks { Box::new(ChunkedStream::new(stream, check)) } else { stream };
        let mut session = ServerSession::new_http1(stream);
        session.set_pipelined_prefix(header.escape_target(&buffer).unwrap_or(buffer));
        if !self.read_header(&mut session, connection.client(), shutdown).await {
            return None;
        }
        let forwarded = connection.proxies().and_then(|proxies| forwarded(&session, proxies));
        let client = connection.client_or(forwarded);
        if is_malformed {
            self.refuse(&mut session, &client, RefusalReason::Malformed).await;
            return None;
        }
        client.charge(charge);
        let session = self.serve_session(session, charge, &client, shutdown).await?;
        let reusable = timeout(self.options.write_timeout, session.finish()).await.ok()?.ok()??;
        let (stream, buffer) = reusable.into_parts();
        let stream = if has_chunks { ChunkedStream::into_inner(stream)? } else { stream };
        Some((stream, buffer.unwrap_or_default()))
    }

    /// Serves the one request of an HTTP/2 stream, whose header was accepted.
    pub(super) async fn serve_http2(
        &self,
        mut session: ServerSession,
        mut charge: MemoryCharge,
        client: Client,
        shutdown: &Shutdown,
    ) {
        if !self.read_header(&mut session, &client, shutdown).await {
            return;
        }
        if let Some(session) = self.serve_session(session, &mut charge, &client, shutdown).await {
            let _ = timeout(self.options.write_timeout, session.finish()).await;
        }
    }

    /// Serves one request whose header was read. Returns its session, unless the session is broken.
    async fn serve_session(
        &self,
        mut session: ServerSession,
        charge: &mut MemoryCharge,
        client: &Client,
        shutdown: &Shutdown,
    ) -> Option<ServerSession> {
        let started = now();
        self.configure(&mut session, shutdown);
        match self.serve_request(&mut session, charge, client, started).await {
            Ok(()) => Some(session),
            // The client is gone or violates the protocol, so there is no response to send.
            Err(error) => {
                tracing::debug!(kind = error.etype().as_str(), "request abandoned");
                // Dropping an HTTP/1 connection closes it. A shutdown would first write to a client that does not read.
                if session.is_http2() {
                    session.shutdown().await;
                }
                None
            }
        }
    }

    /// Reads a complete header. Returns `false` if there is none to serve and the connection has to be closed.
    async fn read_header(&self, session: &mut ServerSession, client: &Client, shutdown: &Shutdown) -> bool {
        session.set_write_timeout(Some(self.options.write_timeout));
        session.set_total_drain_timeout(Some(DRAIN_TIMEOUT));
        let reading = timeout(self.options.header_timeout, session.read_request());
        match with_shutdown_grace(reading, shutdown).await {
            Some(Ok(Ok(true))) if self.is_acceptable(session) => true,
            None | Some(Ok(Ok(false)) | Err(_)) => false,
            // Malformed or ambiguous. Its bytes are neither logged nor returned.
            Some(Ok(Ok(true) | Err(_))) => {
                self.refuse(session, client, RefusalReason::Malformed).await;
                false
            }
        }
    }

    /// Whether a header is served; see [`is_acceptable`].
    pub(super) fn is_acceptable(&self, session: &ServerSession) -> bool {
        is_acceptable(session, |target| self.handler.target_bytes_max(target))
    }

    /// Refuses a request whose header was read, and reports it. The connection has to be closed.
    pub(super) async fn refuse(&self, session: &mut ServerSession, client: &Client, why: RefusalReason) {
        // Not `respond_error`, which names Pingora and lacks our headers.
        session.set_keepalive(None);
        let response = Response::<()> { status: why.status(), ..Response::default() };
        let _ = self.write_in_time(write(session, response, Verb::Other)).await;
        let peer = Some(client.address);
        let version = if session.is_http2() { Version::Http2 } else { Version::Other };
        self.handler.on_refused(RefusedRequest { peer, version, why });
    }

    /// Limits one write. Pingora has a timeout for writing bodies, but none for headers.
    async fn write_in_time(&self, writing: impl Future<Output = pingora::Result<()>>) -> pingora::Result<()> {
        let timed_out = || pingora::Error::explain(pingora::ErrorType::WriteTimedout, "the client does not read");
        timeout(self.options.write_timeout, writing).await.unwrap_or_else(|_| Err(timed_out()))
    }

    /// Sets keep-alive and pipelining, which Pingora leaves to the application for each request.
    fn configure(&self, session: &mut ServerSession, shutdown: &Shutdown) {
        // `Some` means that the client wants keep-alive; the timeout is infinite unless it is set. Pingora prefers
        // `keep-alive` to `close` if a client sends both.
        if session.get_keepalive().is_some() {
            let idle_secs = self.options.idle_timeout.as_secs().max(1);
            let is_last = shutdown.borrow().is_some() || asks_to_close(session);
            session.set_keepalive(if is_last { None } else { Some(idle_secs) });
        }
        session.set_pipelining_enabled(true);
    }

    async fn serve_request(
        &self,
        session: &mut ServerSession,
        charge: &mut MemoryCharge,
        client: &Client,
        started: Instant,
    ) -> pingora::Result<()> {
        let mut request = Inbound { client: client.network(), ..to_inbound(session) };
        let (verb, mut bytes_in) = (request.verb, 0);
        let response = match self.read_body(session, charge, started).await {
            Ok(Ok((body, body_charge))) => {
                bytes_in = body.len();
                request.body = body;
                match self.try_respond(&request, client, now()) {
                    Step::Ready(response) => response,
                    Step::Pending(pending) => self.respond(request, pending, body_charge).await,
                }
            }
            Err(error) => {
                // Broken chunks, or a client that left. Only the former can still read a response.
                if is_malformed_chunk(&error) {
                    self.refuse(session, client, RefusalReason::Malformed).await;
                }
                return Err(error);
            }
            Ok(Err(why)) => {
                session.set_keepalive(None);
                self.handler.reject(&request, why)
            }
        };
        let record = AccessRecord {
            labels: response.labels,
            peer: Some(client.address),
            verb,
            version: to_version(session.req_header().version),
            status: response.status,
            bytes_in,
            bytes_out: response.body.len(),
            duration: started.elapsed(),
        };
        let is_free = response.body.len() <= FREE_RESPONSE_BYTES && !session.is_http2();
        if !is_free && !charge.try_grow(response.body.len()) {
            let why = RefusalReason::Overloaded;
            self.handler.on_refused(RefusedRequest { peer: record.peer, version: record.version, why });
            return Err(pingora::Error::explain(pingora::ErrorType::InternalError, "no memory for the response"));
        }
        let written = self.write_in_time(write(session, response, verb)).await;
        self.handler.on_complete(record);
        written?;
        if !session.is_body_done() {
            if session.is_http2() || charge.bytes() >= BODY_READER_BYTES {
                // Fails only by its timeout or the client, and the connection is closed either way.
                let _ = session.drain_request_body().await;
            } else {
                sleep(LINGER).await;
            }
        }
        Ok(())
    }

    /// Reads the whole body within its options. Returns it with the charge for it.
    async fn read_body(
        &self,
        session: &mut ServerSession,
        charge: &mut MemoryCharge,
        started: Instant,
    ) -> pingora::Result<Result<(Bytes, MemoryCharge), Rejection>> {
        let body_bytes_max = self.options.body_bytes_max;
        if session.is_body_empty() {
            return Ok(Ok((Bytes::new(), charge.split(0))));
        }
        if !session.is_http2() && !charge.try_grow(BODY_READER_BYTES) {
            return Ok(Err(Rejection::Overloaded));
        }
        let announced = session.get_header("content-length").and_then(|text| text.to_str().ok()?.trim().parse().ok());
        if announced.is_some_and(|length: usize| length > body_bytes_max) {
            return Ok(Err(Rejection::BodyTooLarge));
        }
        // curl and .NET wait up to a second for this before they send a larger body.
        let expects = session.get_header_bytes("expect").eq_ignore_ascii_case(b"100-continue");
        if expects && session.req_header().version == pingora::http::Version::HTTP_11 {
            // Pingora closes a connection after a response without a length, even if it is an interim one.
            let keepalive = session.get_keepalive();
            self.write_in_time(session.write_continue_response()).await?;
            session.set_keepalive(keepalive);
        }
        let deadline = started + self.options.body_timeout;
        let (mut body, mut body_charge) = (BytesMut::new(), charge.split(0));
        loop {
            let Ok(read) = timeout_at(deadline, session.read_request_body()).await else {
                return Ok(Err(Rejection::BodyTimeout));
            };
            let Some(chunk) = read? else {
                return Ok(Ok((body.freeze(), body_charge)));
            };
            if body.len() + chunk.len() > body_bytes_max {
                return Ok(Err(Rejection::BodyTooLarge));
            }
            // Returned with the response: until then the body, or what was decoded from it, is in memory.
            let needed = body.len() + chunk.len();
            if needed > body.capacity() {
                let doubled = needed.max(2 * body.capacity());
                let capacity = announced.map_or(doubled, |length| doubled.min(length)).max(needed);
                if !body_charge.try_grow(capacity - body.capacity()) {
                    return Ok(Err(Rejection::Overloaded));
                }
                body.reserve(capacity - body.len());
            }
            body.extend_from_slice(&chunk);
        }
    }
}

/// Whether the header asks to close the connection after the response (RFC 9112, section 9.6).
fn asks_to_close(session: &ServerSession) -> bool {
    let values = session.req_header().headers.get_all("connection").iter();
    let mut options = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    options.any(|option| option.trim_ascii().eq_ignore_ascii_case(b"close"))
}

/// Whether a body could not be read because its chunks are malformed.
fn is_malformed_chunk(error: &pingora::Error) -> bool {
    let cause = error.root_cause().downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    cause.and_then(|cause| cause.downcast_ref::<MalformedChunk>()).is_some()
        || matches!(error.etype().as_str(), "InvalidChunk" | "InvalidTrailerEnd")
}

async fn write<L>(session: &mut ServerSession, response: Response<L>, verb: Verb) -> pingora::Result<()> {
    let mut header = ResponseHeader::build(response.status, Some(response.dynamic_headers.len() + 8))?;
    for (name, value) in response.headers() {
        header.insert_header(name, value)?;
    }
    if response.status != 204 {
        header.insert_header("Content-Length", response.body.len())?;
    }
    session.write_response_header(Box::new(header)).await?;
    // Pingora suppresses the body of a response to HEAD in HTTP/1 only.
    let body = if verb == Verb::Head { Bytes::new() } else { response.body };
    session.write_response_body(body, true).await
}
