//! Loads a configuration. An error must name a key or a line, and contain no password of a URL; an accepted configuration
//! must be usable by every owner, and loading it again must give the same. Input: variables of the environment as lines
//! that begin with `CAPGATE_`, then the file.

use std::io::Write;

use capgate::config::Config;

/// A password that no other text contains. It is secret if it occurs only in URLs, between `://` and `@`.
const PASSWORD: &str = "pa55word";

/// Runs one input.
///
/// # Panics
/// If a check fails.
pub fn run(data: &[u8]) {
    let (environment, text) = split_environment(data);
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(text).expect("a written file");
    let load = || Config::load(Some(file.path()), environment.iter().cloned());
    match load() {
        Ok(config) => {
            use_config(&config);
            assert!(load().is_ok_and(|again| again == config), "loading again gives another configuration");
        }
        Err(error) => {
            let error = error.to_string();
            let names_key = Config::variables()
                .iter()
                .any(|(name, section, key)| error.contains(name) || error.contains(&format!("{section}.{key}")));
            assert!(
                names_key || error.contains(": line ") || error.contains("methods."),
                "{error} names no key or line"
            );
            assert!(
                !error.contains(PASSWORD) || !is_secret(&String::from_utf8_lossy(data)),
                "{error} contains a password"
            );
        }
    }
}

/// Splits an input into the environment and the file.
fn split_environment(mut data: &[u8]) -> (Vec<(String, String)>, &[u8]) {
    let mut environment = Vec::new();
    while data.starts_with(b"CAPGATE_") {
        let end = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
        let line = String::from_utf8_lossy(&data[..end]).into_owned();
        let (name, value) = line.split_once('=').unwrap_or((&line, ""));
        environment.push((name.to_owned(), value.to_owned()));
        data = data.get(end + 1..).unwrap_or_default();
    }
    (environment, data)
}

/// Converts the configuration for every owner.
fn use_config(config: &Config) {
    let _ = (config.http_address(), config.https_listener(), config.admin_address(), config.sandbox_address());
    let _ = (config.server_options(), config.connection_limits(), config.runtime_threads(), config.log_options());
    let _ = (config.legacy_limits(), config.gateway_options(), config.ledger_options(), config.budget_options());
    let _ = (config.follow_deadline(), config.resolve_interval(), config.sandbox_options());
    if let Some(url) = config.upstream_url() {
        assert!(url.username().is_empty() && url.password().is_none(), "{url} has credentials");
        let _ = config.upstream_options(url);
    }
}

/// Whether the password occurs only as credentials of a URL.
fn is_secret(text: &str) -> bool {
    let ends_url = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '`' | '\\');
    text.match_indices(PASSWORD).all(|(at, _)| {
        let (before, after) = (&text[..at], &text[at..]);
        let word = before.rsplit(ends_url).next().unwrap_or_default();
        let rest = after.split(ends_url).next().unwrap_or_default();
        word.contains("://") && rest.contains('@')
    })
}
