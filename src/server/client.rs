//! The client of a request: its address, and what the limits per client address have counted of it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::options::{ConnectionLimits, RequestRate};
use crate::http::ClientNetwork;
use crate::memory::{MemoryBudget, MemoryCharge};

/// The client of a connection or of a request.
#[derive(Clone, Debug)]
pub(super) struct Client {
    /// Its address. The port is 0 if it is unknown.
    pub(super) address: SocketAddr,
    pub(super) usage: Arc<AddressUsage>,
    /// Whether no limit per address applies.
    pub(super) is_exempt: bool,
}

impl Client {
    /// Returns what counts as this client; `None` if no limit per address applies.
    pub(super) fn network(&self) -> Option<ClientNetwork> {
        (!self.is_exempt).then(|| ClientNetwork::from(self.address.ip()))
    }

    /// Starts an account of zero bytes for one request.
    pub(super) fn memory_account(&self, memory: &Arc<MemoryBudget>) -> MemoryCharge {
        memory.account(&self.usage.bytes, self.is_exempt)
    }

    /// Makes this client pay for a charge from now on.
    pub(super) fn charge(&self, charge: &mut MemoryCharge) {
        charge.set_address(&self.usage.bytes, self.is_exempt);
    }

    /// Counts a request. Returns `false` if the client has sent too many.
    pub(super) fn try_request(&self, now: Instant) -> bool {
        self.is_exempt || self.usage.requests.as_ref().is_none_or(|requests| requests.try_request(now))
    }
}

/// What one client address uses.
#[derive(Debug)]
pub(super) struct AddressUsage {
    pub(super) connections: AtomicUsize,
    /// One permit for each TLS handshake that may be in progress.
    pub(super) handshakes: Semaphore,
    /// Bytes charged for its requests; see [`crate::memory`].
    pub(super) bytes: Arc<AtomicUsize>,
    requests: Option<RequestMeter>,
}

impl AddressUsage {
    /// Creates the usage of an address without connections. `start` is any moment in the past.
    pub(super) fn new(limits: &ConnectionLimits, start: Instant) -> Self {
        Self {
            connections: AtomicUsize::new(0),
            handshakes: Semaphore::new(limits.address_handshakes_max.min(Semaphore::MAX_PERMITS)),
            bytes: Arc::default(),
            requests: limits.address_requests.map(|rate| RequestMeter::new(rate, start)),
        }
    }

    /// Whether nothing is lost if this usage is forgotten, as far as requests are concerned.
    pub(super) fn is_rested(&self, now: Instant) -> bool {
        self.requests.as_ref().is_none_or(|requests| requests.is_rested(now))
    }
}

/// A token bucket in one number, the generic cell rate algorithm: the moment at which the bucket is full again.
#[derive(Debug)]
struct RequestMeter {
    start: Instant,
    interval_ns: u64,
    tolerance_ns: u64,
    /// In nanoseconds since `start`.
    full_at_ns: AtomicU64,
}

impl RequestMeter {
    fn new(rate: RequestRate, start: Instant) -> Self {
        let interval_ns = 1_000_000_000 / u64::from(rate.per_second.max(1));
        let tolerance_ns = interval_ns.saturating_mul(u64::from(rate.burst.max(1)) - 1);
        Self { start, interval_ns, tolerance_ns, full_at_ns: AtomicU64::new(0) }
    }

    fn try_request(&self, now: Instant) -> bool {
        let now_ns = self.nanoseconds(now);
        let next = |full_at_ns: u64| {
            let full_at_ns = full_at_ns.max(now_ns);
            (full_at_ns - now_ns <= self.tolerance_ns).then_some(full_at_ns + self.interval_ns)
        };
        self.full_at_ns.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).is_ok()
    }

    fn is_rested(&self, now: Instant) -> bool {
        self.full_at_ns.load(Ordering::Relaxed) <= self.nanoseconds(now)
    }

    fn nanoseconds(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.start).as_nanos()).unwrap_or(u64::MAX / 2)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn requests_pass_in_a_burst_and_then_at_their_rate() {
        #[expect(clippy::disallowed_methods, reason = "any moment")]
        let start = Instant::now();
        let meter = RequestMeter::new(RequestRate { per_second: 100, burst: 5 }, start);
        let passed = |now: Instant| (0..50).filter(|_| meter.try_request(now)).count();
        let later = |ms: u64| start + Duration::from_millis(1_000 + ms);
        assert!(meter.is_rested(later(0)));
        assert_eq!((passed(later(0)), passed(later(9)), passed(later(10)), passed(later(35))), (5, 0, 1, 2));
        assert!(!meter.is_rested(later(59)) && meter.is_rested(later(85)));
        assert_eq!(passed(later(10_000)), 5, "an idle client gets no more than a burst");
        // A moment before the last one, as another thread may have read it.
        assert_eq!(passed(later(9_000)), 0);
    }
}
