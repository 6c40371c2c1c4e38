//! Slots for calls of keys that the upstream has not accepted yet.
//!
//! Services of this kind ban an address after some dozens of bad keys, so a stranger with a list of invented keys could
//! get the gateway banned. A call of an unaccepted key therefore takes a slot. A refused key uses the slot up, any other
//! answer returns it, and used slots refill over a minute, so that no minute has more refusals than configured, whatever
//! strangers send.
//!
//! Calls that find no slot wait for a short time, and then make their client wait. An invented key looks like a good
//! one, but a flood of ever new keys does not repeat them, and an honest client repeats its request. Some slots are
//! therefore left to keys that were seen some time before, and these keys precede all others. A key that was refused
//! before is never among them. Sans-I/O: the time is an argument.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

use crate::domain::{Account, Moment};

/// Limits on keys that the upstream has not accepted yet. `conf/capgate.toml` contains the defaults and their reasons.
#[derive(Clone, Copy, Debug)]
pub struct NewKeysOptions {
    /// Most refused keys in any minute. At least four.
    pub refused_per_minute: u32,
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
/// Time after which a key that is used again counts as seen before, in milliseconds.
const RETURN_MS: u64 = 1_000;
/// Time for which further calls of a key wait for its call in progress, in milliseconds. A refusal arrives sooner, but
/// the upstream may solve an image within the call.
const SAME_KEY_WAIT_MS: u64 = 1_000;
/// Most calls that wait. Each may hold the body of a submit.
const WAITING_MAX: usize = 512;
/// Most calls of one key that wait.
const WAITING_PER_KEY_MAX: usize = 64;
/// Most keys in each of the two generations of [`SeenKeys`]. Together they take 10 MB at most.
const SEEN_MAX: usize = 131_072;

/// One call of a key that the upstream has not accepted yet.
///
/// A limit per client address belongs here: the address as a field, and a rank for addresses whose keys were refused.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// The key.
    pub account: &'a Account,
    /// Whether the upstream refused the key before.
    pub was_refused: bool,
    /// When the call gives up waiting; `None` if it must not wait.
    pub deadline: Option<Moment>,
}

/// The result of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// The call holds a slot until [`NewKeys::end`]. `is_calm` if at least half of the slots are still free.
    Slot {
        /// Whether slots are plentiful.
        is_calm: bool,
    },
    /// The call waits. Its waiter is returned by a later operation.
    Waiting,
    /// No slot is free, and too many calls wait.
    Denied,
}

/// Why a waiting call goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// It holds a slot now.
    Slot,
    /// Another call of the same key has ended, so the key may be known now.
    Retry,
    /// Its deadline has passed, or another call needs its place.
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
    /// Free slots. Together with the calls in progress never more than `slots_max`.
    free: f64,
    refilled_at: Moment,
    /// Calls in progress by key: their number, and when the latest began.
    in_progress: HashMap<Account, (usize, Moment)>,
    calls: usize,
    seen: SeenKeys,
    waiting: BTreeMap<Place, Waiter<W>>,
    arrivals: u64,
}

/// The place of a waiting call. Calls of keys that were seen before precede all others; the longest known key is first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    is_new: bool,
    first_seen: Moment,
    arrival: u64,
}

#[derive(Debug)]
struct Waiter<W> {
    account: Account,
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
            free: slots_max,
            refilled_at: Moment(0),
            in_progress: HashMap::new(),
            calls: 0,
            seen: SeenKeys::default(),
            waiting: BTreeMap::new(),
            arrivals: 0,
        }
    }

    /// Takes a slot for a call, or lets it wait.
    pub fn begin(&mut self, attempt: Attempt<'_>, waiter: W, now: Moment, woken: &mut Woken<W>) -> Admission {
        self.advance(now, woken);
        let account = attempt.account;
        let first_seen = self.seen.note(account, now);
        let is_new = attempt.was_refused || now.millis_since(first_seen) < RETURN_MS;
        // All waiting calls that could take a slot have taken it, so this call passes none of its own rank.
        if !self.is_busy(account, now) && self.free >= self.needed(is_new) {
            let is_calm = !self.in_progress.contains_key(account);
            self.start(account.clone(), now);
            return Admission::Slot { is_calm: is_calm && self.free * 2.0 >= self.slots_max };
        }
        let Some(deadline) = attempt.deadline.filter(|deadline| now < *deadline) else {
            return Admission::Denied;
        };
        let of_key = self.waiting.values().filter(|waiter| waiter.account == *account).count();
        if of_key >= WAITING_PER_KEY_MAX || (self.waiting.len() >= WAITING_MAX && !self.displace(is_new, woken)) {
            return Admission::Denied;
        }
        self.arrivals += 1;
        let place = Place { is_new, first_seen, arrival: self.arrivals };
        self.waiting.insert(place, Waiter { account: account.clone(), deadline, wake: waiter });
        Admission::Waiting
    }

    /// Ends a call that held a slot. The slot is used up if the upstream refused the key, or may have.
    pub fn end(&mut self, account: &Account, is_used_up: bool, now: Moment, woken: &mut Woken<W>) {
        self.calls = self.calls.saturating_sub(1);
        if let Some((calls, _)) = self.in_progress.get_mut(account) {
            *calls -= 1;
            if *calls == 0 {
                self.in_progress.remove(account);
            }
        }
        if !is_used_up {
            self.free += 1.0;
        }
        self.wake_where(Wake::Retry, |waiter| waiter.account == *account, woken);
        self.advance(now, woken);
    }

    /// Refills slots, gives them to waiting calls, and ends waits that are over.
    pub fn advance(&mut self, now: Moment, woken: &mut Woken<W>) {
        #[expect(clippy::cast_precision_loss, reason = "milliseconds since the start of the process")]
        let elapsed_ms = now.millis_since(self.refilled_at) as f64;
        self.refilled_at = self.refilled_at.max(now);
        #[expect(clippy::cast_precision_loss, reason = "a few calls")]
        let room = self.slots_max - self.calls as f64;
        self.free = (self.free + elapsed_ms * self.refill_per_ms).min(room);
        self.wake_where(Wake::Denied, |waiter| waiter.deadline <= now, woken);
        while let Some(place) = self.next_in_line(now) {
            if let Some(Waiter { account, wake: waiter, .. }) = self.waiting.remove(&place) {
                self.start(account.clone(), now);
                woken.push((waiter, account, Wake::Slot));
            }
        }
    }

    /// Returns the moment of the next change to waiting calls, unless a call begins or ends before.
    pub fn next_change(&self, now: Moment) -> Moment {
        let expiry = self.waiting.values().map(|waiter| waiter.deadline).min().unwrap_or(now);
        let refill = self.waiting.keys().next().map(|place| {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most some minutes")]
            let ms = ((self.needed(place.is_new) - self.free) / self.refill_per_ms).ceil().max(0.0) as u64;
            // A call with a slot at hand waits for another call of its key.
            if ms == 0 { expiry } else { now.after_ms(ms) }
        });
        let in_progress = self.waiting.values().filter_map(|waiter| self.in_progress.get(&waiter.account));
        let same_key = in_progress.map(|(_, began_at)| began_at.after_ms(SAME_KEY_WAIT_MS)).filter(|at| now < *at);
        same_key.chain(refill).fold(expiry, Moment::min).max(now.after_ms(1))
    }

    /// Whether a call of a key has to wait for another one of the same key.
    fn is_busy(&self, account: &Account, now: Moment) -> bool {
        let latest = self.in_progress.get(account);
        latest.is_some_and(|(_, began_at)| now.millis_since(*began_at) < SAME_KEY_WAIT_MS)
    }

    fn start(&mut self, account: Account, now: Moment) {
        self.free -= 1.0;
        self.calls += 1;
        let (calls, began_at) = self.in_progress.entry(account).or_insert((0, now));
        *calls += 1;
        *began_at = now;
    }

    /// Returns the number of free slots that a call needs.
    fn needed(&self, is_new: bool) -> f64 {
        // Refill is a sum of fractions.
        const ROUNDING: f64 = 1e-6;
        1.0 + if is_new { self.reserve } else { 0.0 } - ROUNDING
    }

    /// Returns the first waiting call that can take a slot.
    fn next_in_line(&self, now: Moment) -> Option<Place> {
        let affordable = self.waiting.iter().take_while(|(place, _)| self.free >= self.needed(place.is_new));
        let mut startable = affordable.filter(|(_, waiter)| !self.is_busy(&waiter.account, now));
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

    /// Makes room for a call of a key that was seen before, if a call of a new key waits.
    fn displace(&mut self, is_new: bool, woken: &mut Woken<W>) -> bool {
        let last = self.waiting.last_key_value().map(|(place, _)| *place);
        let Some(place) = last.filter(|place| place.is_new && !is_new) else {
            return false;
        };
        let displaced = self.waiting.remove(&place);
        woken.extend(displaced.map(|Waiter { account, wake: waiter, .. }| (waiter, account, Wake::Denied)));
        true
    }
}

/// When keys were first seen. Keeps hashes only; two keys with the same hash share a moment, which does no harm.
#[derive(Debug, Default)]
struct SeenKeys {
    hasher: BuildHasherDefault<DefaultHasher>,
    current: HashMap<u64, Moment>,
    previous: HashMap<u64, Moment>,
}

impl SeenKeys {
    /// Returns the moment at which a key was first seen, which may be now.
    fn note(&mut self, account: &Account, now: Moment) -> Moment {
        let hash = self.hasher.hash_one(account);
        if let Some(first_seen) = self.current.get(&hash) {
            return *first_seen;
        }
        if self.current.len() >= SEEN_MAX {
            self.previous = std::mem::take(&mut self.current);
        }
        let first_seen = self.previous.get(&hash).copied().unwrap_or(now);
        self.current.insert(hash, first_seen);
        first_seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: NewKeysOptions = NewKeysOptions { refused_per_minute: 20, wait_ms: 5_000 };
    /// Time from a call to its answer, in milliseconds.
    const ANSWER_MS: u64 = 50;
    /// Time after which clients repeat a request that made them wait (2captcha docs: 5 s).
    const RETRY_MS: u64 = 5_000;

    fn key(name: &str) -> Account {
        Account::new(name).expect("a key")
    }

    /// A simulation of clients and an upstream, in virtual time. Keys that begin with `good` are accepted.
    #[derive(Default)]
    struct Simulation {
        keys: Option<NewKeys<()>>,
        now: u64,
        /// Ends of calls, in order.
        calls: std::collections::VecDeque<(u64, Account)>,
        accepted: BTreeMap<String, u64>,
        refused_at: Vec<u64>,
        refused: std::collections::HashSet<Account>,
        /// Times at which denied good keys are tried again.
        retries: Vec<(u64, Account)>,
    }

    impl Simulation {
        fn submit(&mut self, account: &Account) {
            if self.accepted.contains_key(account.reveal()) || self.refused.contains(account) {
                return;
            }
            let deadline = Some(Moment(self.now + OPTIONS.wait_ms));
            let attempt = Attempt { account, was_refused: false, deadline };
            let now = Moment(self.now);
            let mut woken = Vec::new();
            let keys = self.keys.get_or_insert_with(|| NewKeys::new(OPTIONS));
            let admission = keys.begin(attempt, (), now, &mut woken);
            self.wake(woken);
            match admission {
                Admission::Slot { .. } => self.calls.push_back((self.now + ANSWER_MS, account.clone())),
                Admission::Waiting => {}
                Admission::Denied => self.deny(account.clone()),
            }
        }

        fn deny(&mut self, account: Account) {
            if account.reveal().starts_with("good") {
                self.retries.push((self.now + RETRY_MS, account));
            }
        }

        fn wake(&mut self, woken: Woken<()>) {
            for ((), account, wake) in woken {
                match wake {
                    Wake::Slot => self.calls.push_back((self.now + ANSWER_MS, account)),
                    Wake::Retry => self.submit(&account),
                    Wake::Denied => self.deny(account),
                }
            }
        }

        /// Passes one millisecond.
        fn tick(&mut self) {
            self.now += 1;
            let now = self.now;
            while self.calls.front().is_some_and(|(at, _)| *at <= now) {
                let (_, account) = self.calls.pop_front().expect("a call");
                let is_good = account.reveal().starts_with("good");
                if is_good {
                    self.accepted.entry(account.reveal().to_owned()).or_insert(now);
                } else {
                    self.refused_at.push(now);
                    self.refused.insert(account.clone());
                }
                let mut woken = Vec::new();
                self.keys.as_mut().expect("slots").end(&account, !is_good, Moment(now), &mut woken);
                self.wake(woken);
            }
            let mut woken = Vec::new();
            if let Some(keys) = &mut self.keys {
                keys.advance(Moment(now), &mut woken);
            }
            self.wake(woken);
            let due: Vec<_> = self.retries.extract_if(.., |(at, _)| *at <= now).collect();
            for (_, account) in &due {
                self.submit(account);
            }
        }

        fn most_refused_in_a_minute(&self) -> usize {
            let in_minute =
                |start: u64| self.refused_at.iter().filter(|at| (start..start + 60_000).contains(*at)).count();
            self.refused_at.iter().map(|start| in_minute(*start)).max().unwrap_or(0)
        }
    }

    /// Runs a flood of 1,700 invented keys per second for 75 seconds from the start, and 20 good keys from 10 s
    /// on, all at once. `name` names the flood's key of a number. Returns the longest time until a good key is accepted.
    fn flood(name: impl Fn(u64) -> String) -> (Simulation, Option<u64>) {
        let mut simulation = Simulation::default();
        let good: Vec<Account> = (0..20).map(|number| key(&format!("good{number}"))).collect();
        let mut sent = 0;
        for _ in 0..75_000 {
            simulation.tick();
            while sent * 10 < simulation.now * 17 {
                sent += 1;
                simulation.submit(&key(&name(sent)));
            }
            if simulation.now == 10_000 {
                for account in &good {
                    simulation.submit(account);
                }
            }
        }
        let all = simulation.accepted.len() == good.len();
        let last = simulation.accepted.values().max().map(|at| at - 10_000).filter(|_| all);
        (simulation, last)
    }

    #[test]
    fn good_keys_pass_a_flood_of_invented_keys_with_their_second_request() {
        let (simulation, last) = flood(|number| format!("bad{number}"));
        assert!(simulation.most_refused_in_a_minute() <= 20, "{:?}", simulation.refused_at);
        let last = last.expect("every good key is accepted");
        assert!(last <= RETRY_MS + OPTIONS.wait_ms / 5, "the last good key was accepted after {last} ms");
    }

    #[test]
    fn good_keys_pass_at_once_without_a_flood() {
        let mut simulation = Simulation::default();
        (0..200).for_each(|number| simulation.submit(&key(&format!("good{number}"))));
        (0..4_000).for_each(|_| simulation.tick());
        assert_eq!(simulation.accepted.len(), 200);
    }

    #[test]
    fn a_flood_of_repeated_keys_stays_within_the_limit() {
        // Each key is repeated, so all of them count as seen before. Good keys are not promised a slot here.
        let (simulation, _) = flood(|number| format!("bad{}", number % 5_000));
        assert!(simulation.most_refused_in_a_minute() <= 20, "{:?}", simulation.refused_at);
        assert!(simulation.refused_at.len() > 15, "slots refill");
        let keys = simulation.keys.expect("slots");
        assert!(keys.waiting.len() <= WAITING_MAX && keys.calls <= 5);
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
                keys.end(&account, true, Moment(now), &mut Vec::new());
            }
            let account = key(&format!("bad{now}"));
            let attempt = Attempt { account: &account, was_refused: false, deadline: None };
            if keys.begin(attempt, (), Moment(now), &mut Vec::new()) != Admission::Denied {
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
        let attempt = Attempt { account: &one, was_refused: false, deadline: Some(Moment(5_000)) };
        let mut begin = |number| keys.begin(attempt, number, Moment(0), &mut Vec::new());
        assert_eq!(begin(0), Admission::Slot { is_calm: true });
        assert!((1..=64).all(|number| begin(number) == Admission::Waiting));
        assert_eq!(begin(65), Admission::Denied, "one key must not fill the queue");
        keys.end(&one, false, Moment(50), &mut woken);
        assert_eq!(woken.len(), 64);
        assert!(woken.iter().all(|(_, _, wake)| *wake == Wake::Retry));
    }

    #[test]
    fn a_long_call_of_a_key_holds_up_its_other_calls_only_briefly() {
        let mut keys = NewKeys::new(OPTIONS);
        let (one, mut woken) = (key("one"), Vec::new());
        let attempt = Attempt { account: &one, was_refused: false, deadline: Some(Moment(5_000)) };
        for number in 0..3 {
            keys.begin(attempt, number, Moment(0), &mut Vec::new());
        }
        assert_eq!(keys.next_change(Moment(0)), Moment(1_000));
        keys.advance(Moment(1_000), &mut woken);
        assert_eq!(woken, [(1, one.clone(), Wake::Slot)], "one further call shows whether the key is good");
        woken.clear();
        keys.end(&one, false, Moment(1_050), &mut woken);
        assert_eq!(woken, [(2, one, Wake::Retry)]);
        assert_eq!(keys.calls, 1);
    }

    #[test]
    fn waits_end_at_their_deadline() {
        let mut keys = NewKeys::new(OPTIONS);
        for number in 0..5 {
            let account = key(&format!("bad{number}"));
            let attempt = Attempt { account: &account, was_refused: false, deadline: Some(Moment(1_000)) };
            keys.begin(attempt, number, Moment(0), &mut Vec::new());
        }
        assert_eq!(keys.next_change(Moment(0)), Moment(1_000));
        let mut woken = Vec::new();
        keys.advance(Moment(1_000), &mut woken);
        let waits: Vec<_> = woken.iter().map(|(number, _, wake)| (*number, *wake)).collect();
        assert_eq!(waits, [(3, Wake::Denied), (4, Wake::Denied)]);
    }
}
