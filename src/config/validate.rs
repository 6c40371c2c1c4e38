//! Rules across several keys. The types in `values` check each key alone.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use url::{Host, Url};

use super::error::ConfigError;
use super::sections::Sections;

/// What the server takes to read a body, rounded up.
const BODY_OVERHEAD_BYTES: u64 = 131_072;

/// Checks the rules across keys.
///
/// # Errors
/// Names the keys that contradict each other.
pub(super) fn validate(sections: &Sections) -> Result<(), ConfigError> {
    let Sections { listen, tls, server, upstream, ledger, limits, .. } = sections;
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
            limits.body_bytes_max.0 + BODY_OVERHEAD_BYTES <= limits.bodies_bytes_max.0,
            "limits.bodies_bytes_max must exceed limits.body_bytes_max by 131072, or the largest allowed body is never read",
        ),
        (
            limits.body_bytes_max.0 + BODY_OVERHEAD_BYTES <= limits.address_bytes_max.0,
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

/// Whether a URL leads to one of these addresses, as far as the URL alone tells: names other than `localhost` are not looked
/// up, and a listener on all addresses is recognised by a loopback address.
fn is_any_of(url: &Url, addresses: &[Option<SocketAddr>]) -> bool {
    let hosts: &[IpAddr] = match url.host() {
        Some(Host::Ipv4(host)) => &[host.into()],
        Some(Host::Ipv6(host)) => &[IpAddr::from(host).to_canonical()],
        Some(Host::Domain(name)) if name.trim_end_matches('.').eq_ignore_ascii_case("localhost") => {
            &[Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]
        }
        _ => &[],
    };
    let port = url.port_or_known_default();
    addresses.iter().flatten().filter(|address| Some(address.port()) == port).any(|address| {
        let listener = address.ip().to_canonical();
        hosts.iter().map(|host| connected(*host)).any(|host| {
            // A listener on [::] accepts IPv4 as well.
            let is_among_all =
                listener.is_unspecified() && host.is_loopback() && (listener.is_ipv6() || host.is_ipv4());
            host == listener || is_among_all
        })
    })
}

/// Returns the address that a connection to this one leads to: to no address in particular, it leads to loopback.
fn connected(host: IpAddr) -> IpAddr {
    match host {
        IpAddr::V4(host) if host.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(host) if host.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_that_leads_to_a_listener_is_recognised_however_it_is_written() {
        let leads = |url: &str, listener: &str| {
            is_any_of(&Url::parse(url).expect("a URL"), &[None, Some(listener.parse().expect("an address"))])
        };
        for (url, listener) in [
            ("http://127.0.0.1:8080/api", "127.0.0.1:8080"),
            ("http://localhost:8080", "127.0.0.1:8080"),
            ("http://LOCALHOST.:8080", "[::1]:8080"),
            ("https://localhost", "0.0.0.0:443"),
            ("http://127.0.0.1:8080", "0.0.0.0:8080"),
            ("http://127.0.0.1:8080", "[::]:8080"),
            ("http://[::1]:8080", "[::]:8080"),
            ("http://[::ffff:127.0.0.1]:8080", "0.0.0.0:8080"),
            ("http://0.0.0.0:8080", "127.0.0.1:8080"),
            ("http://0.0.0.0:8080", "0.0.0.0:8080"),
            ("http://[::]:8080", "[::]:8080"),
            ("http://[::]:8080", "[::1]:8080"),
            ("http://192.0.2.1:8080", "192.0.2.1:8080"),
        ] {
            assert!(leads(url, listener), "{url} {listener}");
        }
        for (url, listener) in [
            ("http://127.0.0.1:8081", "127.0.0.1:8080"),
            ("http://127.0.0.2:8080", "127.0.0.1:8080"),
            ("http://192.0.2.1:8080", "0.0.0.0:8080"),
            ("http://[::1]:8080", "0.0.0.0:8080"),
            ("http://[::1]:8080", "127.0.0.1:8080"),
            ("http://localhost.example:8080", "0.0.0.0:8080"),
        ] {
            assert!(!leads(url, listener), "{url} {listener}");
        }
    }
}
