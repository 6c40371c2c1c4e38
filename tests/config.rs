//! `conf/capgate.toml` contains the defaults, and errors name the allowed values.

use std::path::{Path, PathBuf};

use capgate::config::Config;

fn default_file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/capgate.toml")
}

fn load(text: &str) -> Result<Config, String> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("c.toml");
    std::fs::write(&path, text).expect("written");
    Config::load(Some(&path), std::iter::empty()).map_err(|error| error.to_string())
}

fn load_env(name: &str, text: &str) -> Result<Config, String> {
    Config::load(None, [(name.to_owned(), text.to_owned())].into_iter()).map_err(|error| error.to_string())
}

#[test]
fn the_default_file_equals_the_defaults_and_documents_every_key() {
    let text = std::fs::read_to_string(default_file()).expect("the file");
    assert_eq!(load(&text), Ok(Config::default()));
    let written: toml::Table = toml::from_str(&text).expect("TOML");
    for (variable, section, key) in Config::variables() {
        let is_present = written.get(&section).and_then(|keys| keys.get(&key)).is_some();
        assert!(is_present, "conf/capgate.toml lacks {section}.{key}");
        let documented = text.lines().zip(text.lines().skip(1)).any(|(comment, line)| {
            comment.starts_with('#') && line.split('=').next().is_some_and(|name| name.trim() == key)
        });
        assert!(documented, "{section}.{key} ({variable}) has no comment above it");
    }
}

#[test]
fn errors_name_the_line_and_the_allowed_values() {
    let error = load("[ledger]\nrecords_max = 5\nrecord_max = 5\n").expect_err("an unknown key");
    assert!(error.contains("c.toml") && error.contains("line 3") && error.contains("`records_max`"), "{error}");
    let error = load("[limits]\nids_max = 0\n").expect_err("out of range");
    assert!(error.contains("line 2") && error.contains("from 1 to 10000"), "{error}");
    let error = load("[listen]\nhttp = \"localhost\"\n").expect_err("an invalid address");
    assert!(error.contains("line 2") && error.contains("127.0.0.1:8080"), "{error}");
    let error = load("[upstream]\nurl = \"ftp://user:secret@x\"\n").expect_err("an unsupported scheme");
    assert!(error.contains("line 2") && error.contains("http or https"), "{error}");
    let error = load("[log]\nformat = \"xml\"\n").expect_err("an unknown format");
    assert!(error.contains("line 2") && error.contains("`json`"), "{error}");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("c.toml");
    std::fs::write(&path, b"[log]\nlevel = \"\xff\"\n").expect("written");
    let error = Config::load(Some(&path), std::iter::empty()).expect_err("not UTF-8").to_string();
    assert!(error.ends_with("c.toml: line 2: invalid UTF-8"), "{error}");
    assert!(load("[nonsense]\n").expect_err("an unknown section").contains("`ledger`"));
    assert!(load("[tls]\ncert = \"a\"\n").expect_err("a certificate without a key").contains("tls.key"));
    assert!(load("[ledger]\nunbound_ttl_ms = 1000\n").expect_err("too short").contains("submit_timeout_ms"));
    assert!(load("[listen]\nhttp = \"\"\n").expect_err("no listener").contains("listen.http"));
}

#[test]
fn errors_contain_no_password() {
    const URLS: [&str; 6] = [
        "https://user:pa55word@api.test",
        "https://pa55word@api.test/",
        "https://user:pa55/word?#pa55@api.test",
        "ftp://user:pa55word@api.test/",
        "user:pa55word@api.test",
        "https://user:pa55word@[::1",
    ];
    for url in URLS {
        for key in ["url", "curl"] {
            let error = load(&format!("[upstream]\n{key} = \"{url}\"\n")).expect_err("an invalid URL");
            assert!(error.contains("line 2") && error.contains(key) && !error.contains("pa55"), "{error}");
        }
        let error = load_env("CAPGATE_UPSTREAM_URL", url).expect_err("an invalid URL");
        assert!(error.contains("CAPGATE_UPSTREAM_URL") && !error.contains("pa55"), "{error}");
        // Unquoted, or with an escape that does not exist.
        for text in [url.to_owned(), format!("\"{url}\\q\""), format!("{{ {url} = 1 }}")] {
            let error = load(&format!("[upstream]\nurl = {text}\n")).expect_err("invalid TOML");
            assert!(error.contains("line 2") && !error.contains("pa55"), "{error}");
        }
    }
    // The same text at a key whose errors contain the value.
    for (section, key) in
        [("listen", "http"), ("log", "level"), ("upstream", "selection_mode"), ("ledger", "bytes_max")]
    {
        let error = load(&format!("[{section}]\n{key} = \"{}\"\n", URLS[2])).expect_err("an invalid value");
        assert!(error.contains(&format!("{key}: ")) && !error.contains("pa55"), "{error}");
        let variable = format!("CAPGATE_{section}_{key}").to_ascii_uppercase();
        let error = load_env(&variable, URLS[2]).expect_err("an invalid value");
        assert!(error.contains(&variable) && !error.contains("pa55"), "{error}");
    }
}

#[test]
fn settings_that_cannot_work_are_refused_with_their_reason() {
    for (text, parts) in [
        ("[upstream]\nprovider = \"one,two\"", ["provider", "one provider", "every submit is refused"]),
        ("[upstream]\nprovider = \"one two\"", ["provider", "one provider", "every submit is refused"]),
        ("[ledger]\npolls_max = 9", ["polls_max", "from 10 to", ""]),
        ("[limits]\nbodies_bytes_max = 1048576", ["bodies_bytes_max", "body_bytes_max", "never read"]),
        ("[limits]\naddress_bytes_max = 1048576", ["address_bytes_max", "body_bytes_max", "never read"]),
        ("[server]\nproxy_protocol = true", ["server.proxy_protocol", "server.trusted_proxies", "believed"]),
        (
            "[upstream]\nconnect_timeout_ms = 10000",
            ["connect_timeout_ms", "upstream.poll_timeout_ms", "no time left for another"],
        ),
        (
            "[upstream]\nsubmit_timeout_ms = 5000",
            ["connect_timeout_ms", "upstream.submit_timeout_ms", "no time left for another"],
        ),
        ("[listen]\nadmin = \"127.0.0.1:8080\"", ["listen.http", "listen.admin", "bound"]),
        ("[upstream]\nurl = \"http://127.0.0.1:8080/api\"", ["upstream.url", "own listeners", "never leave"]),
    ] {
        let error = load(text).expect_err(text);
        assert!(parts.iter().all(|part| error.contains(part)), "{text}: {error}");
    }
    for text in [
        "[upstream]\nprovider = \"2captcha\"",
        "[ledger]\npolls_max = 10",
        "[limits]\nbody_bytes_max = 1048576\nbodies_bytes_max = 1179648\naddress_bytes_max = 1179648",
        "[server]\nproxy_protocol = true\ntrusted_proxies = [\"10.0.0.0/8\", \"2001:db8::/32\"]",
        "[listen]\nhttp = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"",
        // Without a certificate, the HTTPS listener is off.
        "[listen]\nhttp = \"127.0.0.1:8443\"",
    ] {
        assert!(load(text).is_ok(), "{text}");
    }
}

#[test]
fn overrides_of_the_method_table_are_applied_and_validated() {
    let config = load(
        "[methods.turnstile]\nproxyless = \"TurnstileTokenProxyLess\"\nfields = { websiteKey = \"sitekey\" }\n\
         [methods.altcha]\nfields = { challengeURL = \"url\" }\n",
    );
    let limits = config.expect("valid overrides").legacy_limits();
    let row = |name: &str| *limits.submit.table.rows().iter().find(|row| row.name == name).expect("the row");
    let turnstile = row("turnstile");
    assert_eq!(turnstile.task_type.proxyless, Some("TurnstileTokenProxyLess"));
    assert_eq!(turnstile.task_type.proxied, Some("TurnstileTask"));
    assert!(turnstile.params.iter().any(|param| param.legacy == ["sitekey"] && param.native == "sitekey"));
    assert_eq!(row("altcha").any_of, [["url", "challengeJSON"]]);
    assert_eq!(row("hcaptcha").task_type.proxyless, Some("HCaptchaTaskProxyless"));
    let error = load("[methods.turnstyle]\n").expect_err("an unknown row");
    assert!(error.contains("turnstyle") && error.contains("turnstile"), "{error}");
    let error = load("[methods.turnstile]\nfields = { sitekey = \"x\" }\n").expect_err("an unknown field");
    assert!(error.contains("sitekey") && error.contains("websiteKey"), "{error}");
    let error = load("[upstream]\nselection_mode = \"cheapest\"\n").expect_err("an unknown mode");
    assert!(error.contains("line 2") && error.contains("autoCheapest"), "{error}");
}

#[test]
fn environment_variables_override_the_defaults() {
    let variables = Config::variables();
    for fixed in ["LISTEN_HTTP", "LISTEN_HTTPS", "LISTEN_ADMIN", "TLS_CERT", "TLS_KEY", "UPSTREAM_URL"] {
        assert!(variables.iter().any(|(name, ..)| *name == format!("CAPGATE_{fixed}")), "{fixed} is missing");
    }
    let set = |name, text| load_env(name, text).expect("a valid value");
    assert_eq!(set("CAPGATE_LEDGER_IDS_MAX", "not a known variable"), Config::default());
    assert_eq!(set("CAPGATE_LIMITS_IDS_MAX", "7").legacy_limits().ids_max, 7);
    assert!(!set("CAPGATE_LOG_ACCESS", "false").log_options().access);
    assert_eq!(set("CAPGATE_LISTEN_HTTP", "[::1]:80").http_address().map(|address| address.port()), Some(80));
    assert_eq!(set("CAPGATE_SANDBOX_SOLVE_MS_BY_TYPE", "{ A = 5 }").sandbox_options().solve_ms_by_type["A"], 5);
    let error = load_env("CAPGATE_LIMITS_IDS_MAX", "0").expect_err("out of range");
    assert!(error.contains("CAPGATE_LIMITS_IDS_MAX") && error.contains("from 1 to 10000"), "{error}");
}
