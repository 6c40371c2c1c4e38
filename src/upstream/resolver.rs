//! The upstream's addresses: looked up without blocking a thread, kept if a later look-up fails, and chosen by their
//! [health](super::health).

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::health::{AddressState, Addresses, Change, Order, Thresholds, Ticket, Verdict};
use super::metrics::UpstreamMetrics;
use crate::clock::Clock;
use crate::domain::Moment;
use crate::telemetry::metrics::MetricsRegistry;

/// Looks up the upstream's addresses. Tests replace it.
pub type LookUp = dyn Fn() -> Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>> + Send + Sync;

/// Time, in milliseconds, for which a failed look-up answers the calls that need one. Short, because none of these calls
/// is sent.
const FAILED_TTL_MS: u64 = 1_000;

/// The addresses of one upstream.
pub(super) struct Resolver {
    look_up: Box<LookUp>,
    clock: Clock,
    addresses: Mutex<Addresses>,
    /// Held during a look-up, so that concurrent calls share it. Contains the time of the last failed one.
    last_failure: tokio::sync::Mutex<Option<Moment>>,
    random: RandomState,
    metrics: UpstreamMetrics,
}

impl Resolver {
    /// Creates a resolver that knows no address yet.
    pub(super) fn new(
        look_up: Box<LookUp>,
        thresholds: Thresholds,
        clock: Clock,
        metrics: UpstreamMetrics,
    ) -> Arc<Self> {
        let (addresses, last_failure) = (Mutex::new(Addresses::new(thresholds)), tokio::sync::Mutex::default());
        Arc::new(Self { look_up, clock, addresses, last_failure, random: RandomState::new(), metrics })
    }

    /// Registers the gauges of the addresses.
    pub(super) fn register_gauges(self: &Arc<Self>, registry: &MetricsRegistry) {
        for state in AddressState::ALL {
            let resolver = Arc::clone(self);
            registry.gauge_with_label(
                "capgate_upstream_addresses",
                "Addresses of the upstream, by state: healthy, recovering, ejected.",
                ("state", state.label()),
                move || resolver.addresses.lock().count(state),
            );
        }
    }

    pub(super) fn metrics(&self) -> &UpstreamMetrics {
        &self.metrics
    }

    /// Returns all addresses that may take a call, in the order in which to try them; `None` if none is known. Looks up
    /// the name in that case. A call that `may_probe` tests an ejected address first.
    pub(super) async fn order(&self, may_probe: bool) -> Option<Order> {
        if self.addresses.lock().is_empty() {
            self.look_up_once().await;
        }
        let mut addresses = self.addresses.lock();
        (!addresses.is_empty()).then(|| addresses.order(may_probe, self.clock.now()))
    }

    /// Returns the addresses that a health check must test, because no call has done so within this period.
    pub(super) fn unchecked(&self, period: Duration) -> Vec<SocketAddr> {
        let period_ms = u64::try_from(period.as_millis()).unwrap_or(u64::MAX);
        self.addresses.lock().unchecked(period_ms, self.clock.now())
    }

    /// Returns the time after which a connection attempt is slow, so that another address should be tried as well.
    pub(super) fn attempt_delay(&self) -> Duration {
        Duration::from_millis(self.addresses.lock().attempt_delay_ms())
    }

    /// Begins to use an address; `None` if it must not take another call now.
    pub(super) fn begin(self: &Arc<Self>, address: SocketAddr) -> Option<Lease> {
        let ticket = self.addresses.lock().begin(address, self.clock.now())?;
        Some(Lease { resolver: Arc::clone(self), ticket, verdict: Verdict::Unknown })
    }

    /// Looks up the name periodically. Never returns.
    pub(super) async fn run_refresh(self: Arc<Self>, period: Duration) {
        loop {
            self.refresh(&mut *self.last_failure.lock().await).await;
            tokio::time::sleep(period).await;
        }
    }

    /// Looks up the name, unless a concurrent look-up succeeds or one has just failed.
    async fn look_up_once(&self) {
        let mut last_failure = self.last_failure.lock().await;
        let has_just_failed = last_failure.is_some_and(|at| self.clock.now().millis_since(at) < FAILED_TTL_MS);
        if self.addresses.lock().is_empty() && !has_just_failed {
            self.refresh(&mut last_failure).await;
        }
    }

    /// Looks up the name once. Keeps the known addresses if that fails: they may be reachable although the name server
    /// is not.
    async fn refresh(&self, last_failure: &mut Option<Moment>) {
        let kind = match (self.look_up)().await {
            Ok(addresses) if !addresses.is_empty() => {
                *last_failure = None;
                self.addresses.lock().update(addresses);
                return;
            }
            Ok(_) => io::ErrorKind::NotFound,
            Err(error) => error.kind(),
        };
        *last_failure = Some(self.clock.now());
        tracing::warn!(kind = kind.to_string(), "upstream name not resolved");
    }

    fn end(&self, ticket: Ticket, verdict: Verdict) {
        let now = self.clock.now();
        #[expect(clippy::cast_precision_loss, reason = "32 random bits")]
        let jitter = (self.random.hash_one((now.0, ticket.address)) >> 32) as f64 / 4_294_967_296.0;
        let change = self.addresses.lock().end(ticket, verdict, now, jitter);
        let address = ticket.address.to_string();
        match change {
            Some(Change::Ejected { backoff_ms }) => {
                let is_connect = verdict == Verdict::ConnectFailed;
                self.metrics.count_ejection(is_connect);
                let what = if is_connect { "connect" } else { "call" };
                tracing::warn!(address, what, backoff_ms, "upstream address ejected");
            }
            Some(Change::Recovered) => tracing::info!(address, "upstream address recovered"),
            None => {}
        }
    }
}

/// The use of an address by one call. Ends with its verdict when dropped, even if the call runs into its time limit.
pub(super) struct Lease {
    resolver: Arc<Resolver>,
    ticket: Ticket,
    verdict: Verdict,
}

impl Lease {
    /// Notes that a connection is open: a new one, or one from the pool. From now on, the call fails unless it is
    /// answered.
    pub(super) fn connected(&mut self, is_new: bool) {
        self.resolver.addresses.lock().connected(&mut self.ticket, is_new, self.resolver.clock.now());
        self.verdict = Verdict::CallFailed;
    }

    /// Ends the use.
    pub(super) fn end(mut self, verdict: Verdict) {
        self.verdict = verdict;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.resolver.end(self.ticket, self.verdict);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Semaphore;

    use super::*;

    /// Creates a resolver whose look-ups wait for a permit and then return this result.
    fn resolver(result: Result<SocketAddr, ()>) -> (Arc<Resolver>, Arc<AtomicUsize>, Arc<Semaphore>) {
        let (look_ups, gate) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
        let (counter, semaphore) = (Arc::clone(&look_ups), Arc::clone(&gate));
        let look_up = Box::new(move || {
            counter.fetch_add(1, Ordering::Relaxed);
            let semaphore = Arc::clone(&semaphore);
            let look_up: Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>> = Box::pin(async move {
                semaphore.acquire().await.expect("open").forget();
                result.map(|address| vec![address]).map_err(|()| io::Error::from(io::ErrorKind::NotFound))
            });
            look_up
        });
        let metrics = UpstreamMetrics::register(&MetricsRegistry::new());
        let thresholds = Thresholds { failures_max: 5, backoff_max_ms: 60_000 };
        (Resolver::new(look_up, thresholds, Clock::start(), metrics), look_ups, gate)
    }

    /// Starts calls that need an address, and lets all of them wait.
    async fn start_calls(resolver: &Arc<Resolver>, count: usize) -> tokio::task::JoinSet<Option<Order>> {
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..count {
            let resolver = Arc::clone(resolver);
            calls.spawn(async move { resolver.order(true).await });
        }
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        calls
    }

    #[tokio::test(start_paused = true)]
    async fn concurrent_calls_share_one_look_up() {
        let address = SocketAddr::from(([127, 0, 0, 1], 80));
        let (resolver, look_ups, gate) = resolver(Ok(address));
        let calls = start_calls(&resolver, 50).await;
        gate.add_permits(100);
        let orders = calls.join_all().await;
        assert!(orders.iter().all(|order| order.as_ref().is_some_and(|order| order.usable == [address])));
        assert_eq!(look_ups.load(Ordering::Relaxed), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_look_up_is_shared_and_cached_briefly() {
        let (resolver, look_ups, gate) = resolver(Err(()));
        gate.add_permits(100);
        assert!(start_calls(&resolver, 50).await.join_all().await.iter().all(Option::is_none));
        assert_eq!(look_ups.load(Ordering::Relaxed), 1);
        tokio::time::advance(Duration::from_millis(FAILED_TTL_MS - 1)).await;
        assert_eq!(resolver.order(true).await, None);
        assert_eq!(look_ups.load(Ordering::Relaxed), 1);
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(resolver.order(true).await, None);
        assert_eq!(look_ups.load(Ordering::Relaxed), 2);
    }
}
