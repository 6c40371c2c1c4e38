//! A log that cannot be written: full disk, closed pipe, reader that does not read.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;

use super::sandbox;
use crate::support::http::{get, request};
use crate::support::process::Process;

const POLL: &str = "/res.php?key=K&action=get&id=1";

/// Returns the value of the counter of lost lines.
fn lost_lines(metrics: &str) -> u64 {
    let line = metrics.lines().find_map(|line| line.strip_prefix("capgate_log_lines_dropped_total "));
    line.expect("the counter").parse().expect("a number")
}

/// Reads metrics until this many lines are lost, for at most 10 s or so.
async fn wait_for_lost_lines(admin: SocketAddr, count: u64) {
    for _ in 0..1_000 {
        if let Ok(response) = request(admin, "GET", "/metrics", &[], b"").await
            && lost_lines(&String::from_utf8_lossy(&response.body)) >= count
        {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never {count} lost lines");
}

#[tokio::test]
async fn a_full_disk_costs_lines_and_nothing_else() {
    // The log would contain the ports, so they are chosen here.
    let [http, admin] = [0, 1].map(|_| {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.local_addr().expect("an address")
    });
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("Linux");
    let mut child = Command::new(env!("CARGO_BIN_EXE_capgate"));
    child.arg("run").env_clear().envs(sandbox(&[])).stdout(Stdio::from(full)).kill_on_drop(true);
    child.env("CAPGATE_LISTEN_HTTP", http.to_string()).env("CAPGATE_LISTEN_ADMIN", admin.to_string());
    let mut child = child.spawn().expect("start capgate");
    // The lines of the start.
    wait_for_lost_lines(admin, 3).await;
    for _ in 0..10 {
        assert_eq!(get(http, POLL).await.body, b"ERROR_WRONG_CAPTCHA_ID");
    }
    wait_for_lost_lines(admin, 13).await;
    assert_eq!(child.try_wait().expect("a child"), None);
    child.kill().await.expect("killed");
}

#[tokio::test]
async fn a_closed_pipe_costs_lines_and_nothing_else() {
    let mut process = Process::start("run", &sandbox(&[])).await;
    assert_eq!(lost_lines(&process.metrics().await), 0);
    process.close_output();
    for _ in 0..10 {
        assert_eq!(get(process.http, POLL).await.body, b"ERROR_WRONG_CAPTCHA_ID");
    }
    wait_for_lost_lines(process.admin.expect("an admin listener"), 10).await;
    process.stop().await;
}

#[tokio::test]
async fn a_log_that_nobody_reads_delays_no_request_and_no_shutdown() {
    // Far more lines than a pipe holds (64 KiB).
    const POLLS: usize = 4_000;
    let mut process = Process::start("run", &sandbox(&[])).await;
    let mut stream = TcpStream::connect(process.http).await.expect("a connection");
    let (mut reader, mut writer) = stream.split();
    let poll = format!("GET {POLL} HTTP/1.1\r\nHost: x\r\n\r\n").into_bytes();
    let last = format!("GET {POLL} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").into_bytes();
    let (mut responses, polls) = (Vec::new(), [poll.repeat(POLLS - 1), last].concat());
    let (read, written) = tokio::join!(reader.read_to_end(&mut responses), writer.write_all(&polls));
    read.expect("responses");
    written.expect("written");
    assert_eq!(String::from_utf8_lossy(&responses).matches("ERROR_WRONG_CAPTCHA_ID").count(), POLLS);
    let polled = format!("capgate_polls_total{{path=\"unknown\"}} {POLLS}");
    process.wait_for_metric(&polled).await;
    // Ends although its log is still full; `wait` would read it.
    process.terminate();
    process.wait_without_reading().await;
}
