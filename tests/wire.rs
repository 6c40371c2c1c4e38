//! Tests of the capgate process over loopback: the transcripts again, and the aspects that only the wire shows. No test
//! here asserts a duration.

mod abuse;
mod client_address;
mod limits;
mod listeners;
mod log_output;
mod made_up_keys;
mod memory;
mod requests;
mod store;
mod tls;
mod transcripts;
mod upgrade;
mod upstream;

/// Environment variables, as [`Process::start`](crate::support::process::Process::start) takes them.
fn environment(settings: &[(&str, &str)]) -> Vec<(String, String)> {
    settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// The environment of a gateway with its embedded sandbox, which replies without latency.
fn sandbox(settings: &[(&str, &str)]) -> Vec<(String, String)> {
    environment(&[&[("CAPGATE_SANDBOX_LATENCY_MS", "0")], settings].concat())
}
