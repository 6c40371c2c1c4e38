//! The memory that strangers can make the process hold: unfinished headers, bodies, HTTP/2 connections and streams, calls
//! that the upstream has not read yet, and responses that clients have not read yet. It is limited in total and per client
//! address, and charged before it is taken (`docs/decisions/0011-memory.md`).
//!
//! Few addresses cannot shut out others: the more an address holds, the more of the total has to stay free. Bytes that only
//! small holders may use can only be exhausted by many of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

/// Memory of a request with a body, beyond the body: what Pingora takes to read it, and some for its header.
pub const BODY_OVERHEAD_BYTES: usize = 128 * 1_024;

/// An address may hold so much while anything is free: an HTTP/2 connection with some streams, or a submit of 40 kB.
const SMALL_BYTES: usize = 128 * 1_024;

/// An address may hold so much while a fifth of the total is free: a submit of 200 kB, decoded and encoded again.
const MEDIUM_BYTES: usize = 768 * 1_024;

/// The limits of a [`MemoryBudget`], in bytes.
#[derive(Clone, Copy, Debug)]
pub struct MemoryLimits {
    /// Most bytes of all addresses.
    pub total_max: usize,
    /// Most bytes of one address. Addresses that hold more than one largest body get none while as much is in use.
    pub address_max: usize,
    /// Most bytes of a body. An address may hold one of them while a third of the total is free.
    pub body_max: usize,
}

impl MemoryLimits {
    const UNLIMITED: Self = Self { total_max: usize::MAX, address_max: usize::MAX, body_max: usize::MAX };

    /// Returns the bytes that may be in use, in total, after a charge that makes an address hold `of_address`.
    fn total_max(&self, of_address: usize) -> usize {
        let one_body = self.body_max.saturating_add(BODY_OVERHEAD_BYTES);
        // A limit of an address that is higher than the shares prevails: its operator wants that.
        let above_one_body = (self.total_max / 3).max(self.address_max);
        let up_to_one_body = (self.total_max / 3 * 2).max(above_one_body).max(one_body);
        let share = match of_address {
            bytes if bytes > self.address_max => 0,
            bytes if bytes <= SMALL_BYTES => self.total_max,
            bytes if bytes <= MEDIUM_BYTES => (self.total_max / 5 * 4).max(up_to_one_body),
            bytes if bytes <= one_body => up_to_one_body,
            _ => above_one_body,
        };
        share.min(self.total_max)
    }
}

/// A limit on bytes, shared by all public listeners.
#[derive(Debug)]
pub struct MemoryBudget {
    used: AtomicUsize,
    limits: MemoryLimits,
}

impl MemoryBudget {
    /// Creates a budget.
    pub fn new(limits: MemoryLimits) -> Arc<Self> {
        Arc::new(Self { used: AtomicUsize::new(0), limits })
    }

    /// Starts an account of zero bytes for a client address, of which `of_address` counts the bytes. For an exempt address,
    /// only the total counts.
    pub fn account(self: &Arc<Self>, of_address: &Arc<AtomicUsize>, is_exempt: bool) -> MemoryCharge {
        MemoryCharge { budget: Arc::clone(self), of_address: Arc::clone(of_address), is_exempt, bytes: 0 }
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
    is_exempt: bool,
    bytes: usize,
}

impl MemoryCharge {
    /// A charge without a limit, for callers that are no strangers.
    pub fn unlimited() -> Self {
        MemoryBudget::new(MemoryLimits::UNLIMITED).account(&Arc::default(), true)
    }

    /// Charges bytes beyond those that are charged already. Returns `false`, and charges nothing, if a limit would be
    /// exceeded.
    #[must_use]
    pub fn try_grow(&mut self, bytes: usize) -> bool {
        let limits = &self.budget.limits;
        let of_address = self.of_address.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        let total_max = if self.is_exempt { limits.total_max } else { limits.total_max(of_address) };
        // Unlike an addition that is taken back, a refused charge is never visible, so it cannot make another fail.
        let charge = |used: usize| used.checked_add(bytes).filter(|used| *used <= total_max);
        let is_charged = self.budget.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, charge).is_ok();
        if is_charged {
            self.bytes += bytes;
        } else {
            self.of_address.fetch_sub(bytes, Ordering::Relaxed);
        }
        is_charged
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
        (self.of_address, self.is_exempt) = (Arc::clone(of_address), is_exempt);
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
            is_exempt: self.is_exempt,
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

    /// The defaults.
    const LIMITS: MemoryLimits = MemoryLimits { total_max: 128 << 20, address_max: 40 << 20, body_max: 4 << 20 };
    const ONE_BODY: usize = LIMITS.body_max + BODY_OVERHEAD_BYTES;

    #[test]
    fn bytes_are_limited_in_total_and_per_address_and_returned() {
        let (one, other, exempt) = (Arc::default(), Arc::default(), Arc::default());
        let budget = MemoryBudget::new(MemoryLimits { total_max: 100, address_max: 60, body_max: 20 });
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

    /// Addresses that hold all that they get, and another one that needs something.
    struct Siege {
        budget: Arc<MemoryBudget>,
        attackers: Vec<MemoryCharge>,
    }

    impl Siege {
        fn new(attackers: usize) -> Self {
            let budget = MemoryBudget::new(LIMITS);
            let attackers = (0..attackers).map(|_| budget.account(&Arc::default(), false)).collect();
            Self { budget, attackers }
        }

        /// Bytes that another address gets while so many addresses attack (`docs/security.md`).
        fn promised_bytes(&self) -> usize {
            match self.attackers.len() {
                0..=10 => ONE_BODY,
                11..=20 => MEDIUM_BYTES,
                _ => SMALL_BYTES,
            }
        }

        /// Takes all that the attackers get in pieces of so many bytes.
        fn take(&mut self, bytes: usize) {
            for attacker in &mut self.attackers {
                while attacker.try_grow(bytes) {}
            }
        }

        fn check(&self) {
            let bytes = self.promised_bytes();
            let is_served = self.budget.account(&Arc::default(), false).try_grow(bytes);
            assert!(
                is_served,
                "{bytes} bytes beside {} attackers that hold {}",
                self.attackers.len(),
                self.budget.used()
            );
        }
    }

    /// Sizes of the pieces that attackers take.
    const PIECES: [usize; 7] = [LIMITS.address_max, ONE_BODY, 1 << 20, MEDIUM_BYTES, SMALL_BYTES, 1 << 12, 1 << 6];

    #[test]
    fn few_addresses_that_take_all_they_get_do_not_shut_out_another() {
        for attackers in [1, 2, 3, 9, 10, 11, 20, 21, 50, 100, 200] {
            for first in 0..PIECES.len() {
                let mut siege = Siege::new(attackers);
                for &piece in PIECES[first..].iter().chain(&PIECES) {
                    siege.take(piece);
                    siege.check();
                }
                // What one returns, the others take.
                for number in 0..attackers {
                    siege.attackers[number].release();
                    siege.take(PIECES[first]);
                    siege.check();
                }
            }
        }
    }

    #[test]
    fn few_addresses_that_take_and_return_in_any_order_do_not_shut_out_another() {
        let mut random = 1_u64;
        let mut below = |bound: usize| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(random >> 33).expect("31 bits") % bound
        };
        for attackers in [2, 10, 20, 200] {
            let mut siege = Siege::new(attackers);
            for _ in 0..20_000 {
                let attacker = &mut siege.attackers[below(attackers)];
                match below(16) {
                    0 => attacker.release(),
                    1 => attacker.shrink_to(below(ONE_BODY)),
                    _ => {
                        let piece = PIECES[below(PIECES.len())];
                        let _ = attacker.try_grow(below(piece));
                    }
                }
                siege.check();
            }
        }
    }

    #[test]
    fn a_body_is_read_whatever_the_limits_are() {
        for total_max in [ONE_BODY, ONE_BODY + 1, 8 << 20, 1 << 30] {
            for address_max in [ONE_BODY, total_max, usize::MAX] {
                let budget = MemoryBudget::new(MemoryLimits { total_max, address_max, ..LIMITS });
                assert!(budget.account(&Arc::default(), false).try_grow(ONE_BODY), "{total_max} {address_max}");
            }
        }
    }

    #[test]
    fn a_part_of_a_charge_lives_as_long_as_the_bytes_that_it_is_attached_to() {
        let budget = MemoryBudget::new(MemoryLimits::UNLIMITED);
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
