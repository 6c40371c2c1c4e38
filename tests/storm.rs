//! `capgate storm`: the real binary against the real gateway, and against servers that misbehave.

use std::net::{SocketAddr, TcpListener};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value as Json;
use tokio::process::Command;
use tokio::sync::mpsc;

use crate::support::binary::Binary;
use crate::support::http::serve_scripted;
use crate::support::transcript::UpstreamAnswer;

const KEY: &str = "c0ffee00c0ffee00c0ffee00c0ffee0a";

/// Exit code, standard output, standard error.
async fn storm(arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_capgate"));
    command.arg("storm").args(arguments).env_clear().env("CAPGATE_STORM_KEY", KEY);
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await.expect("the binary");
    let [out, err] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).expect("text"));
    assert!(!out.contains("c0ffee") && !err.contains("c0ffee"), "the key is shown: {out}{err}");
    (output.status.code().expect("a code"), out, err)
}

fn number(of: &Json) -> f64 {
    of.as_f64().unwrap_or_else(|| panic!("no number: {of}"))
}

fn sum(of: &Json) -> f64 {
    of.as_object().expect("an object").values().map(number).sum()
}

#[tokio::test]
async fn a_storm_before_the_sandbox_tells_what_the_gateway_made_of_it() {
    let environment = [
        ("CAPGATE_LEDGER_NOT_READY_TTL_MS".to_owned(), "250".to_owned()),
        ("CAPGATE_LOG_ACCESS".to_owned(), "false".to_owned()),
    ];
    let mut gateway = Binary::start("run", &environment).await;
    let [target, admin] = [gateway.http, gateway.admin.expect("admin")].map(|address| format!("http://{address}"));
    let load = "--tasks 4 --clients 80 --every-ms 100 --seconds 2 --solve-ms 500 --solve-spread 0.2 --seed 3 --json";
    let mut arguments: Vec<&str> = load.split(' ').collect();
    arguments.extend(["--target", &target, "--admin", &admin]);
    let (code, out, err) = storm(&arguments).await;
    assert_eq!(code, 0, "{err}");
    let told: Json = serde_json::from_str(&out).expect("one JSON object");
    assert_eq!(out.trim_end().lines().count(), 1);
    assert_eq!((&told["tasks"], &told["clients"]), (&Json::from(4), &Json::from(80)));
    assert_eq!((&told["submits"]["accepted"], &told["tasks_answered"]), (&Json::from(4), &Json::from(4)), "{told}");
    let polls = number(&told["polls"]);
    let answers = number(&told["answers"]["not_ready"]) + number(&told["answers"]["ready"]);
    assert!(polls > 80.0 && number(&told["answers"]["not_ready"]) > 0.0 && number(&told["answers"]["ready"]) > 0.0);
    assert!((polls - answers).abs() < 0.5, "every poll was answered well: {told}");
    assert!(sum(&told["errors"]) + sum(&told["answers"]["errors"]) < 0.5, "{told}");
    let upstream = number(&told["upstream_polls"]);
    assert!(upstream >= 4.0 && upstream * 5.0 < polls, "{told}");
    assert_eq!(told["upstream_calls"]["createTask"], 4, "{told}");
    assert!((number(&told["amplification"]) - upstream / polls).abs() < 1e-9);
    assert!((number(&told["polls_per_task"]) - upstream / 4.0).abs() < 1e-9);
    for quantiles in ["delay_ms", "submit_ms", "ready_to_seen_ms"] {
        let [p50, max] = ["p50", "max"].map(|name| number(&told[quantiles][name]));
        assert!(p50 <= max, "{told}");
    }
    assert!(err.contains("polls/s") && !err.contains('\r'), "{err}");

    // For eyes, with clients that end with their answer.
    let load = "--tasks 1 --clients 3 --every-ms 50 --seconds 60 --solve-ms 0 --connections new --stop-when-answered";
    let mut arguments: Vec<&str> = load.split(' ').collect();
    arguments.extend(["--target", &target]);
    let (code, out, err) = storm(&arguments).await;
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("1 submitted, 1 accepted\n") && out.contains("0 not ready, 3 ready, 0 failed\n"), "{out}");
    assert!(out.contains("upstream     not known"), "{out}");
    gateway.stop().await;
}

/// A server holds one poll of many, and the whole wait is told: not only that of the poll that it held.
#[tokio::test]
async fn a_stall_is_told_for_every_poll_that_became_due_meanwhile() {
    const HELD: u32 = 20;
    let (calls, mut arriving) = mpsc::unbounded_channel();
    let target = format!("http://{}", serve_scripted(calls).await);
    let load = "--tasks 1 --clients 1 --every-ms 20 --seconds 2 --json";
    let storming = tokio::spawn(async move {
        let mut arguments: Vec<&str> = load.split(' ').collect();
        arguments.extend(["--target", &target]);
        storm(&arguments).await
    });
    let mut polls = 0;
    while !storming.is_finished() {
        let Ok(Some(call)) = tokio::time::timeout(Duration::from_millis(50), arriving.recv()).await else { continue };
        let answer = if call.path.starts_with("/in.php") {
            assert!(String::from_utf8_lossy(&call.body).contains(KEY));
            "OK|7"
        } else {
            assert!(call.path.starts_with("/res.php?") && call.path.ends_with("action=get&id=7"), "{}", call.path);
            polls += 1;
            if polls == HELD {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            "CAPCHA_NOT_READY"
        };
        // The client may have given up.
        let _ = call.reply.send(UpstreamAnswer::says(answer));
    }
    let (code, out, err) = storming.await.expect("done");
    assert_eq!(code, 0, "{err}");
    let told: Json = serde_json::from_str(&out).expect("one JSON object");
    assert_eq!(told["polls"], polls, "{told}");
    assert_eq!(told["answers"]["not_ready"], polls, "{told}");
    // One was held, and dozens were due.
    assert!(number(&told["late"]) + number(&told["unsent"]) > 10.0, "{told}");
    let [delay, answer] = ["delay_ms", "answer_ms"].map(|quantiles| number(&told[quantiles]["p90"]));
    assert!(delay > 5.0 * answer, "{told}");
}

/// 0.0.0.0 is not a loopback address and leads to this machine all the same, so that nothing leaves it whatever happens.
#[tokio::test]
async fn another_host_is_stormed_only_when_told_twice() {
    let victim = TcpListener::bind("127.0.0.1:0").expect("a port");
    victim.set_nonblocking(true).expect("a socket");
    let nobody_came = || assert!(victim.accept().is_err(), "somebody connected");
    let port = victim.local_addr().expect("an address").port();
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
        nobody_came();
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
        nobody_came();
    }
    drop(victim);

    let mut gateway = Binary::start("run", &[]).await;
    let far = format!("http://0.0.0.0:{}", gateway.http.port());
    let load = "--tasks 1 --clients 1 --every-ms 50 --seconds 1 --remote --confirm 0.0.0.0";
    let mut arguments: Vec<&str> = load.split(' ').collect();
    arguments.extend(["--target", &far]);
    let (code, out, err) = storm(&arguments).await;
    assert!(code == 0 && out.contains("1 accepted\n"), "{out}{err}");
    gateway.stop().await;
}

#[tokio::test]
async fn a_storm_that_cannot_be_says_why() {
    // A port that was free a moment ago.
    let nobody: SocketAddr = {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.local_addr().expect("an address")
    };
    let target = format!("http://{nobody}");
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
