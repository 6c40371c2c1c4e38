//! From the first argument to the exit code.

use std::process::Command;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::support::binary::Binary;
use crate::support::http::{read_response, request, serve_scripted, submit};
use crate::support::transcript::UpstreamAnswer;

fn capgate(arguments: &[&str], environment: &[(&str, &str)]) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_capgate"));
    let output = command.args(arguments).env_clear().envs(environment.iter().copied()).output().expect("the binary");
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().expect("a code"), String::from_utf8(text).expect("text"))
}

#[test]
fn arguments_and_exit_codes_are_what_people_expect() {
    let (code, help) = capgate(&["--help"], &[]);
    assert!(code == 0 && ["run", "check", "sandbox", "Exit codes"].iter().all(|word| help.contains(word)), "{help}");
    let (code, version) = capgate(&["--version"], &[]);
    assert_eq!((code, version.trim()), (0, concat!("capgate ", env!("CARGO_PKG_VERSION"))));
    assert_eq!(capgate(&["frobnicate"], &[]).0, 2);
    assert_eq!(capgate(&[], &[]).0, 2);
    assert_eq!(capgate(&["check", "--config", "conf/capgate.toml"], &[]).0, 0);
    assert_eq!(capgate(&["check", "--config", "conf/no-such-file.toml"], &[]).0, 78);
    let (code, why) = capgate(&["check"], &[("CAPGATE_LEDGER_RECORDS_MAX", "many")]);
    assert!(code == 78 && why.contains("CAPGATE_LEDGER_RECORDS_MAX") && why.contains("whole number"), "{why}");
    let (code, why) = capgate(&["run"], &[("CAPGATE_TLS_CERT", "/no/cert"), ("CAPGATE_TLS_KEY", "/no/key")]);
    assert!(code == 1 && why.contains("/no/cert"), "{why}");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let (code, why) = capgate(&["run"], &[("CAPGATE_LISTEN_HTTP", &address)]);
    assert!(code == 1 && why.contains(&address), "{why}");
}

#[tokio::test]
async fn polls_in_progress_are_answered_before_it_ends() {
    let (calls, mut arriving) = mpsc::unbounded_channel();
    let upstream = serve_scripted(calls).await;
    let environment = [("CAPGATE_UPSTREAM_URL".to_owned(), format!("http://{upstream}"))];
    let mut binary = Binary::start("run", &environment).await;
    let (address, admin) = (binary.http, binary.admin.expect("admin"));
    let target = format!("/res.php?key=K&action=get&id={}", submit(address, &mut arriving).await);

    // An idle connection that was used before, and a poll whose answer is withheld.
    let mut idle = TcpStream::connect(address).await.expect("a connection");
    idle.write_all(b"GET /res.php?key=K HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("written");
    assert_eq!(read_response(&mut idle).await.expect("an answer").body, b"ERROR_EMPTY_ACTION");
    let poll = tokio::spawn(async move { request(address, "GET", &target, &[], b"").await });
    let asked = arriving.recv().await.expect("a poll");

    binary.terminate();
    while request(admin, "GET", "/readyz", &[], b"").await.is_ok_and(|told| told.status == 200) {
        tokio::task::yield_now().await;
    }
    while TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    let ready = UpstreamAnswer::says(r#"{"errorId":0,"status":"ready","solution":{"token":"T"}}"#);
    asked.reply.send(ready).expect("sent");
    assert_eq!(poll.await.expect("done").expect("an answer").body, b"OK|T");
    assert_eq!(binary.wait().await, Some(0));
    assert!(binary.log.iter().any(|line| line.contains("\"drained\"")), "{:#?}", binary.log);
}

#[tokio::test]
async fn a_drain_that_takes_too_long_is_cut_off() {
    let (calls, mut arriving) = mpsc::unbounded_channel();
    let upstream = serve_scripted(calls).await;
    let environment = [
        ("CAPGATE_UPSTREAM_URL".to_owned(), format!("http://{upstream}")),
        ("CAPGATE_SERVER_DRAIN_MS".to_owned(), "100".to_owned()),
    ];
    let mut binary = Binary::start("run", &environment).await;
    let address = binary.http;
    let ask = tokio::spawn(async move { request(address, "GET", "/res.php?key=K&action=getbalance", &[], b"").await });
    let _never_answered = arriving.recv().await.expect("a call");
    binary.terminate();
    assert_eq!(binary.wait().await, Some(0));
    assert!(ask.await.expect("done").is_err());
    assert!(binary.log.iter().any(|line| line.contains("cut off")), "{:#?}", binary.log);
}

/// Drives every endpoint with a key and a token that can be told from everything else, and looks for them in all output.
#[tokio::test]
async fn no_key_and_no_token_is_ever_written_down() {
    const KEY: &str = "c0ffee00c0ffee00c0ffee00c0ffee0a";
    let (calls, mut arriving) = mpsc::unbounded_channel();
    let upstream = serve_scripted(calls).await;
    for format in ["json", "text"] {
        let environment = [
            ("CAPGATE_UPSTREAM_URL".to_owned(), format!("http://{upstream}")),
            ("CAPGATE_LOG_LEVEL".to_owned(), "debug".to_owned()),
            ("CAPGATE_UPSTREAM_BALANCE_TTL_MS".to_owned(), "0".to_owned()),
            ("CAPGATE_LOG_FORMAT".to_owned(), format.to_owned()),
        ];
        let mut binary = Binary::start("run", &environment).await;
        let address = binary.http;
        let mut id = "1".to_owned();
        let answers = [
            Some(r#"{"errorId":0,"taskId":"u-1","status":"processing"}"#),
            Some(r#"{"errorId":0,"status":"ready","solution":{"token":"d0ffee"}}"#),
            Some(r#"{"errorId":1,"errorCode":"c0ffee00c0ffee00c0ffee00c0ffee0a"}"#),
            Some(r#"{"errorId":0,"message":"Feedback recorded"}"#),
            Some("reset"),
            None,
        ];
        let asks = [
            "in.php?method=userrecaptcha&googlekey=S&pageurl=https://e.com/c0ffee&proxy=u:c0ffee@h:1",
            "res.php?action=get&id=",
            "res.php?action=getbalance",
            "res.php?action=reportbad&id=",
            "res.php?action=getbalance",
            "c0ffee/res.php?action=get&id=",
        ];
        for (ask, answer) in asks.into_iter().zip(answers) {
            let target = format!("/{ask}{}&key={KEY}", if ask.ends_with("id=") { &id } else { "" });
            let asking = tokio::spawn(async move { request(address, "GET", &target, &[("Referer", KEY)], b"").await });
            match answer {
                None => {}
                // A dead connection from the pool makes a poll or a balance be asked once more.
                Some("reset") => {
                    for _ in 0..2 {
                        arriving.recv().await.expect("a call").reply.send(UpstreamAnswer::Reset).expect("sent");
                    }
                }
                Some(body) => {
                    arriving.recv().await.expect("a call").reply.send(UpstreamAnswer::says(body)).expect("sent");
                }
            }
            let told = String::from_utf8(asking.await.expect("done").expect("an answer").body).expect("text");
            if let Some(told) = told.strip_prefix("OK|").filter(|told| told.bytes().all(|byte| byte.is_ascii_digit())) {
                told.clone_into(&mut id);
            }
        }
        let bad = format!("GET /res.php?key={KEY} HTTP/9.9\r\nX\u{1}: {KEY}\r\n\r\n");
        let _ = crate::support::http::raw(address, bad.as_bytes()).await;
        let metrics = binary.metrics().await;
        binary.stop().await;
        let said = format!("{}\n{metrics}", binary.log.join("\n"));
        assert!(
            (said.contains("\"action\":\"report\"") || said.contains("action=report"))
                && said.contains("upstream call failed"),
            "{format}: {said}"
        );
        assert!(!said.to_lowercase().contains("0ffee"), "{format}: {said}");
    }
}
