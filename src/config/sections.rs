//! Keys and defaults: one struct per section of `conf/capgate.toml`.
//!
//! Each `Default` equals the commented file (`tests/config.rs`).

use std::collections::BTreeMap;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::method_rows::MethodSection;
use super::values::{Address, FilePath, PemFile, ProviderName, Ranged, SelectionMode, Share, UpstreamUrl};
use crate::telemetry::options::{LogFormat, LogLevel};

/// All sections of the file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Sections {
    pub(super) listen: ListenSection,
    pub(super) tls: TlsSection,
    pub(super) server: ServerSection,
    pub(super) upstream: UpstreamSection,
    pub(super) ledger: LedgerSection,
    pub(super) store: StoreSection,
    pub(super) limits: LimitsSection,
    pub(super) log: LogSection,
    pub(super) sandbox: SandboxSection,
    pub(super) methods: BTreeMap<String, MethodSection>,
}

/// Declares a section: one line per key, with type and default.
macro_rules! section {
    ($(#[$doc:meta])* $name:ident { $($key:ident: $type:ty = $default:expr,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub(super) struct $name {
            $(pub(super) $key: $type,)*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($key: $default,)* }
            }
        }
    };
}

section! {
    /// Addresses of the listeners.
    ListenSection {
        http: Address = Address::parse("127.0.0.1:8080"),
        https: Address = Address::parse("127.0.0.1:8443"),
        admin: Address = Address::parse("127.0.0.1:9090"),
    }
}

section! {
    /// The certificate of the HTTPS listener.
    TlsSection {
        cert: PemFile = PemFile::default(),
        key: PemFile = PemFile::default(),
    }
}

section! {
    /// Threads, connections and shutdown of the process.
    ServerSection {
        threads: Ranged<0, 1024> = Ranged(0),
        drain_ms: Ranged<0, 600_000> = Ranged(25_000),
        connections_max: Ranged<1, 1_000_000> = Ranged(20_000),
        core_dumps: bool = false,
        panics_per_minute_max: Ranged<0, 10_000> = Ranged(60),
        trusted_proxies: Vec<IpNet> = Vec::new(),
        proxy_protocol: bool = false,
        control_socket: String = String::new(),
    }
}

section! {
    /// Calls to the native API.
    UpstreamSection {
        url: UpstreamUrl = UpstreamUrl(None),
        ca_file: PemFile = PemFile::default(),
        connect_timeout_ms: Ranged<1, 60_000> = Ranged(5_000),
        poll_timeout_ms: Ranged<1, 120_000> = Ranged(10_000),
        submit_timeout_ms: Ranged<1, 300_000> = Ranged(60_000),
        idle_timeout_ms: Ranged<0, 600_000> = Ranged(20_000),
        connections_idle_max: Ranged<0, 100_000> = Ranged(1_024),
        eject_failures: Ranged<1, 1_000_000> = Ranged(5),
        eject_max_ms: Ranged<1_000, 3_600_000> = Ranged(60_000),
        health_check_ms: Ranged<0, 3_600_000> = Ranged(0),
        resolve_every_ms: Ranged<1_000, 3_600_000> = Ranged(30_000),
        answer_bytes_max: Ranged<1_024, 67_108_864> = Ranged(1_048_576),
        requests_per_10s: Ranged<10, 10_000_000> = Ranged(9_500),
        calls_max: Ranged<1, 1_000_000> = Ranged(2_048),
        account_calls_max: Ranged<1, 1_000_000> = Ranged(512),
        pause_ms: Ranged<0, 60_000> = Ranged(500),
        balance_ttl_ms: Ranged<0, 60_000> = Ranged(2_000),
        refused_ttl_ms: Ranged<0, 600_000> = Ranged(10_000),
        refused_keys_per_minute: Ranged<4, 1_000_000> = Ranged(20),
        address_refused_keys_per_minute: Ranged<1, 1_000_000> = Ranged(5),
        new_key_wait_ms: Ranged<0, 60_000> = Ranged(5_000),
        selection_mode: SelectionMode = SelectionMode(String::new()),
        provider: ProviderName = ProviderName(String::new()),
    }
}

section! {
    /// Tasks and their polls.
    LedgerSection {
        poll_interval_min_ms: Ranged<0, 60_000> = Ranged(250),
        poll_interval_max_ms: Ranged<0, 600_000> = Ranged(5_000),
        poll_cost_ms: Ranged<1, 60_000> = Ranged(30),
        polls_max: Ranged<10, 65_535> = Ranged(100),
        stale_ms: Ranged<0, 60_000> = Ranged(2_000),
        recent_ms: Ranged<0, 60_000> = Ranged(2_000),
        trouble_ttl_ms: Ranged<0, 60_000> = Ranged(2_000),
        unknown_after_ms: Ranged<0, 600_000> = Ranged(10_000),
        follow_deadline_ms: Ranged<1, 60_000> = Ranged(3_000),
        submit_wait_ms: Ranged<1, 300_000> = Ranged(20_000),
        unbound_ttl_ms: Ranged<1_000, 3_600_000> = Ranged(90_000),
        open_ttl_ms: Ranged<1_000, 86_400_000> = Ranged(1_800_000),
        answer_ttl_ms: Ranged<1_000, 86_400_000> = Ranged(1_800_000),
        report_window_ms: Ranged<1_000, 86_400_000> = Ranged(900_000),
        records_max: Ranged<1, 100_000_000> = Ranged(1_000_000),
        account_records_max: Ranged<1, 100_000_000> = Ranged(250_000),
        bytes_max: Ranged<1_048_576, 1_099_511_627_776> = Ranged(1_073_741_824),
        flights_max: Ranged<1, 1_000_000> = Ranged(4_096),
        followers_max: Ranged<1, 1_000_000> = Ranged(10_000),
    }
}

section! {
    /// Where tasks survive the end of the process.
    StoreSection {
        path: FilePath = FilePath::default(),
        key_file: FilePath = FilePath::default(),
    }
}

section! {
    /// Sizes and timeouts of downstream requests.
    LimitsSection {
        body_bytes_max: Ranged<1_024, 1_073_741_824> = Ranged(4_194_304),
        bodies_bytes_max: Ranged<1_048_576, 1_099_511_627_776> = Ranged(134_217_728),
        address_bytes_max: Ranged<1_048_576, 1_099_511_627_776> = Ranged(41_943_040),
        address_connections_max: Ranged<1, 1_000_000> = Ranged(1_000),
        handshakes_max: Ranged<1, 1_000_000> = Ranged(2_000),
        address_handshakes_max: Ranged<1, 1_000_000> = Ranged(200),
        address_requests_per_second: Ranged<0, 1_000_000> = Ranged(5_000),
        address_requests_burst: Ranged<1, 1_000_000> = Ranged(20_000),
        exempt_networks: Vec<IpNet> = Vec::new(),
        image_bytes_max: Ranged<100, 104_857_600> = Ranged(614_400),
        pairs_max: Ranged<1, 10_000> = Ranged(256),
        ids_max: Ranged<1, 10_000> = Ranged(100),
        handshake_timeout_ms: Ranged<1, 600_000> = Ranged(10_000),
        header_timeout_ms: Ranged<1, 600_000> = Ranged(10_000),
        body_timeout_ms: Ranged<1, 600_000> = Ranged(30_000),
        write_timeout_ms: Ranged<1, 600_000> = Ranged(20_000),
        idle_timeout_ms: Ranged<1, 3_600_000> = Ranged(75_000),
    }
}

section! {
    /// Log lines.
    LogSection {
        format: LogFormat = LogFormat::Json,
        access: bool = true,
        level: LogLevel = LogLevel::Info,
    }
}

section! {
    /// The stand-in upstream.
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
