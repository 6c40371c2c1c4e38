//! HTTP/1.1 as nearly all clients speak it: a request that is here as a whole, its body of known length, answered with
//! one write. Everything else goes to [`super::session`], byte for byte as it came: what is ambiguous is judged in one
//! place only, and what is judged here means one thing to everybody.
//!
//! A poll is answered without a timer being set or a task being spawned; an idle connection holds a kilobyte of buffers at
//! most.

use std::cell::Cell;
use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use chrono::Utc;
use pingora::http::StatusCode;
use pingora::protocols::Stream;
use pingora::server::ShutdownWatch;
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};
use tokio::task::coop::has_budget_remaining;
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use super::h2;
use super::handler::{App, Handler, Response, Told};
use super::listener::{LINGER, told_to_stop};
use super::request::parse_target;
use crate::http::{Inbound, Step, Verb};

/// Most bytes of a request that is served here, header and body.
const REQUEST_BYTES_MAX: usize = 16 * 1024;
/// Most headers of one.
const HEADERS_MAX: usize = 32;
/// Bytes read at once.
const READ_BYTES: usize = 4_096;
/// Largest buffer that an idle connection keeps.
const KEPT_BYTES: usize = 1_024;

/// What to do with a connection.
pub(super) enum Next {
    /// Close it.
    Close,
    /// Serve a request, whose first bytes were read, with Pingora's session.
    Session,
    /// It speaks HTTP/2 with prior knowledge; what was read is the beginning of its preface.
    Http2,
}

/// Serves requests until one comes that is not for here. `read` is what was read and not served; `patience` is how long to
/// wait for the first request; a connection that `is_new` may turn out to speak HTTP/2.
pub(super) async fn serve<H: Handler>(
    app: &App<H>,
    stream: &mut Stream,
    read: &mut BytesMut,
    shutdown: &ShutdownWatch,
    patience: Duration,
    is_new: bool,
) -> Next {
    let mut deadline = now() + patience;
    let mut alarm = Alarm::new(deadline);
    let mut told_to_stop = pin!(told_to_stop(shutdown));
    let mut is_stopping = false;
    let mut peer = None;
    let mut out = Vec::new();
    let mut may_be_http2 = is_new;
    loop {
        let request = match parse(read, app.options.body_bytes_max) {
            Parsed::Whole(request) => request,
            Parsed::Http2 if may_be_http2 => return Next::Http2,
            Parsed::Other | Parsed::Http2 => return Next::Session,
            Parsed::Part => {
                let woken = std::future::poll_fn(|context| {
                    if let Poll::Ready(result) = fill(stream, read, context) {
                        return Poll::Ready(Woken::Read(result));
                    }
                    // Both wake this task already, as long as neither has.
                    if alarm.is_set(deadline, context) && (is_stopping || !*shutdown.borrow()) {
                        return Poll::Pending;
                    }
                    if !is_stopping && told_to_stop.as_mut().poll(context).is_ready() {
                        is_stopping = true;
                        deadline = deadline.min(now() + LINGER);
                    }
                    alarm.poll(deadline, context).map(|()| Woken::Late)
                });
                match woken.await {
                    Woken::Read(Ok(1..)) => continue,
                    Woken::Read(Ok(0) | Err(_)) | Woken::Late => return Next::Close,
                }
            }
        };
        may_be_http2 = false;
        let began = now();
        let is_last = request.is_last || *shutdown.borrow();
        let response = match app.begin(&request.inbound) {
            Step::Ready(response) => response,
            Step::Pending(rest) => app.finish(&request.inbound, rest).await,
        };
        out.clear();
        encode(&response, is_last, &mut out);
        let answered = now();
        let written = write(stream, &out, app.options.write_timeout).await;
        app.handler.told(Told {
            facts: response.facts,
            peer: *peer.get_or_insert_with(|| peer_of(stream)),
            verb: match request.inbound.verb {
                Verb::Post => "POST",
                Verb::Options => "OPTIONS",
                Verb::Get | Verb::Head | Verb::Other => "GET",
            },
            version: "1.1",
            status: response.status,
            bytes_in: request.inbound.body.len(),
            bytes_out: response.body.len(),
            took: answered - began,
        });
        if written.is_err() {
            return Next::Close;
        }
        if is_last {
            // The client has to see the end only after the answer.
            let _ = timeout(app.options.write_timeout, stream.shutdown()).await;
            return Next::Close;
        }
        deadline = answered + app.options.idle_timeout;
        if read.capacity() > KEPT_BYTES && read.len() < KEPT_BYTES {
            *read = BytesMut::from(&**read);
        }
        if out.capacity() > KEPT_BYTES {
            out = Vec::new();
        }
        // One client with many requests in its pipe must not hold up the others of this thread.
        tokio::task::consume_budget().await;
    }
}

/// Writes an answer; each step of it within its time.
async fn write(stream: &mut Stream, mut answer: &[u8], step: Duration) -> io::Result<()> {
    while !answer.is_empty() {
        let bytes = timeout(step, stream.write(answer)).await??;
        if bytes == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        answer = answer.get(bytes..).unwrap_or_default();
    }
    timeout(step, stream.flush()).await?
}

/// What ended a wait.
enum Woken {
    /// So many bytes, or the end.
    Read(io::Result<usize>),
    /// The end of patience.
    Late,
}

/// A timer that is set once in a while, however often its deadline moves on: it looks what time it is when it rings.
struct Alarm {
    sleep: Pin<Box<Sleep>>,
    /// Who is woken when it rings, if anybody is sure to be.
    wakes: Option<Waker>,
}

impl Alarm {
    fn new(deadline: Instant) -> Self {
        Self { sleep: Box::pin(sleep_until(deadline)), wakes: None }
    }

    /// Whether it is yet to ring, in time, and will wake this task then.
    fn is_set(&self, deadline: Instant, context: &Context<'_>) -> bool {
        !self.sleep.is_elapsed()
            && self.sleep.deadline() <= deadline
            && self.wakes.as_ref().is_some_and(|waker| waker.will_wake(context.waker()))
    }

    /// Ready once the deadline has passed.
    fn poll(&mut self, deadline: Instant, context: &mut Context<'_>) -> Poll<()> {
        if deadline < self.sleep.deadline() {
            self.sleep.as_mut().reset(deadline);
        }
        while self.sleep.as_mut().poll(context).is_ready() {
            if self.sleep.deadline() >= deadline {
                return Poll::Ready(());
            }
            self.sleep.as_mut().reset(deadline);
        }
        // Without budget left, neither it nor anything else that was polled has noted who is to be woken.
        self.wakes = has_budget_remaining().then(|| context.waker().clone());
        Poll::Pending
    }
}

/// Reads what there is.
fn fill(stream: &mut Stream, read: &mut BytesMut, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
    let mut bytes = [const { MaybeUninit::uninit() }; READ_BYTES];
    let mut buffer = ReadBuf::uninit(&mut bytes);
    Pin::new(stream).poll_read(context, &mut buffer).map_ok(|()| {
        read.extend_from_slice(buffer.filled());
        buffer.filled().len()
    })
}

/// What was read so far.
enum Parsed {
    /// A request; its bytes are taken.
    Whole(Request),
    /// Not yet one.
    Part,
    /// Something for the session.
    Other,
    /// The beginning of HTTP/2.
    Http2,
}

/// A request.
struct Request {
    inbound: Inbound,
    /// Whether its client wants the connection to be closed behind it.
    is_last: bool,
}

fn parse(read: &mut BytesMut, body_bytes_max: usize) -> Parsed {
    if read.is_empty() {
        return Parsed::Part;
    }
    let part = if read.len() < REQUEST_BYTES_MAX { Parsed::Part } else { Parsed::Other };
    let beginning = read.get(..3).unwrap_or(read);
    if h2::PREFACE.starts_with(beginning) {
        return if beginning.len() == 3 { Parsed::Http2 } else { part };
    }
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let header_bytes = match request.parse(read) {
        Ok(httparse::Status::Complete(bytes)) => bytes,
        Ok(httparse::Status::Partial) => return part,
        Err(_) => return Parsed::Other,
    };
    let verb = match request.method {
        Some("GET") => Verb::Get,
        Some("POST") => Verb::Post,
        Some("OPTIONS") => Verb::Options,
        _ => return Parsed::Other,
    };
    let target = request.path.unwrap_or_default().as_bytes();
    let is_plain = target.first() == Some(&b'/') && target.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'#');
    let Some(meant) = Meant::of(request.headers).filter(|_| is_plain && request.version == Some(1)) else {
        return Parsed::Other;
    };
    let whole = header_bytes.saturating_add(meant.length);
    // A body that is not here yet has a deadline and bounds of its own.
    if whole > read.len() || meant.length > body_bytes_max {
        return Parsed::Other;
    }
    let body = match read.get(header_bytes..whole) {
        Some(body) if !body.is_empty() => Bytes::copy_from_slice(body),
        _ => Bytes::new(),
    };
    let inbound = parse_target(verb, target, meant.content_type, body);
    let is_last = meant.is_last;
    if whole == read.len() {
        read.clear();
    } else {
        read.advance(whole);
    }
    Parsed::Whole(Request { inbound, is_last })
}

/// What the headers of an ordinary request mean for its framing.
struct Meant<'h> {
    length: usize,
    content_type: &'h [u8],
    is_last: bool,
}

impl<'h> Meant<'h> {
    /// Nothing, where any of them is out of the ordinary.
    fn of(headers: &[httparse::Header<'h>]) -> Option<Self> {
        let mut meant = Self { length: 0, content_type: b"", is_last: false };
        let (mut hosts, mut lengths, mut types) = (0, 0, 0);
        for header in headers {
            let is = |name: &str| header.name.eq_ignore_ascii_case(name);
            match header.name.len() {
                // A name with a user in front of it means one thing to some and another to others.
                4 if is("host") && header.value.contains(&b'@') => return None,
                4 if is("host") => hosts += 1,
                6 if is("expect") => return None,
                7 if is("upgrade") => return None,
                10 if is("connection") => match header.value.trim_ascii() {
                    value if value.eq_ignore_ascii_case(b"keep-alive") => {}
                    value if value.eq_ignore_ascii_case(b"close") => meant.is_last = true,
                    _ => return None,
                },
                12 if is("content-type") => {
                    types += 1;
                    meant.content_type = header.value;
                }
                14 if is("content-length") => {
                    lengths += 1;
                    let digits = std::str::from_utf8(header.value).ok()?;
                    meant.length = digits.parse().ok().filter(|_| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
                }
                17 if is("transfer-encoding") => return None,
                _ => {}
            }
        }
        (hosts == 1 && lengths <= 1 && types <= 1).then_some(meant)
    }
}

/// Writes a response, as Pingora's session would.
fn encode(response: &Response, is_last: bool, out: &mut Vec<u8>) {
    let status = StatusCode::from_u16(response.status).unwrap_or_default();
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
    let mut header = |name: &str, value: &[u8]| {
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value);
        out.extend_from_slice(b"\r\n");
    };
    for (name, value) in response.lines() {
        header(name, value.as_bytes());
    }
    if response.status != 204 {
        header("Content-Length", itoa::Buffer::new().format(response.body.len()).as_bytes());
    }
    header("Date", &date());
    header("Connection", if is_last { b"close" } else { b"keep-alive" });
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(&response.body);
}

/// The time as HTTP writes it (RFC 9110, section 5.6.7), composed once a second on each thread.
fn date() -> [u8; 29] {
    thread_local! {
        static DATE: Cell<(i64, [u8; 29])> = const { Cell::new((i64::MIN, [b' '; 29])) };
    }
    #[expect(clippy::disallowed_methods, reason = "a header for people who look at it")]
    let now = Utc::now();
    let (second, date) = DATE.get();
    if second == now.timestamp() {
        return date;
    }
    let text = now.format("%a, %d %b %Y %H:%M:%S GMT").to_string();
    let date = text.as_bytes().try_into().unwrap_or(date);
    DATE.set((now.timestamp(), date));
    date
}

fn peer_of(stream: &Stream) -> Option<SocketAddr> {
    stream.get_socket_digest()?.peer_addr()?.as_inet().copied()
}

fn now() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "deadlines of a connection, and what the log says of a request")]
    Instant::now()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::io::{AsyncReadExt, DuplexStream};
    use tokio::sync::{Semaphore, watch};

    use super::super::handler::{Options, Rejection};
    use super::*;

    /// What becomes of bytes: `whole` with the path and the body, `part`, `other` or `h2`; and what is left.
    fn parsed(bytes: &str) -> (String, usize) {
        let mut read = BytesMut::from(bytes);
        let parsed = match parse(&mut read, 100) {
            Parsed::Whole(request) => {
                let inbound = request.inbound;
                let last = if request.is_last { " last" } else { "" };
                format!("{} {}{last}", inbound.path, String::from_utf8_lossy(&inbound.body))
            }
            Parsed::Part => "part".to_owned(),
            Parsed::Other => "other".to_owned(),
            Parsed::Http2 => "h2".to_owned(),
        };
        (parsed, read.len())
    }

    fn with(headers: &str, body: &str) -> String {
        format!("POST /in.php?a=1 HTTP/1.1\r\nHost: x\r\n{headers}\r\n{body}")
    }

    #[test]
    fn an_ordinary_request_is_taken_and_what_follows_is_left() {
        assert_eq!(parsed("GET /res.php?id=1 HTTP/1.1\r\nhost: x\r\n\r\n"), ("/res.php ".to_owned(), 0));
        assert_eq!(
            parsed(&with("content-length: 3\r\nConnection: Close\r\n", "abcGET")),
            ("/in.php abc last".to_owned(), 3)
        );
        assert_eq!(parsed(&with("Connection: keep-alive\r\n", "")), ("/in.php ".to_owned(), 0));
    }

    #[test]
    fn what_is_not_here_as_a_whole_is_waited_for_or_left_to_the_session() {
        assert_eq!(parsed("GET /res.php HTTP/1.1\r\nHo").0, "part");
        assert_eq!(parsed("P").0, "part");
        assert_eq!(parsed(&with("Content-Length: 4\r\n", "abc")).0, "other");
        assert_eq!(parsed(&with("Content-Length: 101\r\n", &"x".repeat(101))).0, "other");
        assert_eq!(parsed(&format!("GET /{} HTTP/1.1\r\n", "x".repeat(REQUEST_BYTES_MAX))).0, "other");
        assert_eq!((parsed("PRI * HTTP/2.0\r\n").0, parsed("PR").0), ("h2".to_owned(), "part".to_owned()));
    }

    #[test]
    fn whatever_could_mean_two_things_is_left_to_the_session() {
        for headers in [
            "Transfer-Encoding: chunked\r\n",
            "Content-Length: 3\r\nContent-Length: 3\r\n",
            "Content-Length: +3\r\n",
            "Content-Length: \r\n",
            "Content-Length: 99999999999999999999\r\n",
            "Content-Type: a/b\r\nContent-Type: c/d\r\n",
            "Expect: 100-continue\r\n",
            "Upgrade: h2c\r\n",
            "Connection: keep-alive, Upgrade\r\n",
            "Host: y\r\n",
            "Host: u@y\r\n",
            "Content-Length : 3\r\n",
            " folded: 1\r\n",
        ] {
            assert_eq!(parsed(&with(headers, "abc")).0, "other", "{headers}");
        }
        for head in [
            "HEAD / HTTP/1.1",
            "GET / HTTP/1.0",
            "GET http://x/ HTTP/1.1",
            "GET * HTTP/1.1",
            "GET /#a HTTP/1.1",
            "GET /\u{e9} HTTP/1.1",
        ] {
            assert_eq!(parsed(&format!("{head}\r\nHost: x\r\n\r\n")).0, "other", "{head}");
        }
        assert_eq!(parsed("GET / HTTP/1.1\r\n\r\n").0, "other");
        let many = "X: 1\r\n".repeat(HEADERS_MAX);
        assert_eq!(parsed(&with(&many, "")).0, "other");
    }

    #[test]
    fn a_response_is_written_as_pingora_would() {
        let response = Response {
            status: 200,
            content_type: Some("text/plain"),
            fixed: &[("Access-Control-Allow-Origin", "*")],
            body: Bytes::from_static(b"OK|1"),
            ..Response::default()
        };
        let mut out = Vec::new();
        encode(&response, false, &mut out);
        let text = String::from_utf8(out).expect("text");
        let (before, after) = text.split_once("Date: ").expect("a date");
        assert_eq!(
            before,
            "HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\nContent-Type: text/plain\r\nCache-Control: no-store\r\n\
             Referrer-Policy: no-referrer\r\nX-Content-Type-Options: nosniff\r\nContent-Length: 4\r\n"
        );
        assert!(after.ends_with(" GMT\r\nConnection: keep-alive\r\n\r\nOK|1") && after.len() == 29 + 32, "{after}");
    }

    /// Panics for one path, before or after it has waited, and answers for every other.
    struct Fragile;

    #[async_trait::async_trait]
    impl Handler for Fragile {
        type Rest = ();

        fn begin(&self, request: &Inbound) -> Step<Response, ()> {
            assert_ne!(request.path, "/panic");
            if request.path == "/now" { Step::Ready(says(b"now")) } else { Step::Pending(()) }
        }

        async fn finish(&self, request: &Inbound, (): ()) -> Response {
            tokio::task::yield_now().await;
            assert_ne!(request.path, "/panic-later");
            says(b"fine")
        }

        fn refuse(&self, _request: &Inbound, why: Rejection) -> Response {
            assert_eq!(why, Rejection::Panicked);
            says(b"sorry")
        }
    }

    fn says(body: &'static [u8]) -> Response {
        Response { status: 200, body: Bytes::from_static(body), ..Response::default() }
    }

    /// Serves one end of a pipe as a listener would; the other end, and the end of the service.
    fn served() -> (DuplexStream, tokio::task::JoinHandle<()>, watch::Sender<bool>) {
        let second = Duration::from_secs(1);
        let options = Options {
            body_bytes_max: 100,
            header_timeout: second,
            body_timeout: second,
            write_timeout: second,
            idle_timeout: 2 * second,
            connections_max: 1,
            bodies: Arc::new(Semaphore::new(100)),
        };
        let (client, server) = tokio::io::duplex(65_536);
        let (told, shutdown) = watch::channel(false);
        #[expect(clippy::disallowed_methods, reason = "awaited by each test")]
        let service = tokio::spawn(async move {
            let app = App::new(Arc::new(Fragile), options);
            let (mut stream, mut read): (Stream, _) = (Box::new(server), BytesMut::new());
            let mut patience = app.options.header_timeout;
            let mut is_new = true;
            while let Next::Session = serve(&app, &mut stream, &mut read, &shutdown, patience, is_new).await {
                (patience, is_new) = (app.options.idle_timeout, false);
                match app.serve_http1(stream, read, &shutdown).await {
                    Some(more) => (stream, read) = more,
                    None => return,
                }
            }
        });
        (client, service, told)
    }

    /// How many answers have this body.
    fn count(said: &str, body: &str) -> usize {
        said.split("HTTP/1.1 200 OK").filter(|answer| answer.ends_with(&format!("\r\n\r\n{body}"))).count()
    }

    #[tokio::test]
    async fn a_panic_costs_one_request_and_not_its_connection() {
        let (mut client, service, _told) = served();
        for path in ["/panic", "/panic-later", "/now"] {
            client.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.expect("written");
        }
        client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.expect("written");
        let mut said = String::new();
        client.read_to_string(&mut said).await.expect("answers");
        assert_eq!((count(&said, "sorry"), count(&said, "now"), count(&said, "fine")), (2, 1, 1), "{said}");
        service.await.expect("done");
    }

    /// Ordinary and other requests take turns on one connection, in one pipe.
    #[tokio::test]
    async fn the_session_serves_what_is_odd_and_gives_the_connection_back() {
        let ordinary = "GET /now HTTP/1.1\r\nHost: x\r\n\r\n";
        let chunked = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
        let last = "GET /now HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        let pipe = [ordinary, chunked, ordinary, ordinary, chunked, last].concat();
        // Byte by byte, so that every request is half here at some time; and all at once, so that each is read with what
        // follows it.
        for step in [1, 7, 60, pipe.len()] {
            let (mut client, service, _told) = served();
            for bytes in pipe.as_bytes().chunks(step) {
                client.write_all(bytes).await.expect("written");
                tokio::task::yield_now().await;
            }
            let mut said = String::new();
            client.read_to_string(&mut said).await.expect("answers");
            assert_eq!((count(&said, "now"), count(&said, "fine")), (4, 2), "{step}: {said}");
            service.await.expect("done");
        }
    }

    /// However many requests come at once, and whatever of tokio's budget they use up, the end of patience is heard.
    #[tokio::test(start_paused = true)]
    async fn a_full_pipe_does_not_deafen_the_alarm() {
        // Long enough that some of them are read in two steps, and all there before the first is.
        let request = format!("GET /now HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "x".repeat(60));
        for requests in 1..150 {
            let (mut client, service, _told) = served();
            client.write_all(request.repeat(requests).as_bytes()).await.expect("written");
            let mut said = String::new();
            let heard = timeout(Duration::from_secs(60), client.read_to_string(&mut said)).await;
            assert!(heard.is_ok(), "{requests} requests, and the connection is never closed");
            assert_eq!(said.matches("200 OK").count(), requests);
            service.await.expect("done");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_is_closed_and_a_used_one_is_not() {
        let (mut client, service, _told) = served();
        let mut answer = [0; 4_096];
        for _ in 0..10 {
            // Together far more than the time for which a connection may be idle.
            tokio::time::sleep(Duration::from_millis(900)).await;
            client.write_all(b"GET /now HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("written");
            assert!(client.read(&mut answer).await.expect("an answer") > 0);
        }
        let began = now();
        assert_eq!(client.read(&mut answer).await.expect("the end"), 0);
        // Virtual time: exactly as long as it may be idle.
        assert_eq!(began.elapsed().as_secs(), 2);
        service.await.expect("done");
    }

    #[tokio::test(start_paused = true)]
    async fn half_a_request_has_the_time_of_a_whole_one() {
        let (mut client, service, _told) = served();
        let began = now();
        for byte in b"GET /now HTTP" {
            let _ = client.write_all(&[*byte]).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(client.read(&mut [0]).await.expect("the end"), 0);
        assert!(began.elapsed() < Duration::from_secs(2), "each byte bought more time");
        service.await.expect("done");
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_that_stops_lingers_for_requests_on_their_way() {
        let (mut client, service, told) = served();
        client.write_all(b"GET /now HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("written");
        let mut answer = [0; 4_096];
        assert!(client.read(&mut answer).await.expect("an answer") > 0);
        told.send_replace(true);
        tokio::time::sleep(LINGER / 2).await;
        client.write_all(b"GET /now HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("written");
        let mut said = String::new();
        client.read_to_string(&mut said).await.expect("an answer, and the end");
        assert!(said.contains("Connection: close") && said.ends_with("now"), "{said}");
        service.await.expect("done");
    }
}
