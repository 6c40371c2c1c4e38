//! Admission of calls to the upstream: a rate limit, concurrency limits, priorities and fair shares.
//!
//! The upstream counts requests per source address, so all accounts share one limit, and a storm on one account would
//! cause a 429 for every account. A token bucket stays below the upstream's limit and below what `X-RateLimit-*`
//! reports as remaining. Each class of calls leaves a reserve of tokens to the classes above it: submits, then reports,
//! then balances, then polls. While tokens are short, no account gets more than its share, of which its polls use what
//! its submits leave. A part of the bucket is set aside for keys that the upstream has not accepted yet. A 429 pauses
//! the account that got it, and all accounts only if several get one (`docs/decisions/0009-whose-limit.md`). Sans-I/O:
//! the time is an argument.
//!
//! Long because its tests are in this file.

mod account;
mod address;
mod class;
mod generations;
mod new_keys;
mod strangers;

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use self::account::{AccountUsage, WINDOW_MS};
use self::address::Address;
pub use self::class::{Class, Denied};
pub use self::new_keys::{Admission, Attempt, CallEnd, NewKeys, NewKeysOptions, Wake, Woken};
use crate::domain::{Account, Moment};
use crate::native::Rate;
use crate::telemetry::metrics::MetricsRegistry;

/// Limits. `conf/capgate.toml` contains the defaults and their reasons.
#[derive(Clone, Debug)]
pub struct Options {
    /// Most calls in any ten seconds.
    pub requests_per_10s: u32,
    /// Most concurrent calls other than polls, which the ledger limits by its `flights_max`.
    pub calls_max: usize,
    /// Most concurrent calls of one account, polls included.
    pub account_calls_max: usize,
    /// Pause after a 429 that names no delay, in milliseconds. Doubles with each further 429.
    pub pause_ms: u64,
}

/// Period over which shares are compared, in milliseconds. Short, so that a storm is slowed down before it empties the
/// bucket.
const SHARE_PERIOD_MS: u64 = 1_000;
/// Size of the bucket, as a fraction of the limit; the rest of the limit is spread over the window. Together they stay
/// within the limit in any window, wherever the upstream's own begins.
const BURST: f64 = 0.2;
/// Fraction of the upstream's reported limit that is used. The rest is for other senders on the same address.
const LIMIT_MARGIN: f64 = 0.95;
/// Lowest limit that is accepted from the upstream, as in the configuration: a smaller bucket holds less than one
/// token.
const LIMIT_MIN: f64 = 10.0;
/// Fraction of the bucket, and of its refill, that is set aside for first calls: those of keys that the upstream has
/// not accepted yet, and submits of accounts that made no call recently.
const FIRST_CALLS: f64 = 0.1;
/// Fraction of the bucket that accounts without an accepted key leave to the others, beyond what is set aside for them.
const UNVERIFIED_RESERVE: f64 = 0.5;
/// Polls of an account leave this fraction of its concurrent calls to its other calls: one in eight.
const ACCOUNT_CALLS_RESERVE: usize = 8;
/// Most accounts that are tracked.
const ACCOUNTS_MAX: usize = 100_000;

/// The budget of calls to the upstream, which decides whether a call may be sent now.
#[derive(Debug)]
pub struct Budget {
    options: Options,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Most calls in any window: the configured limit, or the upstream's if that is lower.
    limit: f64,
    /// Tokens for all calls.
    tokens: f64,
    /// Tokens for first calls only.
    first_call_tokens: f64,
    refilled_at: Moment,
    address: Address,
    /// Concurrent calls other than polls.
    calls: usize,
    period_started_at: Moment,
    /// Accounts with a call in progress, an attempt in this share period or the last, or a pause. `None` represents
    /// all accounts whose key the upstream has not accepted yet: invented keys must not get a share each.
    accounts: HashMap<Option<Account>, AccountUsage>,
    /// Accounts among them that have a call in progress, or an attempt in this share period or the last.
    active: usize,
}

/// Permission for one call. Ends the call when dropped.
#[derive(Debug)]
pub struct Permit {
    budget: Arc<Budget>,
    /// `None` for an account without an accepted key.
    account: Option<Account>,
    class: Class,
    sent_at: Moment,
}

impl Permit {
    /// Ends the call and applies the limits that its answer reports. `is_throttled` is true for a 429.
    pub fn observe(self, rate: &Rate, is_throttled: bool, now: Moment) {
        self.budget.observe(self.account.as_ref(), (self.class, self.sent_at), rate, is_throttled, now);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.budget.state.lock();
        if self.class != Class::Poll {
            state.calls -= 1;
        }
        if let Some(usage) = state.accounts.get_mut(&self.account) {
            usage.in_progress -= 1;
        }
    }
}

impl Budget {
    /// Creates a budget with a full bucket.
    pub fn new(options: Options) -> Arc<Self> {
        let limit = f64::from(options.requests_per_10s);
        let state = State {
            limit,
            tokens: limit * BURST * (1.0 - FIRST_CALLS),
            first_call_tokens: limit * BURST * FIRST_CALLS,
            refilled_at: Moment(0),
            address: Address::new(),
            calls: 0,
            period_started_at: Moment(0),
            accounts: HashMap::new(),
            active: 0,
        };
        Arc::new(Self { options, state: Mutex::new(state) })
    }

    /// Acquires permission for one call. `account` is `None` if the upstream has not accepted its key yet.
    ///
    /// # Errors
    /// The reason if the call must not be sent now.
    pub fn try_acquire(
        self: &Arc<Self>,
        class: Class,
        account: Option<&Account>,
        now: Moment,
    ) -> Result<Permit, Denied> {
        let mut state = self.state.lock();
        state.advance(&self.options, now);
        if state.address.is_paused(class, now) {
            return Err(Denied::Paused);
        }
        if class != Class::Poll && state.calls >= self.options.calls_max {
            return Err(Denied::Calls);
        }
        let elapsed = state.period_elapsed(now);
        let bucket_size = state.limit * BURST * (1.0 - FIRST_CALLS);
        let remaining = state.address.remaining(now);
        let (tokens, first_call_tokens) = (state.tokens.min(remaining), state.first_call_tokens.min(remaining));
        let usage = state.account_mut(account.cloned());
        if usage.is_paused(now) {
            return Err(Denied::Paused);
        }
        let calls_max = self.options.account_calls_max;
        let calls_reserve = if class == Class::Poll { calls_max / ACCOUNT_CALLS_RESERVE } else { 0 };
        if usage.in_progress >= calls_max - calls_reserve {
            return Err(Denied::AccountCalls);
        }
        let recent = usage.recent(class, elapsed);
        let is_first_call = account.is_none() || (class == Class::Submit && recent < 1.0);
        let reserve = if account.is_some() { class.reserve() } else { UNVERIFIED_RESERVE };
        let available = tokens - bucket_size * reserve;
        // Shares apply only while less than half of the class's tokens is left.
        let is_short = available < bucket_size * (1.0 - reserve) / 2.0;
        let denied = if available < 1.0 {
            Some(Denied::Rate)
        } else if is_short && state.share().is_some_and(|share| recent >= share) {
            Some(Denied::Share)
        } else {
            None
        };
        match denied {
            None => state.tokens -= 1.0,
            Some(_) if is_first_call && first_call_tokens >= 1.0 => state.first_call_tokens -= 1.0,
            Some(reason) => return Err(reason),
        }
        state.account_mut(account.cloned()).begin(class);
        state.address.begin();
        if class != Class::Poll {
            state.calls += 1;
        }
        Ok(Permit { budget: Arc::clone(self), account: account.cloned(), class, sent_at: now })
    }

    fn observe(
        &self,
        account: Option<&Account>,
        (class, sent_at): (Class, Moment),
        rate: &Rate,
        is_throttled: bool,
        now: Moment,
    ) {
        let mut state = self.state.lock();
        state.advance(&self.options, now);
        let pause_ms = self.options.pause_ms;
        let mut rate = *rate;
        // A 429 for one invented key must not pause every new key.
        if account.is_some()
            && let Some(usage) = state.accounts.get_mut(&account.cloned())
        {
            rate = usage.believe(&rate, is_throttled, sent_at, now);
            usage.observe(&rate, is_throttled, pause_ms, now);
        }
        state.address.observe(account, class, sent_at, (&rate, is_throttled), pause_ms, now);
    }

    /// Returns the tokens in the bucket; zero while polls of all accounts are paused.
    pub fn tokens(&self, now: Moment) -> f64 {
        let mut state = self.state.lock();
        state.advance(&self.options, now);
        let tokens = (state.tokens + state.first_call_tokens).min(state.address.remaining(now)).max(0.0);
        if state.address.is_paused(Class::Poll, now) { 0.0 } else { tokens }
    }

    /// Registers the gauge of the bucket's tokens.
    pub fn register_metrics(
        self: &Arc<Self>,
        registry: &MetricsRegistry,
        now: impl Fn() -> Moment + Send + Sync + 'static,
    ) {
        let budget = Arc::clone(self);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "rounded down; never negative")]
        let tokens = move || budget.tokens(now()) as usize;
        registry.gauge("capgate_upstream_tokens", "Native calls that could be sent at once.", tokens);
    }
}

impl State {
    /// Refills the bucket and rotates the share period.
    fn advance(&mut self, options: &Options, now: Moment) {
        let configured = f64::from(options.requests_per_10s);
        let reported = self.address.limit(now).map(|limit| (limit * LIMIT_MARGIN).max(LIMIT_MIN));
        self.limit = reported.map_or(configured, |limit| limit.min(configured));
        let elapsed_ms = to_float(now.millis_since(self.refilled_at));
        self.refilled_at = self.refilled_at.max(now);
        let refill = elapsed_ms * self.limit * (1.0 - BURST) / to_float(WINDOW_MS);
        let (size, first_call_size) = (self.limit * BURST * (1.0 - FIRST_CALLS), self.limit * BURST * FIRST_CALLS);
        // Refill that first calls do not need goes to all calls, so that nothing is lost.
        let set_aside = (self.first_call_tokens + refill * FIRST_CALLS).min(first_call_size);
        let rest = refill - (set_aside - self.first_call_tokens).max(0.0);
        self.first_call_tokens = set_aside;
        self.tokens = (self.tokens + rest).min(size);
        let periods = now.millis_since(self.period_started_at) / SHARE_PERIOD_MS;
        if periods > 0 {
            self.period_started_at = self.period_started_at.after_ms(periods * SHARE_PERIOD_MS);
            let mut active = 0;
            self.accounts.retain(|_, usage| {
                let (is_kept, is_active) = usage.rotate(periods, now);
                active += usize::from(is_active);
                is_kept
            });
            self.active = active;
        }
    }

    /// Returns the elapsed fraction of this share period.
    fn period_elapsed(&self, now: Moment) -> f64 {
        to_float(now.millis_since(self.period_started_at)) / to_float(SHARE_PERIOD_MS)
    }

    /// Returns the usage of an account. Inserts it even if the call is denied later, so that the shares of the others
    /// take it into account.
    fn account_mut(&mut self, account: Option<Account>) -> &mut AccountUsage {
        if !self.accounts.contains_key(&account) && self.accounts.len() >= ACCOUNTS_MAX {
            // With this many accounts, a share is less than one call.
            self.accounts.retain(|_, usage| usage.in_progress > 0);
            self.active = self.accounts.len();
        }
        let usage = self.accounts.entry(account).or_default();
        usage.is_active = true;
        self.active += usize::from(!std::mem::replace(&mut usage.is_counted, true));
        usage
    }

    /// Returns the calls per share period for each account; `None` if there is only one.
    fn share(&self) -> Option<f64> {
        let all = self.limit * to_float(SHARE_PERIOD_MS) / to_float(WINDOW_MS);
        (self.active > 1).then(|| all / to_float(self.active as u64))
    }
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds since the start of the process")]
fn to_float(ms: u64) -> f64 {
    ms as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(requests_per_10s: u32) -> Arc<Budget> {
        Budget::new(Options { requests_per_10s, calls_max: 1_000, account_calls_max: 1_000, pause_ms: 500 })
    }

    fn account(name: &str) -> Account {
        Account::new(name).expect("a key")
    }

    /// Attempts calls that end at once, and returns how many are allowed.
    fn count_allowed(budget: &Arc<Budget>, class: Class, account: &Account, attempts: usize, now: u64) -> usize {
        (0..attempts).filter(|_| budget.try_acquire(class, Some(account), Moment(now)).is_ok()).count()
    }

    #[test]
    fn no_window_of_ten_seconds_exceeds_the_limit() {
        let budget = budget(1_000);
        let one = account("a");
        let sent: Vec<(u64, usize)> =
            (0..40_000).step_by(7).map(|now| (now, count_allowed(&budget, Class::Submit, &one, 3, now))).collect();
        for (start, _) in &sent {
            let window = sent.iter().filter(|(at, _)| (*start..start + WINDOW_MS).contains(at));
            let count: usize = window.map(|(_, count)| count).sum();
            assert!(count <= 1_000, "{count} calls in the ten seconds from {start} ms");
        }
        let all: usize = sent.iter().map(|(_, count)| count).sum();
        assert!(all > 3_200, "only {all} of about 3400 calls in 40 s");
    }

    #[test]
    fn each_class_leaves_a_reserve_to_the_classes_above_it() {
        let budget = budget(1_000);
        let one = account("a");
        let mut order = [Class::Poll, Class::Balance, Class::Report, Class::Submit].iter();
        assert_eq!(
            order.by_ref().map(|class| count_allowed(&budget, *class, &one, 500, 0)).collect::<Vec<_>>(),
            [144, 18, 9, 9]
        );
        assert_eq!(budget.try_acquire(Class::Poll, Some(&one), Moment(0)).expect_err("empty"), Denied::Rate);
    }

    #[test]
    fn a_storm_on_one_account_leaves_the_others_their_share() {
        let budget = budget(1_000);
        let (storm, quiet) = (account("storm"), account("quiet"));
        let (mut of_storm, mut of_quiet) = (0, 0);
        for now in (0..60_000).step_by(10) {
            of_storm += count_allowed(&budget, Class::Poll, &storm, 20, now);
            if now % 100 == 0 {
                let left = count_allowed(&budget, Class::Poll, &quiet, 1, now);
                assert_eq!(left, 1, "the quiet account was denied at {now} ms");
                of_quiet += left;
            }
        }
        assert!(of_storm + of_quiet > 4_700, "only {of_storm} and {of_quiet} of 4800: spare tokens are unused");
    }

    /// Applies the answer to a call that was sent at `sent_at` and answered at `now`.
    fn observe(budget: &Budget, account: &Account, class: Class, rate: &Rate, is_throttled: bool, times: (u64, u64)) {
        budget.observe(Some(account), (class, Moment(times.0)), rate, is_throttled, Moment(times.1));
    }

    #[test]
    fn a_429_pauses_its_account_and_the_pause_doubles_without_retry_after() {
        let budget = budget(1_000);
        let one = account("a");
        let silent = Rate::default();
        count_allowed(&budget, Class::Submit, &one, 1, 0);
        let throttle = |rate: &Rate, now| observe(&budget, &one, Class::Submit, rate, true, (now, now));
        throttle(&Rate { retry_after_ms: Some(3_000), ..silent }, 0);
        assert_eq!(budget.try_acquire(Class::Submit, Some(&one), Moment(2_999)).expect_err("paused"), Denied::Paused);
        assert_eq!(count_allowed(&budget, Class::Submit, &one, 1, 3_000), 1);
        throttle(&silent, 3_000);
        assert_eq!(
            (
                count_allowed(&budget, Class::Submit, &one, 1, 3_999),
                count_allowed(&budget, Class::Submit, &one, 1, 4_000)
            ),
            (0, 1)
        );
        observe(&budget, &one, Class::Submit, &silent, false, (4_000, 4_000));
        throttle(&silent, 4_000);
        assert_eq!(count_allowed(&budget, Class::Submit, &one, 1, 4_500), 1, "a successful answer resets the pause");
        throttle(&Rate { retry_after_ms: Some(86_400_000), ..silent }, 5_000);
        assert_eq!(count_allowed(&budget, Class::Submit, &one, 1, 65_000), 1, "a pause of a day is capped");
    }

    #[test]
    fn a_429_that_names_no_future_moment_pauses_its_account_too() {
        let past = [
            Rate { retry_after_ms: Some(0), ..Rate::default() },
            Rate { reset_ms: Some(0), remaining: Some(0), ..Rate::default() },
            Rate { retry_after_ms: Some(0), reset_ms: Some(0), limit: Some(0), ..Rate::default() },
        ];
        for rate in past {
            let budget = budget(1_000);
            let one = account("a");
            let (mut now, mut calls) = (0, 0);
            while now < 60_000 {
                if count_allowed(&budget, Class::Poll, &one, 1, now) == 1 {
                    observe(&budget, &one, Class::Poll, &rate, true, (now, now));
                    calls += 1;
                }
                now += 50;
            }
            assert!((5..=10).contains(&calls), "{calls} calls in a minute of 429s with {rate:?}");
        }
    }

    #[test]
    fn a_429_of_one_account_affects_no_other_account() {
        let shapes = [
            Rate::default(),
            Rate { retry_after_ms: Some(60_000), ..Rate::default() },
            Rate { retry_after_ms: Some(u64::MAX), ..Rate::default() },
            Rate { reset_ms: Some(60_000), remaining: Some(0), limit: Some(10), ..Rate::default() },
            Rate { reset_ms: Some(0), remaining: Some(0), limit: Some(1), ..Rate::default() },
            Rate { reset_ms: Some(60_000), remaining: Some(7), limit: Some(10), retry_after_ms: Some(0) },
        ];
        for shape in shapes {
            let budget = budget(1_000);
            let (limited, others) = (account("limited"), [account("b"), account("c")]);
            for now in (0..60_000).step_by(50) {
                if budget.try_acquire(Class::Poll, Some(&limited), Moment(now)).is_ok() {
                    observe(&budget, &limited, Class::Poll, &shape, true, (now, now));
                }
                for other in &others {
                    let class = if now % 100 == 0 { Class::Submit } else { Class::Poll };
                    let allowed = count_allowed(&budget, class, other, 1, now);
                    assert_eq!(allowed, 1, "another account was denied at {now} ms beside {shape:?}");
                    observe(&budget, other, class, &Rate::default(), false, (now, now));
                }
            }
        }
    }

    #[test]
    fn a_429_of_the_address_pauses_polls_first_and_submits_last() {
        let budget = budget(1_000);
        let (one, two, three) = (account("a"), account("b"), account("c"));
        let rate = Rate { retry_after_ms: Some(5_000), ..Rate::default() };
        let allowed = |class, now| count_allowed(&budget, class, &three, 1, now);
        observe(&budget, &one, Class::Poll, &rate, true, (0, 10));
        assert_eq!(allowed(Class::Poll, 20), 1, "one account's 429 paused another");
        observe(&budget, &two, Class::Poll, &rate, true, (0, 30));
        assert_eq!((allowed(Class::Poll, 40), allowed(Class::Submit, 40)), (0, 1));
        // A call from before the pause says nothing about submits.
        observe(&budget, &three, Class::Submit, &rate, true, (20, 50));
        assert!(!budget.state.lock().address.is_paused(Class::Submit, Moment(60)));
        observe(&budget, &three, Class::Submit, &rate, true, (40, 70));
        assert!(budget.state.lock().address.is_paused(Class::Submit, Moment(80)));
        let four = account("d");
        assert_eq!(count_allowed(&budget, Class::Submit, &four, 1, 5_069), 0);
        assert_eq!(count_allowed(&budget, Class::Submit, &four, 1, 5_070), 1, "the pause is over");
    }

    #[test]
    fn remaining_requests_or_a_later_answer_show_that_a_429_did_not_concern_the_address() {
        let (one, two, three) = (account("a"), account("b"), account("c"));
        let (rate, silent) = (Rate { remaining: Some(500), ..Rate::default() }, Rate::default());
        let with_remaining = budget(1_000);
        for limited in [&one, &two] {
            observe(&with_remaining, limited, Class::Poll, &rate, true, (0, 0));
        }
        assert_eq!(count_allowed(&with_remaining, Class::Poll, &three, 1, 0), 1);
        let contradicted = budget(1_000);
        observe(&contradicted, &one, Class::Poll, &silent, true, (0, 10));
        observe(&contradicted, &three, Class::Poll, &silent, false, (20, 30));
        observe(&contradicted, &two, Class::Poll, &silent, true, (20, 40));
        assert_eq!(count_allowed(&contradicted, Class::Poll, &three, 1, 50), 1);
    }

    #[test]
    fn reported_limits_apply_to_their_account() {
        let budget = budget(1_000);
        let (one, two) = (account("a"), account("b"));
        let report = |rate: Rate, now| {
            count_allowed(&budget, Class::Submit, &one, 1, now);
            observe(&budget, &one, Class::Submit, &rate, false, (now, now));
        };
        report(Rate { limit: Some(100), remaining: Some(3), ..Rate::default() }, 0);
        assert_eq!(count_allowed(&budget, Class::Submit, &one, 50, 0), 3);
        assert_eq!(count_allowed(&budget, Class::Submit, &two, 50, 0), 50, "another account is capped");
        report(Rate { remaining: Some(0), reset_ms: Some(2_000), ..Rate::default() }, 1_010);
        let denied = budget.try_acquire(Class::Submit, Some(&one), Moment(3_009)).expect_err("nothing left");
        assert_eq!(denied, Denied::Paused);
        assert_eq!(count_allowed(&budget, Class::Submit, &one, 1, 3_010), 1);
    }

    #[test]
    fn an_upstream_that_always_reports_that_nothing_remains_is_not_believed() {
        let nothing = [
            Rate { remaining: Some(0), ..Rate::default() },
            Rate { remaining: Some(0), reset_ms: Some(10_000), limit: Some(10_000), ..Rate::default() },
        ];
        for rate in nothing {
            let budget = budget(1_000);
            let accounts = ["a", "b", "c"].map(account);
            let mut allowed = 0;
            for now in (0..60_000).step_by(100) {
                for account in &accounts {
                    if count_allowed(&budget, Class::Poll, account, 1, now) == 1 {
                        observe(&budget, account, Class::Poll, &rate, false, (now, now));
                        allowed += 1;
                    }
                }
            }
            assert!(allowed > 1_400, "{allowed} of 1800 calls with {rate:?}");
            // A 429 is believed.
            observe(&budget, &accounts[0], Class::Poll, &rate, true, (60_000, 60_000));
            assert_eq!(count_allowed(&budget, Class::Poll, &accounts[0], 1, 60_100), 0, "{rate:?}");
        }
    }

    #[test]
    fn limits_that_several_accounts_report_apply_to_all() {
        let budget = budget(1_000);
        let (one, two, three) = (account("a"), account("b"), account("c"));
        let report = |account: &Account, rate: Rate, now| {
            observe(&budget, account, Class::Submit, &rate, false, (now, now));
        };
        let of = |limit, remaining| Rate { limit: Some(limit), remaining: Some(remaining), ..Rate::default() };
        report(&one, of(100, 4), 0);
        report(&two, of(100, 3), 0);
        assert_eq!(count_allowed(&budget, Class::Submit, &three, 50, 0), 4);
        report(&three, of(1_000, 500), 0);
        assert!(count_allowed(&budget, Class::Submit, &three, 50, 0) > 10, "two small accounts cap a third");
        // A limit below the minimum is raised to it, and every limit expires.
        report(&one, of(1, 1_000), 30_000);
        report(&two, of(1, 1_000), 30_000);
        assert!(count_allowed(&budget, Class::Poll, &three, 50, 35_000) >= 1, "a limit of 1 stops all calls");
        assert!(count_allowed(&budget, Class::Poll, &three, 200, 60_000) > 100, "an expired limit still applies");
        // With nothing remaining for the address, polls wait for the next window.
        let nothing = Rate { remaining: Some(0), reset_ms: Some(2_000), ..Rate::default() };
        report(&one, nothing, 70_000);
        report(&two, nothing, 70_000);
        assert_eq!(count_allowed(&budget, Class::Poll, &three, 1, 71_999), 0);
        assert_eq!(count_allowed(&budget, Class::Poll, &three, 1, 72_000), 1);
    }

    #[test]
    fn concurrent_calls_are_limited_in_total_and_per_account() {
        let options = Options { requests_per_10s: 1_000, calls_max: 3, account_calls_max: 2, pause_ms: 500 };
        let budget = Budget::new(options);
        let (one, two, three) = (account("a"), account("b"), account("c"));
        let acquire = |class, account| budget.try_acquire(class, Some(account), Moment(0));
        let held = [acquire(Class::Submit, &one), acquire(Class::Poll, &one)];
        assert_eq!(acquire(Class::Poll, &one).expect_err("two concurrent calls"), Denied::AccountCalls);
        let more = [acquire(Class::Submit, &two), acquire(Class::Report, &two)];
        assert_eq!(acquire(Class::Submit, &three).expect_err("three concurrent calls"), Denied::Calls);
        assert!(acquire(Class::Poll, &three).is_ok(), "a poll has its own limit");
        drop(held);
        assert!(acquire(Class::Submit, &one).is_ok());
        drop(more);
    }

    #[test]
    fn several_429s_during_one_pause_count_once() {
        let budget = budget(1_000);
        let one = account("a");
        count_allowed(&budget, Class::Submit, &one, 1, 0);
        (0..8).for_each(|_| observe(&budget, &one, Class::Submit, &Rate::default(), true, (0, 0)));
        assert_eq!(count_allowed(&budget, Class::Submit, &one, 1, 500), 1);
    }

    #[test]
    fn polls_of_busy_accounts_leave_tokens_to_first_calls_of_new_keys() {
        let budget = budget(1_000);
        let busy = ["a", "b", "c", "d"].map(account);
        let (mut submits, mut denied) = (0, Vec::new());
        for now in (0..26_000).step_by(10) {
            for account in &busy {
                count_allowed(&budget, Class::Poll, account, 5, now);
                count_allowed(&budget, Class::Submit, account, 1, now);
            }
            if now % 1_000 == 500 {
                submits += 1;
                denied.extend(budget.try_acquire(Class::Submit, None, Moment(now)).err());
            }
        }
        assert_eq!((submits, denied), (26, Vec::new()));
    }

    #[test]
    fn polls_of_an_account_leave_its_share_to_its_own_submits() {
        let budget = budget(1_000);
        let (busy, others) = (account("busy"), ["b", "c", "d"].map(account));
        let (mut submits, mut denied) = (0, Vec::new());
        for now in (0..26_000).step_by(10) {
            count_allowed(&budget, Class::Poll, &busy, 20, now);
            for other in &others {
                count_allowed(&budget, Class::Poll, other, 1, now);
                count_allowed(&budget, Class::Submit, other, 1, now);
            }
            // Two at once, so that the second is no first call.
            if now % 2_000 == 1_500 {
                submits += 2;
                denied.extend((0..2).filter_map(|_| budget.try_acquire(Class::Submit, Some(&busy), Moment(now)).err()));
            }
        }
        assert_eq!((submits, denied), (26, Vec::new()));
    }

    #[test]
    fn concurrent_polls_of_an_account_leave_room_for_its_submits() {
        let options = Options { requests_per_10s: 1_000, calls_max: 100, account_calls_max: 16, pause_ms: 500 };
        let budget = Budget::new(options);
        let one = account("a");
        let acquire = |class| budget.try_acquire(class, Some(&one), Moment(0));
        let polls: Vec<_> = (0..20).filter_map(|_| acquire(Class::Poll).ok()).collect();
        let submits: Vec<_> = (0..20).filter_map(|_| acquire(Class::Submit).ok()).collect();
        assert_eq!((polls.len(), submits.len()), (14, 2));
    }

    #[test]
    fn invented_keys_take_nothing_from_accepted_ones() {
        let budget = budget(1_000);
        let known = account("known");
        let mut allowed = 0;
        for now in (0..20_000).step_by(5) {
            allowed += (0..10).filter(|_| budget.try_acquire(Class::Submit, None, Moment(now)).is_ok()).count();
            if now % 50 == 0 {
                assert_eq!(
                    count_allowed(&budget, Class::Poll, &known, 1, now),
                    1,
                    "the known account was denied at {now} ms"
                );
            }
        }
        assert!(allowed > 900, "only {allowed} calls: spare tokens are unused");
        assert!(budget.state.lock().accounts.keys().flatten().count() <= 1);
    }

    #[test]
    fn inactive_accounts_are_forgotten() {
        let budget = budget(1_000_000);
        (0..1_000).for_each(|number| {
            assert_eq!(count_allowed(&budget, Class::Poll, &account(&format!("k{number}")), 1, 0), 1);
        });
        count_allowed(&budget, Class::Poll, &account("a"), 1, 2 * SHARE_PERIOD_MS);
        assert_eq!(budget.state.lock().accounts.len(), 1);
    }
}
