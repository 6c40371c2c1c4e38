//! `conf/capgate.toml` says what the defaults are, and refusals say what is allowed.

use std::path::{Path, PathBuf};

use capgate::config::Config;

fn file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/capgate.toml")
}

fn load(text: &str) -> Result<Config, String> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("c.toml");
    std::fs::write(&path, text).expect("written");
    Config::load(Some(&path), std::iter::empty()).map_err(|error| error.to_string())
}

fn load_with(name: &str, text: &str) -> Result<Config, String> {
    Config::load(None, [(name.to_owned(), text.to_owned())].into_iter()).map_err(|error| error.to_string())
}

#[test]
fn the_commented_file_equals_the_defaults_and_names_every_key() {
    let text = std::fs::read_to_string(file()).expect("the file");
    assert_eq!(load(&text), Ok(Config::default()));
    let written: toml::Table = toml::from_str(&text).expect("TOML");
    for (variable, section, key) in Config::variables() {
        let is_there = written.get(&section).and_then(|keys| keys.get(&key)).is_some();
        assert!(is_there, "conf/capgate.toml lacks {section}.{key}");
        let documented = text.lines().zip(text.lines().skip(1)).any(|(comment, line)| {
            comment.starts_with('#') && line.split('=').next().is_some_and(|name| name.trim() == key)
        });
        assert!(documented, "{section}.{key} ({variable}) has no comment above it");
    }
}

#[test]
fn unknown_keys_and_bad_values_are_refused_with_the_line_and_what_is_allowed() {
    let why = load("[ledger]\nrecords_max = 5\nrecord_max = 5\n").expect_err("an unknown key");
    assert!(why.contains("c.toml") && why.contains("line 3") && why.contains("`records_max`"), "{why}");
    let why = load("[limits]\nids_max = 0\n").expect_err("out of range");
    assert!(why.contains("line 2") && why.contains("from 1 to 10000"), "{why}");
    let why = load("[listen]\nhttp = \"localhost\"\n").expect_err("no address");
    assert!(why.contains("line 2") && why.contains("127.0.0.1:8080"), "{why}");
    let why = load("[upstream]\nurl = \"ftp://user:secret@x\"\n").expect_err("no such upstream");
    assert!(why.contains("line 2") && why.contains("http or https"), "{why}");
    let why = load("[log]\nformat = \"xml\"\n").expect_err("no such format");
    assert!(why.contains("line 2") && why.contains("`json`"), "{why}");
    assert!(load("[nonsense]\n").expect_err("no such section").contains("`ledger`"));
    assert!(load("[tls]\ncert = \"a\"\n").expect_err("half a pair").contains("tls.key"));
    assert!(load("[ledger]\nunbound_ttl_ms = 1000\n").expect_err("too short").contains("submit_timeout_ms"));
    assert!(load("[listen]\nhttp = \"\"\n").expect_err("no listener").contains("listen.http"));
}

#[test]
fn rows_of_the_method_table_can_be_changed_and_are_checked() {
    let config = load(
        "[methods.turnstile]\nproxyless = \"TurnstileTokenProxyLess\"\nfields = { websiteKey = \"sitekey\" }\n\
         [methods.altcha]\nfields = { challengeURL = \"url\" }\n",
    );
    let limits = config.expect("good changes").legacy_limits();
    let row = |name: &str| *limits.submit.table.rows().iter().find(|row| row.name == name).expect("the row");
    let turnstile = row("turnstile");
    assert_eq!(turnstile.task_type.proxyless, Some("TurnstileTokenProxyLess"));
    assert_eq!(turnstile.task_type.proxied, Some("TurnstileTask"));
    assert!(turnstile.params.iter().any(|param| param.legacy == ["sitekey"] && param.native == "sitekey"));
    assert_eq!(row("altcha").any_of, [["url", "challengeJSON"]]);
    assert_eq!(row("hcaptcha").task_type.proxyless, Some("HCaptchaTaskProxyless"));
    let why = load("[methods.turnstyle]\n").expect_err("no such row");
    assert!(why.contains("turnstyle") && why.contains("turnstile"), "{why}");
    let why = load("[methods.turnstile]\nfields = { sitekey = \"x\" }\n").expect_err("no such field");
    assert!(why.contains("sitekey") && why.contains("websiteKey"), "{why}");
    let why = load("[upstream]\nselection_mode = \"cheapest\"\n").expect_err("no such mode");
    assert!(why.contains("line 2") && why.contains("autoCheapest"), "{why}");
}

#[test]
fn the_environment_wins_over_the_file_for_every_key() {
    let variables = Config::variables();
    for fixed in ["LISTEN_HTTP", "LISTEN_HTTPS", "LISTEN_ADMIN", "TLS_CERT", "TLS_KEY", "UPSTREAM_URL"] {
        assert!(variables.iter().any(|(name, ..)| *name == format!("CAPGATE_{fixed}")), "{fixed} is gone");
    }
    let set = |name, text| load_with(name, text).expect("a good value");
    assert_eq!(set("CAPGATE_LEDGER_IDS_MAX", "nonsense is not ours"), Config::default());
    assert_eq!(set("CAPGATE_LIMITS_IDS_MAX", "7").limits.ids_max.0, 7);
    assert!(!set("CAPGATE_LOG_ACCESS", "false").log.access);
    assert_eq!(set("CAPGATE_LISTEN_HTTP", "[::1]:80").listen.http.0.map(|address| address.port()), Some(80));
    assert_eq!(set("CAPGATE_SANDBOX_SOLVE_MS_BY_TYPE", "{ A = 5 }").sandbox.solve_ms_by_type["A"].0, 5);
    let why = load_with("CAPGATE_LIMITS_IDS_MAX", "0").expect_err("out of range");
    assert!(why.contains("CAPGATE_LIMITS_IDS_MAX") && why.contains("from 1 to 10000"), "{why}");
}
