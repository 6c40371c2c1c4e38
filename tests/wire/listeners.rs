//! Which listener serves which pages.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::sandbox;
use crate::support::http::{get, read_response, request};
use crate::support::process::Process;

#[tokio::test]
async fn an_ipv6_listener_is_served() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        eprintln!("not tested: this machine has no IPv6");
        return;
    }
    let mut process = Process::start("run", &sandbox(&[("CAPGATE_LISTEN_HTTP", "[::1]:0")])).await;
    assert!(process.http.is_ipv6());
    assert_eq!(get(process.http, "/res.php?key=K&action=getbalance").await.body, b"50.2500");
    process.stop().await;
}

#[tokio::test]
async fn metrics_and_health_are_on_the_admin_listener_only() {
    let mut process = Process::start("run", &sandbox(&[])).await;
    let admin = process.admin.expect("an admin listener");
    get(process.http, "/res.php?key=K&action=get&id=1").await;
    let metrics = process.metrics().await;
    let requests = "capgate_requests_total{action=\"get\",outcome=\"ERROR_WRONG_CAPTCHA_ID\",script=\"res\"} 1\n";
    assert!(metrics.contains(requests), "{metrics}");
    assert!(metrics.contains("capgate_polls_total{path=\"unknown\"} 1\n"), "{metrics}");
    assert_eq!(get(admin, "/livez").await.status, 200);
    assert_eq!(get(admin, "/readyz").await.status, 200);
    assert_eq!(get(admin, "/res.php?key=K").await.status, 404);
    assert_eq!(get(process.http, "/metrics").await.status, 404);
    assert_eq!(get(process.http, "/RES.PHP").await.status, 404);
    assert_eq!(get(process.http, "/res.php/").await.status, 404);
    let deleted = request(process.http, "DELETE", "/res.php", &[], b"").await.expect("a response");
    assert_eq!(deleted.status, 405);
    process.stop().await;
}

#[tokio::test]
async fn the_sandbox_runs_alone_and_counts_calls() {
    let mut process = Process::start("sandbox", &sandbox(&[])).await;
    let post = async |path: &str, body: &str| {
        request(process.http, "POST", path, &[], body.as_bytes()).await.expect("a response")
    };
    let response = post("/getBalance", r#"{"clientKey":"K"}"#).await;
    assert_eq!(response.header("x-ratelimit-remaining"), Some("9999"));
    assert_eq!((response.status, response.body), (200, br#"{"errorId":0,"balance":50.25}"#.to_vec()));
    assert_eq!(post("/getBalance", r#"{"clientKey":"sandbox-key-unknown"}"#).await.status, 401);
    let counters: serde_json::Value =
        serde_json::from_slice(&get(process.http, "/sandbox/counters").await.body).expect("JSON");
    assert_eq!((&counters["getBalance"], &counters["createTask"]), (&2.into(), &0.into()));
    post("/sandbox/reset", "").await;
    let counters = get(process.http, "/sandbox/counters").await.body;
    assert!(String::from_utf8(counters).expect("UTF-8").contains("\"getBalance\":0"));
    process.stop().await;
}

#[tokio::test]
async fn busy_connections_do_not_lock_operators_out() {
    let mut process = Process::start("run", &sandbox(&[])).await;
    let admin = process.admin.expect("an admin listener");
    let ask = async |stream: &mut TcpStream| {
        stream.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").await?;
        read_response(stream).await
    };
    // Three times as many as the admin listener keeps. Each is in use, and each new one is served.
    let mut connections = Vec::new();
    for _ in 0..3 * 64 {
        let mut stream = TcpStream::connect(admin).await.expect("a connection");
        assert_eq!(ask(&mut stream).await.expect("a response").status, 200);
        connections.push(stream);
    }
    for stream in &mut connections[..2 * 64] {
        assert_eq!(stream.read(&mut [0]).await.ok(), Some(0), "an old connection is closed, and not reset");
    }
    assert_eq!(get(admin, "/livez").await.status, 200);
    process.stop().await;
}

#[tokio::test]
async fn idle_connections_do_not_lock_operators_out() {
    // As many as the admin listener takes: half of them have made a request, half are silent.
    let mut process = Process::start("run", &sandbox(&[])).await;
    let admin = process.admin.expect("an admin listener");
    let mut connections = Vec::new();
    for at in 0..64 {
        let mut stream = TcpStream::connect(admin).await.expect("a connection");
        if at % 2 == 0 {
            stream.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("written");
            assert_eq!(read_response(&mut stream).await.expect("a response").status, 200);
        }
        connections.push(stream);
    }
    // Far less than the time-outs of the other listeners.
    let closed = tokio::time::timeout(Duration::from_secs(8), async {
        for mut stream in connections {
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }
    });
    assert!(closed.await.is_ok(), "the admin listener keeps idle connections");
    assert_eq!(get(admin, "/livez").await.status, 200);
    process.stop().await;
}
