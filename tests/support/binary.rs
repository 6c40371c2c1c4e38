//! The real binary, started on free ports and ended by its own process id.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value as Json;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use super::http;

pub(crate) struct Binary {
    child: Child,
    out: Lines<BufReader<ChildStdout>>,
    /// Lines of the log read so far.
    pub(crate) log: Vec<String>,
    pub(crate) http: SocketAddr,
    pub(crate) https: Option<SocketAddr>,
    pub(crate) admin: Option<SocketAddr>,
}

/// A field of a log line, in either format.
fn field(line: &str, name: &str) -> Option<String> {
    match serde_json::from_str::<Json>(line) {
        Ok(line) => line[name].as_str().map(str::to_owned),
        Err(_) => line.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('=')).map(str::to_owned),
    }
}

const PATIENCE: Duration = Duration::from_secs(20);

impl Binary {
    /// Starts `capgate <command>` with this environment, and waits until it listens.
    pub(crate) async fn start(command: &str, environment: &[(String, String)]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_capgate"));
        child.arg(command).env_clear().env("RUST_BACKTRACE", "1");
        for (name, value) in [
            ("CAPGATE_LISTEN_HTTP", "127.0.0.1:0"),
            ("CAPGATE_LISTEN_HTTPS", "127.0.0.1:0"),
            ("CAPGATE_LISTEN_ADMIN", "127.0.0.1:0"),
            ("CAPGATE_SANDBOX_LISTEN", "127.0.0.1:0"),
            ("CAPGATE_LOG_FORMAT", "json"),
        ] {
            child.env(name, value);
        }
        child.envs(environment.iter().cloned());
        let mut child = child.stdout(Stdio::piped()).kill_on_drop(true).spawn().expect("the binary");
        let out = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut binary = Self { child, out, log: Vec::new(), http: nowhere, https: None, admin: None };
        let last = if command == "sandbox" { "sandbox" } else { "admin" };
        loop {
            let line = binary.next_line().await.expect("the binary ended before it listened");
            let listener = field(&line, "listener");
            let address = || field(&line, "address").and_then(|text| text.parse().ok()).expect("an address");
            match listener.as_deref() {
                Some("http") => binary.http = address(),
                Some("https") => binary.https = Some(address()),
                Some("admin") => binary.admin = Some(address()),
                Some("sandbox") if command == "sandbox" => binary.http = address(),
                _ => {}
            }
            if listener.as_deref() == Some(last) {
                return binary;
            }
        }
    }

    async fn next_line(&mut self) -> Option<String> {
        let line =
            tokio::time::timeout(PATIENCE, self.out.next_line()).await.expect("a line in time").expect("a pipe")?;
        self.log.push(line.clone());
        Some(line)
    }

    /// What its admin listener says of it.
    pub(crate) async fn metrics(&self) -> String {
        let admin = self.admin.expect("an admin listener");
        let told = http::request(admin, "GET", "/metrics", &[], b"").await.expect("metrics");
        String::from_utf8(told.body).expect("text")
    }

    /// Sends SIGTERM.
    pub(crate) fn terminate(&self) {
        let id = self.child.id().expect("a running process");
        // The shell's own `kill`: the program of that name is in a package that a small system lacks.
        let killed = std::process::Command::new("sh").arg("-c").arg(format!("kill -TERM {id}")).status().expect("sh");
        assert!(killed.success());
    }

    /// Waits for the end, reading the log to it, and returns the exit code.
    pub(crate) async fn wait(&mut self) -> Option<i32> {
        while self.next_line().await.is_some() {}
        let status =
            tokio::time::timeout(PATIENCE, self.child.wait()).await.expect("an end in time").expect("a status");
        status.code()
    }

    /// Stops it and checks that it ends well.
    pub(crate) async fn stop(&mut self) {
        self.terminate();
        assert_eq!(self.wait().await, Some(0));
    }
}
