//! Health of the upstream's addresses: passive ejection, probes and slow start. Pure: time and jitter are arguments.
//!
//! An address that fails is ejected for a back-off that doubles with each failed probe. While it is ejected, it carries
//! at most one call at a time, the probe. After a successful probe it recovers: the number of concurrent calls that it
//! may carry grows with each answer, until it is healthy again. If all addresses are ejected, the one that is due
//! soonest is tried, and calls beyond the probes are refused: the circuit is open.
//!
//! Long because the tests, which run in virtual time, are half of the file.

use core::net::SocketAddr;

use crate::domain::Moment;

/// First back-off, in milliseconds.
const BACKOFF_MIN_MS: u64 = 1_000;
/// Fraction by which jitter may shorten a back-off, so that gateways do not probe in step.
const JITTER: f64 = 0.25;
/// Concurrent calls of a recovering address after one, two … answers. One more answer makes it healthy.
const RECOVERING_CALLS_MAX: [u32; 3] = [4, 16, 64];
/// Shortest and longest time, in milliseconds, after which a pending connection attempt is slow (RFC 8305, section 5,
/// connection attempt delay).
const ATTEMPT_DELAY_MS: (u64, u64) = (250, 2_000);

/// Thresholds. `conf/capgate.toml` contains the defaults and their reasons.
#[derive(Clone, Copy, Debug)]
pub(super) struct Thresholds {
    /// Consecutive calls without an answer that eject an address.
    pub(super) failures_max: u32,
    /// Longest back-off, in milliseconds.
    pub(super) backoff_max_ms: u64,
}

/// The addresses of one upstream.
#[derive(Debug)]
pub(super) struct Addresses {
    thresholds: Thresholds,
    /// Sorted by address.
    entries: Vec<Entry>,
    /// Time that the last new connection took, in milliseconds.
    connect_ms: u64,
    /// Counts orders, to rotate the addresses.
    orders: usize,
    /// Distinguishes the conditions that an address went through.
    generations: u64,
}

#[derive(Debug)]
struct Entry {
    address: SocketAddr,
    condition: Condition,
    /// Calls that began under this condition. Results of earlier calls are ignored.
    generation: u64,
    calls: u32,
    connecting: u32,
    /// When the oldest pending connection attempt began, or the last one succeeded.
    connecting_since: Moment,
    last_answer_at: Option<Moment>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition {
    Healthy {
        /// Consecutive calls without an answer.
        failures: u32,
    },
    Ejected {
        due: Moment,
        /// Consecutive ejections without a recovery.
        ejections: u32,
    },
    Recovering {
        /// Answers since the ejection.
        answers: usize,
        ejections: u32,
    },
}

/// State of an address in metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AddressState {
    Healthy,
    Recovering,
    Ejected,
}

impl AddressState {
    pub(super) const ALL: [Self; 3] = [Self::Healthy, Self::Recovering, Self::Ejected];

    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Recovering => "recovering",
            Self::Ejected => "ejected",
        }
    }
}

/// One use of an address by a call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ticket {
    pub(super) address: SocketAddr,
    generation: u64,
    began: Moment,
    is_connecting: bool,
}

/// How the use of an address ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It sent an HTTP response.
    Answered,
    /// No connection could be opened.
    ConnectFailed,
    /// The connection broke, or the time limit passed, before a response.
    CallFailed,
    /// Nothing was learned about the address.
    Unknown,
}

/// A change that is worth a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Ejected for this time, in milliseconds.
    Ejected { backoff_ms: u64 },
    /// Healthy again.
    Recovered,
}

/// The order in which to try the addresses.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Order {
    /// The next one may be tried while an attempt is slow.
    pub(super) usable: Vec<SocketAddr>,
    /// Ejected ones, only if all others have failed: they may accept a connection and answer nothing.
    pub(super) ejected: Vec<SocketAddr>,
}

impl Addresses {
    /// Creates an empty list.
    pub(super) fn new(thresholds: Thresholds) -> Self {
        Self { thresholds, entries: Vec::new(), connect_ms: 0, orders: 0, generations: 0 }
    }

    /// Replaces the addresses. Known ones keep their condition.
    pub(super) fn update(&mut self, mut addresses: Vec<SocketAddr>) {
        addresses.sort_unstable();
        addresses.dedup();
        self.entries.retain(|entry| addresses.contains(&entry.address));
        for address in addresses {
            if self.entry(address).is_none() {
                self.generations += 1;
                self.entries.push(Entry::new(address, self.generations));
            }
        }
        self.entries.sort_unstable_by_key(|entry| entry.address);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns all addresses that may take a call, in the order in which to try them. First an ejected address whose
    /// back-off is over, if the call may be a probe. Then the others in rotation, alternating between IPv6 and IPv4, so
    /// that a dead family costs one attempt. Then those whose last connection attempt is slow. Ejected ones are last,
    /// the one that is due soonest first.
    pub(super) fn order(&mut self, may_probe: bool, now: Moment) -> Order {
        self.orders = self.orders.wrapping_add(1);
        let mut ejected: Vec<(Moment, SocketAddr)> = Vec::new();
        let (mut usable, mut slow) = (Vec::new(), Vec::new());
        let attempt_delay_ms = self.attempt_delay_ms();
        for entry in self.entries.iter().filter(|entry| entry.has_capacity()) {
            match entry.condition {
                Condition::Ejected { due, .. } => ejected.push((due, entry.address)),
                _ if entry.is_slow(now, attempt_delay_ms) => slow.push(entry.address),
                _ => usable.push(entry.address),
            }
        }
        ejected.sort_unstable();
        let is_due = may_probe && ejected.first().is_some_and(|(due, _)| *due <= now);
        let probe = is_due.then(|| ejected.remove(0).1);
        let rotated = [alternate_families(usable, self.orders), alternate_families(slow, self.orders)].concat();
        Order {
            usable: probe.into_iter().chain(rotated).collect(),
            ejected: ejected.into_iter().map(|(_, address)| address).collect(),
        }
    }

    /// Returns the addresses that have not been healthy and answered a call within this time.
    pub(super) fn unchecked(&self, period_ms: u64, now: Moment) -> Vec<SocketAddr> {
        let is_recent = |at: Moment| now.millis_since(at) < period_ms;
        let is_unchecked =
            |entry: &&Entry| entry.state() != AddressState::Healthy || !entry.last_answer_at.is_some_and(is_recent);
        self.entries.iter().filter(is_unchecked).map(|entry| entry.address).collect()
    }

    /// Returns the time after which a connection attempt is slow, in milliseconds: twice as long as the last connection
    /// took, because a distant upstream is not slow.
    pub(super) fn attempt_delay_ms(&self) -> u64 {
        let (min, max) = ATTEMPT_DELAY_MS;
        self.connect_ms.saturating_mul(2).clamp(min, max)
    }

    /// Begins to use an address; `None` if it must not take another call now.
    pub(super) fn begin(&mut self, address: SocketAddr, now: Moment) -> Option<Ticket> {
        let entry = self.entry(address).filter(|entry| entry.has_capacity())?;
        entry.calls += 1;
        if entry.connecting == 0 {
            entry.connecting_since = now;
        }
        entry.connecting += 1;
        Some(Ticket { address, generation: entry.generation, began: now, is_connecting: true })
    }

    /// Notes that a connection is open: a new one, or one from the pool.
    pub(super) fn connected(&mut self, ticket: &mut Ticket, is_new: bool, now: Moment) {
        if is_new {
            self.connect_ms = now.millis_since(ticket.began);
        }
        let was_connecting = std::mem::take(&mut ticket.is_connecting);
        if let Some(entry) = self.entry(ticket.address).filter(|entry| entry.generation == ticket.generation) {
            entry.connecting -= u32::from(was_connecting);
            entry.connecting_since = now;
        }
    }

    /// Ends the use of an address. `jitter` is from 0 to 1.
    pub(super) fn end(&mut self, ticket: Ticket, verdict: Verdict, now: Moment, jitter: f64) -> Option<Change> {
        let next_generation = self.generations + 1;
        let Thresholds { failures_max, backoff_max_ms } = self.thresholds;
        let entry = self.entry(ticket.address).filter(|entry| entry.generation == ticket.generation)?;
        entry.calls -= 1;
        entry.connecting -= u32::from(ticket.is_connecting);
        match verdict {
            Verdict::Unknown => None,
            Verdict::Answered => {
                entry.last_answer_at = Some(now);
                entry.recover()
            }
            Verdict::ConnectFailed | Verdict::CallFailed => {
                let was_answered = entry.last_answer_at.is_some_and(|at| at >= ticket.began);
                let ejections = match &mut entry.condition {
                    Condition::Healthy { failures } => {
                        *failures += 1;
                        // A connection that fails while others answer is a lost packet rather than a dead address.
                        let is_dead = verdict == Verdict::ConnectFailed && !was_answered;
                        if !is_dead && *failures < failures_max {
                            return None;
                        }
                        0
                    }
                    Condition::Ejected { ejections, .. } | Condition::Recovering { ejections, .. } => *ejections,
                };
                let backoff_ms = shorten(backoff_ms(ejections, backoff_max_ms), jitter);
                entry.condition =
                    Condition::Ejected { due: now.after_ms(backoff_ms), ejections: ejections.saturating_add(1) };
                // Pending calls learned nothing that the ejection does not cover.
                (entry.generation, entry.calls, entry.connecting) = (next_generation, 0, 0);
                self.generations = next_generation;
                Some(Change::Ejected { backoff_ms })
            }
        }
    }

    /// Counts the addresses in a state.
    pub(super) fn count(&self, state: AddressState) -> usize {
        self.entries.iter().filter(|entry| entry.state() == state).count()
    }

    fn entry(&mut self, address: SocketAddr) -> Option<&mut Entry> {
        self.entries.iter_mut().find(|entry| entry.address == address)
    }
}

impl Entry {
    fn new(address: SocketAddr, generation: u64) -> Self {
        Self {
            address,
            condition: Condition::Healthy { failures: 0 },
            generation,
            calls: 0,
            connecting: 0,
            connecting_since: Moment(0),
            last_answer_at: None,
        }
    }

    fn state(&self) -> AddressState {
        match self.condition {
            Condition::Healthy { .. } => AddressState::Healthy,
            Condition::Ejected { .. } => AddressState::Ejected,
            Condition::Recovering { .. } => AddressState::Recovering,
        }
    }

    /// Whether the address may take one more call.
    fn has_capacity(&self) -> bool {
        match self.condition {
            Condition::Healthy { .. } => true,
            Condition::Ejected { .. } => self.calls == 0,
            Condition::Recovering { answers, .. } => {
                let at = answers.saturating_sub(1);
                RECOVERING_CALLS_MAX.get(at).is_none_or(|calls_max| self.calls < *calls_max)
            }
        }
    }

    fn is_slow(&self, now: Moment, attempt_delay_ms: u64) -> bool {
        self.connecting > 0 && now.millis_since(self.connecting_since) >= attempt_delay_ms
    }

    /// Applies an answer.
    fn recover(&mut self) -> Option<Change> {
        let (answers, ejections) = match self.condition {
            Condition::Healthy { .. } => {
                self.condition = Condition::Healthy { failures: 0 };
                return None;
            }
            Condition::Ejected { ejections, .. } => (1, ejections),
            Condition::Recovering { answers, ejections } => (answers + 1, ejections),
        };
        let is_healthy = answers > RECOVERING_CALLS_MAX.len();
        self.condition =
            if is_healthy { Condition::Healthy { failures: 0 } } else { Condition::Recovering { answers, ejections } };
        is_healthy.then_some(Change::Recovered)
    }
}

/// Rotates addresses by `turn`, then alternates between the families, beginning with the first address's.
fn alternate_families(mut addresses: Vec<SocketAddr>, turn: usize) -> Vec<SocketAddr> {
    let count = addresses.len();
    addresses.rotate_left(turn % count.max(1));
    let is_first_ipv6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| address.is_ipv6() == is_first_ipv6);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    (0..count).flat_map(|_| [first.next(), second.next()]).flatten().collect()
}

fn backoff_ms(ejections: u32, backoff_max_ms: u64) -> u64 {
    (BACKOFF_MIN_MS << ejections.min(16)).min(backoff_max_ms)
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "60 s at most"
)]
fn shorten(backoff_ms: u64, jitter: f64) -> u64 {
    (backoff_ms as f64 * (1.0 - JITTER * jitter.clamp(0.0, 1.0))) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAILURES_MAX: u32 = 5;

    fn ipv4(last: u8) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, last], 80))
    }

    fn ipv6(last: u16) -> SocketAddr {
        SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, last], 80))
    }

    fn addresses(all: &[SocketAddr]) -> Addresses {
        let mut addresses = Addresses::new(Thresholds { failures_max: FAILURES_MAX, backoff_max_ms: 60_000 });
        addresses.update(all.to_vec());
        addresses
    }

    /// Uses an address once, from connection to verdict.
    fn use_once(addresses: &mut Addresses, address: SocketAddr, verdict: Verdict, now: u64) -> Option<Change> {
        let mut ticket = addresses.begin(address, Moment(now)).expect("capacity");
        if verdict != Verdict::ConnectFailed {
            addresses.connected(&mut ticket, true, Moment(now));
        }
        addresses.end(ticket, verdict, Moment(now), 0.0)
    }

    fn all(order: Order) -> Vec<SocketAddr> {
        [order.usable, order.ejected].concat()
    }

    fn order(addresses: &mut Addresses, now: u64) -> Vec<SocketAddr> {
        all(addresses.order(true, Moment(now)))
    }

    #[test]
    fn all_addresses_are_tried_in_rotation_and_families_alternate() {
        let all = [ipv4(1), ipv4(2), ipv4(3), ipv4(4), ipv6(1), ipv6(2)];
        let mut addresses = addresses(&all);
        let mut firsts = Vec::new();
        for _ in 0..all.len() {
            let order = order(&mut addresses, 0);
            assert_ne!(order[0].is_ipv6(), order[1].is_ipv6(), "{order:?}");
            firsts.push(order[0]);
            let mut sorted = order;
            sorted.sort_unstable();
            assert_eq!(sorted, all);
        }
        firsts.sort_unstable();
        assert_eq!(firsts, all);
    }

    #[test]
    fn an_address_that_accepts_no_connection_is_ejected_for_a_doubling_backoff() {
        let (dead, alive) = (ipv4(1), ipv4(2));
        let mut addresses = addresses(&[dead, alive]);
        let mut now = 0;
        for backoff_ms in [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000] {
            let change = use_once(&mut addresses, dead, Verdict::ConnectFailed, now);
            assert_eq!(change, Some(Change::Ejected { backoff_ms }));
            for _ in 0..4 {
                assert_eq!(order(&mut addresses, now + backoff_ms - 1), [alive, dead]);
            }
            now += backoff_ms;
            assert_eq!(order(&mut addresses, now), [dead, alive], "no probe");
            assert_eq!(all(addresses.order(false, Moment(now))), [alive, dead], "a submit is a probe");
        }
    }

    #[test]
    fn jitter_shortens_a_backoff() {
        let mut addresses = addresses(&[ipv4(1)]);
        let ticket = addresses.begin(ipv4(1), Moment(0)).expect("capacity");
        let change = addresses.end(ticket, Verdict::ConnectFailed, Moment(0), 1.0);
        assert_eq!(change, Some(Change::Ejected { backoff_ms: 750 }));
    }

    #[test]
    fn consecutive_calls_without_an_answer_eject_an_address() {
        let mut addresses = addresses(&[ipv4(1)]);
        for failures in [4, 4] {
            for _ in 0..failures {
                assert_eq!(use_once(&mut addresses, ipv4(1), Verdict::CallFailed, 0), None);
            }
            assert_eq!(use_once(&mut addresses, ipv4(1), Verdict::Answered, 0), None);
        }
        for _ in 0..4 {
            assert_eq!(use_once(&mut addresses, ipv4(1), Verdict::CallFailed, 0), None);
        }
        assert_eq!(
            use_once(&mut addresses, ipv4(1), Verdict::CallFailed, 0),
            Some(Change::Ejected { backoff_ms: 1_000 })
        );
    }

    #[test]
    fn a_connection_that_fails_while_others_answer_ejects_nothing() {
        let mut addresses = addresses(&[ipv4(1)]);
        let ticket = addresses.begin(ipv4(1), Moment(0)).expect("capacity");
        use_once(&mut addresses, ipv4(1), Verdict::Answered, 1_000);
        assert_eq!(addresses.end(ticket, Verdict::ConnectFailed, Moment(5_000), 0.0), None);
        assert_eq!(
            use_once(&mut addresses, ipv4(1), Verdict::ConnectFailed, 6_000),
            Some(Change::Ejected { backoff_ms: 1_000 })
        );
    }

    #[test]
    fn an_ejected_address_carries_one_call_at_a_time_and_then_recovers_slowly() {
        let one = ipv4(1);
        let mut addresses = addresses(&[one]);
        use_once(&mut addresses, one, Verdict::ConnectFailed, 0);
        // Even before it is due: there is no other.
        assert_eq!(all(addresses.order(false, Moment(1))), [one]);
        let probe = addresses.begin(one, Moment(1)).expect("a probe");
        assert!(addresses.begin(one, Moment(1)).is_none(), "two probes at once");
        assert_eq!(order(&mut addresses, 1_000), []);
        assert_eq!(addresses.end(probe, Verdict::Unknown, Moment(2), 0.0), None);
        assert_eq!(addresses.count(AddressState::Ejected), 1);
        assert_eq!(use_once(&mut addresses, one, Verdict::Answered, 3), None);
        for calls_max in [4, 16, 64] {
            assert_eq!(addresses.count(AddressState::Recovering), 1);
            let mut tickets = Vec::new();
            while let Some(ticket) = addresses.begin(one, Moment(4)) {
                tickets.push(ticket);
            }
            assert_eq!(tickets.len(), calls_max);
            let last = tickets.pop().expect("a ticket");
            for ticket in tickets {
                addresses.end(ticket, Verdict::Unknown, Moment(5), 0.0);
            }
            let change = addresses.end(last, Verdict::Answered, Moment(5), 0.0);
            assert_eq!(change, (calls_max == 64).then_some(Change::Recovered));
        }
        assert_eq!(addresses.count(AddressState::Healthy), 1);
        // The next ejection begins with the shortest back-off.
        let change = use_once(&mut addresses, one, Verdict::ConnectFailed, 10);
        assert_eq!(change, Some(Change::Ejected { backoff_ms: 1_000 }));
    }

    #[test]
    fn a_failure_during_the_recovery_doubles_the_backoff() {
        let mut addresses = addresses(&[ipv4(1)]);
        use_once(&mut addresses, ipv4(1), Verdict::ConnectFailed, 0);
        use_once(&mut addresses, ipv4(1), Verdict::Answered, 1_000);
        let change = use_once(&mut addresses, ipv4(1), Verdict::CallFailed, 1_001);
        assert_eq!(change, Some(Change::Ejected { backoff_ms: 2_000 }));
    }

    #[test]
    fn calls_from_before_an_ejection_change_nothing() {
        let mut addresses = addresses(&[ipv4(1)]);
        let early: Vec<Ticket> = (0..20).filter_map(|_| addresses.begin(ipv4(1), Moment(0))).collect();
        assert_eq!(
            use_once(&mut addresses, ipv4(1), Verdict::ConnectFailed, 1),
            Some(Change::Ejected { backoff_ms: 1_000 })
        );
        for mut ticket in early {
            addresses.connected(&mut ticket, true, Moment(2));
            assert_eq!(addresses.end(ticket, Verdict::CallFailed, Moment(2), 0.0), None);
        }
        assert!(addresses.begin(ipv4(1), Moment(2)).is_some());
    }

    #[test]
    fn an_address_that_connects_slowly_is_tried_after_the_others() {
        let (slow, fast) = (ipv4(1), ipv4(2));
        let mut addresses = addresses(&[slow, fast]);
        let mut ticket = addresses.begin(slow, Moment(0)).expect("capacity");
        for _ in 0..4 {
            assert_eq!(order(&mut addresses, 250), [fast, slow]);
        }
        addresses.connected(&mut ticket, true, Moment(300));
        let firsts = [order(&mut addresses, 600)[0], order(&mut addresses, 600)[0]];
        assert!(firsts.contains(&slow), "{firsts:?}");
    }

    #[test]
    fn a_connection_attempt_is_slow_if_it_takes_twice_as_long_as_the_last_connection() {
        let mut addresses = addresses(&[ipv4(1)]);
        let mut delays_ms = Vec::new();
        for connect_ms in [0, 20, 400, 5_000] {
            let mut ticket = addresses.begin(ipv4(1), Moment(0)).expect("capacity");
            addresses.connected(&mut ticket, true, Moment(connect_ms));
            addresses.end(ticket, Verdict::Answered, Moment(connect_ms), 0.0);
            delays_ms.push(addresses.attempt_delay_ms());
        }
        assert_eq!(delays_ms, [250, 250, 800, 2_000]);
        let mut ticket = addresses.begin(ipv4(1), Moment(0)).expect("capacity");
        addresses.connected(&mut ticket, false, Moment(0));
        assert_eq!(addresses.attempt_delay_ms(), 2_000, "a pooled connection is no evidence");
    }

    #[test]
    fn a_slow_attempt_is_joined_by_no_ejected_address() {
        let mut addresses = addresses(&[ipv4(1), ipv4(2), ipv4(3)]);
        use_once(&mut addresses, ipv4(1), Verdict::ConnectFailed, 0);
        use_once(&mut addresses, ipv4(2), Verdict::ConnectFailed, 0);
        let order = addresses.order(false, Moment(1));
        assert_eq!((order.usable, order.ejected), (vec![ipv4(3)], vec![ipv4(1), ipv4(2)]));
    }

    #[test]
    fn an_address_that_has_just_answered_needs_no_health_check_unless_it_recovers() {
        let mut addresses = addresses(&[ipv4(1), ipv4(2), ipv4(3)]);
        use_once(&mut addresses, ipv4(1), Verdict::Answered, 500);
        use_once(&mut addresses, ipv4(2), Verdict::ConnectFailed, 500);
        assert_eq!(addresses.unchecked(1_000, Moment(1_000)), [ipv4(2), ipv4(3)]);
        use_once(&mut addresses, ipv4(2), Verdict::Answered, 1_000);
        assert_eq!(addresses.unchecked(1_000, Moment(1_000)), [ipv4(2), ipv4(3)]);
        assert_eq!(addresses.unchecked(1_000, Moment(1_500)), [ipv4(1), ipv4(2), ipv4(3)]);
    }

    #[test]
    fn of_several_ejected_addresses_the_one_due_soonest_is_first() {
        let mut addresses = addresses(&[ipv4(1), ipv4(2), ipv4(3)]);
        for (at, last) in [3, 1, 2].into_iter().enumerate() {
            use_once(&mut addresses, ipv4(last), Verdict::ConnectFailed, at as u64);
        }
        assert_eq!(order(&mut addresses, 3), [ipv4(3), ipv4(1), ipv4(2)]);
    }

    #[test]
    fn a_look_up_keeps_the_condition_of_known_addresses() {
        let mut addresses = addresses(&[ipv4(1), ipv4(2)]);
        use_once(&mut addresses, ipv4(1), Verdict::ConnectFailed, 0);
        let ticket = addresses.begin(ipv4(2), Moment(0)).expect("capacity");
        addresses.update(vec![ipv4(3), ipv4(1), ipv4(3)]);
        assert_eq!(addresses.end(ticket, Verdict::CallFailed, Moment(0), 0.0), None);
        assert_eq!(order(&mut addresses, 1), [ipv4(3), ipv4(1)]);
        assert_eq!(addresses.count(AddressState::Ejected), 1);
    }

    /// One black-holed address of four, and a call every 100 ms: the number of calls that meet it grows with the
    /// logarithm of the time.
    #[test]
    fn a_dead_address_costs_one_attempt_per_backoff() {
        let all = [ipv4(1), ipv4(2), ipv4(3), ipv4(4)];
        let mut addresses = addresses(&all);
        let mut failed = 0;
        for now in (0..600_000).step_by(100) {
            for address in order(&mut addresses, now) {
                if address == ipv4(1) {
                    use_once(&mut addresses, address, Verdict::ConnectFailed, now);
                    failed += 1;
                } else {
                    use_once(&mut addresses, address, Verdict::Answered, now);
                    break;
                }
            }
        }
        assert!((10..20).contains(&failed), "{failed} attempts in ten minutes");
    }
}
