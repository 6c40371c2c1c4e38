//! Limits on bodies, and on the time that a client may hold a connection.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::sandbox;
use super::tls::{Certificate, tls_connect};
use crate::support::http::{read_response, request, send_raw};
use crate::support::process::Process;
use crate::support::samples::png;

#[tokio::test]
async fn a_large_body_is_accepted_or_refused_in_the_clients_notation() {
    let mut process = Process::start("run", &sandbox(&[("CAPGATE_LIMITS_BODY_BYTES_MAX", "65536")])).await;
    // curl and .NET wait for `100 Continue` before they send the body.
    let mut stream = TcpStream::connect(process.http).await.expect("a connection");
    let mut body = b"--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"file\"\r\n\r\n".to_vec();
    body.extend(png());
    body.extend(b"\r\n--b--\r\n");
    let head = format!(
        "POST /in.php?key=K&method=post HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n\
         Content-Type: multipart/form-data; boundary=b\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.expect("written");
    let mut interim = [0; 25];
    stream.read_exact(&mut interim).await.expect("an interim response");
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(&body).await.expect("written");
    assert!(read_response(&mut stream).await.expect("a response").body.starts_with(b"OK|"));

    // Too large, with and without Content-Length: the client can send the whole body and still read the refusal.
    let target = "/in.php?key=K&method=post&json=1";
    let response = request(process.http, "POST", target, &[], &vec![b'a'; 300_000]).await.expect("a response");
    assert_eq!(response.body, br#"{"status":0,"request":"ERROR_TOO_BIG_CAPTCHA_FILESIZE"}"#);
    let mut chunked = b"POST /res.php?key=K HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for _ in 0..20 {
        chunked.extend(b"2000\r\n");
        chunked.extend(vec![b'a'; 0x2000]);
        chunked.extend(b"\r\n");
    }
    chunked.extend(b"0\r\n\r\n");
    let response = send_raw(process.http, &chunked).await.expect("a response");
    assert!(response.ends_with("ERROR_BAD_PARAMETERS"), "{response}");
    process.stop().await;
}

#[tokio::test]
async fn bodies_above_the_limit_of_an_address_are_refused() {
    let settings = [("CAPGATE_LIMITS_ADDRESS_BYTES_MAX", "1048576"), ("CAPGATE_LIMITS_BODY_BYTES_MAX", "786432")];
    let mut process = Process::start("run", &sandbox(&settings)).await;
    let body = vec![b'a'; 600_000];
    let head = "POST /in.php?key=K&method=base64 HTTP/1.1\r\nHost: x\r\nContent-Length: 700000\r\n\r\n";
    let send = async || {
        request(process.http, "POST", "/in.php?key=K&method=base64", &[], &body).await.expect("a response").body
    };
    // Either body may arrive first, and the other is refused, so unfinished ones are added until one is charged.
    let mut unfinished = Vec::new();
    loop {
        let mut stream = TcpStream::connect(process.http).await.expect("a connection");
        let _ = stream.write_all(&[head.as_bytes(), &body].concat()).await;
        unfinished.push(stream);
        if send().await == b"ERROR_NO_SLOT_AVAILABLE" {
            break;
        }
    }
    drop(unfinished);
    // A body no longer counts once its connection is closed.
    let mut response = send().await;
    while response == b"ERROR_NO_SLOT_AVAILABLE" {
        response = send().await;
    }
    assert_eq!(response, b"ERROR_UPLOAD");
    process.stop().await;
}

/// Clients that stall at different points of a connection: the gateway closes each connection after its timeout.
#[tokio::test]
async fn a_stalled_client_cannot_hold_its_connection() {
    let certificate = Certificate::new();
    let settings = [
        ("CAPGATE_TLS_CERT", certificate.cert_path.as_str()),
        ("CAPGATE_TLS_KEY", &certificate.key_path),
        ("CAPGATE_LIMITS_HEADER_TIMEOUT_MS", "300"),
        ("CAPGATE_LIMITS_BODY_TIMEOUT_MS", "300"),
        ("CAPGATE_LIMITS_WRITE_TIMEOUT_MS", "300"),
        ("CAPGATE_LIMITS_IDLE_TIMEOUT_MS", "1000"),
    ];
    let mut process = Process::start("run", &sandbox(&settings)).await;
    let connect = async || TcpStream::connect(process.http).await.expect("a connection");
    // Sends nothing.
    let _silent = connect().await;
    let mut open = Vec::new();
    // Sends half a head, half a body, half an HTTP/2 preface, and a whole preface without a frame.
    let head = "POST /in.php HTTP/1.1\r\nHost: x\r\n";
    let half_body = format!("{head}Content-Length: 9\r\n\r\nhalf");
    for incomplete in [head, &half_body, "PRI * HT", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let mut stream = connect().await;
        stream.write_all(incomplete.as_bytes()).await.expect("written");
        open.push(stream);
    }
    // Completes the TLS handshake for HTTP/2 and sends nothing.
    let _tls = tls_connect(process.https.expect("HTTPS"), certificate.der(), b"h2").await;
    // Sends requests and never reads, until the gateway stops reading.
    for request in [
        "OPTIONS /in.php HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /res.php?key=K&action=get&id=x HTTP/1.1\r\nHost: x\r\n\r\n",
    ] {
        let mut stream = connect().await;
        let requests = request.repeat(1_000);
        let flood = async { while stream.write_all(requests.as_bytes()).await.is_ok() {} };
        let _ = tokio::time::timeout(Duration::from_secs(3), flood).await;
        open.push(stream);
    }
    process.wait_for_metric("capgate_connections 0").await;
    drop(open);
    process.stop().await;
}
