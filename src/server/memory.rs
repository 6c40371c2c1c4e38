//! The memory that strangers can make the process hold: unfinished headers, bodies, and HTTP/2 streams. It is limited in
//! total and per client address, and charged before it is taken.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::client::{AddressUsage, Client};

/// A limit on bytes, shared by all public listeners.
#[derive(Debug)]
pub(super) struct MemoryBudget {
    used: AtomicUsize,
    total_max: usize,
    address_max: usize,
}

impl MemoryBudget {
    pub(super) fn new(total_max: usize, address_max: usize) -> Arc<Self> {
        Arc::new(Self { used: AtomicUsize::new(0), total_max, address_max })
    }

    /// Starts an account of zero bytes for one request of a client.
    pub(super) fn account(self: &Arc<Self>, client: &Client) -> MemoryCharge {
        let (usage, address_max) = (Arc::clone(&client.usage), self.address_max(client));
        MemoryCharge { budget: Arc::clone(self), usage, address_max, bytes: 0 }
    }

    fn address_max(&self, client: &Client) -> usize {
        if client.is_exempt { usize::MAX } else { self.address_max }
    }

    /// Bytes in use.
    pub(super) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }
}

/// Bytes charged for one request. Returned when dropped.
#[derive(Debug)]
pub(super) struct MemoryCharge {
    budget: Arc<MemoryBudget>,
    usage: Arc<AddressUsage>,
    address_max: usize,
    bytes: usize,
}

impl MemoryCharge {
    /// Charges bytes beyond those that are charged already. Returns `false`, and charges nothing, if a limit would be
    /// exceeded.
    #[must_use]
    pub(super) fn try_grow(&mut self, bytes: usize) -> bool {
        let in_total = self.budget.used.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        let of_address = self.usage.bytes.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        if in_total <= self.budget.total_max && of_address <= self.address_max {
            self.bytes += bytes;
            return true;
        }
        self.budget.used.fetch_sub(bytes, Ordering::Relaxed);
        self.usage.bytes.fetch_sub(bytes, Ordering::Relaxed);
        false
    }

    /// Charges as many bytes as are needed for `bytes` in all; a smaller number changes nothing.
    #[must_use]
    pub(super) fn try_grow_to(&mut self, bytes: usize) -> bool {
        bytes <= self.bytes || self.try_grow(bytes - self.bytes)
    }

    /// Charges a different client from now on, also for the bytes that are charged already.
    pub(super) fn set_client(&mut self, client: &Client) {
        self.usage.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        client.usage.bytes.fetch_add(self.bytes, Ordering::Relaxed);
        (self.usage, self.address_max) = (Arc::clone(&client.usage), self.budget.address_max(client));
    }

    /// Returns all bytes.
    pub(super) fn release(&mut self) {
        if self.bytes == 0 {
            return;
        }
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
        self.usage.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        self.bytes = 0;
    }
}

impl Drop for MemoryCharge {
    fn drop(&mut self) {
        self.release();
    }
}

#[cfg(test)]
mod tests {
    use super::super::connections::Connections;
    use super::super::options::ConnectionLimits;
    use super::*;

    #[test]
    fn bytes_are_limited_in_total_and_per_address_and_returned() {
        let mut limits = ConnectionLimits::private(10);
        limits.exempt = vec!["192.0.2.3/32".parse().expect("a network")];
        let connections = Connections::new(limits);
        let client = |text: &str| connections.client(text.parse().expect("an address"));
        let (one, other, exempt) = (client("192.0.2.1:1"), client("192.0.2.2:1"), client("192.0.2.3:1"));
        let budget = MemoryBudget::new(100, 60);
        let mut first = budget.account(&one);
        assert!(first.try_grow(40) && !first.try_grow(21) && first.try_grow_to(60) && first.try_grow_to(10));
        let mut second = budget.account(&one);
        assert!(!second.try_grow(1), "the address has used its share");
        let mut third = budget.account(&other);
        assert!(third.try_grow(40) && !third.try_grow(1), "the total is used");
        first.release();
        assert!(second.try_grow(30) && budget.used() == 70);
        let mut moved = budget.account(&exempt);
        assert!(moved.try_grow(20));
        moved.set_client(&other);
        drop((first, second, third));
        assert!(!moved.try_grow(41) && moved.try_grow(40), "the moved bytes count for their new client");
        drop(moved);
        let mut exempt = budget.account(&exempt);
        assert!(exempt.try_grow(100) && !exempt.try_grow(1), "only the total counts");
        drop(exempt);
        assert_eq!(budget.used(), 0);
    }
}
