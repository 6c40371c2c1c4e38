//! The embedded store of the capgate process: a kill, a disk that is full at the start or in between, a second process.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use capgate::store::clock::SystemTimes;
use capgate::store::folder::{Folder, Opened};
use capgate::store::metrics::StoreMetrics;
use capgate::store::snapshot::{NativeIdSnapshot, ReportSnapshot, StateSnapshot, TaskSnapshot};
use capgate::store::{Store, settled};
use capgate::telemetry::metrics::MetricsRegistry;
use tokio::process::Command;

use super::sandbox;
use crate::support::http::request;
use crate::support::process::Process;

const SUBMIT: &str = "/in.php?key=K&method=turnstile&sitekey=S&pageurl=https://example.com";

fn settings(folder: &Path) -> Vec<(String, String)> {
    let path = folder.join("store").display().to_string();
    // The limit on the size of files is changed from outside, as a debugger would attach.
    sandbox(&[("CAPGATE_STORE_PATH", &path), ("CAPGATE_SERVER_CORE_DUMPS", "true")])
}

async fn body(process: &Process, target: &str) -> String {
    let response = request(process.http, "GET", target, &[], b"").await.expect("a response");
    String::from_utf8(response.body).expect("UTF-8")
}

async fn readiness(process: &Process) -> (u16, String) {
    let admin = process.admin.expect("an admin listener");
    let response = request(admin, "GET", "/readyz", &[], b"").await.expect("a response");
    (response.status, String::from_utf8(response.body).expect("UTF-8"))
}

/// Returns a command that becomes `capgate run` with a limit on the size of its files, in blocks of 512 bytes: writes
/// beyond it fail, as on a full disk.
fn with_file_limit(blocks: u32) -> Command {
    let mut child = Command::new("/bin/sh");
    let script = format!("trap '' XFSZ; ulimit -S -f {blocks}; exec \"$0\" run");
    child.args(["-c", &script, env!("CARGO_BIN_EXE_capgate")]);
    child
}

/// Runs `capgate run`, which must not start. Returns its standard error.
async fn refusal(mut child: Command, environment: Vec<(String, String)>) -> String {
    child.env_clear().envs(environment).env("CAPGATE_LISTEN_HTTP", "127.0.0.1:0").env("CAPGATE_LISTEN_ADMIN", "");
    child.stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    let ended = tokio::time::timeout(Duration::from_secs(20), child.output()).await.expect("it ends");
    let ended = ended.expect("started");
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    String::from_utf8(ended.stderr).expect("UTF-8")
}

#[tokio::test]
async fn a_task_survives_a_kill() {
    let folder = tempfile::tempdir().expect("a folder");
    let environment = [settings(folder.path()), sandbox(&[("CAPGATE_SANDBOX_SOLVE_MS", "0")])].concat();
    let first = Process::start("run", &environment).await;
    let id = body(&first, SUBMIT).await.trim_start_matches("OK|").to_owned();
    let poll = format!("/res.php?key=K&action=get&id={id}");
    let answer = body(&first, &poll).await;
    assert!(answer.starts_with("OK|SANDBOX-"), "{answer}");
    // Dropped, the process is killed.
    drop(first);
    let mut second = Process::start("run", &environment).await;
    // The embedded sandbox has forgotten the task.
    assert_eq!(body(&second, &poll).await, answer);
    second.stop().await;
}

#[tokio::test]
async fn a_second_process_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut first = Process::start("run", &settings(folder.path())).await;
    let mut second = Command::new(env!("CARGO_BIN_EXE_capgate"));
    second.arg("run");
    let error = refusal(second, settings(folder.path())).await;
    assert!(error.contains("another process uses this store"), "{error}");
    first.stop().await;
}

#[tokio::test]
async fn a_disk_that_is_full_at_the_start_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    for blocks in [0, 8, 40] {
        let error = refusal(with_file_limit(blocks), settings(folder.path())).await;
        assert!(error.contains("store.path: ") && error.lines().count() == 1, "{error}");
    }
    // Nothing that was left prevents a start once there is space.
    Process::start("run", &settings(folder.path())).await.stop().await;
    for blocks in [0, 8] {
        let error = refusal(with_file_limit(blocks), settings(folder.path())).await;
        assert!(error.contains("store.path: "), "{error}");
    }
    Process::start("run", &settings(folder.path())).await.stop().await;
}

#[tokio::test]
async fn while_the_disk_is_full_submits_are_refused_and_polls_go_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut process = Process::spawn(with_file_limit(1_000), "run", &settings(folder.path())).await;
    let mut first = None;
    let mut is_full = false;
    for _ in 0..2_000 {
        let reply = body(&process, SUBMIT).await;
        if reply == "ERROR_NO_SLOT_AVAILABLE" {
            is_full = true;
            break;
        }
        let id = reply.strip_prefix("OK|").expect("an id").to_owned();
        first.get_or_insert(id);
    }
    assert!(is_full, "the disk is never full");
    let (status, why) = readiness(&process).await;
    assert_eq!(status, 503);
    assert!(why.starts_with("store unavailable: "), "{why}");
    process.wait_for_metric("capgate_store_available 0").await;
    let poll = format!("/res.php?key=K&action=get&id={}", first.expect("a task"));
    assert_eq!(body(&process, &poll).await, "CAPCHA_NOT_READY");

    let pid = i32::try_from(process.id()).expect("a process id");
    let unlimited = Some((rlimit::INFINITY, rlimit::INFINITY));
    rlimit::prlimit(pid, rlimit::Resource::FSIZE, unlimited, None).expect("the limit is lifted");
    process.wait_for_metric("capgate_store_available 1").await;
    assert!(body(&process, SUBMIT).await.starts_with("OK|"));
    assert_eq!(readiness(&process).await, (200, "ready\n".to_owned()));
    process.stop().await;
}

/// With `CAPGATE_STORE_TASKS=1000000 cargo test --release -- --nocapture a_start_answers`, measures a large store.
#[tokio::test]
async fn a_start_answers_before_all_tasks_are_restored() {
    const FIRST: u64 = 100_000_000_000;
    let tasks = std::env::var("CAPGATE_STORE_TASKS").map_or(3_000, |text| text.parse().expect("a number"));
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store");
    let now_unix_ms = SystemTimes::now().wall_unix_ms;
    let task = |number: u64| TaskSnapshot {
        legacy_id: FIRST + number * 899_999 % (9 * FIRST),
        account_key: "0123456789abcdef0123456789abcdef".to_owned(),
        method: "turnstile".to_owned(),
        upstream: 0,
        native_id: Some(NativeIdSnapshot::Text("0b0e7a1c-6f52-4f8e-9d4b-3b1f6f1c2d3e".to_owned())),
        pingback: None,
        state: StateSnapshot::Open { accepted_unix_ms: now_unix_ms, not_ready_age_ms: 0, polls_used: 0 },
        report: ReportSnapshot::None,
        expires_unix_ms: now_unix_ms + 1_800_000,
    };
    {
        let metrics = StoreMetrics::register(&MetricsRegistry::new());
        let Opened { backend, cipher, .. } = Folder::open(&path, None, None, metrics).expect("created");
        let store = Store::new(Arc::new(backend), cipher);
        for chunk in (0..tasks).collect::<Vec<u64>>().chunks(10_000) {
            let written: Vec<_> = chunk.iter().map(|number| store.save_task(&task(*number))).collect();
            for written in written {
                settled(written).await.expect("written");
            }
        }
    }
    let started = Instant::now();
    let mut process = Process::start("run", &settings(folder.path())).await;
    let id = task(tasks - 1).legacy_id;
    let poll = format!("/res.php?key=0123456789abcdef0123456789abcdef&action=get&id={id}");
    // The sandbox does not know the task, which is not final yet.
    assert_eq!(body(&process, &poll).await, "CAPCHA_NOT_READY");
    let answered = started.elapsed();
    process.wait_for_metric(&format!("capgate_records {tasks}")).await;
    let size = std::fs::metadata(path.join("tasks.sqlite")).expect("a file").len();
    let restored = started.elapsed();
    let figures =
        format!("{tasks} tasks: answer after {answered:?}, all after {restored:?}, {} bytes each", size / tasks);
    std::io::Write::write_all(&mut std::io::stderr(), format!("{figures}\n").as_bytes()).expect("written");
    process.stop().await;
}

/// Runs `capgate store <action>`. Returns its exit code, what it printed, and its errors.
async fn inspect(action: &str, environment: &[(String, String)]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_capgate"));
    command.args(["store", action]).env_clear().envs(environment.iter().cloned());
    let output = tokio::time::timeout(Duration::from_secs(20), command.output()).await.expect("an end in time");
    let output = output.expect("capgate runs");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[tokio::test]
async fn operators_see_a_store_in_use_without_its_secrets() {
    const KEY: &str = "c0ffee00c0ffee00c0ffee00c0ffee00";
    let folder = tempfile::tempdir().expect("a folder");
    let environment = [settings(folder.path()), sandbox(&[("CAPGATE_SANDBOX_SOLVE_MS", "0")])].concat();
    let mut process = Process::start("run", &environment).await;
    let submit = SUBMIT.replace("key=K", &format!("key={KEY}"));
    let id = body(&process, &submit).await.trim_start_matches("OK|").to_owned();
    let answer = body(&process, &format!("/res.php?key={KEY}&action=get&id={id}")).await;
    let secrets = [KEY, answer.trim_start_matches("OK|")];
    assert!(secrets[1].starts_with("SANDBOX-"), "{answer}");
    assert!(body(&process, &submit).await.starts_with("OK|"));
    for is_running in [true, false] {
        let (code, stats, errors) = inspect("stats", &environment).await;
        assert_eq!((code, &*errors), (Some(0), ""), "{stats}");
        let stats: serde_json::Value = serde_json::from_str(&stats).expect("JSON");
        // The second one may be solved by now.
        let tasks = stats["tasks"].as_object().expect("an object");
        assert_eq!(tasks.values().filter_map(serde_json::Value::as_u64).sum::<u64>(), 2, "{stats}");
        assert_eq!((&stats["accounts"], &stats["accepted_keys"]), (&1.into(), &1.into()), "{stats}");
        let (code, checked, errors) = inspect("check", &environment).await;
        assert_eq!((code, &*errors), (Some(0), ""));
        assert!(checked.starts_with("the store can be read: 2 tasks, 1 accepted keys"), "{checked}");
        let (code, exported, errors) = inspect("export", &environment).await;
        assert_eq!((code, &*errors), (Some(0), ""));
        let tasks: Vec<serde_json::Value> =
            exported.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        assert_eq!(tasks.len(), 2);
        let solved = tasks.iter().find(|task| task["id"].as_u64() == id.parse().ok()).expect("the task");
        assert_eq!((&solved["state"], &solved["method"]), (&"solved".into(), &"turnstile".into()));
        assert_eq!(tasks[0]["account"], tasks[1]["account"]);
        assert!(!secrets.iter().any(|secret| format!("{stats}{checked}{exported}").contains(secret)));
        if is_running {
            process.stop().await;
        }
    }
    let database = rusqlite::Connection::open(folder.path().join("store/tasks.sqlite")).expect("a database");
    let sql = "UPDATE tasks SET value = randomblob(99) WHERE key = (SELECT MIN(key) FROM tasks)";
    assert_eq!(database.execute(sql, []).expect("damaged"), 1);
    drop(database);
    let (code, _, errors) = inspect("check", &environment).await;
    assert_eq!((code, &*errors), (Some(1), "capgate: 1 values cannot be read, 1 tasks can\n"));
    assert_eq!(inspect("export", &environment).await.1.lines().count(), 1);
    assert_eq!(inspect("check", &sandbox(&[])).await.2, "capgate: store.path is not set\n");
}
