//! One connection, served by the protocol that its client speaks.

use std::sync::Arc;

use bytes::BytesMut;
use pingora::protocols::{ALPN, Stream};

use super::app::App;
use super::connections::ConnectionGuard;
use super::handler::Handler;
use super::http1::{self, Next};
use super::http2;
use super::shutdown::Shutdown;

/// Serves the connections of one listener.
pub(super) struct Listener<H>(pub(super) Arc<App<H>>);

impl<H: Handler> Listener<H> {
    pub(super) fn new(app: App<H>) -> Self {
        Self(Arc::new(app))
    }

    /// Serves a connection until it is closed.
    pub(super) async fn serve(&self, stream: Stream, guard: &ConnectionGuard, shutdown: &Shutdown) {
        // Over TLS, ALPN decides; on plain TCP, HTTP/2 is recognized by its preface.
        let is_http2 = stream.get_ssl_digest().is_some() && matches!(stream.selected_alpn_proto(), Some(ALPN::H2));
        let http2_stream = if is_http2 { Some(stream) } else { self.serve_http1(stream, guard, shutdown).await };
        if let Some(stream) = http2_stream {
            Box::pin(http2::serve(&self.0, stream, guard, shutdown)).await;
        }
    }

    /// Serves HTTP/1 requests. Returns the connection if it turns out to speak HTTP/2.
    async fn serve_http1(&self, mut stream: Stream, guard: &ConnectionGuard, shutdown: &Shutdown) -> Option<Stream> {
        let options = &self.0.options;
        let mut buffer = BytesMut::new();
        let mut charge = guard.client().memory_account(&self.0.memory);
        let (mut request_timeout, mut is_new) = (options.header_timeout, true);
        loop {
            let next =
                http1::serve(&self.0, &mut stream, &mut buffer, &mut charge, guard, shutdown, request_timeout, is_new)
                    .await;
            match next {
                Next::Close => return None,
                Next::Http2 => return rewind(stream, &buffer),
                // Boxed, like HTTP/2, so that an idle connection holds no memory that only few connections need.
                Next::Session => {
                    let session = self.0.serve_http1(stream, buffer, &mut charge, guard, shutdown);
                    (stream, buffer) = Box::pin(session).await?;
                    charge.release();
                    guard.client().charge(&mut charge);
                }
            }
            (request_timeout, is_new) = (options.idle_timeout, false);
        }
    }
}

/// Puts bytes that were read back in front of a plain TCP connection.
fn rewind(stream: Stream, bytes: &[u8]) -> Option<Stream> {
    let mut stream = stream.into_any().downcast::<pingora::protocols::l4::stream::Stream>().ok()?;
    stream.rewind(bytes);
    Some(stream)
}

#[cfg(test)]
#[path = "../../tests/corpus/http1.rs"]
mod corpus;

/// Every request of the corpus on both HTTP/1 paths, however it is cut, and with another request before and behind it.
#[cfg(test)]
mod tests {
    use std::time::Duration;

    use async_trait::async_trait;
    use bytes::Bytes;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::timeout;

    use super::corpus::{Case, Expected, cases};
    use super::*;
    use crate::http::{Inbound, Step, Verb};
    use crate::memory::MemoryCharge;
    use crate::server::handler::{Rejection, Response};
    use crate::server::options::Options;
    use crate::server::pipe::{PipeServer, Protocol};

    /// Answers each request with what was understood of it.
    struct EchoHandler;

    impl EchoHandler {
        fn echo(request: &Inbound, note: &str) -> Response<()> {
            let verb = match request.verb {
                Verb::Get => "GET",
                Verb::Post => "POST",
                Verb::Options => "OPTIONS",
                Verb::Head => "HEAD",
                Verb::Other => "OTHER",
            };
            // The session percent-encodes some characters, which means the same once the form is decoded.
            let mut target = request.path.clone().into_bytes();
            if !request.query.is_empty() {
                target.push(b'?');
                target.extend_from_slice(&request.query);
            }
            let mut target = String::from_utf8_lossy(&target).into_owned();
            for (character, encoded) in [(" ", "%20"), ("\"", "%22"), ("<", "%3C"), (">", "%3E"), ("`", "%60")] {
                target = target.replace(character, encoded);
            }
            let mut body = format!("{note}{verb} {target} ").into_bytes();
            body.extend_from_slice(&request.body);
            Response { status: 200, body: Bytes::from(body), ..Response::default() }
        }
    }

    #[async_trait]
    impl Handler for EchoHandler {
        type Labels = ();
        type Pending = ();

        fn try_respond(&self, request: &Inbound) -> Step<Response<()>, ()> {
            Step::Ready(Self::echo(request, ""))
        }

        async fn respond(&self, request: Inbound, (): (), _charge: MemoryCharge) -> Response<()> {
            Self::echo(&request, "")
        }

        fn reject(&self, request: &Inbound, why: Rejection) -> Response<()> {
            Self::echo(request, &format!("{why:?} "))
        }
    }

    const CANARY: &str = "GET /canary HTTP/1.1\r\nHost: canary\r\nConnection: close\r\n\r\n";
    const CANARY_KEPT: &str = "GET /canary HTTP/1.1\r\nHost: canary\r\n\r\n";
    const CANARY_ECHO: &str = "GET /canary ";

    /// Headers of every response, in lower case.
    const SECURITY_HEADERS: &str =
        "\r\ncache-control: no-store\r\nreferrer-policy: no-referrer\r\nx-content-type-options: nosniff\r\n";

    /// How a connection was answered.
    #[derive(Clone, Debug, PartialEq, Eq)]
    struct Verdict {
        /// Status and body of each response, interim ones aside.
        responses: Vec<(u16, String)>,
        /// Whether the server closed the connection.
        is_closed: bool,
    }

    /// The paths that serve a request.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Path {
        /// As a listener serves it.
        Listener,
        /// Pingora's session alone, which gets the whole header, as it does from the fast path.
        Session,
    }

    fn server() -> PipeServer<EchoHandler> {
        let options = Options {
            body_bytes_max: 1 << 20,
            bodies_bytes_max: 1 << 24,
            address_bytes_max: 1 << 24,
            handshake_timeout: Duration::from_secs(10),
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(10),
            drain_timeout: Duration::from_secs(10),
        };
        PipeServer::new(EchoHandler, options)
    }

    /// Sends pieces on a new connection, and reads until its end.
    async fn exchange(path: Path, pieces: &[&[u8]], has_bodies: bool) -> Verdict {
        let (mut client, stream) = tokio::io::duplex(1 << 20);
        let protocol = if path == Path::Session { Protocol::Http1Session } else { Protocol::Http1 };
        #[expect(clippy::disallowed_methods, reason = "awaited below")]
        let server_task = tokio::spawn(async move { server().serve(stream, protocol).await });
        for piece in pieces {
            // Fails once the server has closed the connection.
            if client.write_all(piece).await.is_err() {
                break;
            }
            tokio::task::yield_now().await;
        }
        let mut received = Vec::new();
        // Virtual time, shorter than any timeout of the server.
        let is_closed = timeout(Duration::from_secs(1), client.read_to_end(&mut received)).await.is_ok();
        drop(client);
        if is_closed {
            server_task.await.expect("no panic");
        } else {
            server_task.abort();
        }
        let head_at = (!has_bodies).then(|| pieces.concat().starts_with(CANARY_KEPT.as_bytes()).into());
        Verdict { responses: responses(&received, head_at), is_closed }
    }

    /// Splits responses, one of which may answer a HEAD.
    fn responses(mut bytes: &[u8], head_at: Option<usize>) -> Vec<(u16, String)> {
        let mut responses = Vec::new();
        while !bytes.is_empty() {
            let end = memchr::memmem::find(bytes, b"\r\n\r\n").expect("a complete header") + 4;
            let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
            bytes = &bytes[end..];
            let status: u16 = head[9..12].parse().expect("a status");
            if status == 100 {
                continue;
            }
            assert!(head.contains(SECURITY_HEADERS) && !head.contains("\r\nserver:"), "{head}");
            let length = head.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
            let length: usize = length.map_or(0, |digits| digits.parse().expect("a length"));
            let length = if head_at == Some(responses.len()) && status == 200 { 0 } else { length };
            responses.push((status, String::from_utf8_lossy(&bytes[..length]).into_owned()));
            bytes = &bytes[length..];
        }
        responses
    }

    /// What the handler shows of a request.
    fn shown(echo: &str) -> String {
        let (verb, rest) = echo.split_once(' ').unwrap_or_default();
        let verb = if matches!(verb, "GET" | "POST" | "OPTIONS") { verb } else { "OTHER" };
        let bytes: Vec<u8> = rest.chars().map(|c| u8::try_from(u32::from(c)).expect("one byte")).collect();
        if echo.starts_with("HEAD ") { String::new() } else { format!("{verb} {}", String::from_utf8_lossy(&bytes)) }
    }

    fn is_refusal(responses: &[(u16, String)]) -> bool {
        responses.is_empty() || matches!(responses, [(400..=499, body)] if body.is_empty())
    }

    /// Checks a verdict on a case that was followed by another request, which asks to close the connection.
    fn check(case: &Case, verdict: &Verdict) -> Result<(), String> {
        let canary = (200, CANARY_ECHO.to_owned());
        let is_served = |echo: &str, is_last: bool| {
            let first = (200, shown(echo));
            verdict.responses == if is_last { vec![first] } else { vec![first, canary.clone()] }
        };
        let is_refused = is_refusal(&verdict.responses);
        let is_right = match &case.expected {
            Expected::Served(echo) => is_served(echo, false),
            Expected::ServedLast(echo) => is_served(echo, true),
            Expected::Refused => is_refused,
            Expected::Either(echo) => is_refused || is_served(echo, false) || is_served(echo, true),
            Expected::Awaited => return Ok(()),
        };
        if is_right && verdict.is_closed { Ok(()) } else { Err(format!("{:?}, got {verdict:?}", case.expected)) }
    }

    /// The positions at which a case is cut: all, but for the middle of a long one.
    fn cuts(length: usize) -> impl Iterator<Item = usize> {
        (1..=length).filter(move |at| *at < 120 || length - at < 60 || at.is_multiple_of(length / 5))
    }

    /// Runs each `shards`th case.
    async fn run(shard: usize, shards: usize) {
        let mut failures = Vec::new();
        for (number, case) in cases().into_iter().enumerate() {
            if number % shards != shard {
                continue;
            }
            let bytes = &case.bytes;
            let has_bodies = !bytes.starts_with(b"HEAD ");
            let both = [bytes, CANARY.as_bytes()].concat();
            let whole = exchange(Path::Listener, &[&both], has_bodies).await;
            let mut fail = |what: &str, verdict: &Verdict| {
                failures.push(format!("{}\n    {what}: {verdict:?}\n    whole: {whole:?}", case.name));
            };
            if let Err(why) = check(&case, &whole) {
                fail(&format!("expected {why}"), &whole);
            }
            // However it is cut.
            for at in cuts(bytes.len()) {
                let cut = exchange(Path::Listener, &[&both[..at], &both[at..]], has_bodies).await;
                if cut != whole {
                    fail(&format!("cut at {at}"), &cut);
                    break;
                }
            }
            if both.len() < 20_000 {
                let pieces: Vec<&[u8]> = both.chunks(1).collect();
                let one_by_one = exchange(Path::Listener, &pieces, has_bodies).await;
                if one_by_one != whole {
                    fail("byte by byte", &one_by_one);
                }
            }
            // On Pingora's session alone, which gets no header above the limits.
            let is_handed_over = whole.responses.first().is_none_or(|(status, _)| *status != 431);
            if is_handed_over && !matches!(case.expected, Expected::Awaited) {
                let session = exchange(Path::Session, &[&both], has_bodies).await;
                if session != whole {
                    fail("session", &session);
                }
            }
            // Behind another request.
            let behind = [CANARY_KEPT.as_bytes(), &both].concat();
            let mut verdict = exchange(Path::Listener, &[&behind], has_bodies).await;
            if verdict.responses.first().is_some_and(|(_, body)| body == CANARY_ECHO) {
                verdict.responses.remove(0);
                if verdict != whole {
                    fail("behind another request", &verdict);
                }
            } else {
                fail("behind another request", &verdict);
            }
            // Alone: the connection stays open exactly if it is to be kept.
            let alone = exchange(Path::Listener, &[bytes], has_bodies).await;
            let is_kept = match &case.expected {
                Expected::Awaited => alone.responses.is_empty(),
                _ => whole.responses.len() == 2,
            };
            if is_kept == alone.is_closed {
                fail("alone", &alone);
            }
        }
        assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
    }

    #[test]
    fn the_corpus_is_large_and_its_cases_differ() {
        let mut cases: Vec<Vec<u8>> = cases().into_iter().map(|case| case.bytes).collect();
        let total = cases.len();
        cases.sort();
        cases.dedup();
        assert!(cases.len() >= 500 && total - cases.len() < 40, "{total} cases, {} different ones", cases.len());
    }

    /// Both paths write the same refusal, but for the status.
    #[tokio::test(start_paused = true)]
    async fn a_refusal_has_the_headers_of_every_response() {
        let malformed = "GET /a HTTP/1.1\r\n\r\n".to_owned();
        let broken_chunk = "POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nz\r\n".to_owned();
        let large = format!("GET /a HTTP/1.1\r\nHost: x\r\nA: {}", "a".repeat(60_000));
        for (request, status) in [
            (malformed, "400 Bad Request"),
            (broken_chunk, "400 Bad Request"),
            (large, "431 Request Header Fields Too Large"),
        ] {
            let (mut client, stream) = tokio::io::duplex(1 << 20);
            client.write_all(request.as_bytes()).await.expect("written");
            server().serve(stream, Protocol::Http1).await;
            let mut response = String::new();
            client.read_to_string(&mut response).await.expect("text");
            let (before, after) = response.split_once("Date: ").expect("a date");
            let before = before.to_ascii_lowercase();
            let status = status.to_ascii_lowercase();
            assert_eq!(before, format!("http/1.1 {status}{SECURITY_HEADERS}content-length: 0\r\n"));
            assert!(after.ends_with(" GMT\r\nConnection: close\r\n\r\n") && after.len() == 29 + 23, "{after}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_ambiguous_request_has_one_verdict_first_half() {
        run(0, 2).await;
    }

    #[tokio::test(start_paused = true)]
    async fn an_ambiguous_request_has_one_verdict_second_half() {
        run(1, 2).await;
    }
}
