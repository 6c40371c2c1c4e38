//! Shared by the targets that serve a connection: a server in memory whose handler echoes requests and counts what the server
//! reports, and a virtual clock, so that timeouts take no time.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use capgate::http::{Inbound, Step, Verb};
use capgate::memory::MemoryCharge;
use capgate::server::handler::{AccessRecord, Handler, RefusedRequest, Rejection, Response};
use capgate::server::options::Options;
use capgate::server::pipe::{PipeServer, Protocol};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex, split};
use tokio::time::{sleep, timeout};

/// Most bytes that the server may hold for requests.
pub const MEMORY_BYTES_MAX: usize = 256 * 1024;

/// Longer than every timeout of the server, but for a drain of 2 s in real time, which ends with the connection.
const QUIET: Duration = Duration::from_secs(60);

/// Most pieces that are sent one by one; the rest is one piece.
const PIECES_MAX: usize = 500;

/// What a client and the handler see of a connection.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Exchange {
    /// All bytes of the server.
    pub responses: Vec<u8>,
    /// The server's reports: a line for each answered and each refused request.
    pub reports: Vec<String>,
}

/// Serves a connection on which a client sends these pieces, each after the server has done all it can with those before.
///
/// # Panics
/// If the server hangs, exceeds its limit on memory, or keeps memory charged.
pub fn exchange<'p>(protocol: Protocol, pieces: impl Iterator<Item = &'p [u8]>) -> Exchange {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(async {
        let reports = Arc::new(Mutex::new(Vec::new()));
        let server = PipeServer::new(EchoHandler { reports: Arc::clone(&reports) }, options());
        let (client, stream) = duplex(64 * 1024);
        let (mut reader, mut writer) = split(client);
        let mut responses = Vec::new();
        let writing = async {
            for (number, piece) in pieces.enumerate() {
                // A server that has closed reads nothing more.
                if timeout(QUIET, writer.write_all(piece)).await.is_ok_and(|written| written.is_err()) {
                    return;
                }
                if number < PIECES_MAX {
                    // The paused clock advances once every task is idle.
                    sleep(Duration::from_millis(1)).await;
                }
                let used = server.memory_used();
                assert!(used <= MEMORY_BYTES_MAX, "{used} bytes are charged");
            }
            sleep(QUIET).await;
            let _ = writer.shutdown().await;
        };
        let serving = timeout(4 * QUIET, server.serve(stream, protocol));
        let (ended, read, ()) = tokio::join!(serving, reader.read_to_end(&mut responses), writing);
        ended.expect("the connection hangs");
        read.expect("responses");
        assert_eq!(server.memory_used(), 0, "bytes are still charged");
        let reports = std::mem::take(&mut *reports.lock().expect("no panic"));
        Exchange { responses, reports }
    })
}

/// Options with small limits, so that short inputs reach them.
fn options() -> Options {
    let seconds = Duration::from_secs;
    Options {
        // Above the longest input: the refusal of a body that is too large, and malformed after that, depends on how much of it
        // has arrived. An announced length can still be too large.
        body_bytes_max: 20_000,
        bodies_bytes_max: MEMORY_BYTES_MAX,
        address_bytes_max: MEMORY_BYTES_MAX,
        handshake_timeout: seconds(10),
        header_timeout: seconds(10),
        body_timeout: seconds(20),
        write_timeout: seconds(10),
        idle_timeout: seconds(10),
        drain_timeout: seconds(10),
    }
}

/// Answers each request with what the server decoded of it.
struct EchoHandler {
    reports: Arc<Mutex<Vec<String>>>,
}

impl EchoHandler {
    fn report(&self, report: String) {
        self.reports.lock().expect("no panic").push(report);
    }
}

#[async_trait::async_trait]
impl Handler for EchoHandler {
    type Labels = ();
    type Pending = ();

    fn try_respond(&self, request: &Inbound) -> Step<Response<()>, ()> {
        if request.path.contains("later") { Step::Pending(()) } else { Step::Ready(echo(request)) }
    }

    async fn respond(&self, request: Inbound, (): (), _charge: MemoryCharge) -> Response<()> {
        sleep(Duration::from_millis(1)).await;
        echo(&request)
    }

    fn reject(&self, request: &Inbound, why: Rejection) -> Response<()> {
        Response { status: 413, ..text(format!("{why:?} {request:?}")) }
    }

    fn on_complete(&self, record: AccessRecord<()>) {
        let AccessRecord { verb, version, status, bytes_in, bytes_out, .. } = record;
        self.report(format!("{verb:?} {version:?} {status} {bytes_in} {bytes_out}"));
    }

    fn on_refused(&self, refused: RefusedRequest) {
        self.report(format!("{:?} {:?}", refused.version, refused.why));
    }
}

fn echo(request: &Inbound) -> Response<()> {
    if request.verb == Verb::Options {
        return Response { status: 204, ..Response::default() };
    }
    // Pingora's session gets these characters of a target escaped.
    let mut request = request.clone();
    let path = String::from_utf8_lossy(&escape(request.path.as_bytes())).into_owned();
    (request.path, request.query) = (path, Bytes::from(escape(&request.query)));
    text(format!("{request:?}"))
}

fn escape(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().fold(Vec::new(), |mut escaped, byte| {
        match byte {
            b'"' | b'<' | b'>' | b'`' => escaped.extend_from_slice(format!("%{byte:02X}").as_bytes()),
            _ => escaped.push(*byte),
        }
        escaped
    })
}

fn text(text: String) -> Response<()> {
    Response { status: 200, content_type: Some("text/plain"), body: Bytes::from(text), ..Response::default() }
}
