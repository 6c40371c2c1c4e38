//! `capgate translate`: its output for requests, upstream answers and errors.

use std::io::Write;
use std::process::{Command, Stdio};

const KEY: &str = "c0ffee00c0ffee00c0ffee00c0ffee0a";

fn translate(arguments: &[&str], stdin: &[u8]) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_capgate"));
    command.arg("translate").args(arguments).env_clear();
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("run capgate");
    child.stdin.take().expect("a piped stdin").write_all(stdin).expect("written");
    let output = child.wait_with_output().expect("the output");
    let text = String::from_utf8([output.stdout, output.stderr].concat()).expect("UTF-8");
    assert!(!text.contains("c0ffee"), "the key is printed: {text}");
    (output.status.code().expect("an exit code"), text)
}

#[test]
fn a_submit_shows_its_upstream_call_and_both_replies() {
    let url = format!("https://2captcha.com/in.php?key={KEY}&method=turnstile&sitekey=S&pageurl=https://e.com&shoe=43");
    let (code, text) = translate(&[&url], b"");
    assert_eq!(code, 0);
    let call = r#"call:      POST /createTask {"clientKey":"***","task":{"type":"TurnstileTaskProxyless","websiteURL":"https://e.com","websiteKey":"S"}}"#;
    assert!(
        text.contains(call) && text.contains("row:       turnstile") && text.contains("1 unknown parameters"),
        "{text}"
    );

    let answer = r#"{"errorId":0,"taskId":"u","status":"ready","solution":{"token":"T","userAgent":"UA"}}"#;
    let (_, text) = translate(&[&url, "--answer", answer], b"");
    assert!(text.contains("text:      OK|123456789012\n"), "{text}");
    assert!(text.contains("JSON:      {\"status\":1,\"request\":\"T\",\"useragent\":\"UA\"}"), "{text}");
    let (_, text) =
        translate(&[&url, "--status", "402", "--answer", r#"{"errorId":1,"errorCode":"ERROR_ZERO_BALANCE"}"#], b"");
    assert!(text.contains("text:      ERROR_ZERO_BALANCE\n"), "{text}");
    let (_, text) = translate(&[&url, "--status", "502", "--answer", "<html>"], b"");
    assert!(text.contains("outcome:   unknown"), "{text}");
}

#[test]
fn a_call_is_shown_without_its_secrets() {
    let site = "sitekey=S&googlekey=S&pageurl=https://user:pa55word@e.com/@page";
    for (query, shown) in [
        ("method=turnstile&proxy=user:pa55/w%40rd@10.0.0.1:80", "\"proxy\":\"http://***@10.0.0.1:80\""),
        ("method=turnstile&proxy=pa55word@10.0.0.1:80&proxytype=SOCKS5", "\"proxy\":\"socks5://***@10.0.0.1:80\""),
        ("method=turnstile&proxy=10.0.0.1:80", "\"proxy\":\"http://10.0.0.1:80\""),
        ("method=userrecaptcha&cookies=SID:pa55word;", "\"cookies\":\"***\""),
    ] {
        let (code, text) = translate(&[&format!("/in.php?key={KEY}&{query}&{site}")], b"");
        assert!(code == 0 && text.contains(shown) && text.contains("https://***@e.com/@page"), "{text}");
        assert!(!text.contains("pa55"), "{text}");
    }
    let (code, text) = translate(&[&format!("key={KEY}&action=getbalance")], b"");
    assert!(code == 1 && text.contains("neither /in.php nor /res.php"), "{text}");
}

#[test]
fn a_refusal_names_the_parameter_and_the_rule() {
    let cases = [
        ("method=turnstile&sitekey=S", "refused:   pageurl: missing", "ERROR_PAGEURL"),
        ("method=turnstile&pageurl=https://e.com", "refused:   sitekey: missing", "ERROR_BAD_PARAMETERS"),
        (
            "method=userrecaptcha&googlekey=a%20b&pageurl=https://e.com",
            "refused:   googlekey: contains",
            "ERROR_GOOGLEKEY",
        ),
        ("method=base64&body=AAAA", "refused:   file or body: below 100 bytes", "ERROR_ZERO_CAPTCHA_FILESIZE"),
        (
            "method=datadome&captcha_url=https://e.com&pageurl=https://e.com&userAgent=x",
            "refused:   proxy: required",
            "ERROR_BAD_PARAMETERS",
        ),
        ("method=nonsense", "refused:   method: missing or in no row", "ERROR_BAD_PARAMETERS"),
    ];
    for (query, rule, code) in cases {
        let (exit_code, text) = translate(&[&format!("/in.php?key={KEY}&{query}")], b"");
        assert!(exit_code == 0 && text.contains(rule) && text.contains(code), "{query}: {text}");
    }
    let (code, text) = translate(&["/other.php?key=x"], b"");
    assert!(code == 1 && text.contains("neither /in.php nor /res.php"), "{text}");
}

#[test]
fn failures_depend_on_the_row_and_overrides_apply() {
    let poll = format!("/res.php?key={KEY}&action=get&id=7");
    let failed = r#"{"errorId":0,"status":"failed","errorCode":"ERROR_SITEKEY"}"#;
    for (row, code) in [("hcaptcha", "ERROR_CAPTCHA_UNSOLVABLE"), ("recaptcha_v2", "ERROR_GOOGLEKEY")] {
        let (_, text) = translate(&[&poll, "--answer", failed, "--row", row], b"");
        assert!(text.contains(&format!("text:      {code}\n")), "{row}: {text}");
    }
    let about_the_key = r#"{"errorId":1,"errorCode":"ERROR_KEY_DOES_NOT_EXIST"}"#;
    let (_, text) = translate(&[&poll, "--answer", about_the_key], b"");
    assert!(text.contains("masked:    key;") && text.contains("text:      CAPCHA_NOT_READY\n"), "{text}");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("c.toml").display().to_string();
    std::fs::write(&file, "[methods.turnstile]\nproxyless = \"TurnstileTokenProxyLess\"\n").expect("written");
    let submit = format!("/in.php?key={KEY}&method=turnstile&sitekey=S&pageurl=https://e.com");
    let (_, text) = translate(&[&submit, "--config", &file], b"");
    assert!(text.contains("\"type\":\"TurnstileTokenProxyLess\""), "{text}");
}

#[test]
fn raw_requests_bodies_and_polls_are_decoded() {
    let raw = format!(
        "POST /res.php?json=1 HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\r\n\
         {{\"key\":\"{KEY}\",\"action\":\"get\",\"id\":7}}"
    );
    let answer = r#"{"errorId":0,"status":"ready","solution":{"challenge":"C","validate":"V","seccode":"S"}}"#;
    let (code, text) = translate(&["--request", "-", "--answer", answer, "--row", "geetest"], raw.as_bytes());
    assert!(code == 0 && text.contains("res.php, get, reply in JSON"), "{text}");
    assert!(text.contains("\"geetest_challenge\":\"C\"") && text.contains("text:      OK|{"), "{text}");

    let data = format!("key={KEY}&action=reportbad&id=7");
    let (_, text) = translate(&["/res.php", "--data", &data], b"");
    assert!(text.contains("POST /feedbackTask {\"clientKey\":\"***\",") && text.contains("\"invalid\":true"), "{text}");
    let (code, text) = translate(&["/res.php", "--data", &data, "--row", "nonsense"], b"");
    assert!(code == 1 && text.contains("nonsense"), "{text}");
}
