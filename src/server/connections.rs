//! The connections of the public listeners: limited in total and per client address, and awaited when the process drains.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dashmap::DashMap;
use prometheus::{IntCounter, IntCounterVec};
use tokio::sync::{Notify, Semaphore, SemaphorePermit};

use super::options::ConnectionLimits;
use crate::telemetry::metrics::MetricsRegistry;

/// Open connections and TLS handshakes, in total and per client address.
#[derive(Debug)]
pub struct Connections {
    limits: ConnectionLimits,
    open: AtomicUsize,
    /// One permit for each TLS handshake that may be in progress.
    handshakes: Semaphore,
    /// One entry for each address with an open connection.
    addresses: DashMap<ClientNetwork, Arc<AddressUsage>>,
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
}

impl Refusal {
    /// The reasons other than [`Refusal::Total`], which has a counter of its own.
    const LABELLED: [Self; 4] = [Self::Address, Self::Handshakes, Self::HandshakeFailed, Self::HandshakeTimeout];

    /// Label for metrics.
    fn label(self) -> &'static str {
        match self {
            Self::Total => "total",
            Self::Address => "address",
            Self::Handshakes => "handshakes",
            Self::HandshakeFailed => "handshake_failed",
            Self::HandshakeTimeout => "handshake_timeout",
        }
    }
}

#[derive(Debug)]
struct Metrics {
    total: IntCounter,
    refused: IntCounterVec,
}

/// What counts as one client: an IPv4 address, or an IPv6 network of 64 bits, because a single subscriber usually gets a
/// whole one (RFC 6177).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct ClientNetwork(IpAddr);

impl From<IpAddr> for ClientNetwork {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                Self(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into())
            }
            v4 @ IpAddr::V4(_) => Self(v4),
        }
    }
}

/// What one client address uses.
#[derive(Debug)]
pub(super) struct AddressUsage {
    connections: AtomicUsize,
    /// One permit for each TLS handshake that may be in progress.
    handshakes: Semaphore,
    /// Bytes charged for its requests; see [`super::memory`].
    pub(super) bytes: AtomicUsize,
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
                "Connections closed unserved, by reason: address (limits.address_connections_max), handshakes (too many \
                 TLS handshakes at once), handshake_failed, handshake_timeout.",
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

    /// Admits a connection of an address.
    ///
    /// # Errors
    /// [`Refusal::Total`] or [`Refusal::Address`].
    pub(super) fn admit(self: &Arc<Self>, address: IpAddr) -> Result<ConnectionGuard, Refusal> {
        let network = ClientNetwork::from(address);
        let usage = {
            // Incremented under the lock of the entry, so that nobody removes it in between.
            let usage = self.addresses.entry(network).or_insert_with(|| Arc::new(self.new_usage()));
            usage.connections.fetch_add(1, Ordering::Relaxed);
            Arc::clone(&usage)
        };
        let open = self.open.fetch_add(1, Ordering::Relaxed);
        // Created before the checks, so that a refused connection is counted out again.
        let is_exempt = self.limits.is_exempt(address);
        let guard = ConnectionGuard { connections: Arc::clone(self), network, usage, is_exempt };
        if open >= self.limits.connections_max {
            return Err(Refusal::Total);
        }
        let of_address = guard.usage.connections.load(Ordering::Relaxed);
        if !is_exempt && of_address > self.limits.address_connections_max {
            return Err(Refusal::Address);
        }
        Ok(guard)
    }

    fn new_usage(&self) -> AddressUsage {
        AddressUsage {
            connections: AtomicUsize::new(0),
            handshakes: Semaphore::new(self.limits.address_handshakes_max.min(Semaphore::MAX_PERMITS)),
            bytes: AtomicUsize::new(0),
        }
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

/// One open connection.
#[derive(Debug)]
pub(super) struct ConnectionGuard {
    connections: Arc<Connections>,
    network: ClientNetwork,
    usage: Arc<AddressUsage>,
    is_exempt: bool,
}

impl ConnectionGuard {
    /// The usage of the connection's address.
    pub(super) fn usage(&self) -> &Arc<AddressUsage> {
        &self.usage
    }

    /// Whether no limit per address applies.
    pub(super) fn is_exempt(&self) -> bool {
        self.is_exempt
    }

    /// Waits until the connection may start its TLS handshake, and returns the permits to hold until it ends. An honest
    /// burst waits a moment; only silent connections make others wait for long.
    pub(super) async fn begin_handshake(&self) -> [Option<SemaphorePermit<'_>>; 2] {
        // The semaphores are never closed. The address first, so that one address does not hold permits of all while it
        // waits for its own.
        let of_address = if self.is_exempt { None } else { self.usage.handshakes.acquire().await.ok() };
        [of_address, self.connections.handshakes.acquire().await.ok()]
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        let Connections { addresses, open, closed, .. } = &*self.connections;
        if self.usage.connections.fetch_sub(1, Ordering::Relaxed) == 1 {
            addresses.remove_if(&self.network, |_, usage| usage.connections.load(Ordering::Relaxed) == 0);
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
            exempt: vec!["10.0.0.0/8".parse().expect("a network")],
        }
    }

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
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
