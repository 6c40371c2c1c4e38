//! The client of the native API against several addresses, some of which fail, over real sockets.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use capgate::domain::Account;
use capgate::gateway::upstream::{SendError, Upstream as _};
use capgate::native::{Answer, Call, Endpoint};
use capgate::telemetry::metrics::MetricsRegistry;
use capgate::upstream::client::NativeUpstream;
use capgate::upstream::options::Options;
use parking_lot::Mutex;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;
use url::Url;

use crate::support::http;

/// A server on its own loopback address.
struct Server {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    /// Bodies of the requests.
    requests: Arc<Mutex<Vec<String>>>,
    /// Whether it answers; otherwise it reads requests and keeps the connections open.
    answers: Arc<AtomicBool>,
}

impl Server {
    async fn start(host: [u8; 4], answers: bool) -> Self {
        let listener = TcpListener::bind(SocketAddr::from((host, 0))).await.expect("a port");
        let server = Self {
            address: listener.local_addr().expect("an address"),
            connections: Arc::default(),
            requests: Arc::default(),
            answers: Arc::new(AtomicBool::new(answers)),
        };
        let (connections, requests) = (Arc::clone(&server.connections), Arc::clone(&server.requests));
        let answers = Arc::clone(&server.answers);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(serve(stream, Arc::clone(&requests), Arc::clone(&answers)));
            }
        });
        server
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().clone()
    }
}

/// Answers the first request on each connection, and closes the connection at the second.
async fn start_forgetful(host: [u8; 4]) -> SocketAddr {
    let listener = TcpListener::bind(SocketAddr::from((host, 0))).await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                for answer in [&b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"[..], b""] {
                    let (_, mut body) = http::read_head(&mut stream).await?;
                    http::read_body(&mut stream, &mut body, 4).await?;
                    stream.write_all(answer).await?;
                }
                std::io::Result::Ok(())
            });
        }
    });
    address
}

async fn serve(mut stream: TcpStream, requests: Arc<Mutex<Vec<String>>>, answers: Arc<AtomicBool>) {
    while let Ok((head, mut body)) = http::read_head(&mut stream).await {
        let headers = http::parse_headers(head.split("\r\n").skip(1));
        let length = http::header(&headers, "Content-Length").and_then(|length| length.parse().ok()).unwrap_or(0);
        if http::read_body(&mut stream, &mut body, length).await.is_err() {
            return;
        }
        requests.lock().push(String::from_utf8(body).expect("UTF-8"));
        if answers.load(Ordering::Relaxed) {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").await;
        }
    }
}

/// Answers each request with the body of the one before it on its connection, as a proxy does that has lost count.
async fn start_late(host: [u8; 4], connections: Arc<AtomicUsize>) -> SocketAddr {
    let listener = TcpListener::bind(SocketAddr::from((host, 0))).await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            connections.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(async move {
                let mut last = b"none".to_vec();
                loop {
                    let (_, mut body) = http::read_head(&mut stream).await?;
                    http::read_body(&mut stream, &mut body, 4).await?;
                    let answer = std::mem::replace(&mut last, body);
                    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n").await?;
                    stream.write_all(&answer).await?;
                }
                #[allow(unreachable_code, reason = "states the type")]
                std::io::Result::Ok(())
            });
        }
    });
    address
}

/// Returns an address that refuses connections.
fn refusing(host: [u8; 4]) -> SocketAddr {
    let listener = std::net::TcpListener::bind(SocketAddr::from((host, 0))).expect("a port");
    listener.local_addr().expect("an address")
}

/// A listener whose backlog is full: the kernel drops further connection attempts.
struct BlackHole {
    address: SocketAddr,
    _listener: TcpListener,
    _backlog: Vec<TcpStream>,
}

impl BlackHole {
    async fn start(host: [u8; 4]) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(SocketAddr::from((host, 0))).expect("a port");
        let listener = socket.listen(1).expect("a listener");
        let address = listener.local_addr().expect("an address");
        let mut backlog = Vec::new();
        while let Ok(stream) = tokio::time::timeout(Duration::from_millis(300), TcpStream::connect(address)).await {
            backlog.push(stream.expect("a connection"));
        }
        Self { address, _listener: listener, _backlog: backlog }
    }
}

fn options() -> Options {
    Options {
        url: Url::parse("http://api.test/").expect("a URL"),
        ca_file: None,
        connect_timeout: Duration::from_millis(400),
        poll_timeout: Duration::from_secs(20),
        submit_timeout: Duration::from_secs(20),
        idle_timeout: Duration::from_secs(20),
        connections_idle_max: 100,
        eject_failures: 5,
        eject_max: Duration::from_secs(60),
        health_check: None,
        answer_bytes_max: 1_000,
    }
}

fn client(addresses: &[SocketAddr], options: Options) -> (NativeUpstream, MetricsRegistry) {
    let (registry, addresses) = (MetricsRegistry::new(), addresses.to_vec());
    let look_up = move || {
        let addresses = addresses.clone();
        let look_up: std::pin::Pin<Box<dyn Future<Output = _> + Send>> = Box::pin(async move { Ok(addresses) });
        look_up
    };
    let client = NativeUpstream::with_look_up(options, &registry, Box::new(look_up)).expect("a client");
    (client, registry)
}

async fn send(client: &NativeUpstream, endpoint: Endpoint, body: &str) -> Result<Answer, SendError> {
    send_of(client, "K", endpoint, body).await
}

async fn send_of(client: &NativeUpstream, account: &str, endpoint: Endpoint, body: &str) -> Result<Answer, SendError> {
    let account = Account::new(account).expect("a key");
    client.send(Call { account, endpoint, body: Bytes::from(body.to_owned()) }).await
}

fn assert_metric(registry: &MetricsRegistry, line: &str) {
    let metrics = String::from_utf8(registry.render()).expect("UTF-8");
    assert!(metrics.contains(&format!("{line}\n")), "no {line} in {metrics}");
}

fn has_metric(registry: &MetricsRegistry, line: &str) -> bool {
    String::from_utf8(registry.render()).expect("UTF-8").contains(&format!("{line}\n"))
}

async fn wait_for_metric(registry: &MetricsRegistry, line: &str) {
    for _ in 0..1_000 {
        if has_metric(registry, line) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_metric(registry, line);
}

#[tokio::test]
async fn dead_addresses_cost_no_submit_and_each_submit_is_sent_once() {
    let black_hole = BlackHole::start([127, 0, 0, 3]).await;
    let servers = [Server::start([127, 0, 0, 4], true).await, Server::start([127, 0, 0, 5], true).await];
    let dead_ipv6: SocketAddr = "[::1]:1".parse().expect("an address");
    let addresses = [refusing([127, 0, 0, 2]), black_hole.address, servers[0].address, servers[1].address, dead_ipv6];
    let (client, registry) = client(&addresses, options());
    let mut sent: Vec<String> = Vec::new();
    // At once, and then one after the other.
    let mut submits = JoinSet::new();
    for number in 0..40 {
        let (client, body) = (client.clone(), format!("at once {number}"));
        sent.push(body.clone());
        submits.spawn(async move { send(&client, Endpoint::CreateTask, &body).await });
    }
    for result in submits.join_all().await {
        assert!(result.is_ok(), "{result:?}");
    }
    // No submit waited for the black hole, which is ejected once a connection attempt has failed.
    wait_for_metric(&registry, "capgate_upstream_addresses{state=\"ejected\"} 3").await;
    // From now on, no submit meets a dead address, because submits are no probes.
    for number in 0..40 {
        let body = format!("in turn {number}");
        sent.push(body.clone());
        let result = send(&client, Endpoint::CreateTask, &body).await;
        assert!(result.is_ok(), "{result:?}");
    }
    assert_metric(&registry, "capgate_upstream_ejections_total{cause=\"connect\"} 3");
    assert_metric(&registry, "capgate_upstream_addresses{state=\"healthy\"} 2");
    let mut received = servers.iter().flat_map(Server::requests).collect::<Vec<_>>();
    assert!(servers.iter().all(|server| !server.requests().is_empty()), "one server got all submits");
    received.sort();
    sent.sort();
    assert_eq!(received, sent);
}

#[tokio::test]
async fn an_address_that_answers_no_polls_gets_no_submits() {
    let silent = Server::start([127, 0, 0, 2], false).await;
    let alive = Server::start([127, 0, 0, 3], true).await;
    let timeouts =
        Options { connect_timeout: Duration::from_millis(100), poll_timeout: Duration::from_millis(200), ..options() };
    let (client, registry) = client(&[silent.address, alive.address], timeouts);
    for _ in 0..20 {
        let _ = send(&client, Endpoint::GetTaskResult, "poll").await;
        if has_metric(&registry, "capgate_upstream_ejections_total{cause=\"call\"} 1") {
            break;
        }
    }
    assert_metric(&registry, "capgate_upstream_addresses{state=\"ejected\"} 1");
    for _ in 0..20 {
        let result = send(&client, Endpoint::CreateTask, "submit").await;
        assert!(result.is_ok(), "{result:?}");
    }
    assert_eq!(silent.requests(), ["poll"; 5]);
}

#[tokio::test]
async fn the_circuit_opens_if_no_address_answers_and_closes_after_a_few_answers() {
    let server = Server::start([127, 0, 0, 2], false).await;
    let timeouts =
        Options { connect_timeout: Duration::from_millis(100), poll_timeout: Duration::from_millis(500), ..options() };
    let (client, registry) = client(&[server.address], timeouts);
    let mut polls = JoinSet::new();
    for _ in 0..5 {
        let client = client.clone();
        polls.spawn(async move { send(&client, Endpoint::GetTaskResult, "poll").await });
    }
    let timeout = SendError { sent: true, cause: "timeout" };
    assert!(polls.join_all().await.iter().all(|result| result.as_ref().err() == Some(&timeout)));
    assert_metric(&registry, "capgate_upstream_addresses{state=\"ejected\"} 1");
    // One call is the probe; none of the others is sent.
    let mut submits = JoinSet::new();
    for number in 0..20 {
        let client = client.clone();
        let endpoint = if number == 0 { Endpoint::GetTaskResult } else { Endpoint::CreateTask };
        submits.spawn(async move { send(&client, endpoint, "probe").await });
    }
    let mut open = 0;
    for result in submits.join_all().await {
        let error = result.expect_err("no answer");
        open += usize::from(error == SendError { sent: false, cause: "circuit_open" });
        assert!(error == timeout || !error.sent, "{error:?}");
    }
    assert_eq!((open, server.requests().iter().filter(|body| *body == "probe").count()), (19, 1));
    server.answers.store(true, Ordering::Relaxed);
    for _ in 0..4 {
        assert!(send(&client, Endpoint::GetTaskResult, "poll").await.is_ok());
    }
    assert_metric(&registry, "capgate_upstream_addresses{state=\"healthy\"} 1");
}

/// Without a second attempt, a call that begins with the black hole waits for it until its own time limit.
#[tokio::test]
async fn a_black_holed_address_delays_no_call_until_its_timeout() {
    let black_hole = BlackHole::start([127, 0, 0, 2]).await;
    let alive = Server::start([127, 0, 0, 3], true).await;
    let endless = Options {
        connect_timeout: Duration::from_secs(3_600),
        poll_timeout: Duration::from_secs(5),
        submit_timeout: Duration::from_secs(5),
        connections_idle_max: 0,
        ..options()
    };
    let (client, registry) = client(&[black_hole.address, alive.address], endless);
    for endpoint in [Endpoint::CreateTask, Endpoint::GetTaskResult, Endpoint::CreateTask, Endpoint::GetTaskResult] {
        let result = send(&client, endpoint, "call").await;
        assert!(result.is_ok(), "{result:?}");
    }
    assert_eq!(alive.requests(), ["call"; 4]);
    assert_metric(&registry, "capgate_upstream_addresses{state=\"healthy\"} 2");
}

/// The attempt that lost against another address goes on, and its failure ejects the address.
#[tokio::test]
async fn a_black_holed_address_is_ejected_although_no_call_waits_for_it() {
    let black_hole = BlackHole::start([127, 0, 0, 2]).await;
    let alive = Server::start([127, 0, 0, 3], true).await;
    let (client, registry) = client(&[black_hole.address, alive.address], options());
    for _ in 0..500 {
        assert!(send(&client, Endpoint::CreateTask, "submit").await.is_ok());
        if has_metric(&registry, "capgate_upstream_ejections_total{cause=\"connect\"} 1") {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not ejected");
}

#[tokio::test]
async fn polls_are_repeated_within_the_retry_budget() {
    let address = start_forgetful([127, 0, 0, 2]).await;
    let (client, registry) = client(&[address], Options { eject_failures: 1_000_000, ..options() });
    let mut failed = 0;
    for _ in 0..200 {
        failed += usize::from(send(&client, Endpoint::GetTaskResult, "poll").await.is_err());
    }
    // A fifth of the calls, ten that are saved up, and one for each second.
    let sent = (0..=100)
        .find(|sent| has_metric(&registry, &format!("capgate_upstream_retries_total{{result=\"sent\"}} {sent}")));
    assert!(sent.is_some_and(|sent| sent >= 10), "{sent:?}");
    // A poll that is not repeated fails and leaves no pooled connection to the next one.
    assert!(failed >= 50, "{failed}");
    assert_metric(&registry, &format!("capgate_upstream_retries_total{{result=\"denied\"}} {failed}"));
}

/// Health checks alone find out that one address is dead and that it is back; no call has to.
#[tokio::test]
async fn health_checks_eject_an_address_and_let_it_recover() {
    let checked = Server::start([127, 0, 0, 2], false).await;
    let frequent = Options {
        poll_timeout: Duration::from_millis(50),
        health_check: Some(Duration::from_millis(10)),
        eject_failures: 2,
        ..options()
    };
    let (client, registry) = client(&[checked.address, refusing([127, 0, 0, 3])], frequent);
    // The first call looks up the addresses.
    let _ = send(&client, Endpoint::GetTaskResult, "poll").await;
    let checks = tokio::spawn(client.run_health_checks());
    wait_for_metric(&registry, "capgate_upstream_addresses{state=\"ejected\"} 2").await;
    checked.answers.store(true, Ordering::Relaxed);
    wait_for_metric(&registry, "capgate_upstream_addresses{state=\"healthy\"} 1").await;
    assert!(checked.requests().iter().skip(1).all(String::is_empty), "a check has a body");
    // A call is no probe: the ejected address costs it nothing.
    let before = checked.requests().len();
    assert!(send(&client, Endpoint::GetTaskResult, "poll").await.is_ok());
    assert!(checked.requests().len() > before);
    checks.abort();
}

#[tokio::test]
async fn a_call_that_no_address_accepts_is_not_sent() {
    let (client, registry) = client(&[refusing([127, 0, 0, 2]), refusing([127, 0, 0, 3])], options());
    for _ in 0..3 {
        // The ejected addresses are tried too: they may be back.
        let result = send(&client, Endpoint::CreateTask, "submit").await;
        assert_eq!(result.err(), Some(SendError { sent: false, cause: "connect" }));
    }
    assert_metric(&registry, "capgate_upstream_ejections_total{cause=\"connect\"} 6");
}

#[tokio::test]
async fn without_idle_connections_each_call_opens_one() {
    for no_pool in
        [Options { connections_idle_max: 0, ..options() }, Options { idle_timeout: Duration::ZERO, ..options() }]
    {
        let server = Server::start([127, 0, 0, 2], true).await;
        let (client, _) = client(&[server.address], no_pool);
        for _ in 0..3 {
            assert!(send(&client, Endpoint::CreateTask, "submit").await.is_ok());
        }
        assert_eq!((server.connections.load(Ordering::Relaxed), server.requests().len()), (3, 3));
    }
}

#[tokio::test]
async fn no_account_gets_a_stray_response_to_another() {
    let connections = Arc::new(AtomicUsize::new(0));
    let address = start_late([127, 0, 0, 15], Arc::clone(&connections)).await;
    let (client, _) = client(&[address], options());
    for round in 0..20 {
        for account in ["a", "b", "c"] {
            let endpoint = Endpoint::ALL[round % Endpoint::ALL.len()];
            let body = format!("{account}{round:03}");
            let answer = send_of(&client, account, endpoint, &body).await.expect("an answer");
            let answer = String::from_utf8(answer.body.to_vec()).expect("text");
            assert!(answer == "none" || answer.starts_with(account), "{body} is answered with {answer}");
        }
    }
    assert_eq!(connections.load(Ordering::Relaxed), 3, "each account keeps its connection");
}
