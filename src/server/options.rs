//! Options of the server, the same for all listeners.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::trusted_proxies::TrustedProxies;
use crate::memory::MemoryLimits;

/// Sizes, timeouts and connections of all listeners.
#[derive(Clone, Debug)]
pub struct Options {
    /// Most bytes of a body.
    pub body_bytes_max: usize,
    /// Most bytes that clients make the process hold, over all listeners; see [`crate::memory`].
    pub bodies_bytes_max: usize,
    /// The same for one client address.
    pub address_bytes_max: usize,
    /// Time for a TLS handshake.
    pub handshake_timeout: Duration,
    /// Time for a complete header on a new connection, from the first wait for a request.
    pub header_timeout: Duration,
    /// Time for a complete body, from the header.
    pub body_timeout: Duration,
    /// Time for one write to make progress.
    pub write_timeout: Duration,
    /// Time between two requests of a connection, including the header of the second.
    pub idle_timeout: Duration,
    /// Time for open connections to finish at shutdown.
    pub drain_timeout: Duration,
}

impl Options {
    /// Returns the limits of the memory budget.
    pub(super) fn memory_limits(&self) -> MemoryLimits {
        MemoryLimits {
            total_max: self.bodies_bytes_max,
            address_max: self.address_bytes_max,
            body_max: self.body_bytes_max,
        }
    }
}

/// Limits on connections, TLS handshakes and requests.
#[derive(Clone, Debug)]
pub struct ConnectionLimits {
    /// Most connections at once, over all public listeners.
    pub connections_max: usize,
    /// Most connections at once of one client address: an IPv4 address or an IPv6 /64.
    pub address_connections_max: usize,
    /// Most TLS handshakes at once.
    pub handshakes_max: usize,
    /// Most TLS handshakes at once of one client address.
    pub address_handshakes_max: usize,
    /// Requests of one client address; `None` if they are not limited.
    pub address_requests: Option<RequestRate>,
    /// Networks to which no limit per address applies.
    pub exempt: Vec<IpNet>,
    /// The proxies that are believed when they name their clients. No limit per address applies to them.
    pub trusted_proxies: TrustedProxies,
}

/// A limit on requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestRate {
    /// Requests per second in the long run.
    pub per_second: u32,
    /// Most requests at once.
    pub burst: u32,
}

impl ConnectionLimits {
    /// Limits the number of connections only: for listeners that strangers cannot reach.
    pub fn private(connections_max: usize) -> Self {
        Self {
            connections_max,
            address_connections_max: usize::MAX,
            handshakes_max: usize::MAX,
            address_handshakes_max: usize::MAX,
            address_requests: None,
            exempt: Vec::new(),
            trusted_proxies: TrustedProxies::default(),
        }
    }

    /// Whether no limit per address applies to an address.
    pub fn is_exempt(&self, address: IpAddr) -> bool {
        let canonical = address.to_canonical();
        self.exempt.iter().any(|network| network.contains(&canonical)) || self.trusted_proxies.contains(address)
    }
}
