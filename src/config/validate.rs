//! Rules across several keys. The types in `values` check each key alone.

use std::net::SocketAddr;

use url::{Host, Url};

use super::error::ConfigError;
use super::sections::Sections;
use crate::memory::BODY_OVERHEAD_BYTES;

/// Checks the rules across keys.
///
/// # Errors
/// Names the keys that contradict each other.
pub(super) fn validate(sections: &Sections) -> Result<(), ConfigError> {
    let Sections { listen, tls, server, upstream, ledger, store, limits, .. } = sections;
    let listeners = [listen.http.0, listen.https.0.filter(|_| !tls.cert.0.is_empty()), listen.admin.0];
    let rules = [
        (tls.cert.0.is_empty() == tls.key.0.is_empty(), "tls.cert and tls.key: set both or none"),
        (
            listen.http.0.is_some() || (listen.https.0.is_some() && !tls.cert.0.is_empty()),
            "listen.http and listen.https: at least one must be on; https also needs tls.cert and tls.key",
        ),
        (
            !has_duplicates(&listeners),
            "listen.http, listen.https and listen.admin must differ, or only the first can be bound",
        ),
        (
            !upstream.url.0.as_ref().is_some_and(|url| is_any_of(url, &listeners)),
            "upstream.url must not be the address of one of the gateway's own listeners, or calls never leave the gateway",
        ),
        (
            upstream.connect_timeout_ms.0 < upstream.poll_timeout_ms.0,
            "upstream.connect_timeout_ms must be below upstream.poll_timeout_ms, or a call that waits for an unreachable \
             address has no time left for another",
        ),
        (
            upstream.connect_timeout_ms.0 < upstream.submit_timeout_ms.0,
            "upstream.connect_timeout_ms must be below upstream.submit_timeout_ms, or a call that waits for an \
             unreachable address has no time left for another",
        ),
        (
            limits.body_bytes_max.0 + BODY_OVERHEAD_BYTES as u64 <= limits.bodies_bytes_max.0,
            "limits.bodies_bytes_max must exceed limits.body_bytes_max by 131072, or the largest allowed body is never read",
        ),
        (
            limits.body_bytes_max.0 + BODY_OVERHEAD_BYTES as u64 <= limits.address_bytes_max.0,
            "limits.address_bytes_max must exceed limits.body_bytes_max by 131072, or the largest allowed body is never read",
        ),
        (
            !server.proxy_protocol || !server.trusted_proxies.is_empty(),
            "server.proxy_protocol needs server.trusted_proxies, or nobody is believed",
        ),
        (
            ledger.unbound_ttl_ms.0 > upstream.submit_timeout_ms.0,
            "ledger.unbound_ttl_ms must be above upstream.submit_timeout_ms, or a late answer to a submit is lost",
        ),
        (
            server.control_socket.is_empty() || !store.path.0.is_empty(),
            "server.control_socket needs store.path, or an upgrade would lose the tasks in memory",
        ),
        (
            store.key_file.0.is_empty() || !store.path.0.is_empty(),
            "store.key_file needs store.path, or tasks are kept in memory and nothing is encrypted",
        ),
        (
            ledger.poll_interval_min_ms.0 <= ledger.poll_interval_max_ms.0,
            "ledger.poll_interval_min_ms must not be above ledger.poll_interval_max_ms",
        ),
        (
            ledger.answer_ttl_ms.0 >= ledger.open_ttl_ms.0,
            "ledger.answer_ttl_ms must not be below ledger.open_ttl_ms, or the first answer of a group expires before \
             the last arrives",
        ),
    ];
    match rules.iter().find(|(holds, _)| !holds) {
        None => Ok(()),
        Some((_, rule)) => Err(ConfigError::new(rule)),
    }
}

/// Whether two of these addresses are equal. Port 0 binds a different port each time.
fn has_duplicates(addresses: &[Option<SocketAddr>]) -> bool {
    let fixed: Vec<_> = addresses.iter().flatten().filter(|address| address.port() != 0).collect();
    fixed.iter().enumerate().any(|(at, address)| fixed.iter().skip(at + 1).any(|other| other == address))
}

/// Whether a URL with an IP address has one of these addresses.
fn is_any_of(url: &Url, addresses: &[Option<SocketAddr>]) -> bool {
    let host = match url.host() {
        Some(Host::Ipv4(host)) => host.into(),
        Some(Host::Ipv6(host)) => host.into(),
        _ => return false,
    };
    let address = url.port_or_known_default().map(|port| SocketAddr::new(host, port));
    address.is_some() && addresses.contains(&address)
}
