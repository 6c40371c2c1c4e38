//! The connections of the public listeners: limited in total and per client address, and awaited when the process drains.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dashmap::DashMap;
use prometheus::{IntCounter, IntCounterVec};
use tokio::sync::{Notify, Semaphore, SemaphorePermit};
use tokio::time::Instant;

use super::client::{AddressUsage, Client};
use super::clock::now;
use super::options::ConnectionLimits;
use super::trusted_proxies::TrustedProxies;
use crate::http::ClientNetwork;
use crate::telemetry::metrics::MetricsRegistry;

/// Number of addresses below which the unused ones are not removed, each of some hundred bytes.
const IDLE_ADDRESSES_MIN: usize = 4_096;

/// Open connections and TLS handshakes, in total and per client address.
#[derive(Debug)]
pub struct Connections {
    limits: ConnectionLimits,
    open: AtomicUsize,
    /// One permit for each TLS handshake that may be in progress.
    handshakes: Semaphore,
    /// One entry for each address that is in use, or was until recently; see [`Connections::usage`].
    addresses: DashMap<ClientNetwork, Arc<AddressUsage>>,
    /// Number of addresses above which the unused ones are removed.
    sweep_above: AtomicUsize,
    start: Instant,
    /// Notified each time that the last connection closes.
    closed: Notify,
    metrics: Option<Metrics>,
}

/// Why a connection is closed unserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// As many connections are open as the process may have.
    Total,
    /// As many connections are open as one address may have.
    Address,
    /// The connection waited for too long while too many TLS handshakes were in progress, in total or of the address.
    Handshakes,
    /// The TLS handshake failed.
    HandshakeFailed,
    /// The TLS handshake did not finish in time.
    HandshakeTimeout,
    /// A trusted proxy did not send a valid header of the PROXY protocol in time.
    ProxyHeader,
}

impl Refusal {
    /// The reasons other than [`Refusal::Total`], which has a counter of its own.
    const LABELLED: [Self; 5] =
        [Self::Address, Self::Handshakes, Self::HandshakeFailed, Self::HandshakeTimeout, Self::ProxyHeader];

    /// Label for metrics.
    fn label(self) -> &'static str {
        match self {
            Self::Total => "total",
            Self::Address => "address",
            Self::Handshakes => "handshakes",
            Self::HandshakeFailed => "handshake_failed",
            Self::HandshakeTimeout => "handshake_timeout",
            Self::ProxyHeader => "proxy_header",
        }
    }
}

#[derive(Debug)]
struct Metrics {
    total: IntCounter,
    refused: IntCounterVec,
}

impl Connections {
    /// Creates a counter without metrics.
    pub fn new(limits: ConnectionLimits) -> Arc<Self> {
        Arc::new(Self::with_metrics(limits, None))
    }

    /// Creates a counter that is visible in metrics.
    pub fn register(limits: ConnectionLimits, registry: &MetricsRegistry) -> Arc<Self> {
        let metrics = Metrics {
            total: registry.counter(
                "capgate_connections_shed_total",
                "Connections closed unserved because connections_max were open.",
            ),
            refused: registry.counters(
                "capgate_connections_refused_total",
                "Connections closed unserved, by reason: address (limits.address_connections_max), handshakes (waited \
                 too long for the TLS handshakes of others), handshake_failed, handshake_timeout, proxy_header (no valid \
                 header of the PROXY protocol from a trusted proxy).",
                &["reason"],
            ),
        };
        for refusal in Refusal::LABELLED {
            metrics.refused.with_label_values(&[refusal.label()]);
        }
        let connections = Arc::new(Self::with_metrics(limits, Some(metrics)));
        let counted = Arc::clone(&connections);
        registry.gauge("capgate_connections", "Connections open on the legacy listeners.", move || counted.open());
        connections
    }

    fn with_metrics(limits: ConnectionLimits, metrics: Option<Metrics>) -> Self {
        Self {
            open: AtomicUsize::new(0),
            handshakes: Semaphore::new(limits.handshakes_max.min(Semaphore::MAX_PERMITS)),
            limits,
            addresses: DashMap::new(),
            sweep_above: AtomicUsize::new(IDLE_ADDRESSES_MIN),
            start: now(),
            closed: Notify::new(),
            metrics,
        }
    }

    /// Returns how many connections are open.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Counts a refused connection.
    pub(super) fn count_refusal(&self, refusal: Refusal) {
        let Some(metrics) = &self.metrics else { return };
        match refusal {
            Refusal::Total => metrics.total.inc(),
            labelled => metrics.refused.with_label_values(&[labelled.label()]).inc(),
        }
    }

    /// Admits a connection from an address.
    ///
    /// # Errors
    /// [`Refusal::Total`] or [`Refusal::Address`].
    pub(super) fn admit(self: &Arc<Self>, peer: SocketAddr) -> Result<ConnectionGuard, Refusal> {
        let client = self.client(peer);
        let of_address = client.usage.connections.fetch_add(1, Ordering::Relaxed);
        let open = self.open.fetch_add(1, Ordering::Relaxed);
        // Created before the checks, so that a refused connection is counted out again.
        let guard = ConnectionGuard { connections: Arc::clone(self), client, hides_client: false };
        if open >= self.limits.connections_max {
            return Err(Refusal::Total);
        }
        guard.check(of_address)?;
        Ok(guard)
    }

    /// Returns the client at an address.
    pub(super) fn client(&self, address: SocketAddr) -> Client {
        Client { address, usage: self.usage(address), is_exempt: self.limits.is_exempt(address.ip()) }
    }

    /// Returns the usage of an address. An address that is not in use any more is remembered until it may send as many
    /// requests at once as any other, so that a client gains nothing by a new connection.
    fn usage(&self, address: SocketAddr) -> Arc<AddressUsage> {
        if self.addresses.len() > self.sweep_above.load(Ordering::Relaxed) {
            self.sweep();
        }
        let network = ClientNetwork::from(address.ip());
        // Cloned under the lock of the entry, so that nobody removes it in between.
        let usage = self.addresses.entry(network);
        Arc::clone(&usage.or_insert_with(|| Arc::new(AddressUsage::new(&self.limits, self.start))))
    }

    /// Removes the addresses that are neither in use nor to be remembered. Their number at least doubles until the next
    /// time, so that a connection pays for few others.
    fn sweep(&self) {
        // Others go on meanwhile.
        self.sweep_above.store(usize::MAX, Ordering::Relaxed);
        let now = now();
        self.addresses.retain(|_, usage| !is_unused(usage, now, 0));
        self.sweep_above.store((self.addresses.len() * 2).max(IDLE_ADDRESSES_MIN), Ordering::Relaxed);
    }

    /// Returns once no connection is open.
    pub async fn wait_until_closed(&self) {
        loop {
            let closed = self.closed.notified();
            if self.open() == 0 {
                return;
            }
            closed.await;
        }
    }
}

/// Whether an address may be forgotten: nobody but the map and `holders` others has its usage.
fn is_unused(usage: &Arc<AddressUsage>, now: Instant, holders: usize) -> bool {
    Arc::strong_count(usage) <= 1 + holders && usage.is_rested(now)
}

/// One open connection.
#[derive(Debug)]
pub(super) struct ConnectionGuard {
    connections: Arc<Connections>,
    client: Client,
    /// Whether a trusted proxy speaks for a client that it does not name.
    hides_client: bool,
}

impl ConnectionGuard {
    /// The client of the connection: its peer, or whom a trusted proxy named at its beginning.
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// Whether the connection has to begin with a header of the PROXY protocol.
    pub(super) fn expects_proxy_header(&self) -> bool {
        let proxies = &self.connections.limits.trusted_proxies;
        proxies.has_proxy_protocol && proxies.contains(self.client.address.ip())
    }

    /// Counts the connection for the client that a trusted proxy has named; `None` if the proxy named nobody.
    ///
    /// # Errors
    /// [`Refusal::Address`].
    pub(super) fn set_client(&mut self, address: Option<SocketAddr>) -> Result<(), Refusal> {
        let Some(address) = address else {
            self.hides_client = true;
            return Ok(());
        };
        let client = self.connections.client(address);
        let of_address = client.usage.connections.fetch_add(1, Ordering::Relaxed);
        self.client.usage.connections.fetch_sub(1, Ordering::Relaxed);
        self.client = client;
        self.check(of_address)
    }

    /// Checks the number of the address's other connections.
    fn check(&self, others: usize) -> Result<(), Refusal> {
        let is_within = self.client.is_exempt || others < self.connections.limits.address_connections_max;
        if is_within { Ok(()) } else { Err(Refusal::Address) }
    }

    /// Returns the trusted proxies if the requests of this connection come from one, which names the client of each.
    pub(super) fn proxies(&self) -> Option<&TrustedProxies> {
        let proxies = &self.connections.limits.trusted_proxies;
        let is_trusted = !proxies.networks.is_empty() && proxies.contains(self.client.address.ip());
        Some(proxies).filter(|_| is_trusted && !self.hides_client)
    }

    /// Returns the client that a trusted proxy named for a request, or that of the connection.
    pub(super) fn client_or(&self, forwarded: Option<SocketAddr>) -> Client {
        forwarded.map_or_else(|| self.client.clone(), |address| self.connections.client(address))
    }

    /// Waits until the connection may start its TLS handshake, and returns the permits to hold until it ends. An honest
    /// burst waits a moment; only silent connections make others wait for long.
    pub(super) async fn begin_handshake(&self) -> [Option<SemaphorePermit<'_>>; 2] {
        // The semaphores are never closed. The address first, so that one address does not hold permits of all while it
        // waits for its own.
        let Client { usage, is_exempt, .. } = &self.client;
        let of_address = if *is_exempt { None } else { usage.handshakes.acquire().await.ok() };
        [of_address, self.connections.handshakes.acquire().await.ok()]
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        let Connections { addresses, open, closed, .. } = &*self.connections;
        let Client { address, usage, .. } = &self.client;
        if usage.connections.fetch_sub(1, Ordering::Relaxed) == 1 {
            let now = now();
            addresses.remove_if(&ClientNetwork::from(address.ip()), |_, usage| is_unused(usage, now, 1));
        }
        if open.fetch_sub(1, Ordering::Relaxed) == 1 {
            closed.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    fn limits() -> ConnectionLimits {
        ConnectionLimits {
            connections_max: 4,
            address_connections_max: 2,
            handshakes_max: 3,
            address_handshakes_max: 2,
            address_requests: None,
            exempt: vec!["10.0.0.0/8".parse().expect("a network")],
            trusted_proxies: TrustedProxies::default(),
        }
    }

    fn address(text: &str) -> SocketAddr {
        SocketAddr::new(text.parse().expect("an address"), 1)
    }

    #[test]
    fn connections_are_limited_in_total_and_per_address() {
        let registry = MetricsRegistry::new();
        let connections = Connections::register(limits(), &registry);
        let admit = |text| connections.admit(address(text)).map_err(|refusal| connections.count_refusal(refusal));
        let first = admit("192.0.2.1").expect("admitted");
        let _second = admit("::ffff:192.0.2.1").expect("admitted");
        assert_eq!(connections.admit(address("192.0.2.1")).expect_err("the third of an address"), Refusal::Address);
        assert!(admit("192.0.2.1").is_err());
        let _other = admit("192.0.2.2").expect("admitted");
        drop(first);
        let _again = admit("192.0.2.1").expect("a place is free again");
        let _exempt = admit("10.1.1.1").expect("the fourth");
        assert_eq!(connections.admit(address("10.1.1.1")).expect_err("the fifth"), Refusal::Total);
        assert!(admit("10.1.1.1").is_err());
        let text = String::from_utf8(registry.render()).expect("text");
        for line in [
            "capgate_connections 4\n",
            "capgate_connections_shed_total 1\n",
            "capgate_connections_refused_total{reason=\"address\"} 1\n",
            "capgate_connections_refused_total{reason=\"handshake_timeout\"} 0\n",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
    }

    #[test]
    fn an_exempt_address_has_no_limit_of_its_own_and_ipv6_counts_by_network() {
        let connections = Connections::new(limits());
        let exempt: Vec<_> = (0..3).map(|_| connections.admit(address("10.0.0.1")).expect("exempt")).collect();
        drop(exempt);
        let _guards = [connections.admit(address("2001:db8::1")), connections.admit(address("2001:db8::ffff"))];
        assert_eq!(connections.admit(address("2001:db8::2:0:1")).expect_err("the same /64"), Refusal::Address);
        assert!(connections.admit(address("2001:db8:0:1::1")).is_ok());
    }

    #[tokio::test]
    async fn handshakes_wait_for_each_other_and_nothing_is_kept_of_an_address_that_left() {
        let connections = Connections::new(limits());
        let first = connections.admit(address("192.0.2.1")).expect("admitted");
        let second = connections.admit(address("192.0.2.2")).expect("admitted");
        let (one, two) = (first.begin_handshake().await, first.begin_handshake().await);
        let mut context = Context::from_waker(Waker::noop());
        let mut third = Box::pin(first.begin_handshake());
        assert!(third.as_mut().poll(&mut context).is_pending(), "three of an address");
        let held = second.begin_handshake().await;
        let mut fourth = Box::pin(second.begin_handshake());
        assert!(fourth.as_mut().poll(&mut context).is_pending(), "four in total");
        drop(one);
        // The fourth was first in the queue for the total, the third waited for its address.
        let fourth = fourth.await;
        drop((two, held, fourth));
        drop(third.await);
        drop((first, second));
        assert_eq!((connections.open(), connections.addresses.len()), (0, 0));
    }

    #[tokio::test]
    async fn the_last_connection_ends_the_wait() {
        let connections = Connections::new(limits());
        connections.wait_until_closed().await;
        let first = connections.admit(address("192.0.2.1")).expect("admitted");
        let second = connections.admit(address("192.0.2.2")).expect("admitted");
        let mut waiting = pin!(connections.wait_until_closed());
        drop(first);
        let is_done = waiting.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready();
        assert!(!is_done, "a connection is open");
        drop(second);
        waiting.await;
    }
}
