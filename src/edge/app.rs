//! HTTP for every listener: one request read whole and bounded, one response of known length written.
//!
//! Generic over what answers ([`Handler`]): the legacy scripts, the admin pages, the sandbox. Pingora's defaults are
//! infinite or far too large, so every wait here has a deadline and every size a bound: header, body, idle time, writing,
//! connections.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use pingora::apps::{HttpPersistentSettings, HttpServerApp, ReusedHttpStream};
use pingora::http::{ResponseHeader, Version};
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::{H2Options, default_h2_options};
use pingora::server::ShutdownWatch;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout, timeout_at};

use super::listener::unless_told_to_stop;
use super::request::{HEADER_BYTES_MAX, Received, is_acceptable, received, verb_label, version_label};

/// What answers requests.
#[async_trait]
pub trait Handler: Send + Sync + 'static {
    /// Answers a request that was read whole.
    async fn handle(&self, request: &Received) -> Response;

    /// Answers a request that could not be served. `request.inbound.body` may be empty.
    async fn refuse(&self, request: &Received, why: Unserved) -> Response;

    /// Called once the response is written, with what was told of it: the place for an access line.
    fn written(&self, _told: &Told) {}
}

/// Why a request could not be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unserved {
    /// Its body is larger than allowed.
    TooBig,
    /// Its body did not come in time.
    TooSlow,
    /// Too many bytes of bodies are being read.
    Shed,
    /// Its handler panicked: a bug of ours, which costs this one request and no other.
    Panicked,
}

/// A response.
#[derive(Clone, Debug)]
pub struct Response {
    /// HTTP status.
    pub status: u16,
    /// Headers beyond length, date and the fixed ones.
    pub headers: Vec<(&'static str, String)>,
    /// Body.
    pub body: Bytes,
    /// What the handler wants to know again in [`Handler::written`].
    pub facts: Option<crate::gateway::Facts>,
}

/// What became of a request, for the log.
#[derive(Debug)]
pub struct Told {
    /// The handler's own.
    pub facts: Option<crate::gateway::Facts>,
    /// Address of the client's socket.
    pub peer: String,
    /// `GET` and so on, from a closed set.
    pub verb: &'static str,
    /// `1.0`, `1.1` or `2`.
    pub version: &'static str,
    /// HTTP status.
    pub status: u16,
    /// Bytes of the request's body.
    pub bytes_in: usize,
    /// Bytes of the response's body.
    pub bytes_out: usize,
    /// From the whole header to the written response.
    pub took: Duration,
}

/// Bounds of one listener.
#[derive(Clone, Debug)]
pub struct Options {
    /// Most bytes of a body.
    pub body_bytes_max: usize,
    /// From the first wait for a request on a new connection to its whole header.
    pub header_timeout: Duration,
    /// From the header to the whole body.
    pub body_timeout: Duration,
    /// For one write to make progress.
    pub write_timeout: Duration,
    /// For which a connection may stay unused between requests, the header of the next one included.
    pub idle_timeout: Duration,
    /// Most connections at once.
    pub connections_max: usize,
    /// Most bytes of bodies at once, of all connections that share it.
    pub bodies: Arc<Semaphore>,
}

/// The HTTP application of one listener.
pub(super) struct App<H> {
    handler: Arc<H>,
    options: Options,
}

impl<H> App<H> {
    pub(super) fn new(handler: Arc<H>, options: Options) -> Self {
        Self { handler, options }
    }
}

/// Marks a connection on which a request was served before.
struct Served;

/// How long a body that will not be used is read and thrown away, so that a client that writes before it reads gets to
/// see the answer.
const DRAIN: Duration = Duration::from_secs(2);

#[async_trait]
impl<H: Handler> HttpServerApp for App<H> {
    async fn process_new_http(
        self: &Arc<Self>,
        mut session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        if !self.read_header(&mut session, shutdown).await {
            return None;
        }
        #[expect(clippy::disallowed_methods, reason = "measured, not decided by")]
        let began = Instant::now();
        self.set_up(&mut session, shutdown);
        let told = match self.serve(&mut session, began).await {
            Ok(told) => told,
            // The client is gone or breaks the protocol; there is nobody to tell.
            Err(error) => {
                log::debug!(kind = error.etype().as_str(); "request abandoned");
                // Dropping an HTTP/1 connection closes it; shutting it down would first write what nobody takes.
                if session.is_http2() {
                    session.shutdown().await;
                }
                return None;
            }
        };
        self.handler.written(&told);
        let mut settings = HttpPersistentSettings::for_session(&session);
        settings.set_user_context(Box::new(Served));
        let stream = timeout(self.options.write_timeout, session.finish()).await.ok()?.ok()??;
        Some(ReusedHttpStream::from_reusable_stream(stream, settings))
    }

    fn h2_options(&self) -> Option<H2Options> {
        let mut options = default_h2_options();
        options.max_header_list_size(u32::try_from(HEADER_BYTES_MAX).unwrap_or(u32::MAX));
        // The default of the h2 crate; written down because it bounds what one connection can make us hold.
        options.max_send_buffer_size(400 * 1024);
        Some(options)
    }
}

impl<H: Handler> App<H> {
    /// Waits for a whole header. `false`: none came, and the connection is to be closed.
    async fn read_header(&self, session: &mut ServerSession, shutdown: &ShutdownWatch) -> bool {
        let is_reused = session.take_connection_user_context().is_some();
        let limit = if is_reused { self.options.idle_timeout } else { self.options.header_timeout };
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

    async fn serve(&self, session: &mut ServerSession, began: Instant) -> pingora::Result<Told> {
        let mut request = received(session);
        let verb = verb_label(session);
        let version = version_label(session.req_header().version);
        let (response, bytes_in) = match self.read_body(session, began).await? {
            Ok(body) => {
                request.inbound.body = body;
                let bytes_in = request.inbound.body.len();
                let handled = unless_panicking(self.handler.handle(&request)).await;
                let response = match handled {
                    Some(response) => response,
                    None => self.handler.refuse(&request, Unserved::Panicked).await,
                };
                (response, bytes_in)
            }
            Err(why) => {
                session.set_keepalive(None);
                (self.handler.refuse(&request, why).await, 0)
            }
        };
        let told = Told {
            facts: response.facts,
            peer: request.peer,
            verb,
            version,
            status: response.status,
            bytes_in,
            bytes_out: response.body.len(),
            took: began.elapsed(),
        };
        self.in_time(write(session, response)).await?;
        if !session.is_body_done() {
            // Fails only by the clock or the client, and the connection is closed either way.
            let _ = session.drain_request_body().await;
        }
        Ok(told)
    }

    /// Reads the whole body, within its bounds.
    async fn read_body(&self, session: &mut ServerSession, began: Instant) -> pingora::Result<Result<Bytes, Unserved>> {
        if session.is_body_empty() {
            return Ok(Ok(Bytes::new()));
        }
        let announced = session.get_header("content-length").and_then(|text| text.to_str().ok()?.trim().parse().ok());
        if announced.is_some_and(|length: usize| length > self.options.body_bytes_max) {
            return Ok(Err(Unserved::TooBig));
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
                Err(_) => return Ok(Err(Unserved::TooSlow)),
                Ok(read) => match read? {
                    None => return Ok(Ok(body.freeze())),
                    Some(chunk) if body.len() + chunk.len() > self.options.body_bytes_max => {
                        return Ok(Err(Unserved::TooBig));
                    }
                    Some(chunk) => {
                        let bytes = u32::try_from(chunk.len()).unwrap_or(u32::MAX);
                        let Ok(more) = self.options.bodies.try_acquire_many(bytes) else {
                            return Ok(Err(Unserved::Shed));
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

/// What a future brings, or nothing if it panics. The panic hook has written it down by then.
async fn unless_panicking<T>(mut future: Pin<Box<dyn Future<Output = T> + Send + '_>>) -> Option<T> {
    // Nothing that the future has borrowed is used again but through locks that survive a panic.
    let poll = |context: &mut Context<'_>| {
        let polled = std::panic::catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context)));
        polled.map_or(Poll::Ready(None), |polled| polled.map(Some))
    };
    std::future::poll_fn(poll).await
}

async fn write(session: &mut ServerSession, response: Response) -> pingora::Result<()> {
    let mut header = ResponseHeader::build(response.status, Some(response.headers.len() + 4))?;
    for (name, value) in response.headers {
        header.insert_header(name, value)?;
    }
    // Answers hold what was paid for, and the address of a request holds the key: no cache, no history, no referrer.
    header.insert_header("Cache-Control", "no-store")?;
    header.insert_header("Referrer-Policy", "no-referrer")?;
    header.insert_header("X-Content-Type-Options", "nosniff")?;
    if response.status != 204 {
        header.insert_header("Content-Length", response.body.len())?;
    }
    session.write_response_header(Box::new(header)).await?;
    session.write_response_body(response.body, true).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::watch;

    /// Panics for one path, and answers for every other.
    struct Fragile;

    #[async_trait]
    impl Handler for Fragile {
        async fn handle(&self, request: &Received) -> Response {
            tokio::task::yield_now().await;
            assert_ne!(request.inbound.path, "/panic");
            Response { status: 200, headers: Vec::new(), body: Bytes::from_static(b"fine"), facts: None }
        }

        async fn refuse(&self, _request: &Received, why: Unserved) -> Response {
            assert_eq!(why, Unserved::Panicked);
            Response { status: 200, headers: Vec::new(), body: Bytes::from_static(b"sorry"), facts: None }
        }
    }

    #[tokio::test]
    async fn a_panic_costs_one_request_and_not_its_connection() {
        let second = Duration::from_secs(1);
        let options = Options {
            body_bytes_max: 100,
            header_timeout: second,
            body_timeout: second,
            write_timeout: second,
            idle_timeout: second,
            connections_max: 1,
            bodies: Arc::new(Semaphore::new(100)),
        };
        let app = Arc::new(App::new(Arc::new(Fragile), options));
        let (mut client, server) = tokio::io::duplex(4_096);
        let two = "GET /panic HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        client.write_all(two.as_bytes()).await.expect("written");
        let (_keep, shutdown) = watch::channel(false);
        let mut next = app.process_new_http(ServerSession::new_http1(Box::new(server)), &shutdown).await;
        while let Some((stream, settings)) = next.map(ReusedHttpStream::consume) {
            let mut session = ServerSession::new_http1(stream);
            settings.expect("settings").apply_to_session(&mut session);
            next = app.process_new_http(session, &shutdown).await;
        }
        let mut said = String::new();
        client.read_to_string(&mut said).await.expect("answers");
        assert!(said.contains("sorry") && said.ends_with("fine"), "{said}");
    }
}
