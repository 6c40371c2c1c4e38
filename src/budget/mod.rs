//! Admission of calls to the upstream: a rate limit, concurrency limits, priorities and fair shares.
//!
//! The upstream counts requests per source address, so all accounts share one limit, and a storm on one account would
//! cause a 429 for every account. A token bucket stays below the upstream's limit and below what `X-RateLimit-*`
//! reports as remaining. Each class of calls leaves a reserve of tokens to the classes above it: submits, then reports,
//! then balances, then polls. While tokens are short, no account gets more than its share. Sans-I/O: the time is an
//! argument.

mod class;

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

pub use self::class::{Class, Denied};
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

/// Window of the upstream's limit (uCaptcha, overview page), in milliseconds.
const WINDOW_MS: u64 = 10_000;
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
/// Fraction of the bucket that accounts without an accepted key leave to the others.
const UNVERIFIED_RESERVE: f64 = 0.5;
/// Most accounts that are tracked.
const ACCOUNTS_MAX: usize = 100_000;
/// Longest pause that the upstream can request, in milliseconds, so that a wrong value does not stop all calls for a
/// day.
const PAUSE_MAX_MS: u64 = 60_000;

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
    tokens: f64,
    refilled_at: Moment,
    paused_until: Moment,
    /// 429s since the last other answer; several during one pause count once.
    throttled: u32,
    /// Concurrent calls other than polls.
    calls: usize,
    period_started_at: Moment,
    last_answer_at: Moment,
    /// Accounts with a call in progress, or an attempt in this share period or the last. `None` represents all accounts
    /// whose key the upstream has not accepted yet: invented keys must not get a share each.
    accounts: HashMap<Option<Account>, AccountUsage>,
}

/// Calls of one account.
#[derive(Debug, Default)]
struct AccountUsage {
    in_progress: usize,
    this_period: u32,
    last_period: u32,
    /// Whether the account attempted a call in this period.
    is_active: bool,
}

/// Permission for one call. Ends the call when dropped.
#[derive(Debug)]
pub struct Permit {
    budget: Arc<Budget>,
    /// `None` for an account without an accepted key.
    account: Option<Account>,
    class: Class,
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
            tokens: limit * BURST,
            refilled_at: Moment(0),
            paused_until: Moment(0),
            throttled: 0,
            calls: 0,
            period_started_at: Moment(0),
            last_answer_at: Moment(0),
            accounts: HashMap::new(),
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
        if now.millis_since(state.last_answer_at) > WINDOW_MS {
            // The reported limit belongs to a window that is over. Kept, a limit too low to send anything could never
            // be corrected by an answer.
            state.limit = f64::from(self.options.requests_per_10s);
        }
        state.advance(now);
        if now < state.paused_until {
            return Err(Denied::Paused);
        }
        if class != Class::Poll && state.calls >= self.options.calls_max {
            return Err(Denied::Calls);
        }
        let elapsed = state.period_elapsed(now);
        let (bucket_size, tokens, share) = (state.limit * BURST, state.tokens, state.share());
        let usage = state.account_mut(account.cloned());
        if usage.in_progress >= self.options.account_calls_max {
            return Err(Denied::AccountCalls);
        }
        let reserve = if account.is_some() { class.reserve() } else { UNVERIFIED_RESERVE };
        let available = tokens - bucket_size * reserve;
        if available < 1.0 {
            return Err(Denied::Rate);
        }
        // Shares apply only while less than half of the class's tokens is left.
        let is_short = available < bucket_size * (1.0 - reserve) / 2.0;
        if is_short && share.is_some_and(|share| usage.recent(elapsed) >= share) {
            return Err(Denied::Share);
        }
        usage.in_progress += 1;
        usage.this_period += 1;
        state.tokens -= 1.0;
        if class != Class::Poll {
            state.calls += 1;
        }
        Ok(Permit { budget: Arc::clone(self), account: account.cloned(), class })
    }

    /// Applies the limits that an answer reports. `is_throttled` is true for a 429.
    pub fn observe(&self, rate: &Rate, is_throttled: bool, now: Moment) {
        let mut state = self.state.lock();
        state.advance(now);
        state.last_answer_at = state.last_answer_at.max(now);
        if let Some(limit) = rate.limit.filter(|limit| *limit > 0) {
            state.limit =
                f64::from(self.options.requests_per_10s).min((f64::from(limit) * LIMIT_MARGIN).max(LIMIT_MIN));
        }
        if let Some(remaining) = rate.remaining {
            state.tokens = state.tokens.min(f64::from(remaining));
        }
        let pause_ms = if is_throttled {
            // A 429 during a pause answers a call that was sent before the pause.
            state.throttled += u32::from(now >= state.paused_until);
            let doubled_ms = self.options.pause_ms << (state.throttled.saturating_sub(1)).min(7);
            rate.retry_after_ms.or(rate.reset_ms).unwrap_or(doubled_ms).min(PAUSE_MAX_MS)
        } else {
            state.throttled = 0;
            // With nothing remaining, the next call would get a 429.
            rate.reset_ms.filter(|_| rate.remaining == Some(0)).unwrap_or(0).min(WINDOW_MS)
        };
        state.paused_until = state.paused_until.max(now.after_ms(pause_ms));
    }

    /// Returns the tokens in the bucket; zero during a pause.
    pub fn tokens(&self, now: Moment) -> f64 {
        let mut state = self.state.lock();
        state.advance(now);
        if now < state.paused_until { 0.0 } else { state.tokens }
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
    fn advance(&mut self, now: Moment) {
        let elapsed_ms = to_float(now.millis_since(self.refilled_at));
        self.refilled_at = self.refilled_at.max(now);
        let refill = elapsed_ms * self.limit * (1.0 - BURST) / to_float(WINDOW_MS);
        self.tokens = (self.tokens + refill).min(self.limit * BURST);
        let periods = now.millis_since(self.period_started_at) / SHARE_PERIOD_MS;
        if periods > 0 {
            self.period_started_at = self.period_started_at.after_ms(periods * SHARE_PERIOD_MS);
            self.accounts.retain(|_, usage| {
                usage.last_period = if periods == 1 { usage.this_period } else { 0 };
                usage.this_period = 0;
                usage.in_progress > 0 || (std::mem::take(&mut usage.is_active) && periods == 1)
            });
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
        }
        let usage = self.accounts.entry(account).or_default();
        usage.is_active = true;
        usage
    }

    /// Returns the calls per share period for each account; `None` if there is only one.
    fn share(&self) -> Option<f64> {
        let all = self.limit * to_float(SHARE_PERIOD_MS) / to_float(WINDOW_MS);
        (self.accounts.len() > 1).then(|| all / to_float(self.accounts.len() as u64))
    }
}

impl AccountUsage {
    /// Returns the approximate number of calls in a sliding period: those of this period, and the part of the last
    /// period's that it overlaps.
    fn recent(&self, elapsed: f64) -> f64 {
        f64::from(self.this_period) + f64::from(self.last_period) * (1.0 - elapsed)
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
            [160, 20, 10, 10]
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

    #[test]
    fn a_429_pauses_calls_and_the_pause_doubles_without_retry_after() {
        let budget = budget(1_000);
        let one = account("a");
        let silent = Rate::default();
        budget.observe(&Rate { retry_after_ms: Some(3_000), ..silent }, true, Moment(0));
        assert_eq!(budget.try_acquire(Class::Submit, Some(&one), Moment(2_999)).expect_err("paused"), Denied::Paused);
        assert_eq!(count_allowed(&budget, Class::Submit, &one, 1, 3_000), 1);
        budget.observe(&silent, true, Moment(3_000));
        assert_eq!(
            (
                count_allowed(&budget, Class::Submit, &one, 1, 3_999),
                count_allowed(&budget, Class::Submit, &one, 1, 4_000)
            ),
            (0, 1)
        );
        budget.observe(&silent, false, Moment(4_000));
        budget.observe(&silent, true, Moment(4_000));
        assert_eq!(count_allowed(&budget, Class::Submit, &one, 1, 4_500), 1, "a successful answer resets the pause");
        budget.observe(&Rate { retry_after_ms: Some(86_400_000), ..silent }, true, Moment(5_000));
        assert_eq!(count_allowed(&budget, Class::Submit, &one, 1, 65_000), 1, "a pause of a day is capped");
    }

    #[test]
    fn reported_limits_are_applied() {
        let budget = budget(1_000);
        let one = account("a");
        budget.observe(&Rate { limit: Some(100), remaining: Some(3), ..Rate::default() }, false, Moment(0));
        assert_eq!(count_allowed(&budget, Class::Submit, &one, 50, 0), 3);
        budget.observe(&Rate { remaining: Some(0), reset_ms: Some(2_000), ..Rate::default() }, false, Moment(10));
        assert_eq!(
            budget.try_acquire(Class::Submit, Some(&one), Moment(2_009)).expect_err("nothing left"),
            Denied::Paused
        );
        let silent = Rate { limit: Some(100), ..Rate::default() };
        budget.observe(&silent, false, Moment(60_000));
        assert_eq!(count_allowed(&budget, Class::Submit, &one, 50, 60_000), 19, "the limit of 100 is not applied");
        // A limit below the minimum is raised to it, and every limit expires.
        budget.observe(&Rate { limit: Some(1), ..Rate::default() }, false, Moment(60_000));
        assert!(count_allowed(&budget, Class::Poll, &one, 50, 65_000) >= 1, "a limit of 1 stops all calls");
        assert!(count_allowed(&budget, Class::Poll, &one, 200, 90_000) > 100, "an expired limit still applies");
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
        (0..8).for_each(|_| budget.observe(&Rate::default(), true, Moment(0)));
        assert_eq!(count_allowed(&budget, Class::Submit, &account("a"), 1, 500), 1);
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
