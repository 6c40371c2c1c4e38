//! Native calls on the wire: retries, unusual responses, coalescing.

use std::io::Write;
use std::time::Duration;

use flate2::write::GzEncoder;
use tokio::task::JoinHandle;

use super::environment;
use crate::support::http::{Response, get};
use crate::support::process::Process;
use crate::support::scripted_upstream::UpstreamServer;
use crate::support::upstream_reply::UpstreamReply;

/// A pooled connection that fails during a call may have carried it: only a poll may be repeated.
#[tokio::test]
async fn a_submit_or_a_report_is_sent_once_and_a_poll_at_most_twice() {
    let mut upstream = UpstreamServer::start().await;
    let settings = [vec![upstream.setting()], environment(&[("CAPGATE_UPSTREAM_BALANCE_TTL_MS", "0")])].concat();
    let mut process = Process::start("run", &settings).await;
    let address = process.http;
    let start = |target: String| tokio::spawn(async move { get(address, &target).await });
    let body = async |response: JoinHandle<Response>| {
        String::from_utf8(response.await.expect("no panic").body).expect("UTF-8")
    };
    let id = upstream.submit(address).await;

    // Each call below finds a pooled connection. Each reset removes it, and the next balance call adds one.
    let balance = r#"{"errorId":0,"balance":1}"#;
    let response = start("/in.php?key=K&method=userrecaptcha&googlekey=S&pageurl=https://e.com".to_owned());
    upstream.reply_to("/createTask", UpstreamReply::Reset).await;
    assert!(body(response).await.starts_with("OK|"));
    let response = start("/res.php?key=K&action=getbalance".to_owned());
    upstream.reply_to("/getBalance", UpstreamReply::ok(balance)).await;
    assert_eq!(body(response).await, "1.0000");
    let response = start(format!("/res.php?key=K&action=reportbad&id={id}"));
    upstream.reply_to("/feedbackTask", UpstreamReply::Reset).await;
    assert_eq!(body(response).await, "ERROR_REPORT_NOT_RECORDED");
    let response = start("/res.php?key=K&action=getbalance".to_owned());
    upstream.reply_to("/getBalance", UpstreamReply::ok(balance)).await;
    assert_eq!(body(response).await, "1.0000");
    let response = start(format!("/res.php?key=K&action=get&id={id}"));
    upstream.reply_to("/getTaskResult", UpstreamReply::Reset).await;
    // The poll is repeated after a reset on a pooled connection, and not after a reset on a new one.
    if let Ok(Some(call)) = tokio::time::timeout(Duration::from_secs(5), upstream.calls.recv()).await {
        assert_eq!(call.path, "/getTaskResult");
        assert!(call.reply(UpstreamReply::Reset));
    }
    assert_eq!(body(response).await, "CAPCHA_NOT_READY");
    let metrics = process.metrics().await;
    assert!(metrics.contains("capgate_upstream_calls_total{endpoint=\"getTaskResult\",result=\"no_answer\"} 1"));
    assert!(upstream.calls.try_recv().is_err(), "sent a third time");
    process.stop().await;
}

#[tokio::test]
async fn unusual_upstream_responses_are_read_and_malformed_ones_count_as_failures() {
    let mut upstream = UpstreamServer::start().await;
    let url = format!("http://{}/base/", upstream.address);
    let settings = environment(&[
        ("CAPGATE_UPSTREAM_URL", &url),
        ("CAPGATE_UPSTREAM_ANSWER_BYTES_MAX", "2000"),
        ("CAPGATE_UPSTREAM_BALANCE_TTL_MS", "0"),
    ]);
    let mut process = Process::start("run", &settings).await;
    let balance = br#"{"errorId":0,"balance":50.25}"#;
    let gzip = |bytes: &[u8]| {
        let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(bytes).expect("written to memory");
        encoder.finish().expect("written to memory")
    };
    let response = |headers: &str, body: &[u8]| {
        let head = format!("HTTP/1.1 200 OK\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
        [head.as_bytes(), body].concat()
    };
    let chunked =
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1d\r\n", &balance[..], b"\r\n0\r\n\r\n"].concat();
    let interim = [&b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"[..], &response("", balance)].concat();
    let gzip_bomb = response("Content-Encoding: gzip\r\n", &gzip(&vec![b' '; 1_000_000]));
    let cases = [
        ("gzip", response("Content-Encoding: gzip\r\n", &gzip(balance)), "50.2500"),
        ("chunked", chunked.clone(), "50.2500"),
        ("up to the end of the connection", [b"HTTP/1.0 200 OK\r\n\r\n", &balance[..]].concat(), "50.2500"),
        ("after an interim response", interim, "50.2500"),
        ("a gzip bomb", gzip_bomb, "ERROR_NO_SLOT_AVAILABLE"),
        ("gzip that is plain text", response("Content-Encoding: gzip\r\n", balance), "ERROR_NO_SLOT_AVAILABLE"),
        ("an unknown encoding", response("Content-Encoding: br\r\n", balance), "ERROR_NO_SLOT_AVAILABLE"),
        ("too large", response("", &vec![b' '; 3_000]), "ERROR_NO_SLOT_AVAILABLE"),
        ("empty", response("", b""), "ERROR_NO_SLOT_AVAILABLE"),
        ("truncated", response("", balance)[..60].to_vec(), "ERROR_NO_SLOT_AVAILABLE"),
        ("truncated chunks", chunked[..60].to_vec(), "ERROR_NO_SLOT_AVAILABLE"),
        ("endless interim responses", b"HTTP/1.1 103 X\r\n\r\n".repeat(50), "ERROR_NO_SLOT_AVAILABLE"),
        ("not HTTP", b"SSH-2.0-x\r\n".to_vec(), "ERROR_NO_SLOT_AVAILABLE"),
    ];
    let address = process.http;
    for (case, bytes, expected) in cases {
        let response = tokio::spawn(async move { get(address, "/res.php?key=K&action=getbalance").await });
        upstream.reply_to("/base/getBalance", UpstreamReply::Raw(bytes)).await;
        let body = String::from_utf8(response.await.expect("no panic").body).expect("UTF-8");
        assert_eq!(body, expected, "{case}");
    }
    process.stop().await;
}

/// The metric counts what the client does not see. A failed task counts as none, and neither does a call that got no
/// answer, which has a metric of its own.
#[tokio::test]
async fn errors_that_are_not_about_the_task_are_counted_by_cause() {
    let mut upstream = UpstreamServer::start().await;
    let at_once = environment(&[
        ("CAPGATE_LEDGER_TROUBLE_TTL_MS", "0"),
        ("CAPGATE_LEDGER_STALE_MS", "0"),
        ("CAPGATE_LEDGER_POLL_INTERVAL_MIN_MS", "0"),
        ("CAPGATE_LEDGER_POLL_INTERVAL_MAX_MS", "0"),
        ("CAPGATE_LEDGER_RECENT_MS", "0"),
        ("CAPGATE_UPSTREAM_PAUSE_MS", "0"),
        ("CAPGATE_UPSTREAM_REFUSED_TTL_MS", "0"),
    ]);
    let mut process = Process::start("run", &[vec![upstream.setting()], at_once].concat()).await;
    let address = process.http;
    let target = format!("/res.php?key=K&action=get&id={}", upstream.submit(address).await);
    let status = |status: u16, body: &str| UpstreamReply::Response { status, body: body.into() };
    let cases = [
        ("key", status(401, r#"{"errorId":1,"errorCode":"ERROR_KEY_DOES_NOT_EXIST"}"#)),
        ("balance", status(402, r#"{"errorId":1,"errorCode":"ERROR_ZERO_BALANCE"}"#)),
        ("address", status(200, r#"{"errorId":1,"errorCode":"IP_BANNED"}"#)),
        ("load", status(429, "slow down")),
        ("service", status(200, r#"{"errorId":1,"errorCode":"MAINTENANCE"}"#)),
        ("request", status(400, r#"{"errorId":1,"errorCode":"ERROR_BAD_PARAMETERS"}"#)),
        ("unknown_code", status(400, r#"{"errorId":1}"#)),
        ("other_task", status(200, r#"{"errorId":0,"status":"ready","taskId":"x","solution":{"token":"X"}}"#)),
        ("unusable", status(502, "<html>")),
    ];
    let mut expected = Vec::new();
    let failed = status(200, r#"{"errorId":12,"errorCode":"ERROR_CAPTCHA_UNSOLVABLE"}"#);
    for (cause, reply) in cases.into_iter().chain([("", failed)]) {
        let target = target.clone();
        let response = tokio::spawn(async move { get(address, &target).await });
        upstream.reply_to("/getTaskResult", reply).await;
        let body = String::from_utf8(response.await.expect("no panic").body).expect("UTF-8");
        if cause.is_empty() {
            assert_eq!(body, "ERROR_CAPTCHA_UNSOLVABLE");
        } else {
            assert_eq!(body, "CAPCHA_NOT_READY", "{cause}");
            expected.push(format!("capgate_masked_polls_total{{cause=\"{cause}\"}} 1\n"));
        }
    }
    let metrics = process.metrics().await;
    for series in expected {
        assert!(metrics.contains(&series), "{series}: {metrics}");
    }
    process.stop().await;
}

/// The counters prove that all clients wait and that the upstream gets one call.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_polls_of_one_task_share_one_upstream_call() {
    const CLIENTS: usize = 100;
    let mut upstream = UpstreamServer::start().await;
    // Without stale answers all clients wait for the flight.
    let waiting = environment(&[("CAPGATE_LEDGER_STALE_MS", "0"), ("CAPGATE_LEDGER_FOLLOW_DEADLINE_MS", "60000")]);
    let mut process = Process::start("run", &[vec![upstream.setting()], waiting].concat()).await;
    let address = process.http;
    let id = upstream.submit(address).await;

    let clients: Vec<_> = (0..CLIENTS)
        .map(|at| {
            let target = format!("/res.php?key=K&action=get&id={id}&json={}", at % 2);
            tokio::spawn(async move { get(address, &target).await })
        })
        .collect();
    let poll = upstream.next_call().await;
    // Followers are only counted when they are answered, so the test waits for their connections.
    let metrics = process.wait_for_metric(&format!("capgate_connections {CLIENTS}")).await;
    assert!(metrics.contains("capgate_flights 1\n"), "{metrics}");
    assert!(poll.reply(UpstreamReply::ok(r#"{"errorId":0,"status":"ready","solution":{"token":"T"}}"#)));
    for (at, client) in clients.into_iter().enumerate() {
        let body = client.await.expect("no panic").body;
        assert_eq!(body, if at % 2 == 0 { &b"OK|T"[..] } else { br#"{"status":1,"request":"T"}"# });
    }
    assert!(upstream.calls.try_recv().is_err(), "a second upstream call");
    let metrics = process.metrics().await;
    let count = |path: &str| -> usize {
        let name = format!("capgate_polls_total{{path=\"{path}\"}} ");
        let number = metrics.lines().find_map(|line| line.strip_prefix(&name));
        number.and_then(|number| number.parse().ok()).expect("a count")
    };
    // A client that connected before the answer and sent its poll after it is a hit.
    assert_eq!((count("miss"), count("follow") + count("hit")), (1, CLIENTS - 1));
    process.stop().await;
}
