//! The capgate binary as a child process, listening on free ports of loopback.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value as Json;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use super::http;

/// Longest wait for a log line or the end of the process.
const TIMEOUT: Duration = Duration::from_secs(20);

pub(crate) struct Process {
    child: Child,
    /// Standard output, until the test closes it.
    stdout: Option<Lines<BufReader<ChildStdout>>>,
    /// Lines of the log read so far.
    pub(crate) log: Vec<String>,
    pub(crate) http: SocketAddr,
    pub(crate) https: Option<SocketAddr>,
    pub(crate) admin: Option<SocketAddr>,
}

/// Returns a field of a log line in JSON or text format.
fn log_field(line: &str, name: &str) -> Option<String> {
    match serde_json::from_str::<Json>(line) {
        Ok(line) => line[name].as_str().map(str::to_owned),
        Err(_) => line.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('=')).map(str::to_owned),
    }
}

impl Process {
    /// Starts `capgate <command>` with this environment and waits until it listens.
    pub(crate) async fn start(command: &str, environment: &[(String, String)]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_capgate"));
        child.arg(command);
        Self::spawn(child, command, environment).await
    }

    /// Starts `capgate run` with at most this many open files.
    pub(crate) async fn start_with_files(files: u32, environment: &[(String, String)]) -> Self {
        let mut child = Command::new("/bin/sh");
        child.args(["-c", &format!("ulimit -n {files}; exec \"$0\" run"), env!("CARGO_BIN_EXE_capgate")]);
        Self::spawn(child, "run", environment).await
    }

    /// Starts a child that is `capgate <command>`, or becomes it, and waits until it listens.
    pub(crate) async fn spawn(mut child: Command, command: &str, environment: &[(String, String)]) -> Self {
        child.env_clear().env("RUST_BACKTRACE", "1");
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
        let mut child = child.stdout(Stdio::piped()).kill_on_drop(true).spawn().expect("start capgate");
        let stdout = Some(BufReader::new(child.stdout.take().expect("stdout is piped")).lines());
        let unbound = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut process = Self { child, stdout, log: Vec::new(), http: unbound, https: None, admin: None };
        // Listeners start in a fixed order.
        let last = if command == "sandbox" { "sandbox" } else { "admin" };
        loop {
            let line = process.next_line().await.expect("capgate ended before it listened");
            let listener = log_field(&line, "listener");
            let address = || log_field(&line, "address").and_then(|text| text.parse().ok()).expect("an address");
            match listener.as_deref() {
                Some("http") => process.http = address(),
                Some("https") => process.https = Some(address()),
                Some("admin") => process.admin = Some(address()),
                Some("sandbox") if command == "sandbox" => process.http = address(),
                _ => {}
            }
            if listener.as_deref() == Some(last) {
                return process;
            }
        }
    }

    async fn next_line(&mut self) -> Option<String> {
        let stdout = self.stdout.as_mut()?;
        let line = tokio::time::timeout(TIMEOUT, stdout.next_line()).await.expect("a log line within the timeout");
        let line = line.expect("read stdout")?;
        self.log.push(line.clone());
        Some(line)
    }

    /// Returns the metrics page of the admin listener.
    pub(crate) async fn metrics(&self) -> String {
        let admin = self.admin.expect("an admin listener");
        let response = http::request(admin, "GET", "/metrics", &[], b"").await.expect("metrics");
        String::from_utf8(response.body).expect("UTF-8")
    }

    /// Reads the metrics until they contain this line, for at most 10 s or so.
    pub(crate) async fn wait_for_metric(&self, line: &str) -> String {
        let line = format!("{line}\n");
        for _ in 0..1_000 {
            let metrics = self.metrics().await;
            if metrics.contains(&line) {
                return metrics;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the metrics never contain {line}{}", self.metrics().await);
    }

    /// Returns the id of the running process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id().expect("a running process")
    }

    /// Returns the resident memory of the process in bytes.
    pub(crate) fn resident_bytes(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).expect("a Linux process");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
        1024 * line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number")
    }

    /// Closes the pipe from which the log is read.
    pub(crate) fn close_output(&mut self) {
        self.stdout = None;
    }

    /// Sends SIGTERM.
    pub(crate) fn terminate(&self) {
        self.signal("TERM");
    }

    /// Sends a signal by its name without "SIG".
    pub(crate) fn signal(&self, name: &str) {
        let id = self.id();
        // The shell's builtin, because minimal systems lack the `kill` program.
        let command = format!("kill -{name} {id}");
        let kill = std::process::Command::new("sh").arg("-c").arg(command).status().expect("run sh");
        assert!(kill.success());
    }

    /// Reads the log up to the first line that contains this text.
    pub(crate) async fn wait_for_line(&mut self, text: &str) {
        while !self.next_line().await.expect("the log ends without the line").contains(text) {}
    }

    /// Waits for the end, reads the log to its end, and returns the exit code.
    pub(crate) async fn wait(&mut self) -> Option<i32> {
        while self.next_line().await.is_some() {}
        let status = tokio::time::timeout(TIMEOUT, self.child.wait()).await.expect("an end within the timeout");
        status.expect("an exit status").code()
    }

    /// Waits for the end with exit code 0 while nobody reads the log.
    pub(crate) async fn wait_without_reading(&mut self) {
        let status = tokio::time::timeout(TIMEOUT, self.child.wait()).await.expect("an end within the timeout");
        assert!(status.expect("an exit status").success());
    }

    /// Stops the process and asserts that it ends with exit code 0.
    pub(crate) async fn stop(&mut self) {
        self.terminate();
        assert_eq!(self.wait().await, Some(0));
    }
}
