//! HTTP/1 requests that only the wire can carry: ambiguous, old, pipelined, chunked.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::sandbox;
use crate::support::http::{read_response, send_raw};
use crate::support::process::Process;

#[tokio::test]
async fn ambiguous_and_unsupported_requests_are_rejected_by_the_server() {
    // The gateway waits this long for more bytes of the last request, which is too short to tell HTTP/1 from HTTP/2.
    let mut process = Process::start("run", &sandbox(&[("CAPGATE_LIMITS_HEADER_TIMEOUT_MS", "500")])).await;
    let rejected = [
        "GET http://elsewhere/res.php HTTP/1.1\r\nHost: x\r\n\r\n",
        "CONNECT a:1 HTTP/1.1\r\nHost: x\r\n\r\n",
        "TRACE /res.php HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /res.php HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        "POST /res.php HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST /res.php HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        "POST /res.php HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "nonsense\r\n\r\n",
    ];
    for bytes in rejected {
        let response = send_raw(process.http, bytes.as_bytes()).await.expect("a connection");
        assert!(response.starts_with("HTTP/1.1 400") || response.is_empty(), "response to {bytes:?}: {response:?}");
    }
    // Java's HttpClient and `curl --http2` offer HTTP/2 in every cleartext request and continue with HTTP/1.1.
    let offer = "GET /res.php?key=K HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
                 HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n";
    let mut stream = TcpStream::connect(process.http).await.expect("a connection");
    stream.write_all(offer.as_bytes()).await.expect("written");
    let mut response = vec![0; 4_096];
    let length = stream.read(&mut response).await.expect("a response");
    let response = String::from_utf8_lossy(&response[..length]).into_owned();
    assert!(response.starts_with("HTTP/1.1 200"), "{response}");
    drop(stream);
    let many_headers = format!("GET /res.php HTTP/1.1\r\nHost: x\r\n{}\r\n", "A: b\r\n".repeat(80));
    let response = send_raw(process.http, many_headers.as_bytes()).await.expect("a connection");
    assert!(response.starts_with("HTTP/1.1 400"));
    process.stop().await;
}

#[tokio::test]
async fn old_half_closed_pipelined_and_chunked_requests_are_answered() {
    let mut process = Process::start("run", &sandbox(&[])).await;
    let poll = "GET /res.php?key=K&action=get&id=1";
    let response = send_raw(process.http, format!("{poll} HTTP/1.0\r\n\r\n").as_bytes()).await.expect("a response");
    assert!(response.contains("Content-Length: 22\r\n") && response.contains("Connection: close\r\n"), "{response}");
    assert!(response.ends_with("\r\n\r\nERROR_WRONG_CAPTCHA_ID"), "{response}");

    // The client closes its half of the connection after the request and still reads.
    let mut stream = TcpStream::connect(process.http).await.expect("a connection");
    stream.write_all(format!("{poll} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.expect("written");
    stream.shutdown().await.expect("half closed");
    assert_eq!(read_response(&mut stream).await.expect("a response").body, b"ERROR_WRONG_CAPTCHA_ID");

    // Two requests in one segment, the second incomplete.
    let mut stream = TcpStream::connect(process.http).await.expect("a connection");
    let pipelined = format!("{poll} HTTP/1.1\r\nHost: x\r\n\r\nGET /res.php?json=1");
    stream.write_all(pipelined.as_bytes()).await.expect("written");
    assert_eq!(read_response(&mut stream).await.expect("a response").body, b"ERROR_WRONG_CAPTCHA_ID");
    stream.write_all(b"&key=K HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("written");
    let second = read_response(&mut stream).await.expect("a response");
    assert_eq!(second.body, br#"{"status":0,"request":"ERROR_EMPTY_ACTION"}"#);

    // A chunked body, and unescaped spaces in the target.
    let chunked = "POST /res.php?action=get&x=a b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
                   Transfer-Encoding: chunked\r\n\r\n5\r\nkey=K\r\n5\r\n&id=1\r\n0\r\n\r\n";
    let response = send_raw(process.http, chunked.as_bytes()).await.expect("a response");
    assert!(response.ends_with("ERROR_WRONG_CAPTCHA_ID"), "{response}");
    process.stop().await;
}

/// `CaptchaSharp` sends `Host: 2captcha.com` to whatever address it is configured with.
#[tokio::test]
async fn the_host_header_decides_nothing() {
    let mut process = Process::start("run", &sandbox(&[])).await;
    let admin = process.admin.expect("admin");
    let requests = [
        (process.http, "GET /res.php?key=K&action=get&id=1 HTTP/1.1", ""),
        (process.http, "POST /res.php HTTP/1.1", "key=K&action=get&id=1"),
        (process.http, "POST /res.php?action=get&id=1 HTTP/1.0", "key=K"),
        (process.http, "GET /other HTTP/1.1", ""),
        (admin, "GET /livez HTTP/1.1", ""),
        (admin, "GET /res.php?key=K HTTP/1.1", ""),
    ];
    for (address, request_line, body) in requests {
        let mut responses = Vec::new();
        for host in [&address.to_string(), "2captcha.com", "rucaptcha.com:443", "127.0.0.1:9090"] {
            let request = format!(
                "{request_line}\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            let response = send_raw(address, request.as_bytes()).await.expect("a response");
            let lines = response.lines().filter(|line| !line.to_ascii_lowercase().starts_with("date:"));
            responses.push(lines.collect::<Vec<_>>().join("\n"));
        }
        assert!(responses[0].starts_with("HTTP/1."), "{responses:?}");
        assert!(responses.iter().all(|response| *response == responses[0]), "{request_line}: {responses:#?}");
    }
    process.stop().await;
}

#[tokio::test]
async fn requests_without_headers_are_answered() {
    let mut process = Process::start("run", &sandbox(&[])).await;
    let live = send_raw(process.admin.expect("admin"), b"GET /livez HTTP/1.0\r\n\r\n").await.expect("a response");
    assert!(live.ends_with("live\n"), "{live}");
    let root = send_raw(process.http, b"GET / HTTP/1.0\r\n\r\n").await.expect("a response");
    assert!(root.starts_with("HTTP/1.1 404"), "{root}");
    process.stop().await;
}
