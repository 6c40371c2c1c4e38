//! `capgate storm` against the gateway and against servers that misbehave.

use std::net::{SocketAddr, TcpListener};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value as Json;
use tokio::process::Command;

use crate::support::process::Process;
use crate::support::scripted_upstream::UpstreamServer;
use crate::support::upstream_reply::UpstreamReply;

const KEY: &str = "c0ffee00c0ffee00c0ffee00c0ffee0a";

/// Runs `capgate storm`. Returns the exit code, standard output and standard error.
async fn storm(arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_capgate"));
    command.arg("storm").args(arguments).env_clear().env("CAPGATE_STORM_KEY", KEY);
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await.expect("run capgate");
    let [out, err] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).expect("UTF-8"));
    assert!(!out.contains("c0ffee") && !err.contains("c0ffee"), "the key is printed: {out}{err}");
    (output.status.code().expect("an exit code"), out, err)
}

fn number(value: &Json) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("not a number: {value}"))
}

fn sum(object: &Json) -> f64 {
    object.as_object().expect("an object").values().map(number).sum()
}

#[tokio::test]
async fn the_summary_counts_polls_answers_and_upstream_calls() {
    let environment = [("CAPGATE_LOG_ACCESS".to_owned(), "false".to_owned())];
    let mut gateway = Process::start("run", &environment).await;
    let [target, admin] = [gateway.http, gateway.admin.expect("admin")].map(|address| format!("http://{address}"));
    let load = "--tasks 4 --clients 80 --every-ms 100 --seconds 2 --solve-ms 500 --solve-spread 0.2 --seed 3 --json";
    let mut arguments: Vec<&str> = load.split(' ').collect();
    arguments.extend(["--target", &target, "--admin", &admin]);
    let (code, out, err) = storm(&arguments).await;
    assert_eq!(code, 0, "{err}");
    let summary: Json = serde_json::from_str(&out).expect("one JSON object");
    assert_eq!(out.trim_end().lines().count(), 1);
    assert_eq!((&summary["tasks"], &summary["clients"]), (&Json::from(4), &Json::from(80)));
    assert_eq!(
        (&summary["submits"]["accepted"], &summary["tasks_answered"]),
        (&Json::from(4), &Json::from(4)),
        "{summary}"
    );
    let polls = number(&summary["polls"]);
    let answers = number(&summary["answers"]["not_ready"]) + number(&summary["answers"]["ready"]);
    assert!(
        polls > 80.0 && number(&summary["answers"]["not_ready"]) > 0.0 && number(&summary["answers"]["ready"]) > 0.0
    );
    assert!((polls - answers).abs() < 0.5, "polls without a good answer: {summary}");
    assert!(sum(&summary["errors"]) + sum(&summary["answers"]["errors"]) < 0.5, "{summary}");
    let upstream = number(&summary["upstream_polls"]);
    assert!(upstream >= 4.0 && upstream * 5.0 < polls, "{summary}");
    assert_eq!(summary["upstream_calls"]["createTask"], 4, "{summary}");
    assert!((number(&summary["amplification"]) - upstream / polls).abs() < 1e-9);
    assert!((number(&summary["polls_per_task"]) - upstream / 4.0).abs() < 1e-9);
    for quantiles in ["delay_ms", "submit_ms", "ready_to_seen_ms"] {
        let [p50, max] = ["p50", "max"].map(|name| number(&summary[quantiles][name]));
        assert!(p50 <= max, "{summary}");
    }
    assert!(err.contains("polls/s") && !err.contains('\r'), "{err}");

    // The summary as text, with clients that stop at their answer.
    let load = "--tasks 1 --clients 3 --every-ms 50 --seconds 60 --solve-ms 0 --connections new --stop-when-answered";
    let mut arguments: Vec<&str> = load.split(' ').collect();
    arguments.extend(["--target", &target]);
    let (code, out, err) = storm(&arguments).await;
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("1 submitted, 1 accepted\n") && out.contains("0 not ready, 3 ready, 0 failed\n"), "{out}");
    assert!(out.contains("upstream     not known"), "{out}");
    gateway.stop().await;
}

/// The server stalls on one poll. The delays include all polls that are due during the stall.
#[tokio::test]
async fn a_stall_delays_every_poll_that_is_due_meanwhile() {
    const STALLED_POLL: u32 = 20;
    let mut server = UpstreamServer::start().await;
    let target = format!("http://{}", server.address);
    let load = "--tasks 1 --clients 1 --every-ms 20 --seconds 2 --json";
    let storm_run = tokio::spawn(async move {
        let mut arguments: Vec<&str> = load.split(' ').collect();
        arguments.extend(["--target", &target]);
        storm(&arguments).await
    });
    let mut polls = 0;
    while !storm_run.is_finished() {
        let next_call = tokio::time::timeout(Duration::from_millis(50), server.calls.recv());
        let Ok(Some(call)) = next_call.await else { continue };
        let answer = if call.path.starts_with("/in.php") {
            assert!(String::from_utf8_lossy(&call.body).contains(KEY));
            "OK|7"
        } else {
            assert!(call.path.starts_with("/res.php?") && call.path.ends_with("action=get&id=7"), "{}", call.path);
            polls += 1;
            if polls == STALLED_POLL {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            "CAPCHA_NOT_READY"
        };
        // The client may have given up the request.
        call.reply(UpstreamReply::ok(answer));
    }
    let (code, out, err) = storm_run.await.expect("no panic");
    assert_eq!(code, 0, "{err}");
    let summary: Json = serde_json::from_str(&out).expect("one JSON object");
    assert_eq!(summary["polls"], polls, "{summary}");
    assert_eq!(summary["answers"]["not_ready"], polls, "{summary}");
    // The stall of 1 s covers dozens of due polls.
    assert!(number(&summary["late"]) + number(&summary["unsent"]) > 10.0, "{summary}");
    let [delay, answer] = ["delay_ms", "answer_ms"].map(|quantiles| number(&summary[quantiles]["p90"]));
    assert!(delay > 5.0 * answer, "{summary}");
}

/// 0.0.0.0 is not a loopback address but reaches only this machine, so no packet leaves it even if the guard fails.
#[tokio::test]
async fn a_remote_target_needs_remote_and_confirm() {
    let victim = TcpListener::bind("127.0.0.1:0").expect("a free port");
    victim.set_nonblocking(true).expect("a socket");
    let assert_no_connection = || assert!(victim.accept().is_err(), "a client connected");
    let port = victim.local_addr().expect("a local address").port();
    let (far, near) = (format!("http://0.0.0.0:{port}"), format!("http://127.0.0.1:{port}"));
    for arguments in [
        &["--target", &far][..],
        &["--target", &far, "--remote"],
        &["--target", &far, "--confirm", "0.0.0.0"],
        &["--target", &far, "--remote", "--confirm", "127.0.0.1"],
        &["--target", &near, "--admin", &far],
        &["--target", &near, "--admin", &far, "--remote", "--confirm", "127.0.0.1"],
    ] {
        let (code, out, err) = storm(arguments).await;
        assert_eq!((code, out.as_str()), (2, ""), "{arguments:?}: {err}");
        assert!(err.contains("--remote --confirm 0.0.0.0"), "{err}");
        assert_no_connection();
    }
    for arguments in [
        &["--target", "ftp://127.0.0.1/"][..],
        &["--target", "http://c0ffee@127.0.0.1/"],
        &["--target", &near, "--jitter", "2"],
        &["--target", &near, "--clients", "0"],
        &["--target", &near, "--task", "sitekey=S"],
        &["--target", &near, "--solve-ms", "1", "--task", "method=post&body=AAAA"],
    ] {
        assert_eq!(storm(arguments).await.0, 2, "{arguments:?}");
        assert_no_connection();
    }
    for argument in ["--target", "--admin"] {
        for url in ["http://user:pa55word@127.0.0.1/", "http://user:pa55word@127.0.0.1:x/", "user:pa55word@[::1"] {
            let (code, out, err) = storm(&[argument, url]).await;
            assert_eq!((code, out.as_str()), (2, ""), "{argument} {url}: {err}");
            assert!(!err.contains("pa55"), "{err}");
        }
    }
    drop(victim);

    let mut gateway = Process::start("run", &[]).await;
    let far = format!("http://0.0.0.0:{}", gateway.http.port());
    let load = "--tasks 1 --clients 1 --every-ms 50 --seconds 1 --remote --confirm 0.0.0.0";
    let mut arguments: Vec<&str> = load.split(' ').collect();
    arguments.extend(["--target", &far]);
    let (code, out, err) = storm(&arguments).await;
    assert!(code == 0 && out.contains("1 accepted\n"), "{out}{err}");
    gateway.stop().await;
}

#[tokio::test]
async fn an_unreachable_target_is_an_error() {
    // A port without a listener.
    let unused: SocketAddr = {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.local_addr().expect("a local address")
    };
    let target = format!("http://{unused}");
    let load = "--tasks 2 --clients 2 --every-ms 50 --seconds 1";
    let mut arguments: Vec<&str> = load.split(' ').collect();
    arguments.extend(["--target", &target]);
    let (code, out, err) = storm(&arguments).await;
    assert_eq!((code, out.as_str()), (1, ""), "{err}");
    assert!(err.contains("no task was accepted") && err.contains("connect"), "{err}");
    arguments.extend(["--admin", &target]);
    let (code, _, err) = storm(&arguments).await;
    assert!(code == 1 && err.contains("/metrics could not be read: connect"), "{err}");
}
