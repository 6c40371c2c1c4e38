//! The fast path for HTTP/1.1 as nearly all clients speak it: a request that is completely in memory, with a body of
//! known length, is answered with one write. Every other request goes to [`super::session`], byte for byte as it
//! arrived.
//!
//! A poll from memory sets no timer and spawns no task. An idle connection keeps at most a kilobyte of buffers.

mod deadline_timer;
mod encode;
mod parse;

use std::io;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use pingora::protocols::Stream;
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};
use tokio::time::timeout;

use self::deadline_timer::DeadlineTimer;
use self::encode::encode;
use self::parse::{Parsed, parse, target_start};
use super::app::App;
use super::client::Client;
use super::clock::now;
use super::connections::ConnectionGuard;
use super::handler::{AccessRecord, Handler, RefusalReason, RefusedRequest, Response};
use super::request::HEADER_BYTES_MAX;
use super::shutdown::{Shutdown, shutdown_requested};
use crate::http::{Inbound, Step, Version};
use crate::memory::MemoryCharge;

/// Bytes of one read.
const READ_BYTES: usize = 4_096;
/// Requests after which a connection whose client sends faster than it is served lets others run.
const REQUESTS_IN_A_ROW: u32 = 4;
/// Largest response that is not charged: every connection may have as much.
pub(super) const FREE_RESPONSE_BYTES: usize = 4_096;
/// Largest buffer that an idle connection keeps.
const IDLE_BUFFER_BYTES_MAX: usize = 1_024;

/// The next step for a connection.
pub(super) enum Next {
    /// Close it.
    Close,
    /// Serve the request that begins in the buffer with Pingora's session.
    Session,
    /// Serve it as HTTP/2 with prior knowledge; the buffer holds the beginning of the preface.
    Http2,
}

/// Serves requests until one arrives that the fast path does not support. `buffer` holds the bytes that were read and
/// not served yet, `request_timeout` limits the wait for the first request, and only a connection that `is_new` may
/// turn out to speak HTTP/2.
#[expect(clippy::too_many_arguments, reason = "the state of one connection, which its owner keeps between calls")]
pub(super) async fn serve<H: Handler>(
    app: &App<H>,
    stream: &mut Stream,
    buffer: &mut BytesMut,
    charge: &mut MemoryCharge,
    connection: &ConnectionGuard,
    shutdown: &Shutdown,
    request_timeout: Duration,
    is_new: bool,
) -> Next {
    let mut deadline = now() + request_timeout;
    let mut timer = DeadlineTimer::new(deadline);
    let mut shutdown_requested = pin!(shutdown_requested(shutdown));
    let mut is_shutting_down = false;
    let proxies = connection.proxies();
    let mut out = Vec::new();
    let mut may_be_http2 = is_new;
    let mut may_be_complete = true;
    let mut requests_in_a_row = 0;
    loop {
        let parsed = if may_be_complete {
            parse(buffer, app.options.body_bytes_max, proxies, |target| app.handler.target_bytes_max(target))
        } else {
            Parsed::Partial
        };
        let request = match parsed {
            Parsed::Complete(request) => request,
            Parsed::Http2 if may_be_http2 => return Next::Http2,
            Parsed::Unsupported | Parsed::Http2 => return Next::Session,
            Parsed::Partial => {
                if let Some(why) = refusal(app, buffer, charge) {
                    return refuse(app, stream, connection, why).await;
                }
                let event = std::future::poll_fn(|context| {
                    if let Poll::Ready(result) = poll_read(stream, buffer, context) {
                        return Poll::Ready(WaitEvent::Read(result));
                    }
                    requests_in_a_row = 0;
                    if timer.is_armed(deadline, context) && (is_shutting_down || shutdown.borrow().is_none()) {
                        return Poll::Pending;
                    }
                    if !is_shutting_down && let Poll::Ready(grace) = shutdown_requested.as_mut().poll(context) {
                        is_shutting_down = true;
                        deadline = deadline.min(now() + grace);
                    }
                    timer.poll(deadline, context).map(|()| WaitEvent::Deadline)
                });
                match event.await {
                    WaitEvent::Read(Ok(0) | Err(_)) | WaitEvent::Deadline => return Next::Close,
                    WaitEvent::Read(Ok(bytes)) => {
                        // Only a line end can complete a header, and a header that arrives in small pieces must not be
                        // parsed for each of them.
                        let arrived = buffer.get(buffer.len() - bytes..).unwrap_or_default();
                        may_be_complete = buffer.len() == bytes || memchr::memchr(b'\n', arrived).is_some();
                        continue;
                    }
                }
            }
        };
        (may_be_http2, may_be_complete) = (false, true);
        let started = now();
        // Behind a proxy, each request may have a different client.
        let forwarded = request.forwarded.map(|address| connection.client_or(Some(address)));
        let client = forwarded.as_ref().unwrap_or(connection.client());
        let inbound = Inbound { client: client.network(), ..request.inbound };
        let (verb, bytes_in) = (inbound.verb, inbound.body.len());
        let is_last = request.is_last || shutdown.borrow().is_some();
        let response = match app.try_respond(&inbound, client, started) {
            Step::Ready(response) => response,
            // The body is small and counts as part of the connection.
            Step::Pending(pending) => {
                // Costs far more than a poll from memory, even if it need not wait.
                requests_in_a_row = REQUESTS_IN_A_ROW;
                app.respond(inbound, pending, charge.split(0)).await
            }
        };
        out.clear();
        encode(&response, is_last, &mut out);
        let answered = now();
        if out.len() > FREE_RESPONSE_BYTES && !charge.try_grow(out.capacity() + response.body.len()) {
            return close_unanswered(app, client);
        }
        let written = write_all(stream, &out, app.options.write_timeout).await;
        app.handler.on_complete(AccessRecord {
            labels: response.labels,
            peer: Some(client.address),
            verb,
            version: Version::Http11,
            status: response.status,
            bytes_in,
            bytes_out: response.body.len(),
            duration: answered - started,
        });
        if written.is_err() {
            return Next::Close;
        }
        if is_last {
            // The client must see the response before the end of the connection.
            let _ = timeout(app.options.write_timeout, stream.shutdown()).await;
            return Next::Close;
        }
        deadline = answered + app.options.idle_timeout;
        charge.release();
        free_large_buffers(buffer, &mut out);
        // A client with many pipelined requests must not delay the other connections of this thread.
        requests_in_a_row += 1;
        if requests_in_a_row >= REQUESTS_IN_A_ROW {
            requests_in_a_row = 0;
            tokio::task::yield_now().await;
        }
    }
}

/// Frees buffers that are larger than an idle connection may keep.
fn free_large_buffers(buffer: &mut BytesMut, out: &mut Vec<u8>) {
    if buffer.capacity() > IDLE_BUFFER_BYTES_MAX && buffer.len() < IDLE_BUFFER_BYTES_MAX {
        *buffer = BytesMut::from(&**buffer);
    }
    if out.capacity() > IDLE_BUFFER_BYTES_MAX {
        *out = Vec::new();
    }
}

/// Decides whether a partial header is awaited. Charges the memory that it takes, beyond what every connection may have.
fn refusal<H: Handler>(app: &App<H>, buffer: &BytesMut, charge: &mut MemoryCharge) -> Option<RefusalReason> {
    if buffer.len() <= READ_BYTES {
        return None;
    }
    let header_bytes_max = HEADER_BYTES_MAX + app.handler.target_bytes_max(target_start(buffer));
    if buffer.len() > header_bytes_max {
        return Some(RefusalReason::HeaderTooLarge);
    }
    (!charge.try_grow_to(buffer.capacity())).then_some(RefusalReason::Overloaded)
}

/// Refuses a request whose header is not complete, and closes the connection.
async fn refuse<H: Handler>(
    app: &App<H>,
    stream: &mut Stream,
    connection: &ConnectionGuard,
    why: RefusalReason,
) -> Next {
    let mut out = Vec::new();
    encode(&Response::<()> { status: why.status(), ..Response::default() }, true, &mut out);
    if write_all(stream, &out, app.options.write_timeout).await.is_ok() {
        let _ = timeout(app.options.write_timeout, stream.shutdown()).await;
    }
    let peer = Some(connection.client().address);
    app.handler.on_refused(RefusedRequest { peer, version: Version::Other, why });
    Next::Close
}

/// Closes a connection whose response has no room in memory.
fn close_unanswered<H: Handler>(app: &App<H>, client: &Client) -> Next {
    let why = RefusalReason::Overloaded;
    app.handler.on_refused(RefusedRequest { peer: Some(client.address), version: Version::Http11, why });
    Next::Close
}

/// Writes all bytes. Each step has to make progress within `step_timeout`.
async fn write_all(stream: &mut Stream, mut bytes: &[u8], step_timeout: Duration) -> io::Result<()> {
    while !bytes.is_empty() {
        let written = timeout(step_timeout, stream.write(bytes)).await??;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        bytes = bytes.get(written..).unwrap_or_default();
    }
    timeout(step_timeout, stream.flush()).await?
}

/// The event that ends a wait for a request.
enum WaitEvent {
    /// This many bytes arrived; 0 is the end of the stream.
    Read(io::Result<usize>),
    /// The deadline passed.
    Deadline,
}

/// Reads the bytes that have arrived, at most [`READ_BYTES`].
fn poll_read(stream: &mut Stream, buffer: &mut BytesMut, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
    let mut bytes = [const { MaybeUninit::uninit() }; READ_BYTES];
    let mut read = ReadBuf::uninit(&mut bytes);
    Pin::new(stream).poll_read(context, &mut read).map_ok(|()| {
        buffer.extend_from_slice(read.filled());
        read.filled().len()
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use tokio::io::{AsyncReadExt, DuplexStream};

    use super::*;
    use crate::http::Inbound;
    use crate::server::handler::{Rejection, Response};
    use crate::server::options::Options;
    use crate::server::pipe::{PipeServer, Protocol};
    use crate::server::shutdown::SHUTDOWN_GRACE;

    /// A handler that panics for two paths, before and after it waits, and answers every other.
    struct PanickingHandler;

    #[async_trait::async_trait]
    impl Handler for PanickingHandler {
        type Labels = ();
        type Pending = ();

        fn try_respond(&self, request: &Inbound) -> Step<Response<()>, ()> {
            assert_ne!(request.path, "/panic");
            if request.path == "/large" {
                return Step::Ready(Response { body: Bytes::from(vec![b'x'; 1 << 20]), ..ok(b"") });
            }
            if request.path == "/now" { Step::Ready(ok(b"now")) } else { Step::Pending(()) }
        }

        async fn respond(&self, request: Inbound, (): (), _charge: MemoryCharge) -> Response<()> {
            tokio::task::yield_now().await;
            assert_ne!(request.path, "/panic-later");
            ok(b"fine")
        }

        fn reject(&self, _request: &Inbound, why: Rejection) -> Response<()> {
            assert_eq!(why, Rejection::Panicked);
            ok(b"sorry")
        }
    }

    fn ok(body: &'static [u8]) -> Response<()> {
        Response { status: 200, body: Bytes::from_static(body), ..Response::default() }
    }

    /// Serves one end of a pipe as a listener would. Returns the other end, the server task and the server.
    fn serve_pipe() -> (DuplexStream, tokio::task::JoinHandle<()>, Arc<PipeServer<PanickingHandler>>) {
        let second = Duration::from_secs(1);
        let options = Options {
            body_bytes_max: 100,
            bodies_bytes_max: 1 << 20,
            header_timeout: second,
            body_timeout: second,
            write_timeout: second,
            idle_timeout: 2 * second,
            address_bytes_max: 1 << 20,
            handshake_timeout: second,
            drain_timeout: second,
        };
        let (client, stream) = tokio::io::duplex(65_536);
        let server = Arc::new(PipeServer::new(PanickingHandler, options));
        let serving = Arc::clone(&server);
        #[expect(clippy::disallowed_methods, reason = "awaited by each test")]
        let server_task = tokio::spawn(async move { serving.serve(stream, Protocol::Http1).await });
        (client, server_task, server)
    }

    /// Counts the responses with this body.
    fn count(responses: &str, body: &str) -> usize {
        responses.split("HTTP/1.1 200 OK").filter(|response| response.ends_with(&format!("\r\n\r\n{body}"))).count()
    }

    #[tokio::test]
    async fn a_panic_costs_one_request_and_not_its_connection() {
        let (mut client, server_task, _shutdown) = serve_pipe();
        for path in ["/panic", "/panic-later", "/now"] {
            client.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.expect("written");
        }
        client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.expect("written");
        let mut responses = String::new();
        client.read_to_string(&mut responses).await.expect("answers");
        assert_eq!(
            (count(&responses, "sorry"), count(&responses, "now"), count(&responses, "fine")),
            (2, 1, 1),
            "{responses}"
        );
        server_task.await.expect("done");
    }

    #[tokio::test]
    async fn a_response_that_the_memory_budget_has_no_room_for_is_not_written() {
        let (mut client, server_task, _shutdown) = serve_pipe();
        client.write_all(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("written");
        let mut responses = String::new();
        client.read_to_string(&mut responses).await.expect("the end");
        assert_eq!(responses, "");
        server_task.await.expect("done");
    }

    /// Ordinary and chunked requests alternate on one connection.
    #[tokio::test]
    async fn the_session_serves_unsupported_requests_and_returns_the_connection() {
        let ordinary = "GET /now HTTP/1.1\r\nHost: x\r\n\r\n";
        let chunked = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
        let last = "GET /now HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        let requests = [ordinary, chunked, ordinary, ordinary, chunked, last].concat();
        // Byte by byte, so that every request is partial at some time; and all at once, so that each is read together
        // with the next.
        for step in [1, 7, 60, requests.len()] {
            let (mut client, server_task, _shutdown) = serve_pipe();
            for bytes in requests.as_bytes().chunks(step) {
                client.write_all(bytes).await.expect("written");
                tokio::task::yield_now().await;
            }
            let mut responses = String::new();
            client.read_to_string(&mut responses).await.expect("answers");
            assert_eq!((count(&responses, "now"), count(&responses, "fine")), (4, 2), "{step}: {responses}");
            server_task.await.expect("done");
        }
    }

    /// The deadline is noticed however many requests arrive at once, and however much of tokio's cooperative budget
    /// they use.
    #[tokio::test(start_paused = true)]
    async fn pipelined_requests_do_not_silence_the_deadline() {
        // Long enough that some requests are read in two steps.
        let request = format!("GET /now HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "x".repeat(60));
        for requests in 1..150 {
            let (mut client, server_task, _shutdown) = serve_pipe();
            client.write_all(request.repeat(requests).as_bytes()).await.expect("written");
            let mut responses = String::new();
            let closed = timeout(Duration::from_secs(60), client.read_to_string(&mut responses)).await;
            assert!(closed.is_ok(), "after {requests} requests the connection is never closed");
            assert_eq!(responses.matches("200 OK").count(), requests);
            server_task.await.expect("done");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_is_closed_and_a_used_one_is_not() {
        let (mut client, server_task, _shutdown) = serve_pipe();
        let mut answer = [0; 4_096];
        for _ in 0..10 {
            // Together far longer than the idle timeout.
            tokio::time::sleep(Duration::from_millis(900)).await;
            client.write_all(b"GET /now HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("written");
            assert!(client.read(&mut answer).await.expect("an answer") > 0);
        }
        let started = now();
        assert_eq!(client.read(&mut answer).await.expect("the end"), 0);
        // Virtual time: exactly the idle timeout.
        assert_eq!(started.elapsed().as_secs(), 2);
        server_task.await.expect("done");
    }

    #[tokio::test(start_paused = true)]
    async fn a_partial_request_does_not_extend_the_deadline() {
        let (mut client, server_task, _shutdown) = serve_pipe();
        let started = now();
        for byte in b"GET /now HTTP" {
            let _ = client.write_all(&[*byte]).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(client.read(&mut [0]).await.expect("the end"), 0);
        assert!(started.elapsed() < Duration::from_secs(2), "each byte extended the deadline");
        server_task.await.expect("done");
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_is_served_during_the_shutdown_grace() {
        let (mut client, server_task, server) = serve_pipe();
        client.write_all(b"GET /now HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("written");
        let mut answer = [0; 4_096];
        assert!(client.read(&mut answer).await.expect("an answer") > 0);
        server.shut_down();
        tokio::time::sleep(SHUTDOWN_GRACE / 2).await;
        client.write_all(b"GET /now HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("written");
        let mut responses = String::new();
        client.read_to_string(&mut responses).await.expect("an answer, and the end");
        assert!(responses.contains("Connection: close") && responses.ends_with("now"), "{responses}");
        server_task.await.expect("done");
    }
}
