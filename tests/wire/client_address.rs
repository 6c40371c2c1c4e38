//! The client's address: whom the gateway believes, what it then counts for whom, and how it limits requests.

use std::net::SocketAddr;

use serde_json::Value as Json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::abuse::{connect_from, is_served};
use super::sandbox;
use super::tls::{Certificate, tls_handshake};
use crate::support::http::read_response;
use crate::support::process::Process;

/// Trusts 127.0.0.1 and 127.0.0.2.
const TRUSTED: (&str, &str) = ("CAPGATE_SERVER_TRUSTED_PROXIES", "[\"127.0.0.1/32\", \"127.0.0.2/32\"]");
const PROXY_PROTOCOL: (&str, &str) = ("CAPGATE_SERVER_PROXY_PROTOCOL", "true");

/// Every path that serves a request: ordinary HTTP/1.1, and what is left to Pingora's session.
fn http1_requests(headers: &str) -> [String; 3] {
    let target = "/res.php?key=K&action=get&id=1";
    [
        format!("GET {target} HTTP/1.1\r\nHost: x\r\n{headers}\r\n"),
        format!("GET {target} HTTP/1.0\r\nConnection: keep-alive\r\n{headers}\r\n"),
        format!("POST {target} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n{headers}\r\n1\r\na\r\n0\r\n\r\n"),
    ]
}

async fn send(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), request: &str) -> Vec<u8> {
    stream.write_all(request.as_bytes()).await.expect("written");
    read_response(stream).await.expect("a response").body
}

/// Sends an HTTP/2 request with these headers.
async fn send_http2(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, headers: &[(&str, &str)]) -> u16 {
    let (send_request, connection) = h2::client::handshake(stream).await.expect("a handshake");
    let connection = tokio::spawn(connection);
    let mut request = http::Request::get("http://x/res.php?key=K&action=get&id=1");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut send_request = send_request.ready().await.expect("ready");
    let (response, _) = send_request.send_request(request.body(()).expect("a request"), true).expect("sent");
    let status = response.await.expect("a response").status().as_u16();
    connection.abort();
    status
}

/// Stops the process and asserts that its access lines have these addresses, in any order.
async fn assert_peers(process: &mut Process, mut expected: Vec<String>) {
    process.stop().await;
    let lines = process.log.iter().filter_map(|line| serde_json::from_str::<Json>(line).ok());
    let requests = lines.filter(|line| line["level"] == "access");
    let mut peers: Vec<_> = requests.filter_map(|line| line["peer"].as_str().map(str::to_owned)).collect();
    peers.sort();
    expected.sort();
    assert_eq!(peers, expected);
}

#[tokio::test]
async fn x_forwarded_for_is_believed_from_trusted_proxies_only_on_every_path() {
    let mut process = Process::start("run", &sandbox(&[TRUSTED])).await;
    let headers = "X-Forwarded-For: 198.51.100.1, 192.0.2.7\r\nx-forwarded-for: 127.0.0.2\r\n";
    let mut expected = Vec::new();
    for (from, client) in [(1, Some("192.0.2.7:0")), (3, None)] {
        let mut stream = connect_from(from, process.http).await;
        let own = stream.local_addr().expect("an address").to_string();
        for request in http1_requests(headers) {
            assert_eq!(send(&mut stream, &request).await, b"ERROR_WRONG_CAPTCHA_ID");
            expected.push(client.map_or(own.clone(), str::to_owned));
        }
        let stream = connect_from(from, process.http).await;
        let own = stream.local_addr().expect("an address").to_string();
        let headers = [("x-forwarded-for", "198.51.100.1, 192.0.2.7"), ("x-forwarded-for", "127.0.0.2")];
        assert_eq!(send_http2(stream, &headers).await, 200);
        expected.push(client.map_or(own, str::to_owned));
    }
    // Without a usable address, the request is the proxy's own.
    let mut stream = connect_from(1, process.http).await;
    for headers in ["", "X-Forwarded-For: 192.0.2.7, unknown\r\n", "X-Forwarded-For: \r\n"] {
        send(&mut stream, &http1_requests(headers)[0]).await;
        expected.push(stream.local_addr().expect("an address").to_string());
    }
    assert_peers(&mut process, expected).await;
}

#[tokio::test]
async fn limits_of_requests_apply_to_the_forwarded_address_and_not_to_the_proxy() {
    let settings = [
        TRUSTED,
        ("CAPGATE_LIMITS_ADDRESS_CONNECTIONS_MAX", "1"),
        ("CAPGATE_LIMITS_ADDRESS_REQUESTS_PER_SECOND", "1"),
        ("CAPGATE_LIMITS_ADDRESS_REQUESTS_BURST", "3"),
    ];
    let mut process = Process::start("run", &sandbox(&settings)).await;
    let mut streams = [connect_from(1, process.http).await, connect_from(1, process.http).await];
    let request =
        |client: &str, number: usize| http1_requests(&format!("X-Forwarded-For: {client}\r\n"))[number].clone();
    let mut answers = Vec::new();
    for number in 0..3 {
        answers.push(send(&mut streams[number % 2], &request("192.0.2.7", number)).await);
    }
    assert_eq!(answers, [b"ERROR_WRONG_CAPTCHA_ID"; 3]);
    // On every path, and however many connections the proxy has.
    for number in 0..3 {
        assert_eq!(send(&mut streams[number % 2], &request("192.0.2.7", number)).await, b"CAPCHA_NOT_READY");
    }
    for (number, stream) in streams.iter_mut().enumerate() {
        assert_eq!(send(stream, &request("192.0.2.8", number)).await, b"ERROR_WRONG_CAPTCHA_ID");
    }
    for _ in 0..10 {
        assert!(is_served(&mut streams[0]).await, "no limit applies to the proxy itself");
    }
    process.wait_for_metric("capgate_rejected_requests_total{reason=\"too_many_requests\"} 3").await;
    process.stop().await;
}

#[tokio::test]
async fn a_client_that_sends_too_many_requests_is_made_to_wait() {
    let settings =
        [("CAPGATE_LIMITS_ADDRESS_REQUESTS_PER_SECOND", "1"), ("CAPGATE_LIMITS_ADDRESS_REQUESTS_BURST", "2")];
    let mut process = Process::start("run", &sandbox(&settings)).await;
    for _ in 0..2 {
        assert!(is_served(&mut connect_from(3, process.http).await).await);
    }
    // A new connection does not help, and a refusal does not close one.
    let mut stream = connect_from(3, process.http).await;
    for (request, answer) in [
        ("GET /res.php?key=K&action=get&id=1&json=1", &br#"{"status":0,"request":"CAPCHA_NOT_READY"}"#[..]),
        ("GET /in.php?key=K&method=userrecaptcha", b"ERROR_NO_SLOT_AVAILABLE"),
        ("GET /res.php?key=K&action=getbalance", b"ERROR_NO_SLOT_AVAILABLE"),
    ] {
        assert_eq!(send(&mut stream, &format!("{request} HTTP/1.1\r\nHost: x\r\n\r\n")).await, answer, "{request}");
    }
    assert!(is_served(&mut connect_from(4, process.http).await).await);
    process.wait_for_metric("capgate_rejected_requests_total{reason=\"too_many_requests\"} 3").await;
    process.stop().await;
}

/// Sends a header of the PROXY protocol byte by byte.
async fn announce(stream: &mut TcpStream, header: &[u8]) {
    stream.set_nodelay(true).expect("an option");
    for byte in header {
        stream.write_all(&[*byte]).await.expect("written");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn the_proxy_protocol_names_the_client_of_a_connection_before_tls_too() {
    let certificate = Certificate::new();
    let settings = [TRUSTED, PROXY_PROTOCOL, ("CAPGATE_LIMITS_ADDRESS_CONNECTIONS_MAX", "1")];
    let mut process = Process::start("run", &certificate.sandbox(&settings)).await;
    let https = process.https.expect("an HTTPS listener");
    let v1 = |last: u8| format!("PROXY TCP4 192.0.2.{last} 10.0.0.1 4660 80\r\n").into_bytes();
    let v2 = |last: u8| {
        let addresses = [192, 0, 2, last, 10, 0, 0, 1, 0x12, 0x34, 0, 80, 0x04, 0, 1, 9];
        [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x10"[..], &addresses].concat()
    };
    let mut expected = Vec::new();
    let mut held = Vec::new();
    // The client cannot add another address of its own.
    let forged = http1_requests("X-Forwarded-For: 198.51.100.1\r\n");
    for (header, client) in [(v1(1), "192.0.2.1:4660"), (v2(2), "192.0.2.2:4660")] {
        let mut stream = connect_from(1, process.http).await;
        announce(&mut stream, &header).await;
        for request in &forged {
            assert_eq!(send(&mut stream, request).await, b"ERROR_WRONG_CAPTCHA_ID");
            expected.push(client.to_owned());
        }
        held.push(stream);
    }
    for (header, alpn) in [(v1(3), &b"http/1.1"[..]), (v2(4), b"h2")] {
        let mut stream = connect_from(1, https).await;
        announce(&mut stream, &header).await;
        let mut stream = tls_handshake(stream, certificate.der(), alpn).await;
        if alpn == b"h2" {
            assert_eq!(send_http2(stream, &[("x-forwarded-for", "198.51.100.1")]).await, 200);
            expected.push("192.0.2.4:4660".to_owned());
        } else {
            assert_eq!(send(&mut stream, &forged[0]).await, b"ERROR_WRONG_CAPTCHA_ID");
            expected.push("192.0.2.3:4660".to_owned());
        }
    }
    // The header and the request in one piece, and HTTP/2 with prior knowledge.
    let mut stream = connect_from(2, process.http).await;
    let whole = format!("{}{}", String::from_utf8(v1(5)).expect("ASCII"), forged[0]);
    assert_eq!(send(&mut stream, &whole).await, b"ERROR_WRONG_CAPTCHA_ID");
    expected.push("192.0.2.5:4660".to_owned());
    let mut stream = connect_from(2, process.http).await;
    announce(&mut stream, &v2(6)).await;
    assert_eq!(send_http2(stream, &[]).await, 200);
    expected.push("192.0.2.6:4660".to_owned());
    // A client that is itself a trusted proxy names its own.
    let mut stream = connect_from(1, process.http).await;
    announce(&mut stream, b"PROXY TCP4 127.0.0.2 10.0.0.1 4660 80\r\n").await;
    send(&mut stream, &forged[0]).await;
    expected.push("198.51.100.1:0".to_owned());
    // Without a client, the connection is the proxy's own, and nothing else is believed.
    for header in [&b"PROXY UNKNOWN\r\n"[..], b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"] {
        let mut stream = connect_from(1, process.http).await;
        announce(&mut stream, header).await;
        send(&mut stream, &forged[0]).await;
        expected.push(stream.local_addr().expect("an address").to_string());
    }
    // The limit on connections applies to the named client.
    let mut second = connect_from(1, process.http).await;
    announce(&mut second, &v1(1)).await;
    assert!(!is_served(&mut second).await);
    process.wait_for_metric("capgate_connections_refused_total{reason=\"address\"} 1").await;
    drop(held);
    assert_peers(&mut process, expected).await;
}

/// Whether the server closes the connection without an answer.
async fn is_closed(mut stream: TcpStream) -> bool {
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    answer.is_empty()
}

#[tokio::test]
async fn a_connection_without_a_valid_proxy_header_is_closed_and_counted() {
    let settings = [TRUSTED, PROXY_PROTOCOL, ("CAPGATE_LIMITS_HEADER_TIMEOUT_MS", "500")];
    let mut process = Process::start("run", &sandbox(&settings)).await;
    let connect = async |bytes: &[u8], from: u8, to: SocketAddr| {
        let mut stream = connect_from(from, to).await;
        let _ = stream.write_all(bytes).await;
        stream
    };
    let poll = http1_requests("")[0].clone();
    // A request, a header that never ends, and one that is too long.
    for bytes in [poll.as_bytes(), b"PROXY TCP4 192.0.2.1", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff"] {
        assert!(is_closed(connect(bytes, 1, process.http).await).await, "{bytes:?}");
    }
    process.wait_for_metric("capgate_connections_refused_total{reason=\"proxy_header\"} 3").await;
    // A check of a load balancer is no malformed header.
    drop(connect(b"", 1, process.http).await);
    process.wait_for_metric("capgate_connections 0").await;
    process.wait_for_metric("capgate_connections_refused_total{reason=\"proxy_header\"} 3").await;
    // From anybody else, the header is a malformed request.
    let mut stream = connect(b"PROXY TCP4 192.0.2.1 10.0.0.1 1 2\r\n\r\n", 3, process.http).await;
    assert_eq!(read_response(&mut stream).await.expect("a response").status, 400);
    assert!(is_served(&mut connect_from(3, process.http).await).await);
    process.stop().await;
}
