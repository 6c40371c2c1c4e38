//! Client addresses that use keys which the upstream has not accepted yet: how many of their keys were refused, and how
//! they rank. Sans-I/O: the time is an argument.

use super::generations::Generations;
use crate::domain::Moment;
use crate::http::ClientNetwork;

/// Period over which refused keys of an address are limited, in milliseconds.
const MINUTE_MS: u64 = 60_000;
/// Time for which a refused key counts against the rank of its address, in milliseconds. Longer than the longest time
/// for which a key is refused from memory, so that each address of an attacker is of use only once.
const REFUSED_MS: u64 = 1_800_000;
/// Most new keys of an address per minute that an office may have after a restart. Above it, the address ranks last.
const NEW_KEYS_MAX: f64 = 32.0;
/// Fraction of the limit of an address that is left to keys that were seen before, as colleagues of a client with bad
/// keys repeat theirs.
const RETURNING_RESERVE: f64 = 0.4;
/// Most addresses in each of two generations. Together they take some 20 MB at most. An attacker with more networks
/// gains nothing when they are forgotten, because each further one ranks the same.
const STRANGERS_MAX: usize = 65_536;
/// The same for addresses with accepted keys, which nobody can add without such a key.
const PROVEN_MAX: usize = 65_536;

/// The rank of an address among others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Standing {
    /// Its keys were accepted, and none was refused lately.
    Proven,
    /// Nothing speaks for or against it.
    Ordinary,
    /// More of its keys were refused lately than accepted, or it sends very many keys.
    Suspect,
}

/// Addresses, as far as they are remembered. `None` stands for a client without limits per address.
#[derive(Debug)]
pub(super) struct Strangers {
    refused_per_minute: usize,
    reserve: usize,
    records: Generations<ClientNetwork, Record>,
    /// Number of accepted keys of an address.
    accepted: Generations<ClientNetwork, usize>,
}

#[derive(Debug)]
struct Record {
    /// When its keys were refused, as far as that counts.
    refused_at: Vec<Moment>,
    /// Calls in progress, which count as if they were refused.
    calls: usize,
    /// New keys that count, less those that were worn off by the time.
    new_keys: f64,
    counted_at: Moment,
}

impl Record {
    fn new() -> Self {
        Self { refused_at: Vec::new(), calls: 0, new_keys: 0.0, counted_at: Moment(0) }
    }

    fn new_keys(&self, now: Moment) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "at most the age of the process in milliseconds")]
        let minutes = now.millis_since(self.counted_at) as f64 / MINUTE_MS as f64;
        (self.new_keys - minutes * NEW_KEYS_MAX).max(0.0)
    }

    /// Counts the keys that were refused within a period.
    fn refused_within(&self, period_ms: u64, now: Moment) -> usize {
        self.refused_at.iter().filter(|at| now.millis_since(**at) < period_ms).count()
    }
}

impl Strangers {
    /// Knows no address. At least one key of an address may be refused per minute.
    pub(super) fn new(refused_per_minute: u32) -> Self {
        let refused_per_minute = refused_per_minute.max(1);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a part of a 32-bit number")]
        let reserve = (f64::from(refused_per_minute) * RETURNING_RESERVE).floor() as usize;
        Self {
            refused_per_minute: usize::try_from(refused_per_minute).unwrap_or(usize::MAX),
            reserve,
            records: Generations::new(STRANGERS_MAX),
            accepted: Generations::new(PROVEN_MAX),
        }
    }

    /// Returns the rank of an address.
    pub(super) fn standing(&self, client: Option<ClientNetwork>, now: Moment) -> Standing {
        let Some(client) = client else { return Standing::Ordinary };
        let accepted = self.accepted.get(&client).copied().unwrap_or(0);
        let (refused, is_crowded) = self
            .records
            .get(&client)
            .map_or((0, false), |record| (record.refused_within(REFUSED_MS, now), record.new_keys(now) > NEW_KEYS_MAX));
        match (accepted, refused) {
            (0, _) if is_crowded => Standing::Suspect,
            _ if refused > accepted => Standing::Suspect,
            (0, _) | (_, 1..) => Standing::Ordinary,
            (1.., 0) => Standing::Proven,
        }
    }

    /// Returns the number of new keys of an address lately. Clients without an address of their own count as one with
    /// several.
    pub(super) fn new_keys(&self, client: Option<ClientNetwork>, now: Moment) -> u32 {
        const UNKNOWN: u32 = 3;
        let Some(client) = client else { return UNKNOWN };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bounded by add_key")]
        self.records.get(&client).map_or(0, |record| record.new_keys(now).ceil() as u32)
    }

    /// Counts a key of an address that was never seen before.
    pub(super) fn add_key(&mut self, client: Option<ClientNetwork>, now: Moment) {
        /// Worn off within half an hour.
        const COUNT_MAX: f64 = 30.0 * NEW_KEYS_MAX;
        let Some(client) = client else { return };
        let record = self.records.get_or_insert_with(client, Record::new);
        record.new_keys = (record.new_keys(now) + 1.0).min(COUNT_MAX);
        record.counted_at = now;
    }

    /// Returns how many more calls of an address may begin.
    fn room(&self, client: Option<ClientNetwork>, now: Moment) -> usize {
        let record = client.and_then(|client| self.records.get(&client));
        let used = record.map_or(0, |record| record.refused_within(MINUTE_MS, now) + record.calls);
        self.refused_per_minute.saturating_sub(used)
    }

    /// Whether a call of an address may begin.
    pub(super) fn has_room(&self, client: Option<ClientNetwork>, is_new: bool, now: Moment) -> bool {
        let reserve = if is_new && self.standing(client, now) != Standing::Proven { self.reserve } else { 0 };
        client.is_none() || self.room(client, now) > reserve
    }

    /// Whether at least half of the calls of an address may still begin.
    pub(super) fn is_calm(&self, client: Option<ClientNetwork>, now: Moment) -> bool {
        client.is_none() || self.room(client, now).saturating_mul(2) >= self.refused_per_minute
    }

    /// Whether keys of an address were refused lately.
    pub(super) fn has_refused(&self, client: Option<ClientNetwork>) -> bool {
        client.and_then(|client| self.records.get(&client)).is_some_and(|record| !record.refused_at.is_empty())
    }

    /// Counts a call of an address.
    pub(super) fn begin(&mut self, client: Option<ClientNetwork>) {
        if let Some(client) = client {
            self.records.get_or_insert_with(client, Record::new).calls += 1;
        }
    }

    /// Ends a call of an address.
    pub(super) fn end(&mut self, client: Option<ClientNetwork>, is_refused: bool, now: Moment) {
        // Forgotten only if tens of thousands of others came since.
        let Some(record) = client.and_then(|client| self.records.get_mut(&client)) else { return };
        record.calls = record.calls.saturating_sub(1);
        if is_refused {
            record.refused_at.retain(|at| now.millis_since(*at) < REFUSED_MS);
            record.refused_at.push(now);
        }
    }

    /// Records that a further key of an address was accepted.
    pub(super) fn add_accepted(&mut self, client: Option<ClientNetwork>) {
        if let Some(client) = client {
            *self.accepted.get_or_insert_with(client, || 0) += 1;
        }
    }

    /// Records that an address uses a key that was accepted before.
    pub(super) fn note_accepted(&mut self, client: Option<ClientNetwork>) {
        if let Some(client) = client {
            self.accepted.get_or_insert_with(client, || 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::unnecessary_wraps, reason = "as the methods take it")]
    fn client(last: u8) -> Option<ClientNetwork> {
        Some(ClientNetwork::from(core::net::IpAddr::from([192, 0, 2, last])))
    }

    #[test]
    fn an_address_has_a_few_refused_keys_in_any_minute() {
        let mut strangers = Strangers::new(5);
        let mut refused_at = Vec::new();
        for now in (0..600_000).step_by(100).map(Moment) {
            if strangers.has_room(client(1), false, now) {
                strangers.begin(client(1));
                strangers.end(client(1), true, now);
                refused_at.push(now.0);
            }
            assert!(strangers.has_room(client(2), true, now) && strangers.has_room(None, true, now));
        }
        let in_minute = |start: u64| refused_at.iter().filter(|at| (start..start + 60_000).contains(*at)).count();
        assert!(refused_at.len() == 50 && refused_at.iter().all(|start| in_minute(*start) <= 5), "{refused_at:?}");
    }

    #[test]
    fn new_keys_leave_some_room_to_keys_that_were_seen_before() {
        let mut strangers = Strangers::new(5);
        for _ in 0..3 {
            assert!(strangers.has_room(client(1), true, Moment(0)));
            strangers.begin(client(1));
        }
        assert!(!strangers.has_room(client(1), true, Moment(0)) && strangers.has_room(client(1), false, Moment(0)));
        assert!(!strangers.is_calm(client(1), Moment(0)));
        strangers.end(client(1), false, Moment(0));
        assert!(strangers.has_room(client(1), true, Moment(0)));
        strangers.end(client(1), true, Moment(7));
    }

    #[test]
    fn addresses_rank_by_their_accepted_and_refused_keys() {
        let mut strangers = Strangers::new(5);
        let refuse = |strangers: &mut Strangers, now| {
            strangers.begin(client(1));
            strangers.end(client(1), true, now);
        };
        assert_eq!(strangers.standing(client(1), Moment(0)), Standing::Ordinary);
        strangers.note_accepted(client(1));
        strangers.note_accepted(client(1));
        assert_eq!(strangers.standing(client(1), Moment(0)), Standing::Proven);
        // One bad key among good ones is a mistake.
        refuse(&mut strangers, Moment(0));
        assert_eq!(strangers.standing(client(1), Moment(0)), Standing::Ordinary);
        refuse(&mut strangers, Moment(10_000));
        assert_eq!(strangers.standing(client(1), Moment(10_000)), Standing::Suspect);
        strangers.add_accepted(client(1));
        assert_eq!(strangers.standing(client(1), Moment(10_000)), Standing::Ordinary);
        assert_eq!(strangers.standing(client(1), Moment(10_000 + REFUSED_MS)), Standing::Proven);
        assert_eq!(strangers.standing(None, Moment(0)), Standing::Ordinary);
    }

    #[test]
    fn an_address_with_very_many_keys_is_suspect_until_they_wear_off() {
        let mut strangers = Strangers::new(5);
        (0..32).for_each(|_| strangers.add_key(client(1), Moment(0)));
        assert_eq!(
            (strangers.standing(client(1), Moment(0)), strangers.new_keys(client(1), Moment(0))),
            (Standing::Ordinary, 32)
        );
        (0..32).for_each(|_| strangers.add_key(client(1), Moment(0)));
        assert_eq!(strangers.standing(client(1), Moment(0)), Standing::Suspect);
        assert_eq!(strangers.standing(client(1), Moment(60_000)), Standing::Ordinary);
        assert_eq!(strangers.new_keys(client(1), Moment(120_000)), 0);
    }
}
