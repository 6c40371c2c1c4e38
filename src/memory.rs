//! The memory that strangers can make the process hold: unfinished headers, bodies, HTTP/2 connections and streams, calls
//! that the upstream has not read yet, and responses that clients have not read yet. It is limited in total and per client
//! address, and charged before it is taken (`docs/decisions/0011-memory.md`).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

/// A limit on bytes, shared by all public listeners.
#[derive(Debug)]
pub struct MemoryBudget {
    used: AtomicUsize,
    total_max: usize,
    address_max: usize,
}

impl MemoryBudget {
    /// Creates a budget with limits in total and per client address, in bytes.
    pub fn new(total_max: usize, address_max: usize) -> Arc<Self> {
        Arc::new(Self { used: AtomicUsize::new(0), total_max, address_max })
    }

    /// Starts an account of zero bytes for a client address, of which `of_address` counts the bytes. An exempt address has
    /// no limit of its own.
    pub fn account(self: &Arc<Self>, of_address: &Arc<AtomicUsize>, is_exempt: bool) -> MemoryCharge {
        let address_max = self.address_max(is_exempt);
        MemoryCharge { budget: Arc::clone(self), of_address: Arc::clone(of_address), address_max, bytes: 0 }
    }

    fn address_max(&self, is_exempt: bool) -> usize {
        if is_exempt { usize::MAX } else { self.address_max }
    }

    /// Returns the bytes in use.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }
}

/// Bytes charged for one request. Returned when dropped.
#[derive(Debug)]
pub struct MemoryCharge {
    budget: Arc<MemoryBudget>,
    of_address: Arc<AtomicUsize>,
    address_max: usize,
    bytes: usize,
}

impl MemoryCharge {
    /// A charge without a limit, for callers that are no strangers.
    pub fn unlimited() -> Self {
        MemoryBudget::new(usize::MAX, usize::MAX).account(&Arc::default(), true)
    }

    /// Charges bytes beyond those that are charged already. Returns `false`, and charges nothing, if a limit would be
    /// exceeded.
    #[must_use]
    pub fn try_grow(&mut self, bytes: usize) -> bool {
        let in_total = self.budget.used.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        let of_address = self.of_address.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        if in_total <= self.budget.total_max && of_address <= self.address_max {
            self.bytes += bytes;
            return true;
        }
        self.budget.used.fetch_sub(bytes, Ordering::Relaxed);
        self.of_address.fetch_sub(bytes, Ordering::Relaxed);
        false
    }

    /// Charges as many bytes as are needed for `bytes` in all; a smaller number changes nothing.
    #[must_use]
    pub fn try_grow_to(&mut self, bytes: usize) -> bool {
        bytes <= self.bytes || self.try_grow(bytes - self.bytes)
    }

    /// Returns the bytes that are charged.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns all bytes above `bytes`.
    pub fn shrink_to(&mut self, bytes: usize) {
        if self.bytes > bytes {
            self.budget.used.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
            self.of_address.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
            self.bytes = bytes;
        }
    }

    /// Charges a different client address from now on, also for the bytes that are charged already.
    pub fn set_address(&mut self, of_address: &Arc<AtomicUsize>, is_exempt: bool) {
        self.of_address.fetch_sub(self.bytes, Ordering::Relaxed);
        of_address.fetch_add(self.bytes, Ordering::Relaxed);
        (self.of_address, self.address_max) = (Arc::clone(of_address), self.budget.address_max(is_exempt));
    }

    /// Returns all bytes.
    pub fn release(&mut self) {
        self.shrink_to(0);
    }

    /// Moves some of the bytes, at most all, to a charge of their own for the same address.
    #[must_use]
    pub fn split(&mut self, bytes: usize) -> Self {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        Self {
            budget: Arc::clone(&self.budget),
            of_address: Arc::clone(&self.of_address),
            address_max: self.address_max,
            bytes,
        }
    }

    /// Keeps the charge until the last reference to `bytes` is dropped.
    pub fn attach_to(self, bytes: Bytes) -> Bytes {
        Bytes::from_owner(Charged { bytes, _charge: self })
    }
}

/// Bytes with the charge for them.
struct Charged {
    bytes: Bytes,
    _charge: MemoryCharge,
}

impl AsRef<[u8]> for Charged {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for MemoryCharge {
    fn drop(&mut self) {
        self.release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_limited_in_total_and_per_address_and_returned() {
        let (one, other, exempt) = (Arc::default(), Arc::default(), Arc::default());
        let budget = MemoryBudget::new(100, 60);
        let mut first = budget.account(&one, false);
        assert!(first.try_grow(40) && !first.try_grow(21) && first.try_grow_to(60) && first.try_grow_to(10));
        let mut second = budget.account(&one, false);
        assert!(!second.try_grow(1), "the address has used its share");
        let mut third = budget.account(&other, false);
        assert!(third.try_grow(40) && !third.try_grow(1), "the total is used");
        first.release();
        assert!(second.try_grow(30) && budget.used() == 70);
        let mut moved = budget.account(&exempt, true);
        assert!(moved.try_grow(20));
        moved.set_address(&other, false);
        drop((first, second, third));
        assert!(!moved.try_grow(41) && moved.try_grow(40), "the moved bytes count for their new address");
        drop(moved);
        let mut exempt = budget.account(&exempt, true);
        assert!(exempt.try_grow(100) && !exempt.try_grow(1), "only the total counts");
        drop(exempt);
        assert_eq!((budget.used(), one.load(Ordering::Relaxed)), (0, 0));
    }

    #[test]
    fn a_part_of_a_charge_lives_as_long_as_the_bytes_that_it_is_attached_to() {
        let budget = MemoryBudget::new(100, 100);
        let mut charge = budget.account(&Arc::default(), false);
        assert!(charge.try_grow(50));
        let bytes = charge.split(30).attach_to(Bytes::from_static(b"call"));
        drop(charge);
        let part = bytes.slice(1..);
        drop(bytes);
        assert_eq!((budget.used(), &part[..]), (30, &b"all"[..]));
        drop(part);
        assert_eq!(budget.used(), 0);
    }
}
