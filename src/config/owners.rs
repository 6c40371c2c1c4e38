//! Splits the configuration into the options of each owner.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use super::load::Config;
use super::sections::LedgerSection;
use crate::budget;
use crate::domain::Routing;
use crate::gateway;
use crate::ledger;
use crate::legacy;
use crate::sandbox;
use crate::server;
use crate::server::tls::TlsFiles;
use crate::server::trusted_proxies::TrustedProxies;
use crate::telemetry::options::LogOptions;
use crate::upstream;

/// Name of the systemd credential with the keys of the store.
const KEY_CREDENTIAL: &str = "capgate-store-key";

/// Listeners and runtime.
impl Config {
    /// Returns the address of the HTTP listener; `None` if it is off.
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.sections.listen.http.0
    }

    /// Returns the address and certificate of the HTTPS listener; `None` if it is off or has no certificate.
    pub fn https_listener(&self) -> Option<(SocketAddr, TlsFiles)> {
        let (address, tls) = (self.sections.listen.https.0?, &self.sections.tls);
        let files = TlsFiles { cert: non_empty(&tls.cert.0)?, key: non_empty(&tls.key.0)? };
        Some((address, files))
    }

    /// Returns the address of the admin listener; `None` if it is off.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.sections.listen.admin.0
    }

    /// Returns the address of `capgate sandbox`; `None` if it is off.
    pub fn sandbox_address(&self) -> Option<SocketAddr> {
        self.sections.sandbox.listen.0
    }

    /// Returns the path of the control socket; `None` without a store.
    pub fn control_socket(&self) -> Option<PathBuf> {
        let in_store = || Some(self.store_paths()?.0.join("capgate.sock"));
        non_empty(&self.sections.server.control_socket).map(PathBuf::from).or_else(in_store)
    }

    /// Returns the options of the server.
    pub fn server_options(&self) -> server::options::Options {
        let (limits, server) = (&self.sections.limits, &self.sections.server);
        server::options::Options {
            body_bytes_max: limits.body_bytes_max.count(),
            bodies_bytes_max: limits.bodies_bytes_max.count(),
            address_bytes_max: limits.address_bytes_max.count(),
            handshake_timeout: limits.handshake_timeout_ms.duration(),
            header_timeout: limits.header_timeout_ms.duration(),
            body_timeout: limits.body_timeout_ms.duration(),
            write_timeout: limits.write_timeout_ms.duration(),
            idle_timeout: limits.idle_timeout_ms.duration(),
            drain_timeout: server.drain_ms.duration(),
        }
    }

    /// Returns the limits on connections and requests to the public listeners.
    pub fn connection_limits(&self) -> server::options::ConnectionLimits {
        let (limits, server) = (&self.sections.limits, &self.sections.server);
        server::options::ConnectionLimits {
            connections_max: server.connections_max.count(),
            address_connections_max: limits.address_connections_max.count(),
            handshakes_max: limits.handshakes_max.count(),
            address_handshakes_max: limits.address_handshakes_max.count(),
            address_requests: Some(limits.address_requests_per_second.0).filter(|per_second| *per_second > 0).map(
                |per_second| server::options::RequestRate {
                    per_second: u32::try_from(per_second).unwrap_or(u32::MAX),
                    burst: u32::try_from(limits.address_requests_burst.0).unwrap_or(u32::MAX),
                },
            ),
            exempt: limits.exempt_networks.clone(),
            trusted_proxies: TrustedProxies {
                networks: server.trusted_proxies.clone(),
                has_proxy_protocol: server.proxy_protocol,
            },
        }
    }

    /// Returns the number of worker threads of the runtime; `None` for one per core.
    pub fn runtime_threads(&self) -> Option<usize> {
        Some(self.sections.server.threads.count()).filter(|threads| *threads > 0)
    }

    /// Whether a crash may leave a core file, and debuggers may attach.
    pub fn has_core_dumps(&self) -> bool {
        self.sections.server.core_dumps
    }

    /// Returns the most panics in a minute; 0 for no limit.
    pub fn panics_per_minute_max(&self) -> usize {
        self.sections.server.panics_per_minute_max.count()
    }

    /// Returns the options of the log.
    pub fn log_options(&self) -> LogOptions {
        let log = &self.sections.log;
        LogOptions { format: log.format, level: log.level, access: log.access }
    }
}

/// Gateway.
impl Config {
    /// Returns the limits and the method table of the legacy dialect.
    pub fn legacy_limits(&self) -> legacy::Limits {
        let (limits, upstream) = (&self.sections.limits, &self.sections.upstream);
        legacy::Limits {
            form: legacy::FormLimits { pairs_max: limits.pairs_max.count() },
            submit: legacy::SubmitLimits {
                image_bytes_max: limits.image_bytes_max.count(),
                table: self.method_table.clone(),
                routing: Routing {
                    selection_mode: non_empty(&upstream.selection_mode.0),
                    provider: non_empty(&upstream.provider.0),
                },
            },
            ids_max: limits.ids_max.count(),
        }
    }

    /// Returns the options of the gateway.
    pub fn gateway_options(&self) -> gateway::Options {
        let (upstream, submit_wait_ms) = (&self.sections.upstream, &self.sections.ledger.submit_wait_ms);
        gateway::Options {
            limits: self.legacy_limits(),
            submit_wait: submit_wait_ms.duration(),
            balance_ttl_ms: upstream.balance_ttl_ms.0,
            refused_ttl_ms: upstream.refused_ttl_ms.0,
            new_keys: budget::NewKeysOptions {
                refused_per_minute: u32::try_from(upstream.refused_keys_per_minute.0).unwrap_or(u32::MAX),
                address_refused_per_minute: u32::try_from(upstream.address_refused_keys_per_minute.0)
                    .unwrap_or(u32::MAX),
                // A client that has got an id cannot be made to try again.
                wait_ms: upstream.new_key_wait_ms.0.min(submit_wait_ms.0 / 2),
            },
        }
    }

    /// Returns the options of the ledger.
    pub fn ledger_options(&self) -> ledger::Options {
        let ledger = &self.sections.ledger;
        ledger::Options {
            pacing: pacing(ledger),
            trouble_ttl_ms: ledger.trouble_ttl_ms.0,
            unknown_after_ms: ledger.unknown_after_ms.0,
            stale_ms: ledger.stale_ms.0,
            recent_ms: ledger.recent_ms.0,
            open_ttl_ms: ledger.open_ttl_ms.0,
            answer_ttl_ms: ledger.answer_ttl_ms.0,
            unbound_ttl_ms: ledger.unbound_ttl_ms.0,
            report_window_ms: ledger.report_window_ms.0,
            records_max: ledger.records_max.count(),
            account_records_max: ledger.account_records_max.count(),
            bytes_max: ledger.bytes_max.count(),
            flights_max: ledger.flights_max.count(),
            followers_max: ledger.followers_max.count(),
        }
    }

    /// Returns the folder of the embedded store and the file with its key, which may be a credential of systemd; `None` to
    /// keep tasks in memory.
    pub fn store_paths(&self) -> Option<(PathBuf, Option<PathBuf>)> {
        let store = &self.sections.store;
        let credential = || Some(self.credentials_folder.as_ref()?.join(KEY_CREDENTIAL)).filter(|file| file.exists());
        let key_file = non_empty(&store.key_file.0).map(PathBuf::from).or_else(credential);
        Some((non_empty(&store.path.0)?.into(), key_file))
    }
    /// Returns the longest time that a poll waits for a flight.
    pub fn follow_deadline(&self) -> Duration {
        self.sections.ledger.follow_deadline_ms.duration()
    }

    /// Returns the options of the budget.
    pub fn budget_options(&self) -> budget::Options {
        let upstream = &self.sections.upstream;
        budget::Options {
            requests_per_10s: u32::try_from(upstream.requests_per_10s.0).unwrap_or(u32::MAX),
            calls_max: upstream.calls_max.count(),
            account_calls_max: upstream.account_calls_max.count(),
            pause_ms: upstream.pause_ms.0,
        }
    }
}

/// Upstream.
impl Config {
    /// Returns the base URL of the upstream; `None` for the embedded sandbox.
    pub fn upstream_url(&self) -> Option<Url> {
        self.sections.upstream.url.0.clone()
    }

    /// Returns the most idle connections to the upstream.
    pub fn upstream_connections_idle_max(&self) -> usize {
        self.sections.upstream.connections_idle_max.count()
    }

    /// Returns the options of the client that calls the upstream at `url`.
    pub fn upstream_options(&self, url: Url) -> upstream::options::Options {
        let upstream = &self.sections.upstream;
        upstream::options::Options {
            url,
            ca_file: non_empty(&upstream.ca_file.0),
            connect_timeout: upstream.connect_timeout_ms.duration(),
            poll_timeout: upstream.poll_timeout_ms.duration(),
            submit_timeout: upstream.submit_timeout_ms.duration(),
            idle_timeout: upstream.idle_timeout_ms.duration(),
            connections_idle_max: self.upstream_connections_idle_max(),
            eject_failures: u32::try_from(upstream.eject_failures.0).unwrap_or(u32::MAX),
            eject_max: upstream.eject_max_ms.duration(),
            health_check: Some(upstream.health_check_ms.duration()).filter(|period| !period.is_zero()),
            answer_bytes_max: upstream.answer_bytes_max.count(),
        }
    }

    /// Returns the time between two look-ups of the upstream's name.
    pub fn resolve_interval(&self) -> Duration {
        self.sections.upstream.resolve_every_ms.duration()
    }

    /// Returns the options of the sandbox.
    pub fn sandbox_options(&self) -> sandbox::Options {
        let sandbox = &self.sections.sandbox;
        sandbox::Options {
            solve_ms: sandbox.solve_ms.0,
            solve_ms_by_type: sandbox.solve_ms_by_type.iter().map(|(name, ms)| (name.clone(), ms.0)).collect(),
            latency_ms: sandbox.latency_ms.0,
            failure_rate: sandbox.failure_rate.0,
            seed: sandbox.seed.0,
            requests_per_10s: sandbox.requests_per_10s.0,
        }
    }
}

fn pacing(ledger: &LedgerSection) -> ledger::Pacing {
    ledger::Pacing {
        floor_ms: ledger.poll_interval_min_ms.0,
        ceiling_ms: ledger.poll_interval_max_ms.0,
        poll_cost_ms: ledger.poll_cost_ms.0,
        polls_max: u16::try_from(ledger.polls_max.0).unwrap_or(u16::MAX),
        life_ms: ledger.open_ttl_ms.0,
    }
}

fn non_empty(text: &str) -> Option<String> {
    Some(text.to_owned()).filter(|text| !text.is_empty())
}
