//! `conf/capgate.toml`: the file as it is read, and what of it goes to whom.
//!
//! Every section is one struct whose `Default` equals the commented file (`tests/config.rs`), and is turned into the
//! option struct of its owner here, so that no other module knows a key. Unknown keys and values out of range are
//! refused with the file, the line and what is allowed. Every key can be set from the environment, as
//! `CAPGATE_<SECTION>_<KEY>`, which wins over the file.

mod method;
mod options;
mod value;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

pub use method::MethodSection;
pub use value::{Address, Ranged, SelectionMode, Share, UpstreamUrl};

use crate::methods::Table;

/// Why a configuration is refused: words for the one who wrote it.
#[derive(Debug)]
pub struct ConfigError(pub String);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConfigError {}

/// Everything that can be configured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// `[listen]`
    pub listen: ListenSection,
    /// `[tls]`
    pub tls: TlsSection,
    /// `[server]`
    pub server: ServerSection,
    /// `[upstream]`
    pub upstream: UpstreamSection,
    /// `[ledger]`
    pub ledger: LedgerSection,
    /// `[limits]`
    pub limits: LimitsSection,
    /// `[log]`
    pub log: LogSection,
    /// `[sandbox]`
    pub sandbox: SandboxSection,
    /// `[methods.<name>]`: rows of the method table, changed.
    pub methods: BTreeMap<String, MethodSection>,
}

/// Declares a section: its keys, their types and their defaults on one line each.
macro_rules! section {
    ($(#[$doc:meta])* $name:ident { $($key:ident: $type:ty = $default:expr,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct $name {
            $(#[doc = concat!("`", stringify!($key), "`, see `conf/capgate.toml`.")] pub $key: $type,)*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($key: $default,)* }
            }
        }
    };
}

section! {
    /// Where to listen.
    ListenSection {
        http: Address = Address::parse("127.0.0.1:8080"),
        https: Address = Address::parse("127.0.0.1:8443"),
        admin: Address = Address::parse("127.0.0.1:9090"),
    }
}

section! {
    /// The certificate of the HTTPS listener.
    TlsSection {
        cert: String = String::new(),
        key: String = String::new(),
    }
}

section! {
    /// The process.
    ServerSection {
        threads: Ranged<0, 1024> = Ranged(0),
        drain_ms: Ranged<0, 600_000> = Ranged(25_000),
        connections_max: Ranged<1, 1_000_000> = Ranged(20_000),
    }
}

section! {
    /// The native API.
    UpstreamSection {
        url: UpstreamUrl = UpstreamUrl(None),
        ca_file: String = String::new(),
        connect_timeout_ms: Ranged<1, 60_000> = Ranged(5_000),
        poll_timeout_ms: Ranged<1, 120_000> = Ranged(10_000),
        submit_timeout_ms: Ranged<1, 300_000> = Ranged(60_000),
        idle_timeout_ms: Ranged<0, 600_000> = Ranged(20_000),
        connections_idle_max: Ranged<0, 100_000> = Ranged(1_024),
        resolve_every_ms: Ranged<1_000, 3_600_000> = Ranged(30_000),
        answer_bytes_max: Ranged<1_024, 67_108_864> = Ranged(1_048_576),
        requests_per_10s: Ranged<10, 10_000_000> = Ranged(9_500),
        calls_max: Ranged<1, 1_000_000> = Ranged(2_048),
        account_calls_max: Ranged<1, 1_000_000> = Ranged(512),
        pause_ms: Ranged<0, 60_000> = Ranged(500),
        balance_ttl_ms: Ranged<0, 60_000> = Ranged(2_000),
        refused_ttl_ms: Ranged<0, 600_000> = Ranged(10_000),
        selection_mode: SelectionMode = SelectionMode(String::new()),
        provider: String = String::new(),
    }
}

section! {
    /// The tasks that are remembered.
    LedgerSection {
        poll_interval_min_ms: Ranged<0, 60_000> = Ranged(250),
        poll_interval_max_ms: Ranged<0, 600_000> = Ranged(5_000),
        poll_cost_ms: Ranged<1, 60_000> = Ranged(30),
        polls_max: Ranged<1, 65_535> = Ranged(100),
        stale_ms: Ranged<0, 60_000> = Ranged(2_000),
        recent_ms: Ranged<0, 60_000> = Ranged(2_000),
        trouble_ttl_ms: Ranged<0, 60_000> = Ranged(2_000),
        follow_deadline_ms: Ranged<1, 60_000> = Ranged(3_000),
        submit_wait_ms: Ranged<1, 300_000> = Ranged(20_000),
        unbound_ttl_ms: Ranged<1_000, 3_600_000> = Ranged(90_000),
        open_ttl_ms: Ranged<1_000, 86_400_000> = Ranged(1_800_000),
        answer_ttl_ms: Ranged<1_000, 86_400_000> = Ranged(1_800_000),
        records_max: Ranged<1, 100_000_000> = Ranged(1_000_000),
        account_records_max: Ranged<1, 100_000_000> = Ranged(250_000),
        bytes_max: Ranged<1_048_576, 1_099_511_627_776> = Ranged(1_073_741_824),
        flights_max: Ranged<1, 1_000_000> = Ranged(4_096),
        followers_max: Ranged<1, 1_000_000> = Ranged(10_000),
    }
}

section! {
    /// What one request may be.
    LimitsSection {
        body_bytes_max: Ranged<1_024, 1_073_741_824> = Ranged(4_194_304),
        bodies_bytes_max: Ranged<1_048_576, 1_099_511_627_776> = Ranged(268_435_456),
        image_bytes_max: Ranged<100, 104_857_600> = Ranged(614_400),
        pairs_max: Ranged<1, 10_000> = Ranged(256),
        ids_max: Ranged<1, 10_000> = Ranged(100),
        header_timeout_ms: Ranged<1, 600_000> = Ranged(10_000),
        body_timeout_ms: Ranged<1, 600_000> = Ranged(30_000),
        write_timeout_ms: Ranged<1, 600_000> = Ranged(20_000),
        idle_timeout_ms: Ranged<1, 3_600_000> = Ranged(75_000),
    }
}

section! {
    /// What is written down.
    LogSection {
        format: LogFormat = LogFormat::Json,
        access: bool = true,
        level: LogLevel = LogLevel::Info,
    }
}

section! {
    /// The embedded stand-in upstream.
    SandboxSection {
        listen: Address = Address::parse("127.0.0.1:8090"),
        solve_ms: Ranged<0, 3_600_000> = Ranged(6_000),
        solve_ms_by_type: BTreeMap<String, Ranged<0, 3_600_000>> = BTreeMap::from([("ImageToTextTask".to_owned(), Ranged(0))]),
        latency_ms: Ranged<0, 600_000> = Ranged(20),
        failure_rate: Share = Share(0.0),
        seed: Ranged<0, 9_007_199_254_740_991> = Ranged(1),
        requests_per_10s: Ranged<1, 1_000_000_000> = Ranged(10_000),
    }
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For eyes.
    Text,
}

/// The least important lines that are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// What went wrong.
    Error,
    /// And what looks wrong.
    Warn,
    /// And what an operator wants to know.
    Info,
    /// And what helps to find a fault.
    Debug,
}

impl Config {
    /// Reads a file, or the defaults where there is none, and then the environment.
    ///
    /// # Errors
    /// What cannot be read, is unknown, out of range, or does not fit together.
    pub fn load(file: Option<&Path>, environment: impl Iterator<Item = (String, String)>) -> Result<Self, ConfigError> {
        let mut table = match file {
            None => toml::Table::new(),
            Some(path) => {
                let refuse = |why: &dyn fmt::Display| ConfigError(format!("{}: {why}", path.display()));
                let text = std::fs::read_to_string(path).map_err(|error| refuse(&error))?;
                // Read whole once for its errors, which know their line.
                toml::from_str::<Self>(&text).map_err(|error| refuse(&error))?;
                toml::from_str(&text).map_err(|error| refuse(&error))?
            }
        };
        for (name, text) in environment.filter(|(name, _)| name.starts_with("CAPGATE_")) {
            // Not every such variable is ours to judge: Kubernetes sets CAPGATE_PORT for a service of that name.
            let Some((section, key)) = Self::key_of(&name) else { continue };
            let value = value_of(&section, &key, &text);
            let one = toml::Table::from_iter([(
                section.clone(),
                toml::Table::from_iter([(key.clone(), value.clone())]).into(),
            )]);
            Self::deserialize(one).map_err(|error| ConfigError(format!("environment variable {name}: {error}")))?;
            let section = table.entry(section).or_insert_with(|| toml::Table::new().into());
            if let toml::Value::Table(section) = section {
                section.insert(key, value);
            }
        }
        let config = Self::deserialize(table).map_err(|error| ConfigError(error.to_string()))?;
        config.check()?;
        Ok(config)
    }

    /// The names of all environment variables, with section and key.
    pub fn variables() -> Vec<(String, String, String)> {
        let mut variables = Vec::new();
        for (section, keys) in defaults() {
            for (key, _) in keys.as_table().into_iter().flatten() {
                let name = format!("CAPGATE_{section}_{key}").to_ascii_uppercase();
                variables.push((name, section.clone(), key.clone()));
            }
        }
        variables
    }

    fn key_of(name: &str) -> Option<(String, String)> {
        Self::variables().into_iter().find(|(known, _, _)| known == name).map(|(_, section, key)| (section, key))
    }

    /// What no single key can be refused for.
    fn check(&self) -> Result<(), ConfigError> {
        let refuse = |why: &str| Err(ConfigError(why.to_owned()));
        self.table()?;
        if self.tls.cert.is_empty() != self.tls.key.is_empty() {
            return refuse("tls.cert and tls.key: set both or none");
        }
        if self.listen.http.0.is_none() && (self.listen.https.0.is_none() || self.tls.cert.is_empty()) {
            return refuse(
                "listen.http and listen.https: at least one must be on; https also needs tls.cert and tls.key",
            );
        }
        if self.ledger.unbound_ttl_ms.0 <= self.upstream.submit_timeout_ms.0 {
            return refuse(
                "ledger.unbound_ttl_ms must be above upstream.submit_timeout_ms, or a late answer to a submit is lost",
            );
        }
        if self.ledger.poll_interval_min_ms.0 > self.ledger.poll_interval_max_ms.0 {
            return refuse("ledger.poll_interval_min_ms must not be above ledger.poll_interval_max_ms");
        }
        if self.ledger.answer_ttl_ms.0 < self.ledger.open_ttl_ms.0 {
            return refuse(
                "ledger.answer_ttl_ms must not be below ledger.open_ttl_ms, or the first answer of several that are joined is gone before the last comes",
            );
        }
        Ok(())
    }

    /// The method table with its changed rows.
    fn table(&self) -> Result<Table, ConfigError> {
        let mut table = Table::default();
        for (name, section) in &self.methods {
            let row = table.rows().iter().find(|row| row.name == name).copied().ok_or_else(|| {
                let names: Vec<&str> = table.rows().iter().map(|row| row.name).collect();
                ConfigError(format!("methods.{name}: no such row; there are {}", names.join(", ")))
            })?;
            table.replace(section.apply(name, row)?);
        }
        Ok(table)
    }
}

/// The defaults as a table: the list of all keys.
fn defaults() -> toml::Table {
    toml::Table::try_from(Config::default()).unwrap_or_default()
}

/// The text of a variable as a value: as it stands where the key holds text, as TOML elsewhere. What is no TOML stays
/// text, and is refused with the type that was expected.
fn value_of(section: &str, key: &str, text: &str) -> toml::Value {
    let is_text = defaults().get(section).and_then(|keys| keys.get(key)).is_some_and(toml::Value::is_str);
    let read = || toml::from_str::<toml::Table>(&format!("value = {text}")).ok()?.remove("value");
    let value = if is_text { None } else { read() };
    value.unwrap_or_else(|| toml::Value::String(text.to_owned()))
}
