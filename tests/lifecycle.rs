//! The capgate process from its arguments to its exit code.

use std::process::Command;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::http::{get, read_response, request, send_raw};
use crate::support::process::Process;
use crate::support::scripted_upstream::UpstreamServer;
use crate::support::upstream_reply::UpstreamReply;

/// Runs capgate to its end. Returns the exit code, and standard output followed by standard error.
fn capgate(arguments: &[&str], environment: &[(&str, &str)]) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_capgate"));
    let output = command.args(arguments).env_clear().envs(environment.iter().copied()).output().expect("run capgate");
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().expect("an exit code"), String::from_utf8(text).expect("UTF-8"))
}

#[test]
fn arguments_and_exit_codes() {
    let (code, help) = capgate(&["--help"], &[]);
    assert!(code == 0 && ["run", "check", "sandbox", "Exit codes"].iter().all(|word| help.contains(word)), "{help}");
    let (code, version) = capgate(&["--version"], &[]);
    assert_eq!((code, version.trim()), (0, concat!("capgate ", env!("CARGO_PKG_VERSION"))));
    assert_eq!(capgate(&["frobnicate"], &[]).0, 2);
    assert_eq!(capgate(&[], &[]).0, 2);
    assert_eq!(capgate(&["check", "--config", "conf/capgate.toml"], &[]).0, 0);
    assert_eq!(capgate(&["check", "--config", "conf/no-such-file.toml"], &[]).0, 78);
    let (code, error) = capgate(&["check"], &[("CAPGATE_LEDGER_RECORDS_MAX", "many")]);
    assert!(code == 78 && error.contains("CAPGATE_LEDGER_RECORDS_MAX") && error.contains("whole number"), "{error}");
    let (code, error) = capgate(&["run"], &[("CAPGATE_TLS_CERT", "/no/cert"), ("CAPGATE_TLS_KEY", "/no/key")]);
    assert!(code == 1 && error.contains("/no/cert"), "{error}");
    let occupied = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = occupied.local_addr().expect("a local address").to_string();
    let (code, error) = capgate(&["run"], &[("CAPGATE_LISTEN_HTTP", &address)]);
    assert!(code == 1 && error.contains(&address), "{error}");
}

#[tokio::test]
async fn pending_polls_are_answered_before_the_process_ends() {
    let mut upstream = UpstreamServer::start().await;
    let mut process = Process::start("run", &[upstream.setting()]).await;
    let (address, admin) = (process.http, process.admin.expect("admin"));
    let target = format!("/res.php?key=K&action=get&id={}", upstream.submit(address).await);

    // An idle connection, and a poll that waits for the upstream.
    let mut idle = TcpStream::connect(address).await.expect("a connection");
    idle.write_all(b"GET /res.php?key=K HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("written");
    assert_eq!(read_response(&mut idle).await.expect("a response").body, b"ERROR_EMPTY_ACTION");
    let poll = tokio::spawn(async move { get(address, &target).await });
    let call = upstream.next_call().await;

    process.terminate();
    while request(admin, "GET", "/readyz", &[], b"").await.is_ok_and(|response| response.status == 200) {
        tokio::task::yield_now().await;
    }
    while TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(call.reply(UpstreamReply::ok(r#"{"errorId":0,"status":"ready","solution":{"token":"T"}}"#)));
    assert_eq!(poll.await.expect("no panic").body, b"OK|T");
    assert_eq!(process.wait().await, Some(0));
    assert!(process.log.iter().any(|line| line.contains("\"drained\"")), "{:#?}", process.log);
}

#[tokio::test]
async fn requests_that_outlast_the_drain_are_cut_off() {
    let mut upstream = UpstreamServer::start().await;
    let drain = ("CAPGATE_SERVER_DRAIN_MS".to_owned(), "100".to_owned());
    let mut process = Process::start("run", &[upstream.setting(), drain]).await;
    let address = process.http;
    let response =
        tokio::spawn(async move { request(address, "GET", "/res.php?key=K&action=getbalance", &[], b"").await });
    let _unanswered = upstream.next_call().await;
    process.terminate();
    assert_eq!(process.wait().await, Some(0));
    assert!(response.await.expect("no panic").is_err());
    assert!(process.log.iter().any(|line| line.contains("cut off")), "{:#?}", process.log);
}

/// Calls every endpoint with a recognisable key and token, and searches the log and the metrics for them.
#[tokio::test]
async fn keys_and_tokens_are_never_written() {
    const KEY: &str = "c0ffee00c0ffee00c0ffee00c0ffee0a";
    let mut upstream = UpstreamServer::start().await;
    for format in ["json", "text"] {
        let environment = [
            upstream.setting(),
            ("CAPGATE_LOG_LEVEL".to_owned(), "debug".to_owned()),
            ("CAPGATE_UPSTREAM_BALANCE_TTL_MS".to_owned(), "0".to_owned()),
            ("CAPGATE_LOG_FORMAT".to_owned(), format.to_owned()),
        ];
        let mut process = Process::start("run", &environment).await;
        let address = process.http;
        let mut id = "1".to_owned();
        // Requests with the replies to their upstream calls. A poll or a balance is repeated after a reset of a pooled
        // connection.
        let ok = |body: &str| vec![UpstreamReply::ok(body)];
        let exchanges = [
            (
                "in.php?method=userrecaptcha&googlekey=S&pageurl=https://e.com/c0ffee&proxy=u:c0ffee@h:1",
                ok(r#"{"errorId":0,"taskId":"u-1","status":"processing"}"#),
            ),
            ("res.php?action=get&id=", ok(r#"{"errorId":0,"status":"ready","solution":{"token":"d0ffee"}}"#)),
            ("res.php?action=getbalance", ok(r#"{"errorId":1,"errorCode":"c0ffee00c0ffee00c0ffee00c0ffee0a"}"#)),
            ("res.php?action=reportbad&id=", ok(r#"{"errorId":0,"message":"Feedback recorded"}"#)),
            ("res.php?action=getbalance", vec![UpstreamReply::Reset, UpstreamReply::Reset]),
            ("c0ffee/res.php?action=get&id=", vec![]),
        ];
        for (target, replies) in exchanges {
            let target = format!("/{target}{}&key={KEY}", if target.ends_with("id=") { &id } else { "" });
            let response = tokio::spawn(async move {
                request(address, "GET", &target, &[("Referer", KEY)], b"").await.expect("a response")
            });
            for reply in replies {
                assert!(upstream.next_call().await.reply(reply));
            }
            let body = String::from_utf8(response.await.expect("no panic").body).expect("UTF-8");
            if let Some(issued) = body.strip_prefix("OK|").filter(|id| id.bytes().all(|byte| byte.is_ascii_digit())) {
                issued.clone_into(&mut id);
            }
        }
        let malformed = format!("GET /res.php?key={KEY} HTTP/9.9\r\nX\u{1}: {KEY}\r\n\r\n");
        let _ = send_raw(address, malformed.as_bytes()).await;
        let metrics = process.metrics().await;
        process.stop().await;
        let output = format!("{}\n{metrics}", process.log.join("\n"));
        assert!(
            (output.contains("\"action\":\"report\"") || output.contains("action=report"))
                && output.contains("upstream call failed"),
            "{format}: {output}"
        );
        assert!(!output.to_lowercase().contains("0ffee"), "{format}: {output}");
    }
}
