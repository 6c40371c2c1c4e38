//! Secrets stay in the process: no output, no core file and no other process shows them.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use tokio::process::Command;

use crate::support::http::send_raw;
use crate::support::process::Process;
use crate::support::scripted_upstream::UpstreamServer;
use crate::support::upstream_reply::UpstreamReply;

/// Starts a gateway as a user other than root. Returns it with the id of the user.
async fn start_as_user(folder: &tempfile::TempDir, settings: &[(&str, &str)]) -> (Process, u32) {
    /// The usual id of `nobody`.
    const NOBODY: u32 = 65_534;
    // The build folder may be hidden from other users.
    let binary = folder.path().join("capgate");
    if !binary.exists() {
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).expect("changed");
        std::fs::copy(env!("CARGO_BIN_EXE_capgate"), &binary).expect("copied");
    }
    let own_id = folder.path().metadata().expect("a folder").uid();
    let mut child = Command::new("/bin/sh");
    child.args(["-c", "ulimit -S -c unlimited 2>/dev/null; exec \"$0\" run"]).arg(&binary);
    let id = if own_id == 0 { NOBODY } else { own_id };
    if own_id == 0 {
        child.uid(NOBODY).gid(NOBODY);
    }
    let settings: Vec<_> = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    (Process::spawn(child, "run", &settings).await, id)
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn memory_is_neither_dumped_nor_readable_unless_that_is_configured() {
    let folder = tempfile::tempdir().expect("a folder");
    let soft_limit = |process: &Process| {
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", process.id())).expect("limits");
        let line =
            limits.lines().find_map(|line| line.strip_prefix("Max core file size")).expect("a limit of core files");
        line.split_whitespace().next().expect("a soft limit").to_owned()
    };
    // The kernel gives the files of a process to root if no other process of the user may read its memory (proc(5)).
    let owner = |process: &Process| {
        std::fs::metadata(format!("/proc/{}/environ", process.id())).expect("a running process").uid()
    };

    let (mut process, id) = start_as_user(&folder, &[]).await;
    assert_ne!(id, 0);
    assert_eq!((soft_limit(&process).as_str(), owner(&process)), ("0", 0));
    process.signal("QUIT");
    assert_eq!(process.wait().await, Some(0));

    let (mut process, id) = start_as_user(&folder, &[("CAPGATE_SERVER_CORE_DUMPS", "true")]).await;
    assert_eq!(owner(&process), id);
    process.stop().await;
}

/// The beginning of every secret in these tests; what follows says which one was shown.
const MARK: &str = "5ecret";

const KEY: &str = "5ecretkey5ecretkey5ecretkey0";

/// A submit with a secret of each kind, which an attacker or a mistake may also put where it does not belong.
const SUBMIT: &str = "key=5ecretkey5ecretkey5ecretkey0&method=userrecaptcha&googlekey=S\
    &pageurl=https://5ecretuser:5ecretpassword@e.com/&proxy=5ecretlogin:5ecretpassword@10.0.0.1:80&proxytype=HTTP\
    &cookies=SID:5ecretcookie&pingback=https://5ecretuser:5ecretpassword@e.com/";

/// Replies to native calls in turn. They quote secrets wherever an upstream might.
async fn reply_forever(mut upstream: UpstreamServer) {
    let error = format!(r#"{{"errorId":1,"errorCode":"{KEY}","errorDescription":"bad clientKey {KEY}"}}"#);
    let raw = |text: String| UpstreamReply::Raw(text.into_bytes());
    let status = |status, body: &str| UpstreamReply::Response { status, body: body.as_bytes().to_vec() };
    let troubles = [
        UpstreamReply::ok(&error),
        UpstreamReply::Reset,
        status(502, "<html>5ecrettoken</html>"),
        raw(format!("HTTP/1.1 302 X\r\nLocation: https://h/?key={KEY}\r\nContent-Length: 0\r\n\r\n")),
        status(429, &error),
        raw(format!("HTTP/1.1 200 OK\r\nX {KEY}\r\n\r\n")),
        UpstreamReply::ok(&error.replace(KEY, "ERROR_KEY_DOES_NOT_EXIST")),
        raw(format!("{KEY}\r\n\r\n")),
        raw(format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{KEY}\r\n")),
        UpstreamReply::ok(r#"{"errorId":0,"status":"5ecrettoken","taskId":["5ecrettoken"]}"#),
        raw(format!("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Encoding: {KEY}\r\n\r\nabcde")),
    ];
    let mut troubles = troubles.iter().cycle().cloned();
    for at in 0.. {
        let call = upstream.next_call().await;
        let reply = match (at % 2, call.path.as_str()) {
            (0, "/createTask") => UpstreamReply::ok(r#"{"errorId":0,"taskId":"5ecretid","status":"processing"}"#),
            (0, "/getTaskResult") => {
                UpstreamReply::ok(r#"{"errorId":0,"status":"ready","solution":{"token":"5ecrettoken"}}"#)
            }
            (0, "/getBalance") => UpstreamReply::ok(r#"{"errorId":0,"balance":1}"#),
            _ => troubles.next().expect("a cycle"),
        };
        call.reply(reply);
    }
}

/// Requests of every form that carry secrets: good, refused, malformed and oversized.
fn requests() -> Vec<Vec<u8>> {
    let post = |headers: &str, body: &str| {
        let length = body.len();
        format!(
            "POST /in.php HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
        )
    };
    let pairs = || SUBMIT.split('&').filter_map(|pair| pair.split_once('='));
    let json: serde_json::Map<String, serde_json::Value> =
        pairs().map(|(name, value)| (name.to_owned(), value.into())).collect();
    let json = serde_json::Value::Object(json).to_string();
    let mut multipart = String::new();
    for (name, value) in pairs() {
        multipart.push_str(&format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"));
    }
    multipart.push_str("--b--\r\n");
    let chunked = format!("{:x}\r\n{SUBMIT}\r\n0\r\n\r\n", SUBMIT.len());
    let get = |target: &str| {
        format!(
            "GET {target} HTTP/1.1\r\nHost: {KEY}\r\nConnection: close\r\nCookie: k={KEY}\r\nAuthorization: Bearer {KEY}\r\n\
             Referer: https://h/?key={KEY}\r\nX-Forwarded-For: {KEY}\r\nUser-Agent: {KEY}\r\n\r\n"
        )
    };
    let long = "x".repeat(200_000);
    let mut requests = vec![
        get(&format!("/in.php?{SUBMIT}")),
        post("Content-Type: application/x-www-form-urlencoded\r\n", SUBMIT),
        post("Content-Type: application/json\r\n", &json),
        post("Content-Type: multipart/form-data; boundary=b\r\n", &multipart),
        format!("POST /in.php HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n{chunked}"),
        format!("POST /in.php HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n{KEY}\r\n"),
        format!("GET /in.php?{SUBMIT} HTTP/1.0\r\n\r\n"),
        // Broken bodies, and one above the limit.
        post("Content-Type: application/json\r\n", &format!("{{\"key\":\"{KEY}\",{KEY}")),
        post(&format!("Content-Type: {KEY}\r\n"), &format!("--{KEY}")),
        post("", &format!("{SUBMIT}&body={long}")),
        post("", &format!("{SUBMIT}&key=other")),
        // Malformed and oversized headers.
        format!("{KEY} /in.php?{SUBMIT} HTTP/1.1\r\nHost: x\r\n\r\n"),
        format!("GET /in.php?{SUBMIT} HTTP/9.9\r\nX\u{1}: {KEY}\r\n\r\n"),
        format!("GET /in.php?{SUBMIT}\r\n\r\n"),
        format!("GET /in.php?{SUBMIT} HTTP/1.1\r\nHost: x\r\n{KEY}\r\n\r\n"),
        format!("GET /in.php?{SUBMIT}&body={long}{long} HTTP/1.1\r\nHost: x\r\n\r\n"),
        format!("GET /res.php?key={KEY} HTTP/1.1\r\nHost: x\r\nX: {long}{KEY}\r\n\r\n"),
        format!("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n{KEY}{KEY}{KEY}"),
        format!("\u{16}\u{3}\u{1}{KEY}\r\n\r\n"),
    ];
    // Secrets where they do not belong.
    for target in [
        format!("/{KEY}/res.php?key={KEY}"),
        format!("/in.php&{SUBMIT}"),
        format!("/in.php?{KEY}"),
        format!("/in.php?key={KEY}&method={KEY}"),
        format!("/in.php?key={KEY}&method=turnstile&sitekey={KEY}&pageurl={KEY}"),
        format!("/in.php?key={KEY}&method=turnstile&sitekey=S&pageurl=https://e.com&{KEY}={KEY}"),
        format!(
            "/in.php?key={KEY}&method=turnstile&sitekey=S&pageurl=https://e.com&proxy={KEY}&proxytype={KEY}&json=1"
        ),
        format!("/res.php?key={KEY}&action={KEY}&id={KEY}"),
        format!("/res.php?key={KEY}&action=get&id={KEY}&json={KEY}"),
        format!("/res.php?key=%{KEY}&action=getbalance"),
        format!("/res.php?key={KEY}%20&action=getbalance"),
    ] {
        requests.push(get(&target));
    }
    for action in ["get", "get2", "reportgood", "reportbad", "getbalance"] {
        for _ in 0..6 {
            requests.push(get(&format!("/res.php?key={KEY}&action={action}&id=ID")));
        }
    }
    requests.into_iter().map(String::into_bytes).collect()
}

#[tokio::test]
async fn a_running_gateway_shows_no_secret() {
    let certificate = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, text: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("written");
        path.display().to_string()
    };
    let private_key = certificate.signing_key.serialize_pem();
    let key_line = private_key.lines().nth(1).expect("base64").to_owned();
    for format in ["json", "text"] {
        let upstream = UpstreamServer::start().await;
        let mut environment = vec![upstream.setting()];
        let replying = tokio::spawn(reply_forever(upstream));
        for (name, value) in [
            ("CAPGATE_LOG_LEVEL", "debug"),
            ("CAPGATE_LOG_FORMAT", format),
            ("CAPGATE_LIMITS_BODY_BYTES_MAX", "65536"),
            ("CAPGATE_LIMITS_HEADER_TIMEOUT_MS", "500"),
            ("CAPGATE_LIMITS_BODY_TIMEOUT_MS", "500"),
            ("CAPGATE_LIMITS_IDLE_TIMEOUT_MS", "500"),
            ("CAPGATE_UPSTREAM_BALANCE_TTL_MS", "0"),
            ("CAPGATE_UPSTREAM_NEW_KEY_WAIT_MS", "0"),
            ("CAPGATE_LEDGER_TROUBLE_TTL_MS", "0"),
            ("CAPGATE_LEDGER_FOLLOW_DEADLINE_MS", "300"),
            ("HTTP_PROXY", "http://5ecretuser:5ecretpassword@127.0.0.1:9"),
            ("HTTPS_PROXY", "http://5ecretuser:5ecretpassword@127.0.0.1:9"),
            ("CAPGATE_STORM_KEY", KEY),
            ("CAPGATE_TLS_CERT", &file("cert.pem", certificate.cert.pem())),
            ("CAPGATE_TLS_KEY", &file("key.pem", private_key.clone())),
        ] {
            environment.push((name.to_owned(), value.to_owned()));
        }
        let mut child = Command::new("/bin/sh");
        child.args(["-c", "exec \"$0\" run 2>&1", env!("CARGO_BIN_EXE_capgate")]);
        let mut process = Process::spawn(child, "run", &environment).await;
        let mut replies = String::new();
        let mut id = "1".to_owned();
        for request in requests() {
            let request = String::from_utf8(request).expect("text").replace("id=ID", &format!("id={id}"));
            // A refusal may close the connection before the whole request is written.
            let reply = send_raw(process.http, request.as_bytes()).await.unwrap_or_default();
            if let Some((_, issued)) = reply.split_once("OK|")
                && issued.bytes().all(|byte| byte.is_ascii_digit())
            {
                issued.clone_into(&mut id);
            }
            replies.push_str(&reply);
        }
        let _ =
            send_raw(process.https.expect("an HTTPS listener"), format!("GET /?key={KEY}\r\n\r\n").as_bytes()).await;
        let admin = process.admin.expect("an admin listener");
        replies.push_str(&send_raw(admin, format!("GET /{KEY}?{KEY} HTTP/1.0\r\n\r\n").as_bytes()).await.expect("404"));
        let metrics = process.metrics().await;
        process.stop().await;
        replying.abort();
        let log = process.log.join("\n");
        // The forms were served, and not only refused.
        assert!(replies.contains("OK|5ecrettoken") && id != "1", "{replies}");
        assert!(log.contains("upstream call failed") && log.contains("malformed"), "{log}");
        let output = [log, metrics, replies.replace("5ecrettoken", "")].join("\n").to_lowercase();
        let shown = output.find(MARK).map(|at| output[at.saturating_sub(200)..].chars().take(300).collect::<String>());
        assert_eq!(shown, None, "{format}");
        assert!(!output.contains(&key_line.to_lowercase()), "{format}: the private key");
    }
}

/// Runs capgate to its end. Returns its exit code and all of its output.
fn capgate(arguments: &[&str], environment: &[(&str, &str)]) -> (Option<i32>, String) {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_capgate"));
    command.args(arguments).env_clear().env("RUST_BACKTRACE", "full").envs(environment.iter().copied());
    for (name, _, _) in capgate::config::Config::variables() {
        // Whatever starts by mistake takes no fixed port.
        if name.starts_with("CAPGATE_LISTEN_") && !environment.iter().any(|(other, _)| *other == name) {
            command.env(name, "127.0.0.1:0");
        }
    }
    let output = command.output().expect("run capgate");
    (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

/// Runs a command that fails because of its configuration, and returns what it prints, which must hold no secret.
fn refused(arguments: &[&str], environment: &[(&str, &str)], expected: i32) -> String {
    let (code, output) = capgate(arguments, environment);
    assert!(!output.contains(MARK), "{arguments:?} {output}");
    assert_eq!(code, Some(expected), "{arguments:?} {output}");
    output
}

#[test]
fn a_wrong_configuration_is_refused_without_its_secrets() {
    const PEM: &str = "-----BEGIN PRIVATE KEY-----\n5ecretpem\n-----END PRIVATE KEY-----\n";
    const URL: &str = "https://5ecretuser:5ecretpassword@api.test/";
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("capgate.toml").display().to_string();
    for (name, section, key) in capgate::config::Config::variables() {
        for value in [URL, PEM] {
            let is_refused = value == URL && name == "CAPGATE_UPSTREAM_URL"
                || value == PEM && (name.ends_with("_FILE") || name.starts_with("CAPGATE_TLS_"));
            if !is_refused {
                continue;
            }
            for command in ["check", "run", "sandbox"] {
                let error = refused(&[command], &[(&name, value)], 78);
                assert!(error.contains(&name), "{error}");
                std::fs::write(&config, format!("[{section}]\n{key} = '''{value}'''\n")).expect("written");
                let error = refused(&[command, "--config", &config], &[], 78);
                assert!(error.contains(&key), "{error}");
            }
        }
    }
    let translate = ["translate", "/res.php?key=5ecretkey&action=getbalance"];
    refused(&translate, &[("CAPGATE_TLS_KEY", PEM)], 78);
}

#[test]
fn unusable_certificates_are_refused_without_their_keys() {
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let (cert, key) = (certified.cert.pem(), certified.signing_key.serialize_pem());
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("written");
        path.display().to_string()
    };
    let broken_key = "-----BEGIN PRIVATE KEY-----\n5ecretpem\n-----END PRIVATE KEY-----\n";
    let cert_file = file("cert.pem", &cert);
    let both_file = file("both.pem", &format!("{cert}{key}"));
    let broken_file = file("broken.pem", broken_key);
    let swapped_file = file("swapped.pem", &key);
    let not_der = file("not-der.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let url = ("CAPGATE_UPSTREAM_URL", "https://127.0.0.1:9");
    let key_line = key.lines().nth(1).expect("base64");
    for (environment, expected) in [
        (vec![("CAPGATE_TLS_CERT", cert_file.as_str()), ("CAPGATE_TLS_KEY", &broken_file)], "broken.pem"),
        (vec![("CAPGATE_TLS_CERT", &swapped_file), ("CAPGATE_TLS_KEY", &cert_file)], "swapped.pem"),
        // Pingora panics for each of these.
        (vec![url, ("CAPGATE_UPSTREAM_CA_FILE", &both_file)], "more than certificates"),
        (vec![url, ("CAPGATE_UPSTREAM_CA_FILE", &not_der)], "not-der.pem"),
        (vec![url, ("CAPGATE_UPSTREAM_CA_FILE", &broken_file)], "broken.pem"),
    ] {
        let error = refused(&["run"], &environment, 1);
        assert!(error.contains(expected) && !error.contains(key_line), "{error}");
    }
}

#[test]
fn translate_masks_secrets_wherever_they_are() {
    let raw = |text: &str| {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), text).expect("written");
        file
    };
    let masked = |arguments: &[&str]| {
        let (code, output) = capgate(&[&["translate"], arguments].concat(), &[]);
        assert!(!output.contains(MARK), "{arguments:?} {output}");
        (code, output)
    };
    let (code, output) = masked(&[&format!("/in.php?{SUBMIT}")]);
    assert!(code == Some(0) && output.contains("http://***@10.0.0.1:80"), "{output}");
    masked(&["/in.php", "--data", SUBMIT]);
    masked(&[&format!("/in.php&{SUBMIT}")]);
    masked(&[&format!("/{KEY}/in.php?{SUBMIT}")]);
    masked(&[KEY]);
    masked(&[&format!("/res.php?key={KEY}&action={KEY}&id={KEY}")]);
    masked(&[&format!("/in.php?key={KEY}&method={KEY}")]);
    for text in [
        format!("GET /in.php?{SUBMIT} HTTP/1.1\r\nCookie: {KEY}\r\n\r\n"),
        format!("{KEY} /in.php?{SUBMIT} HTTP/1.1\r\n\r\n"),
        format!("{KEY}\r\n\r\n"),
        format!("POST /in.php HTTP/1.1\r\nContent-Type: application/json\r\n\r\n{{\"key\":\"{KEY}\",{KEY}"),
    ] {
        let file = raw(&text);
        masked(&["--request", file.path().to_str().expect("UTF-8")]);
    }
}
