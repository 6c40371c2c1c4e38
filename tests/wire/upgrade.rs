//! Upgrades of the running process: listeners, connections in progress, and new processes that cannot start.

use std::path::Path;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::timeout;

use super::environment;
use crate::support::http::{get, read_response};
use crate::support::process::Process;

const POLL: &[u8] = b"GET /res.php?key=K&action=get&id=1 HTTP/1.1\r\nHost: gate.test\r\n\r\n";
const TIMEOUT: Duration = Duration::from_secs(30);

/// A gateway with a control socket, and the configuration file of its successors.
struct Gateway {
    process: Process,
    config: std::path::PathBuf,
    folder: tempfile::TempDir,
    /// Successors, which are no children of the test.
    successors: Vec<u32>,
}

impl Gateway {
    async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let config = folder.path().join("capgate.toml");
        write_config(&config, folder.path(), "");
        let mut child = Command::new(env!("CARGO_BIN_EXE_capgate"));
        child.args(["run", "--config"]).arg(&config);
        let process = Process::spawn(child, "run", &environment(&[("CAPGATE_LIMITS_IDLE_TIMEOUT_MS", "60000")])).await;
        Self { process, config, folder, successors: Vec::new() }
    }

    /// Runs `capgate upgrade`. Returns whether it succeeded, and what it printed.
    async fn upgrade(&mut self) -> (bool, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_capgate"));
        command.env_clear().args(["upgrade", "--config"]).arg(&self.config);
        let output = timeout(TIMEOUT, command.output()).await.expect("an end in time").expect("capgate runs");
        let text = String::from_utf8(output.stderr).expect("UTF-8");
        let pid = text.split_whitespace().skip_while(|word| *word != "process").nth(1).and_then(|pid| pid.parse().ok());
        if output.status.success() {
            self.successors.push(pid.unwrap_or_else(|| panic!("no process id: {text}")));
        }
        (output.status.success(), text)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        for pid in &self.successors {
            signal(*pid, "KILL");
        }
    }
}

fn signal(pid: u32, name: &str) {
    let kill = std::process::Command::new("sh").args(["-c", &format!("kill -{name} {pid}")]).status();
    assert!(kill.is_ok());
}

/// Writes a configuration with a control socket in this folder.
fn write_config(path: &Path, folder: &Path, rest: &str) {
    let folder = folder.display();
    let text =
        format!("[server]\ncontrol_socket = \"{folder}/control.sock\"\n[store]\npath = \"{folder}/store\"\n{rest}");
    std::fs::write(path, text).expect("written");
}

#[tokio::test]
async fn a_new_process_takes_over_the_listeners_and_the_old_one_finishes_its_connections() {
    let mut gateway = Gateway::start().await;
    let (http, admin) = (gateway.process.http, gateway.process.admin.expect("an admin listener"));
    let mut kept = TcpStream::connect(http).await.expect("connected");
    kept.write_all(POLL).await.expect("written");
    assert_eq!(read_response(&mut kept).await.expect("a response").header("connection"), Some("keep-alive"));
    for _ in 0..3 {
        let (is_done, text) = gateway.upgrade().await;
        assert!(is_done, "{text}");
        let response = get(http, "/res.php?key=K&action=get&id=1").await;
        assert_eq!((response.status, response.body), (200, b"ERROR_WRONG_CAPTCHA_ID".to_vec()));
        assert_eq!(get(admin, "/readyz").await.body, b"ready\n");
    }
    // The connection has been idle for three upgrades, and is served once more, by the first process.
    let id = gateway.process.id();
    assert!(Path::new(&format!("/proc/{id}")).exists(), "the old process left its connection");
    kept.write_all(POLL).await.expect("written");
    let response = read_response(&mut kept).await.expect("a response");
    assert_eq!((response.header("connection"), &*response.body), (Some("close"), &b"ERROR_WRONG_CAPTCHA_ID"[..]));
    gateway.process.close_output();
    gateway.process.wait_without_reading().await;
    // The last process is alone, and ends as the first would have.
    assert_eq!(get(http, "/res.php?key=K&action=get&id=1").await.status, 200);
    signal(*gateway.successors.last().expect("three"), "TERM");
    for _ in 0..1_000 {
        if TcpStream::connect(http).await.is_err() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("somebody still listens");
}

#[tokio::test]
async fn a_new_process_that_cannot_start_leaves_the_old_one_serving() {
    let mut gateway = Gateway::start().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address");
    // The environment of the process would prevail.
    let folder = gateway.folder.path().to_owned();
    let sandbox = format!("[upstream]\nca_file = \"{}\"\n", folder.join("missing.pem").display());
    write_config(&gateway.config, &folder, &format!("{sandbox}url = \"https://{address}\"\n"));
    let (is_done, text) = gateway.upgrade().await;
    assert!(!is_done && text.contains("not upgraded") && text.contains("exit status: 1"), "{text}");
    assert_eq!(get(gateway.process.http, "/res.php?key=K&action=get&id=1").await.status, 200);
    write_config(&gateway.config, &folder, "");
    let (is_done, text) = gateway.upgrade().await;
    assert!(is_done, "{text}");
    assert_eq!(get(gateway.process.http, "/res.php?key=K&action=get&id=1").await.status, 200);
}

#[tokio::test]
async fn an_upgrade_needs_a_running_process() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("capgate.toml");
    write_config(&config, folder.path(), "");
    for (arguments, expected) in [
        (vec!["upgrade", "--config", config.to_str().expect("UTF-8")], "no capgate answers"),
        (vec!["upgrade"], "without store.path"),
        (vec!["run", "--take-over"], "run capgate upgrade instead"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_capgate"));
        command.env_clear().args(&arguments).stdin(std::process::Stdio::null());
        let output = timeout(TIMEOUT, command.output()).await.expect("an end in time").expect("capgate runs");
        let text = String::from_utf8(output.stderr).expect("UTF-8");
        assert!(output.status.code() == Some(1) && text.contains(expected), "{arguments:?}: {text}");
    }
}
