//! Slots for calls of keys that the upstream has not accepted yet.
//!
//! Services of this kind ban an address after some dozens of bad keys, so a stranger with a list of invented keys could
//! get the gateway banned. A call of an unaccepted key therefore takes a slot. An accepted key returns the slot, any other
//! answer uses it up, and used slots refill over a minute, so that no minute has more refusals than configured, whatever
//! strangers send and in whatever words the upstream refuses. While the upstream fails, the refill is the pace at which
//! new keys probe it.
//!
//! Calls that find no slot wait for a short time, and then make their client wait. An invented key looks like a good
//! one, but a flood of ever new keys does not repeat them, and an honest client repeats its request. Some slots are
//! therefore left to keys that were seen some time before, and these keys precede other keys. A key that was refused
//! before is never among them. Above all, clients rank by their addresses, of which an attacker has fewer than keys: an
//! address with accepted keys comes first, one with refused keys or very many keys last, and only a few keys of one address
//! are refused per minute. Sans-I/O: the time is an argument.
//!
//! Long because of its tests, which simulate floods.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

use super::generations::Generations;
use super::strangers::{Standing, Strangers};
use crate::domain::{Account, Moment};
use crate::http::ClientNetwork;

/// Limits on keys that the upstream has not accepted yet. `conf/capgate.toml` contains the defaults and their reasons.
#[derive(Clone, Copy, Debug)]
pub struct NewKeysOptions {
    /// Most refused keys in any minute. At least four.
    pub refused_per_minute: u32,
    /// Most refused keys of one client address in any minute.
    pub address_refused_per_minute: u32,
    /// Longest time that a call waits for a slot, in milliseconds.
    pub wait_ms: u64,
}

/// Period over which refused keys are limited, in milliseconds.
const MINUTE_MS: f64 = 60_000.0;
/// Fraction of the limit that may be used at once. The rest refills over the minute, so that together they stay within
/// the limit in any minute.
const BURST: f64 = 0.25;
/// Fraction of the slots that is left to keys that were seen before.
const RETURNING_RESERVE: f64 = 0.4;
/// Further fraction that is left to addresses that are not suspect.
const SUSPECT_RESERVE: f64 = 0.2;
/// Time after which a key that is used again counts as seen before, in milliseconds.
const RETURN_MS: u64 = 1_000;
/// Time for which further calls of a key wait for its call in progress, in milliseconds. A refusal arrives sooner, but
/// the upstream may solve an image within the call.
const SAME_KEY_WAIT_MS: u64 = 1_000;
/// Longest time until waiting calls are looked at again, in milliseconds, because refusals of an address may be old enough.
const RECHECK_MS: u64 = 1_000;
/// Interval at which waiting calls are promoted, in milliseconds.
const PROMOTE_EVERY_MS: u64 = 100;
/// New keys of an address lately up to which half of the reserve is open to it, so that many addresses with more keys do not
/// make it wait for a slot to refill.
const FEW_NEW_KEYS: u32 = 2;
/// Most calls that wait. Each may hold the body of a submit.
const WAITING_MAX: usize = 512;
/// Most calls of one suspect address that wait, once the upstream has refused its keys.
const WAITING_PER_SUSPECT_MAX: usize = 64;
/// Most calls of one key that wait.
const WAITING_PER_KEY_MAX: usize = 64;
/// Most keys in each of the two generations of keys that were seen. Together they take 13 MB at most.
const SEEN_MAX: usize = 131_072;

/// One call of a key that the upstream has not accepted yet.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// The key.
    pub account: &'a Account,
    /// The client; `None` if no limit per address applies.
    pub client: Option<ClientNetwork>,
    /// Whether the upstream refused the key before.
    pub was_refused: bool,
    /// When the call gives up waiting; `None` if it must not wait.
    pub deadline: Option<Moment>,
}

/// The result of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// The call holds a slot until [`NewKeys::end`].
    Slot {
        /// Whether at least half of the slots are still free, and no answer casts doubt on the key.
        is_calm: bool,
    },
    /// The call waits. Its waiter is returned by a later operation.
    Waiting,
    /// No slot is free, and too many calls wait.
    Denied,
}

/// How a call that held a slot ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallEnd {
    /// The upstream accepted the key.
    Accepted,
    /// The upstream refused the key, or may have. The slot is used up, and the refusal counts against the address.
    Refused,
    /// The answer shows nothing about the key. The slot is used up.
    Inconclusive,
    /// The upstream cannot have counted a bad key: nothing was sent, or the call was about a task that it has accepted.
    Exempt,
}

/// Why a waiting call goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// It holds a slot now.
    Slot,
    /// Another call of the same key has ended, so the key may be known now.
    Retry,
    /// Its deadline has passed, another call needs its place, or calls of its key fail one after the other.
    Denied,
}

/// Waiting calls to wake, with their keys.
pub type Woken<W> = Vec<(W, Account, Wake)>;

/// Slots, and the calls that wait for one. `W` wakes a waiting call.
#[derive(Debug)]
pub struct NewKeys<W> {
    refill_per_ms: f64,
    slots_max: f64,
    reserve: f64,
    suspect_reserve: f64,
    /// Free slots. Together with the calls in progress never more than `slots_max`.
    free: f64,
    refilled_at: Moment,
    /// Calls in progress by key: their number, and when the latest began.
    in_progress: HashMap<Account, (usize, Moment)>,
    calls: usize,
    /// Keys that were seen, by their hashes; two keys with the same hash share an entry, which does no harm.
    seen: Generations<u64, SeenKey>,
    strangers: Strangers,
    waiting: BTreeMap<Place, Waiter<W>>,
    /// No wait ends before.
    next_expiry: Moment,
    /// When waiting calls were last promoted.
    promoted_at: Moment,
    arrivals: u64,
}

/// The place of a waiting call. Its order is that of the fields: addresses by their standing, keys that were seen before,
/// addresses with few new keys, the longest known key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    standing: Standing,
    is_new: bool,
    /// New keys of the address.
    new_keys: u32,
    first_seen: Moment,
    arrival: u64,
}

/// A key that was seen.
#[derive(Clone, Copy, Debug)]
struct SeenKey {
    first_seen: Moment,
    /// How its last call ended, unless that was [`CallEnd::Exempt`].
    last_end: Option<CallEnd>,
}

impl SeenKey {
    /// Whether the last answer left open whether the key is good.
    fn is_doubtful(self) -> bool {
        matches!(self.last_end, Some(CallEnd::Refused | CallEnd::Inconclusive))
    }
}

#[derive(Debug)]
struct Waiter<W> {
    account: Account,
    client: Option<ClientNetwork>,
    was_refused: bool,
    deadline: Moment,
    wake: W,
}

impl<W> NewKeys<W> {
    /// Creates the slots, all free.
    pub fn new(options: NewKeysOptions) -> Self {
        let per_minute = f64::from(options.refused_per_minute.max(4));
        let slots_max = (per_minute * BURST).floor();
        Self {
            refill_per_ms: (per_minute - slots_max) / MINUTE_MS,
            slots_max,
            reserve: (slots_max * RETURNING_RESERVE).floor(),
            suspect_reserve: (slots_max * SUSPECT_RESERVE).floor(),
            free: slots_max,
            refilled_at: Moment(0),
            in_progress: HashMap::new(),
            calls: 0,
            seen: Generations::new(SEEN_MAX),
            strangers: Strangers::new(options.address_refused_per_minute),
            waiting: BTreeMap::new(),
            next_expiry: Moment(0),
            promoted_at: Moment(0),
            arrivals: 0,
        }
    }

    /// Takes a slot for a call, or lets it wait.
    pub fn begin(&mut self, attempt: Attempt<'_>, waiter: W, now: Moment, woken: &mut Woken<W>) -> Admission {
        self.advance(now, woken);
        let Attempt { account, client, .. } = attempt;
        let seen = self.note_key(account, client, now);
        let was_refused = attempt.was_refused || seen.last_end == Some(CallEnd::Refused);
        self.arrivals += 1;
        let place = Place {
            standing: self.strangers.standing(client, now),
            is_new: was_refused || now.millis_since(seen.first_seen) < RETURN_MS,
            new_keys: self.strangers.new_keys(client, now),
            first_seen: seen.first_seen,
            arrival: self.arrivals,
        };
        // All waiting calls that could take a slot have taken it, so this call passes none of its own rank.
        let is_free = self.free >= self.needed(place) && self.strangers.has_room(client, place.is_new, now);
        if is_free && !self.is_busy(account, now) {
            let is_first = !self.in_progress.contains_key(account);
            self.start(account.clone(), client, now);
            let is_calm = self.free * 2.0 >= self.slots_max && self.strangers.is_calm(client, now);
            return Admission::Slot { is_calm: is_first && is_calm && !seen.is_doubtful() };
        }
        let Some(deadline) = attempt.deadline.filter(|deadline| now < *deadline) else {
            return Admission::Denied;
        };
        let of_key = self.waiting.values().filter(|waiter| waiter.account == *account).count();
        if of_key >= WAITING_PER_KEY_MAX || !self.make_room(place, client, woken) {
            return Admission::Denied;
        }
        self.next_expiry = self.next_expiry.min(deadline);
        self.waiting.insert(place, Waiter { account: account.clone(), client, was_refused, deadline, wake: waiter });
        Admission::Waiting
    }

    /// Ends a call that held a slot.
    pub fn end(
        &mut self,
        account: &Account,
        client: Option<ClientNetwork>,
        end: CallEnd,
        now: Moment,
        woken: &mut Woken<W>,
    ) {
        self.calls = self.calls.saturating_sub(1);
        if let Some((calls, _)) = self.in_progress.get_mut(account) {
            *calls -= 1;
            if *calls == 0 {
                self.in_progress.remove(account);
            }
        }
        if matches!(end, CallEnd::Accepted | CallEnd::Exempt) {
            self.free += 1.0;
        }
        self.change_standing(client, now, |strangers| {
            strangers.end(client, end == CallEnd::Refused, now);
            if end == CallEnd::Accepted {
                strangers.add_accepted(client);
            }
        });
        // The next call of a doubtful key verifies it. If that fails too, so would all others, as during an outage; the
        // parts of one submit must not use up a slot each.
        let was_doubtful = self.note_end(account, end);
        let wake = if was_doubtful { Wake::Denied } else { Wake::Retry };
        self.wake_where(wake, |waiter| waiter.account == *account, woken);
        self.advance(now, woken);
    }

    /// Records how a call of a key has ended. Returns whether the key was doubtful before and still is.
    fn note_end(&mut self, account: &Account, end: CallEnd) -> bool {
        let Some(seen) = self.seen.get_mut(&hash(account)).filter(|_| end != CallEnd::Exempt) else { return false };
        let before = std::mem::replace(seen, SeenKey { last_end: Some(end), ..*seen });
        before.is_doubtful() && seen.is_doubtful()
    }

    /// Records that a client uses a key that the upstream accepted before.
    pub fn note_accepted(&mut self, client: Option<ClientNetwork>, now: Moment) {
        self.change_standing(client, now, |strangers| strangers.note_accepted(client));
    }

    /// Returns what is known of a key, which may be seen for the first time.
    fn note_key(&mut self, account: &Account, client: Option<ClientNetwork>, now: Moment) -> SeenKey {
        let hash = hash(account);
        if self.seen.get(&hash).is_none() {
            self.change_standing(client, now, |strangers| strangers.add_key(client, now));
        }
        *self.seen.get_or_insert_with(hash, || SeenKey { first_seen: now, last_end: None })
    }

    /// Changes what is known of an address, and moves its waiting calls to their new places.
    fn change_standing(&mut self, client: Option<ClientNetwork>, now: Moment, change: impl FnOnce(&mut Strangers)) {
        let before = self.strangers.standing(client, now);
        change(&mut self.strangers);
        let standing = self.strangers.standing(client, now);
        if standing == before {
            return;
        }
        let of_client = self.waiting.iter().filter(|(_, waiter)| waiter.client == client);
        let places: Vec<Place> = of_client.map(|(place, _)| *place).collect();
        for place in places {
            if let Some(waiter) = self.waiting.remove(&place) {
                self.waiting.insert(Place { standing, ..place }, waiter);
            }
        }
    }

    /// Refills slots, gives them to waiting calls, and ends waits that are over.
    pub fn advance(&mut self, now: Moment, woken: &mut Woken<W>) {
        #[expect(clippy::cast_precision_loss, reason = "milliseconds since the start of the process")]
        let elapsed_ms = now.millis_since(self.refilled_at) as f64;
        self.refilled_at = self.refilled_at.max(now);
        #[expect(clippy::cast_precision_loss, reason = "a few calls")]
        let room = self.slots_max - self.calls as f64;
        self.free = (self.free + elapsed_ms * self.refill_per_ms).min(room);
        if self.next_expiry <= now {
            self.wake_where(Wake::Denied, |waiter| waiter.deadline <= now, woken);
            let deadlines = self.waiting.values().map(|waiter| waiter.deadline);
            self.next_expiry = deadlines.min().unwrap_or(Moment(u64::MAX));
        }
        self.promote(now);
        while let Some(place) = self.next_in_line(now) {
            if let Some(Waiter { account, client, wake: waiter, .. }) = self.waiting.remove(&place) {
                self.start(account.clone(), client, now);
                woken.push((waiter, account, Wake::Slot));
            }
        }
    }

    /// Treats new keys that have waited for some time as seen before, if their addresses still have few new keys: a flood
    /// shows more within that time. A good key therefore need not wait for a second slot to refill.
    fn promote(&mut self, now: Moment) {
        if now.millis_since(self.promoted_at) < PROMOTE_EVERY_MS {
            return;
        }
        self.promoted_at = now;
        let is_due = |place: &Place, waiter: &Waiter<W>| {
            place.standing == Standing::Ordinary
                && place.is_new
                && waiter.client.is_some()
                && !waiter.was_refused
                && now.millis_since(place.first_seen) >= RETURN_MS
                && self.strangers.new_keys(waiter.client, now) <= FEW_NEW_KEYS
        };
        let due = self.waiting.iter().filter(|(place, waiter)| is_due(place, waiter));
        let due: Vec<Place> = due.map(|(place, _)| *place).collect();
        for place in due {
            if let Some(waiter) = self.waiting.remove(&place) {
                self.waiting.insert(Place { is_new: false, ..place }, waiter);
            }
        }
    }

    /// Returns the moment of the next change to waiting calls, unless a call begins or ends before.
    pub fn next_change(&self, now: Moment) -> Moment {
        let expiry = self.waiting.values().map(|waiter| waiter.deadline).min().unwrap_or(now);
        let refill = self.waiting.keys().filter_map(|place| {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most some minutes")]
            let ms = ((self.needed(*place) - self.free) / self.refill_per_ms).ceil().max(0.0) as u64;
            // A call with a slot at hand waits for another call of its key or of its address.
            (ms > 0).then(|| now.after_ms(ms))
        });
        let in_progress = self.waiting.values().filter_map(|waiter| self.in_progress.get(&waiter.account));
        let same_key = in_progress.map(|(_, began_at)| began_at.after_ms(SAME_KEY_WAIT_MS)).filter(|at| now < *at);
        same_key.chain(refill).fold(expiry, Moment::min).min(now.after_ms(RECHECK_MS)).max(now.after_ms(1))
    }

    /// Whether a call of a key has to wait for another one of the same key.
    fn is_busy(&self, account: &Account, now: Moment) -> bool {
        let latest = self.in_progress.get(account);
        latest.is_some_and(|(_, began_at)| now.millis_since(*began_at) < SAME_KEY_WAIT_MS)
    }

    fn start(&mut self, account: Account, client: Option<ClientNetwork>, now: Moment) {
        self.strangers.begin(client);
        self.free -= 1.0;
        self.calls += 1;
        let (calls, began_at) = self.in_progress.entry(account).or_insert((0, now));
        *calls += 1;
        *began_at = now;
    }

    /// Returns the number of free slots that a call needs. Never less than for a call that precedes it.
    fn needed(&self, place: Place) -> f64 {
        // Refill is a sum of fractions.
        const ROUNDING: f64 = 1e-6;
        let reserve = match (place.standing, place.is_new) {
            (Standing::Proven, _) | (Standing::Ordinary, false) => 0.0,
            (Standing::Ordinary, true) if place.new_keys <= FEW_NEW_KEYS => (self.reserve / 2.0).floor(),
            (Standing::Ordinary, true) => self.reserve,
            (Standing::Suspect, _) => self.reserve + self.suspect_reserve,
        };
        1.0 + reserve - ROUNDING
    }

    /// Returns the first waiting call that can take a slot.
    fn next_in_line(&self, now: Moment) -> Option<Place> {
        let affordable = self.waiting.iter().take_while(|(place, _)| self.free >= self.needed(**place));
        // Neighbours are often of one address.
        let mut last = None;
        let mut startable = affordable.filter(|(place, waiter)| {
            let address = (waiter.client, place.is_new);
            let has_room = match last {
                Some((known, has_room)) if known == address => has_room,
                _ => self.strangers.has_room(waiter.client, place.is_new, now),
            };
            last = Some((address, has_room));
            has_room && !self.is_busy(&waiter.account, now)
        });
        startable.next().map(|(place, _)| *place)
    }

    /// Removes the waiting calls that match.
    fn wake_where(&mut self, wake: Wake, is_match: impl Fn(&Waiter<W>) -> bool, woken: &mut Woken<W>) {
        let matching: Vec<Place> =
            self.waiting.iter().filter(|(_, waiter)| is_match(waiter)).map(|(place, _)| *place).collect();
        for place in matching {
            let waiter = self.waiting.remove(&place);
            woken.extend(waiter.map(|Waiter { account, wake: waiter, .. }| (waiter, account, wake)));
        }
    }

    /// Makes room for a waiting call, if there is none, in place of the last one, if that ranks lower. How long keys are
    /// known makes no difference.
    fn make_room(&mut self, by: Place, client: Option<ClientNetwork>, woken: &mut Woken<W>) -> bool {
        let mut of_client = self.waiting.iter().filter(|(_, waiter)| waiter.client == client);
        let is_limited = by.standing == Standing::Suspect && self.strangers.has_refused(client);
        let is_full = is_limited && of_client.clone().count() >= WAITING_PER_SUSPECT_MAX;
        let last_of_suspect = if is_full { of_client.next_back() } else { None };
        if last_of_suspect.is_none() && self.waiting.len() < WAITING_MAX {
            return true;
        }
        let rank = |place: &Place| (place.standing, place.is_new, place.new_keys);
        let last = last_of_suspect.or_else(|| self.waiting.last_key_value()).map(|(place, _)| *place);
        let Some(place) = last.filter(|place| rank(place) > rank(&by)) else {
            return false;
        };
        let displaced = self.waiting.remove(&place);
        woken.extend(displaced.map(|Waiter { account, wake: waiter, .. }| (waiter, account, Wake::Denied)));
        true
    }
}

fn hash(account: &Account) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(account)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: NewKeysOptions =
        NewKeysOptions { refused_per_minute: 20, address_refused_per_minute: 5, wait_ms: 5_000 };
    /// Time from a call to its answer, in milliseconds.
    const ANSWER_MS: u64 = 50;
    /// Time after which clients repeat a request that made them wait (2captcha docs: 5 s).
    const RETRY_MS: u64 = 5_000;
    /// When good keys arrive in the simulation of a flood.
    const GOOD_FROM_MS: u64 = 10_000;

    fn key(name: &str) -> Account {
        Account::new(name).expect("a key")
    }

    #[expect(clippy::unnecessary_wraps, reason = "as an attempt contains it")]
    fn address(number: u64) -> Option<ClientNetwork> {
        let [.., high, low] = number.to_be_bytes();
        Some(ClientNetwork::from(core::net::IpAddr::from([10, 0, high, low])))
    }

    fn attempt(account: &Account, deadline: Option<Moment>) -> Attempt<'_> {
        Attempt { account, client: None, was_refused: false, deadline }
    }

    /// A simulation of clients and an upstream, in virtual time. Keys that begin with `good` are accepted.
    struct Simulation {
        keys: NewKeys<Option<ClientNetwork>>,
        now: u64,
        /// Ends of calls, in order.
        calls: std::collections::VecDeque<(u64, Account, Option<ClientNetwork>)>,
        /// When each good key was accepted.
        accepted: BTreeMap<String, u64>,
        refused_at: Vec<u64>,
        refused: std::collections::HashSet<Account>,
        /// Times at which denied good keys are tried again.
        retries: Vec<(u64, Account, Option<ClientNetwork>)>,
        /// Good keys that were denied at first.
        denied: usize,
        /// Until when the upstream fails all calls.
        down_until: u64,
        failed_at: Vec<u64>,
    }

    impl Simulation {
        fn new() -> Self {
            Self {
                keys: NewKeys::new(OPTIONS),
                now: 0,
                calls: std::collections::VecDeque::new(),
                accepted: BTreeMap::new(),
                refused_at: Vec::new(),
                refused: std::collections::HashSet::new(),
                retries: Vec::new(),
                denied: 0,
                down_until: 0,
                failed_at: Vec::new(),
            }
        }

        fn submit(&mut self, account: &Account, client: Option<ClientNetwork>) {
            if self.accepted.contains_key(account.reveal()) || self.refused.contains(account) {
                return;
            }
            let deadline = Some(Moment(self.now + OPTIONS.wait_ms));
            let attempt = Attempt { account, client, was_refused: false, deadline };
            let mut woken = Vec::new();
            let admission = self.keys.begin(attempt, client, Moment(self.now), &mut woken);
            self.wake(woken);
            match admission {
                Admission::Slot { .. } => self.calls.push_back((self.now + ANSWER_MS, account.clone(), client)),
                Admission::Waiting => {}
                Admission::Denied => self.deny(account.clone(), client),
            }
        }

        fn deny(&mut self, account: Account, client: Option<ClientNetwork>) {
            if account.reveal().starts_with("good") {
                self.denied += 1;
                self.retries.push((self.now + RETRY_MS, account, client));
            }
        }

        fn wake(&mut self, woken: Woken<Option<ClientNetwork>>) {
            for (client, account, wake) in woken {
                match wake {
                    Wake::Slot => self.calls.push_back((self.now + ANSWER_MS, account, client)),
                    Wake::Retry => self.submit(&account, client),
                    Wake::Denied => self.deny(account, client),
                }
            }
        }

        /// Passes one millisecond.
        fn tick(&mut self) {
            self.now += 1;
            let now = self.now;
            while self.calls.front().is_some_and(|(at, ..)| *at <= now) {
                let (_, account, client) = self.calls.pop_front().expect("a call");
                let end = if now <= self.down_until {
                    self.failed_at.push(now);
                    self.retries.push((now + RETRY_MS, account.clone(), client));
                    CallEnd::Inconclusive
                } else if account.reveal().starts_with("good") {
                    self.accepted.entry(account.reveal().to_owned()).or_insert(now);
                    CallEnd::Accepted
                } else {
                    self.refused_at.push(now);
                    self.refused.insert(account.clone());
                    CallEnd::Refused
                };
                let mut woken = Vec::new();
                self.keys.end(&account, client, end, Moment(now), &mut woken);
                self.wake(woken);
            }
            let mut woken = Vec::new();
            self.keys.advance(Moment(now), &mut woken);
            self.wake(woken);
            let due: Vec<_> = self.retries.extract_if(.., |(at, ..)| *at <= now).collect();
            for (_, account, client) in &due {
                self.submit(account, *client);
            }
        }

        fn assert_within_limit(&self) {
            let in_minute =
                |start: u64| self.refused_at.iter().filter(|at| (start..start + 60_000).contains(*at)).count();
            assert!(self.refused_at.iter().all(|start| in_minute(*start) <= 20), "{:?}", self.refused_at);
        }

        /// Returns the longest time until a good key is accepted, if all are.
        fn longest_ms(&self, good: usize) -> Option<u64> {
            let last = self.accepted.values().max().map(|at| at.saturating_sub(GOOD_FROM_MS));
            last.filter(|_| self.accepted.len() == good)
        }
    }

    /// Runs a flood of 1,700 keys per second, and 20 good keys all at once after ten seconds. `flood` returns the key and the
    /// address of a request of the flood, `good_from` the address of a good key.
    fn flood(
        seconds: u64,
        flood: impl Fn(u64) -> (String, Option<ClientNetwork>),
        good_from: impl Fn(u64) -> Option<ClientNetwork>,
    ) -> Simulation {
        let mut simulation = Simulation::new();
        let mut sent = 0;
        while simulation.now < seconds * 1_000 {
            simulation.tick();
            while sent * 10 < simulation.now * 17 {
                sent += 1;
                let (name, client) = flood(sent);
                simulation.submit(&key(&name), client);
            }
            if simulation.now == GOOD_FROM_MS {
                (0..20).for_each(|number| simulation.submit(&key(&format!("good{number}")), good_from(number)));
            }
        }
        simulation.assert_within_limit();
        simulation
    }

    #[test]
    fn good_keys_pass_a_flood_of_other_addresses_with_their_first_request() {
        for addresses in [1, 200] {
            let invented = |number| (format!("bad{number}"), address(1_000 + number % addresses));
            for good_from in [address as fn(u64) -> _, |_| address(7)] {
                let simulation = flood(20, invented, good_from);
                let longest_ms = simulation.longest_ms(20);
                assert!(
                    simulation.denied == 0 && longest_ms.is_some_and(|ms| ms < 5_000),
                    "{addresses}: {longest_ms:?}"
                );
            }
        }
    }

    #[test]
    fn good_keys_pass_a_flood_of_many_addresses_that_has_just_begun() {
        let mut simulation = Simulation::new();
        let good: Vec<u64> = vec![600, 2_000, 3_500, 4_700];
        while simulation.now < 10_000 {
            simulation.tick();
            for number in 0..2 {
                let sent = simulation.now * 2 + number;
                simulation.submit(&key(&format!("bad{sent}")), address(1_000 + sent % 200));
            }
            if good.contains(&simulation.now) {
                let number = simulation.now;
                simulation.submit(&key(&format!("good{number}")), address(number));
            }
        }
        simulation.assert_within_limit();
        let waits: Vec<u64> = good.iter().map(|at| simulation.accepted[&format!("good{at}")] - at).collect();
        assert!(simulation.denied == 0 && waits.iter().all(|ms| *ms <= 2_200), "{waits:?}");
    }

    #[test]
    fn good_keys_pass_a_flood_of_repeated_keys_with_their_first_request() {
        // Each key is repeated every few seconds, and thus seen before.
        for addresses in [1, 200] {
            let repeated = |number| (format!("bad{}", number % 8_000), address(1_000 + number % addresses));
            let simulation = flood(20, repeated, address);
            let longest_ms = simulation.longest_ms(20);
            assert!(simulation.denied == 0 && longest_ms.is_some_and(|ms| ms < 5_000), "{addresses}: {longest_ms:?}");
        }
    }

    #[test]
    fn good_keys_pass_a_flood_of_their_own_address_with_their_second_request() {
        for addresses in [1, 200] {
            let invented = |number| (format!("bad{number}"), address(1_000 + number % addresses));
            let simulation = flood(30, invented, |_| address(1_000));
            let longest_ms = simulation.longest_ms(20).expect("every good key is accepted");
            assert!(longest_ms <= 2 * RETRY_MS, "{addresses}: {longest_ms}");
        }
    }

    #[test]
    fn good_keys_without_an_address_pass_a_flood_with_their_second_request() {
        let simulation = flood(20, |number| (format!("bad{number}"), None), |_| None);
        let longest_ms = simulation.longest_ms(20).expect("every good key is accepted");
        assert!(longest_ms <= RETRY_MS + OPTIONS.wait_ms / 5, "{longest_ms}");
    }

    #[test]
    fn a_flood_of_repeated_keys_without_addresses_stays_within_the_limit() {
        // Good keys are not promised a slot here.
        let simulation = flood(75, |number| (format!("bad{}", number % 5_000), None), |_| None);
        assert!(simulation.refused_at.len() > 15, "slots refill");
        assert!(simulation.keys.waiting.len() <= WAITING_MAX && simulation.keys.calls <= 5);
    }

    #[test]
    fn an_office_with_a_client_that_tries_bad_keys_still_gets_new_keys_accepted() {
        let mut simulation = Simulation::new();
        for second in 0..60 {
            simulation.submit(&key(&format!("bad{second}")), address(1));
            (0..1_000).for_each(|_| simulation.tick());
        }
        assert!(simulation.refused_at.len() <= 5, "{:?}", simulation.refused_at);
        (0..10).for_each(|number| simulation.submit(&key(&format!("good{number}")), address(1)));
        (0..RETRY_MS + OPTIONS.wait_ms + 1_000).for_each(|_| simulation.tick());
        assert_eq!(simulation.accepted.len(), 10, "{:?}", simulation.accepted);
    }

    #[test]
    fn good_keys_pass_at_once_without_a_flood() {
        for client in [None, address(1)] {
            let mut simulation = Simulation::new();
            (0..200).for_each(|number| simulation.submit(&key(&format!("good{number}")), client));
            (0..4_000).for_each(|_| simulation.tick());
            assert_eq!(simulation.accepted.len(), 200, "{client:?}");
        }
    }

    #[test]
    fn new_keys_probe_an_upstream_that_fails_and_pass_soon_after_it_recovers() {
        let mut simulation = Simulation { down_until: 300_000, ..Simulation::new() };
        (0..40).for_each(|number| simulation.submit(&key(&format!("good{number}")), address(number % 20)));
        (0..300_000).for_each(|_| simulation.tick());
        let failed_at = std::mem::take(&mut simulation.failed_at);
        let in_minute = |start: u64| failed_at.iter().filter(|at| (start..start + 60_000).contains(*at)).count();
        assert!(failed_at.iter().all(|start| in_minute(*start) <= 20), "{failed_at:?}");
        assert!(failed_at.len() >= 70, "slots refill: {}", failed_at.len());
        (0..10_000).for_each(|_| simulation.tick());
        assert_eq!(simulation.accepted.len(), 40, "{:?}", simulation.accepted);
    }

    #[test]
    fn inconclusive_calls_use_up_slots_without_counting_against_the_address() {
        let mut keys = NewKeys::new(OPTIONS);
        for number in 0..5 {
            let account = key(&format!("new{number}"));
            let attempt = Attempt { client: address(number), ..attempt(&account, None) };
            assert_ne!(keys.begin(attempt, (), Moment(0), &mut Vec::new()), Admission::Waiting);
            keys.end(&account, address(number), CallEnd::Inconclusive, Moment(0), &mut Vec::new());
        }
        assert!(keys.free < 2.0, "{}", keys.free);
        assert_eq!(keys.strangers.standing(address(0), Moment(0)), Standing::Ordinary);
        assert!(!keys.strangers.has_refused(address(0)));
    }

    #[test]
    fn a_doubtful_key_is_verified_and_one_that_was_refused_precedes_no_new_key() {
        let mut keys = NewKeys::new(OPTIONS);
        let (one, mut woken) = (key("one"), Vec::new());
        let mut call = |end, now| {
            let admission = keys.begin(attempt(&one, None), (), Moment(now), &mut woken);
            keys.end(&one, None, end, Moment(now), &mut woken);
            let was_refused = keys.seen.get(&hash(&one)).is_some_and(|seen| seen.last_end == Some(CallEnd::Refused));
            (admission, was_refused)
        };
        let slot = |is_calm| Admission::Slot { is_calm };
        assert_eq!(call(CallEnd::Inconclusive, 0), (slot(true), false));
        assert_eq!(call(CallEnd::Exempt, 30_000), (slot(false), false));
        assert_eq!(call(CallEnd::Refused, 60_000), (slot(false), true));
        assert_eq!(call(CallEnd::Accepted, 90_000), (slot(false), false));
        assert_eq!(call(CallEnd::Accepted, 120_000), (slot(true), false));
        // With fewer slots than a new key needs, a refused one waits as well, although it was seen before.
        call(CallEnd::Refused, 150_000);
        keys.free = 2.0;
        assert_eq!(keys.begin(attempt(&one, None), (), Moment(150_000), &mut woken), Admission::Denied);
    }

    #[test]
    fn calls_of_one_key_that_wait_cost_two_slots_if_it_is_not_accepted() {
        for end in [CallEnd::Refused, CallEnd::Inconclusive] {
            let mut keys = NewKeys::new(OPTIONS);
            let (one, mut woken) = (key("one"), Vec::new());
            let attempt = attempt(&one, Some(Moment(5_000)));
            (0..9).for_each(|number| {
                keys.begin(attempt, number, Moment(0), &mut Vec::new());
            });
            keys.end(&one, None, end, Moment(50), &mut woken);
            assert!(woken.len() == 8 && woken.iter().all(|(_, _, wake)| *wake == Wake::Retry));
            for (number, ..) in std::mem::take(&mut woken) {
                keys.begin(attempt, number, Moment(50), &mut Vec::new());
            }
            keys.end(&one, None, end, Moment(100), &mut woken);
            assert!(woken.len() == 7 && woken.iter().all(|(_, _, wake)| *wake == Wake::Denied), "{woken:?}");
            assert!(keys.free > 3.0 - 1e-6, "{}", keys.free);
        }
    }

    #[test]
    fn refusals_that_arrive_late_stay_within_the_limit() {
        let mut keys = NewKeys::new(OPTIONS);
        let mut refused_at: Vec<u64> = Vec::new();
        let mut calls: Vec<(u64, Account)> = Vec::new();
        for now in (0..600_000_u64).step_by(100) {
            // All calls are answered at the end of each minute.
            for (_, account) in calls.extract_if(.., |(at, _)| *at <= now) {
                refused_at.push(now);
                keys.end(&account, None, CallEnd::Refused, Moment(now), &mut Vec::new());
            }
            let account = key(&format!("bad{now}"));
            if keys.begin(attempt(&account, None), (), Moment(now), &mut Vec::new()) != Admission::Denied {
                calls.push(((now / 60_000 + 1) * 60_000, account));
            }
        }
        let in_minute = |start: u64| refused_at.iter().filter(|at| (start..start + 60_000).contains(*at)).count();
        assert!(refused_at.iter().all(|start| in_minute(*start) <= 20), "{refused_at:?}");
    }

    #[test]
    fn one_call_of_a_key_is_sent_and_the_others_wait_for_its_answer() {
        let mut keys = NewKeys::new(OPTIONS);
        let (one, mut woken) = (key("one"), Vec::new());
        let attempt = attempt(&one, Some(Moment(5_000)));
        let mut begin = |number| keys.begin(attempt, number, Moment(0), &mut Vec::new());
        assert_eq!(begin(0), Admission::Slot { is_calm: true });
        assert!((1..=64).all(|number| begin(number) == Admission::Waiting));
        assert_eq!(begin(65), Admission::Denied, "one key must not fill the queue");
        keys.end(&one, None, CallEnd::Exempt, Moment(50), &mut woken);
        assert_eq!(woken.len(), 64);
        assert!(woken.iter().all(|(_, _, wake)| *wake == Wake::Retry));
    }

    #[test]
    fn a_long_call_of_a_key_holds_up_its_other_calls_only_briefly() {
        let mut keys = NewKeys::new(OPTIONS);
        let (one, mut woken) = (key("one"), Vec::new());
        let attempt = attempt(&one, Some(Moment(5_000)));
        for number in 0..3 {
            keys.begin(attempt, number, Moment(0), &mut Vec::new());
        }
        assert_eq!(keys.next_change(Moment(0)), Moment(1_000));
        keys.advance(Moment(1_000), &mut woken);
        assert_eq!(woken, [(1, one.clone(), Wake::Slot)], "one further call shows whether the key is good");
        woken.clear();
        keys.end(&one, None, CallEnd::Exempt, Moment(1_050), &mut woken);
        assert_eq!(woken, [(2, one, Wake::Retry)]);
        assert_eq!(keys.calls, 1);
    }

    #[test]
    fn waits_end_at_their_deadline() {
        let mut keys = NewKeys::new(OPTIONS);
        for number in 0..5 {
            let account = key(&format!("bad{number}"));
            keys.begin(attempt(&account, Some(Moment(1_000))), number, Moment(0), &mut Vec::new());
        }
        assert_eq!(keys.next_change(Moment(0)), Moment(1_000));
        let mut woken = Vec::new();
        keys.advance(Moment(1_000), &mut woken);
        let waits: Vec<_> = woken.iter().map(|(number, _, wake)| (*number, *wake)).collect();
        assert_eq!(waits, [(3, Wake::Denied), (4, Wake::Denied)]);
    }
}
