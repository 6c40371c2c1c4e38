//! What one client cannot do to the process or to other clients. Connections, handshakes and memory are limited per client
//! address; loopback has many addresses.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use super::tls::{Certificate, client_hello, tls_connect};
use super::{environment, sandbox};
use crate::support::http::{get, read_response, request, send_raw};
use crate::support::process::Process;
use crate::support::samples::png;
use crate::support::scripted_upstream::UpstreamServer;
use crate::support::upstream_reply::UpstreamReply;

const POLL: &[u8] = b"GET /res.php?key=K&action=get&id=1 HTTP/1.1\r\nHost: x\r\n\r\n";

/// Connects from a loopback address.
pub(super) async fn connect_from(last: u8, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)), 0)).expect("a loopback address");
    socket.connect(to).await.expect("a connection")
}

/// Whether the server answers a poll on a connection, instead of closing it.
pub(super) async fn is_served(stream: &mut TcpStream) -> bool {
    stream.write_all(POLL).await.is_ok()
        && read_response(stream).await.is_ok_and(|response| response.body == b"ERROR_WRONG_CAPTCHA_ID")
}

#[tokio::test]
async fn one_address_cannot_take_all_connections() {
    let settings = [("CAPGATE_LIMITS_ADDRESS_CONNECTIONS_MAX", "3")];
    let mut process = Process::start("run", &sandbox(&settings)).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(connect_from(1, process.http).await);
        assert!(is_served(held.last_mut().expect("pushed")).await);
    }
    assert!(!is_served(&mut connect_from(1, process.http).await).await);
    assert!(is_served(&mut connect_from(2, process.http).await).await);
    let metrics = process.wait_for_metric("capgate_connections_refused_total{reason=\"address\"} 1").await;
    assert!(metrics.contains("capgate_connections_shed_total 0\n"), "{metrics}");
    held.pop();
    process.wait_for_metric("capgate_connections 2").await;
    assert!(is_served(&mut connect_from(1, process.http).await).await);
    process.stop().await;
}

#[tokio::test]
async fn an_exempt_network_has_no_limit_per_address() {
    let settings =
        [("CAPGATE_LIMITS_ADDRESS_CONNECTIONS_MAX", "1"), ("CAPGATE_LIMITS_EXEMPT_NETWORKS", "[\"127.0.0.1/32\"]")];
    let mut process = Process::start("run", &sandbox(&settings)).await;
    let mut held = Vec::new();
    for _ in 0..5 {
        held.push(connect_from(1, process.http).await);
        assert!(is_served(held.last_mut().expect("pushed")).await);
    }
    let mut other = connect_from(2, process.http).await;
    assert!(is_served(&mut other).await && !is_served(&mut connect_from(2, process.http).await).await);
    process.stop().await;
}

#[tokio::test]
async fn unfinished_tls_handshakes_time_out_and_do_not_shut_others_out() {
    let certificate = Certificate::new();
    let settings = [("CAPGATE_LIMITS_ADDRESS_HANDSHAKES_MAX", "3"), ("CAPGATE_LIMITS_HANDSHAKE_TIMEOUT_MS", "1000")];
    let mut process = Process::start("run", &certificate.sandbox(&settings)).await;
    let https = process.https.expect("an HTTPS listener");
    let silent = [connect_from(1, https).await, connect_from(1, https).await, connect_from(1, https).await];
    process.wait_for_metric("capgate_connections 3").await;
    // Plain HTTP and other addresses are not concerned; the address itself waits for the silent connections to time out.
    assert!(is_served(&mut connect_from(1, process.http).await).await);
    let mut honest = tls_connect(https, certificate.der(), b"http/1.1").await;
    honest.write_all(POLL).await.expect("written");
    assert_eq!(read_response(&mut honest).await.expect("a response").body, b"ERROR_WRONG_CAPTCHA_ID");
    process.wait_for_metric("capgate_connections_refused_total{reason=\"handshake_timeout\"} 3").await;
    drop(honest);
    drop(silent);
    process.stop().await;
}

/// Neither connections that send nothing, nor half a first message, nor only that message, keep others waiting.
#[tokio::test]
async fn held_tls_handshakes_of_many_addresses_shut_nobody_out() {
    let certificate = Certificate::new();
    let settings = [("CAPGATE_LIMITS_HANDSHAKES_MAX", "3"), ("CAPGATE_LIMITS_HANDSHAKE_TIMEOUT_MS", "60000")];
    let mut process = Process::start("run", &certificate.sandbox(&settings)).await;
    let https = process.https.expect("an HTTPS listener");
    let hello = client_hello(certificate.der()).await;
    let mut held = Vec::new();
    for (number, sent) in [&b""[..], &hello[..hello.len() / 2], &hello].into_iter().cycle().take(15).enumerate() {
        let mut stream = connect_from(10 + u8::try_from(number).expect("few"), https).await;
        stream.write_all(sent).await.expect("written");
        held.push(stream);
    }
    process.wait_for_metric("capgate_connections 15").await;
    let mut honest = tls_connect(https, certificate.der(), b"http/1.1").await;
    honest.write_all(POLL).await.expect("written");
    assert_eq!(read_response(&mut honest).await.expect("a response").body, b"ERROR_WRONG_CAPTCHA_ID");
    drop((honest, held));
    process.stop().await;
}

#[tokio::test]
async fn connections_leave_files_for_the_admin_listener() {
    let certificate = Certificate::new();
    let mut process = Process::start_with_files(256, &certificate.sandbox(&[])).await;
    assert!(
        process.log.iter().any(|line| line.contains("\"configured\":20000") && line.contains("\"lowered\":192")),
        "{:#?}",
        process.log
    );
    assert!(
        process.log.iter().any(|line| line.contains("\"configured\":1024") && line.contains("\"lowered\":32")),
        "{:#?}",
        process.log
    );
    let https = process.https.expect("an HTTPS listener");
    let mut silent = Vec::new();
    for number in 0..1_000 {
        silent.push(connect_from(1, if number % 2 == 0 { https } else { process.http }).await);
    }
    assert_eq!(get(process.admin.expect("an admin listener"), "/livez").await.status, 200);
    let metrics = process.metrics().await;
    assert!(!metrics.contains("capgate_connections_shed_total 0\n"), "{metrics}");
    drop(silent);
    process.wait_for_metric("capgate_connections 0").await;
    assert!(is_served(&mut connect_from(1, process.http).await).await);
    process.stop().await;
}

#[tokio::test]
async fn unfinished_headers_are_limited_per_address() {
    let settings = [("CAPGATE_LIMITS_ADDRESS_BYTES_MAX", "1048576"), ("CAPGATE_LIMITS_BODY_BYTES_MAX", "786432")];
    let mut process = Process::start("run", &sandbox(&settings)).await;
    let unfinished = format!("GET /res.php?key=K HTTP/1.1\r\nHost: x\r\nA: {}", "x".repeat(40_000));
    let mut held = Vec::new();
    for _ in 0..60 {
        let mut stream = connect_from(1, process.http).await;
        let _ = stream.write_all(unfinished.as_bytes()).await;
        held.push(stream);
    }
    // 60 headers of 40 kB are more than a mebibyte.
    let mut metrics = process.metrics().await;
    while metrics.contains("capgate_refused_requests_total{reason=\"overloaded\"} 0\n") {
        tokio::task::yield_now().await;
        metrics = process.metrics().await;
    }
    let mut other = connect_from(2, process.http).await;
    assert!(other.write_all(unfinished.as_bytes()).await.is_ok() && other.write_all(b"\r\n\r\n").await.is_ok());
    // A header of 40 kB is more than is served, once it is complete.
    assert_eq!(read_response(&mut other).await.expect("a response").status, 400);
    drop(held);
    process.wait_for_metric("capgate_connections 0").await;
    // Everything was returned.
    let mut again = connect_from(1, process.http).await;
    let finished = format!("{}\r\n\r\n", unfinished.replace(&"x".repeat(40_000), &"x".repeat(20_000)));
    again.write_all(finished.as_bytes()).await.expect("written");
    assert_eq!(read_response(&mut again).await.expect("a response").body, b"ERROR_EMPTY_ACTION");
    process.stop().await;
}

/// Images are solved inside `createTask`, so bodies are in memory for as long as the upstream works.
#[tokio::test]
async fn images_in_flight_do_not_pile_up_copies() {
    const SUBMITS: usize = 30;
    let mut upstream = UpstreamServer::start().await;
    let mut process = Process::start("run", &[upstream.setting()]).await;
    let address = process.http;
    let mut image = png();
    image.resize(450_000, 7);
    let body = format!("method=base64&body={}", BASE64_STANDARD.encode(image).replace('+', "%2B").replace('/', "%2F"));
    let total_bytes = SUBMITS * body.len();
    upstream.submit(address).await;
    let before = process.resident_bytes();
    let submits: Vec<_> = (0..SUBMITS)
        .map(|_| {
            let body = format!("key=K&{body}").into_bytes();
            let headers = [("Content-Type", "application/x-www-form-urlencoded")];
            tokio::spawn(async move { request(address, "POST", "/in.php", &headers, &body).await })
        })
        .collect();
    let mut calls = Vec::new();
    for _ in 0..SUBMITS {
        calls.push(upstream.next_call().await);
    }
    let grown = process.resident_bytes().saturating_sub(before);
    // A submit is never sent twice, so nothing of it is kept once the upstream has read it, but what Pingora's session took
    // to read the body.
    let readers = SUBMITS * 72 * 1_024;
    process.wait_for_metric(&format!("capgate_memory_charged_bytes {readers}")).await;
    // Resident memory includes what the allocator keeps of the decoding, which depends on how many decode at once. Held until
    // the answer, with its decoded copies, a body took 3.7 times its size.
    assert!(grown < total_bytes * 3, "{grown} bytes for {total_bytes}");
    for call in calls {
        assert!(call.reply(UpstreamReply::ok(r#"{"errorId":0,"taskId":"u","status":"processing"}"#)));
    }
    for submit in submits {
        assert!(submit.await.expect("no panic").expect("a response").body.starts_with(b"OK|"));
    }
    process.stop().await;
}

#[tokio::test]
async fn a_target_may_be_long_only_where_clients_send_images_in_it() {
    let mut process = Process::start("run", &sandbox(&[])).await;
    let image = "A".repeat(200_000);
    let submit = format!("/in.php?key=K&method=base64&body={image}");
    assert_eq!(get(process.http, &submit).await.body, b"ERROR_IMAGE_TYPE_NOT_SUPPORTED");
    let endless = |path: &str| format!("GET {path}?key={} ", "K".repeat(400_000));
    for path in ["/in.php", "/res.php"] {
        let response = send_raw(process.http, endless(path).as_bytes()).await.expect("a connection");
        assert!(response.starts_with("HTTP/1.1 431 ") || response.is_empty(), "{response}");
    }
    let poll = format!("GET /res.php?key=K&action={} HTTP/1.1\r\nHost: x\r\n\r\n", "g".repeat(20_000));
    let response = send_raw(process.http, poll.as_bytes()).await.expect("a connection");
    assert!(response.starts_with("HTTP/1.1 400 "), "{response}");
    process.wait_for_metric("capgate_refused_requests_total{reason=\"header_too_large\"} 2").await;
    process.stop().await;
}

#[tokio::test]
async fn a_request_gets_the_same_verdict_however_its_bytes_are_cut() {
    let mut process = Process::start("run", &sandbox(&[])).await;
    let body = format!("key=K&action=get&id=1&x={}", "x".repeat(6_000));
    let post = |target: &str, version: &str| {
        format!(
            "POST {target} HTTP/{version}\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let get = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    for (target, expected) in [
        ("/res.php?a=<b>", "HTTP/1.1 200 OK"),
        ("/res.php?a=\"b\"", "HTTP/1.1 200 OK"),
        ("/res.php?a=b c", "HTTP/1.1 200 OK"),
        ("/res.php?a=\tb", "HTTP/1.1 400 Bad Request"),
        ("/res.php?a=\0b", "HTTP/1.1 400 Bad Request"),
        ("/res.php?a=\rb", "HTTP/1.1 400 Bad Request"),
    ] {
        // The first is served by the fast path, the others by Pingora's session.
        for (request, piece) in [get(target), post(target, "1.1"), post(target, "1.0")]
            .iter()
            .flat_map(|request| [request.len(), 1, 7, 60].map(|piece| (request, piece)))
        {
            let mut stream = TcpStream::connect(process.http).await.expect("a connection");
            stream.set_nodelay(true).expect("an option");
            for bytes in request.as_bytes()[..150.min(request.len())].chunks(piece) {
                let _ = stream.write_all(bytes).await;
                tokio::task::yield_now().await;
            }
            let _ = stream.write_all(&request.as_bytes()[150.min(request.len())..]).await;
            let mut response = Vec::new();
            let _ = stream.read_to_end(&mut response).await;
            let response = String::from_utf8_lossy(&response).into_owned();
            assert_eq!(response.lines().next(), Some(expected), "{request:?} in pieces of {piece}");
        }
    }
    process.stop().await;
}

#[tokio::test]
async fn refused_requests_are_counted_and_logged() {
    let mut process = Process::start("run", &sandbox(&[])).await;
    let broken_chunk = "POST /res.php HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n";
    for request in ["nonsense\r\n\r\n", "CONNECT a:1 HTTP/1.1\r\nHost: x\r\n\r\n", broken_chunk] {
        let response = send_raw(process.http, request.as_bytes()).await.expect("a connection");
        assert!(response.starts_with("HTTP/1.1 400 "), "{request:?}: {response}");
    }
    process.wait_for_metric("capgate_refused_requests_total{reason=\"malformed\"} 3").await;
    process.stop().await;
    let logged = process.log.iter().filter(|line| line.contains("\"outcome\":\"malformed\"")).count();
    assert_eq!(logged, 3, "{:#?}", process.log);
}

#[tokio::test]
async fn http2_streams_and_headers_are_limited() {
    let settings = [("CAPGATE_LIMITS_ADDRESS_BYTES_MAX", "1048576"), ("CAPGATE_LIMITS_BODY_BYTES_MAX", "786432")];
    let mut process = Process::start("run", &sandbox(&settings)).await;
    let stream = TcpStream::connect(process.http).await.expect("a connection");
    let (send_request, connection) = h2::client::handshake(stream).await.expect("a handshake");
    tokio::spawn(connection);
    let mut send_request = send_request.ready().await.expect("ready");
    let request = |value: &str| {
        let request = http::Request::post("http://x/res.php").header("a", value);
        request.body(()).expect("a request")
    };
    let (response, _) = send_request.send_request(request("b"), true).expect("sent");
    assert_eq!(response.await.expect("a response").status(), 200);
    assert_eq!(send_request.current_max_send_streams(), 32);
    // A header list above the limit is refused, by a status or a reset.
    let (response, _) = send_request.send_request(request(&"b".repeat(20_000)), true).expect("sent");
    assert!(response.await.map_or(true, |response| response.status() == 431));
    // Headers of streams that never end are charged to their address: 13 kB each, 30 streams on each connection.
    let (mut clients, mut held) = (Vec::new(), Vec::new());
    for _ in 0..4 {
        let stream = TcpStream::connect(process.http).await.expect("a connection");
        let (send_request, connection) = h2::client::handshake(stream).await.expect("a handshake");
        tokio::spawn(connection);
        let mut send_request = send_request.ready().await.expect("ready");
        for _ in 0..30 {
            send_request = send_request.ready().await.expect("ready");
            held.push(send_request.send_request(request(&"b".repeat(13_000)), false).expect("sent"));
        }
        clients.push(send_request);
    }
    let mut metrics = process.metrics().await;
    while metrics.contains("capgate_refused_requests_total{reason=\"overloaded\"} 0\n") {
        tokio::task::yield_now().await;
        metrics = process.metrics().await;
    }
    assert!(is_served(&mut connect_from(2, process.http).await).await);
    drop((clients, held));
    process.stop().await;
}

/// The h2 crate answers any number of pings, and reads from one connection for as long as they arrive.
#[tokio::test]
async fn http2_connections_that_only_send_control_frames_are_closed() {
    let mut process = Process::start("run", &sandbox(&[])).await;
    let frame = |kind: u8, stream: u8, payload: &[u8]| {
        let length = u8::try_from(payload.len()).expect("a short payload");
        [&[0, 0, length, kind, 0, 0, 0, 0, stream][..], payload].concat()
    };
    let preface = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &frame(4, 0, b"")[..]].concat();
    let mut honest = TcpStream::connect(process.http).await.expect("a connection");
    honest.write_all(&[&preface[..], &frame(6, 0, b"12345678").repeat(150)].concat()).await.expect("written");
    for flood in [frame(6, 0, b"12345678"), frame(4, 0, b""), frame(8, 0, b"\0\0\0\x01")] {
        let mut stream = TcpStream::connect(process.http).await.expect("a connection");
        stream.write_all(&[&preface[..], &flood.repeat(1_100)].concat()).await.expect("written");
        // Ends with a reset if the gateway closes before it has read everything.
        let _ = stream.read_to_end(&mut Vec::new()).await;
    }
    process.wait_for_metric("capgate_connections 1").await;
    drop(honest);
    process.stop().await;
}

#[tokio::test]
async fn http2_refusals_are_counted_and_do_not_name_the_server() {
    let mut process = Process::start("run", &sandbox(&[])).await;
    let stream = TcpStream::connect(process.http).await.expect("a connection");
    let (send_request, connection) = h2::client::handshake(stream).await.expect("a handshake");
    tokio::spawn(connection);
    let mut send_request = send_request.ready().await.expect("ready");
    // Refused here, and by Pingora, which sends no headers.
    for (method, host, has_headers) in [("TRACE", "x", true), ("GET", "y", false)] {
        let request = http::Request::builder().method(method).uri("http://x/res.php").header("host", host);
        let (response, _) = send_request.send_request(request.body(()).expect("a request"), true).expect("sent");
        let response = response.await.expect("a response");
        assert_eq!((response.status().as_u16(), response.headers().get("server")), (400, None), "{method}");
        let cache = response.headers().get("cache-control").map(http::HeaderValue::as_bytes);
        assert_eq!(cache, has_headers.then_some(&b"no-store"[..]), "{method}");
    }
    process.wait_for_metric("capgate_refused_requests_total{reason=\"malformed\"} 2").await;
    process.stop().await;
}

#[tokio::test]
async fn a_response_to_head_has_no_body_in_http2_either() {
    let mut process = Process::start("run", &sandbox(&[])).await;
    let stream = TcpStream::connect(process.http).await.expect("a connection");
    let (send_request, connection) = h2::client::handshake(stream).await.expect("a handshake");
    tokio::spawn(connection);
    let mut send_request = send_request.ready().await.expect("ready");
    let request = http::Request::head("http://x/in.php").body(()).expect("a request");
    let (response, _) = send_request.send_request(request, true).expect("sent");
    let mut response = response.await.expect("a response");
    assert_eq!(response.status(), 405);
    while let Some(chunk) = response.body_mut().data().await {
        assert!(chunk.expect("a chunk").is_empty());
    }
    process.stop().await;
}

#[tokio::test]
async fn a_key_of_another_certificate_is_refused_at_start() {
    let (certificate, other) = (Certificate::new(), Certificate::new());
    let mut settings = certificate.sandbox(&[]);
    settings.push(("CAPGATE_TLS_KEY".to_owned(), other.key_path.clone()));
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_capgate"))
        .arg("run")
        .env_clear()
        .envs(settings.into_iter().chain(environment(&[("CAPGATE_LISTEN_HTTP", "127.0.0.1:0")])))
        .kill_on_drop(true)
        .output()
        .await
        .expect("the binary");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains(&certificate.cert_path) && error.contains(&other.key_path), "{error}");
}

#[tokio::test]
async fn signals_of_terminals_and_log_rotation_end_nothing() {
    let mut process = Process::start("run", &sandbox(&[])).await;
    for signal in ["HUP", "USR1", "USR2"] {
        process.signal(signal);
        process.wait_for_line(&format!("\"signal\":\"SIG{signal}\"")).await;
    }
    assert!(is_served(&mut connect_from(1, process.http).await).await);
    process.signal("QUIT");
    assert_eq!(process.wait().await, Some(0));
    assert!(process.log.iter().any(|line| line.contains("\"drained\"")), "{:#?}", process.log);
}

/// Pingora's session takes a buffer of 64 KiB for each body, however few bytes of it have arrived.
#[tokio::test]
async fn the_buffers_of_unfinished_bodies_count() {
    let settings = [("CAPGATE_LIMITS_ADDRESS_BYTES_MAX", "1048576"), ("CAPGATE_LIMITS_BODY_BYTES_MAX", "786432")];
    let mut process = Process::start("run", &sandbox(&settings)).await;
    let mut held = Vec::new();
    // 16 buffers are a mebibyte.
    for _ in 0..16 {
        let mut stream = connect_from(1, process.http).await;
        let unfinished = b"POST /in.php?key=K HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\na";
        stream.write_all(unfinished).await.expect("written");
        held.push(stream);
    }
    process.wait_for_metric("capgate_rejected_requests_total{reason=\"overloaded\"} 2").await;
    assert!(is_served(&mut connect_from(1, process.http).await).await, "a poll needs no buffer");
    drop(held);
    process.wait_for_metric("capgate_memory_charged_bytes 0").await;
    process.stop().await;
}

/// A body may take longer than it takes the meter to fill, while the address sends other requests.
#[tokio::test]
async fn a_slow_body_is_not_taken_for_too_many_requests() {
    let settings =
        [("CAPGATE_LIMITS_ADDRESS_REQUESTS_PER_SECOND", "1000"), ("CAPGATE_LIMITS_ADDRESS_REQUESTS_BURST", "10")];
    let mut process = Process::start("run", &sandbox(&settings)).await;
    let mut slow = connect_from(1, process.http).await;
    slow.write_all(b"POST /res.php HTTP/1.1\r\nHost: x\r\nContent-Length: 24\r\n\r\nkey=K&action=getbal")
        .await
        .expect("written");
    // The meter of ten requests is empty after 10 ms.
    let started = std::time::Instant::now();
    while started.elapsed() < std::time::Duration::from_millis(50) {
        tokio::task::yield_now().await;
    }
    assert!(is_served(&mut connect_from(1, process.http).await).await);
    slow.write_all(b"ance&").await.expect("written");
    assert_eq!(read_response(&mut slow).await.expect("a response").body, b"50.2500");
    process.stop().await;
}
