//! What may go upstream now: requests per time, as the upstream limits them, and requests at once.
//!
//! The upstream counts requests per address, and all clients arrive from ours; so one account's storm would be every
//! account's 429. A token bucket stays below the upstream's limit, and below what its answers say is left. Its last tokens
//! are kept for what is worth most: submits before reports before balances before polls. Where tokens are short, an
//! account that has used its share waits for the others. Sans-I/O: time comes in as an argument.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::domain::{Account, Moment};
use crate::native::{Endpoint, Rate};
use crate::telemetry::metrics::MetricsRegistry;

/// Bounds. Defaults and reasons stand in `conf/capgate.toml`.
#[derive(Clone, Debug)]
pub struct Options {
    /// Most requests in any ten seconds.
    pub requests_per_10s: u32,
    /// Most requests other than polls at once; polls are bounded by the ledger's flights.
    pub calls_max: usize,
    /// Most requests of one account at once, polls included.
    pub account_calls_max: usize,
    /// Pause after a 429 that does not say how long, in milliseconds; doubled with each further one.
    pub pause_ms: u64,
}

/// What a request is for, in the order of what it is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// A submit: a client's money and work.
    Submit,
    /// A report.
    Report,
    /// A balance.
    Balance,
    /// A poll: it is repeated anyway.
    Poll,
}

impl Class {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Submit, Self::Report, Self::Balance, Self::Poll];

    /// What a call is for.
    pub fn of(endpoint: Endpoint) -> Self {
        match endpoint {
            Endpoint::CreateTask => Self::Submit,
            Endpoint::FeedbackTask => Self::Report,
            Endpoint::GetBalance => Self::Balance,
            Endpoint::GetTaskResult => Self::Poll,
        }
    }

    /// Name for metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Submit => "submit",
            Self::Report => "report",
            Self::Balance => "balance",
            Self::Poll => "poll",
        }
    }

    /// The part of the bucket that it leaves to those before it.
    fn reserve(self) -> f64 {
        match self {
            Self::Submit => 0.0,
            Self::Report => 0.05,
            Self::Balance => 0.1,
            Self::Poll => 0.2,
        }
    }
}

/// Why a request may not go upstream now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// The upstream said 429, or that nothing is left, and until when.
    Paused,
    /// No token is left for its class.
    Rate,
    /// Tokens are short, and its account has used its share.
    Share,
    /// Too many requests at once.
    Calls,
    /// Too many requests of its account at once.
    AccountCalls,
}

impl Denied {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Paused, Self::Rate, Self::Share, Self::Calls, Self::AccountCalls];

    /// Name for metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Paused => "paused",
            Self::Rate => "rate",
            Self::Share => "share",
            Self::Calls => "calls",
            Self::AccountCalls => "account_calls",
        }
    }
}

/// The window in which the upstream counts (uCaptcha, overview page), in milliseconds.
const WINDOW_MS: u64 = 10_000;
/// The time over which shares are compared: short, so that a storm is held back before it has emptied the bucket.
const SHARE_MS: u64 = 1_000;
/// The part of the requests of a window that may leave at once; the others are spread over it. Both together stay within
/// the limit for whatever window the upstream counts by.
const BURST: f64 = 0.2;
/// How far below the limit that the upstream says we stay, for what others send from our address.
const MARGIN: f64 = 0.95;
/// Lowest limit that is believed, as in the configuration: below it, a bucket would hold less than one token.
const LIMIT_MIN: f64 = 10.0;
/// The part of the bucket that strangers leave to those who are known.
const STRANGERS_LEAVE: f64 = 0.5;
/// Most accounts that are told apart.
const ACCOUNTS_MAX: usize = 100_000;
/// Longest pause that the upstream can ask for, so that a slip of it does not silence us for a day.
const PAUSE_MAX_MS: u64 = 60_000;

/// What may go upstream now.
#[derive(Debug)]
pub struct Budget {
    options: Options,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Most requests in any window: ours, or what the upstream says.
    limit: f64,
    tokens: f64,
    filled: Moment,
    paused_until: Moment,
    /// 429s without a good answer between them.
    refusals: u32,
    calls: usize,
    second_began: Moment,
    /// When an answer came last.
    heard: Moment,
    /// Accounts with a request under way, or that wanted one in this second or the last. Those whose key the upstream has
    /// not accepted yet are one, under `None`: whoever makes keys up does not get a share with each.
    accounts: HashMap<Option<Account>, Use>,
}

/// What one account uses.
#[derive(Debug, Default)]
struct Use {
    under_way: usize,
    this_second: u32,
    last_second: u32,
    wanted_this_second: bool,
}

/// The right to one request; its place is given back when it is dropped.
#[derive(Debug)]
pub struct Permit {
    budget: Arc<Budget>,
    /// Nobody, for a stranger.
    account: Option<Account>,
    class: Class,
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.budget.state();
        if self.class != Class::Poll {
            state.calls -= 1;
        }
        if let Some(one) = state.accounts.get_mut(&self.account) {
            one.under_way -= 1;
        }
    }
}

impl Budget {
    /// A full bucket.
    pub fn new(options: Options) -> Arc<Self> {
        let limit = f64::from(options.requests_per_10s);
        let state = State {
            limit,
            tokens: limit * BURST,
            filled: Moment(0),
            paused_until: Moment(0),
            refusals: 0,
            calls: 0,
            second_began: Moment(0),
            heard: Moment(0),
            accounts: HashMap::new(),
        };
        Arc::new(Self { options, state: Mutex::new(state) })
    }

    /// Takes the right to one request, for an account whose key the upstream has accepted before, or for a stranger.
    ///
    /// # Errors
    /// Why there is none now.
    pub fn take(self: &Arc<Self>, class: Class, account: Option<&Account>, now: Moment) -> Result<Permit, Denied> {
        let mut state = self.state();
        if now.millis_since(state.heard) > WINDOW_MS {
            // Whatever it said of its limit was about a window that is over; with too low a limit nothing would ever be
            // asked that could correct it.
            state.limit = f64::from(self.options.requests_per_10s);
        }
        state.turn(now);
        if now < state.paused_until {
            return Err(Denied::Paused);
        }
        if class != Class::Poll && state.calls >= self.options.calls_max {
            return Err(Denied::Calls);
        }
        let passed = state.second_passed(now);
        let (size, tokens, share) = (state.limit * BURST, state.tokens, state.share());
        let one = state.asks(account.cloned());
        if one.under_way >= self.options.account_calls_max {
            return Err(Denied::AccountCalls);
        }
        // Strangers leave the half of it to those who are known.
        let reserve = if account.is_some() { class.reserve() } else { STRANGERS_LEAVE };
        let left = tokens - size * reserve;
        if left < 1.0 {
            return Err(Denied::Rate);
        }
        // One that is alone, or asks while there is plenty, has no share to keep to.
        let is_short = left < size * (1.0 - reserve) / 2.0;
        if is_short && share.is_some_and(|share| one.used(passed) >= share) {
            return Err(Denied::Share);
        }
        one.under_way += 1;
        one.this_second += 1;
        state.tokens -= 1.0;
        if class != Class::Poll {
            state.calls += 1;
        }
        Ok(Permit { budget: Arc::clone(self), account: account.cloned(), class })
    }

    /// Notes what an answer says about the limit; `is_refused` is a 429.
    pub fn note(&self, rate: &Rate, is_refused: bool, now: Moment) {
        let mut state = self.state();
        state.turn(now);
        state.heard = state.heard.max(now);
        if let Some(limit) = rate.limit.filter(|limit| *limit > 0) {
            state.limit = f64::from(self.options.requests_per_10s).min((f64::from(limit) * MARGIN).max(LIMIT_MIN));
        }
        if let Some(remaining) = rate.remaining {
            state.tokens = state.tokens.min(f64::from(remaining));
        }
        let pause_ms = if is_refused {
            // One that comes within a pause was sent before it, and is no news.
            state.refusals += u32::from(now >= state.paused_until);
            let doubled = self.options.pause_ms << (state.refusals.saturating_sub(1)).min(7);
            rate.retry_after_ms.or(rate.reset_ms).unwrap_or(doubled).min(PAUSE_MAX_MS)
        } else {
            state.refusals = 0;
            // The next one would be refused.
            rate.reset_ms.filter(|_| rate.remaining == Some(0)).unwrap_or(0).min(WINDOW_MS)
        };
        state.paused_until = state.paused_until.max(now.after_ms(pause_ms));
    }

    /// Requests that could leave at once, whatever they are for.
    pub fn tokens(&self, now: Moment) -> f64 {
        let mut state = self.state();
        state.turn(now);
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

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing under the lock can panic half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Lets time pass.
    fn turn(&mut self, now: Moment) {
        let filled_ms = to_float(now.millis_since(self.filled));
        self.filled = self.filled.max(now);
        // What does not leave in a burst is spread over the window.
        let grown = filled_ms * self.limit * (1.0 - BURST) / to_float(WINDOW_MS);
        self.tokens = (self.tokens + grown).min(self.limit * BURST);
        let seconds = now.millis_since(self.second_began) / SHARE_MS;
        if seconds > 0 {
            self.second_began = self.second_began.after_ms(seconds * SHARE_MS);
            self.accounts.retain(|_, one| {
                one.last_second = if seconds == 1 { one.this_second } else { 0 };
                one.this_second = 0;
                one.under_way > 0 || (std::mem::take(&mut one.wanted_this_second) && seconds == 1)
            });
        }
    }

    /// The part of this second that has passed.
    fn second_passed(&self, now: Moment) -> f64 {
        to_float(now.millis_since(self.second_began)) / to_float(SHARE_MS)
    }

    /// The account, which is there from now on even if it gets nothing: one that storms has to see it.
    fn asks(&mut self, account: Option<Account>) -> &mut Use {
        if !self.accounts.contains_key(&account) && self.accounts.len() >= ACCOUNTS_MAX {
            // More accounts than requests: none has a share that could be kept to.
            self.accounts.retain(|_, one| one.under_way > 0);
        }
        let one = self.accounts.entry(account).or_default();
        one.wanted_this_second = true;
        one
    }

    /// What each account may use of a second when all that are there want more; nothing for one that is alone.
    fn share(&self) -> Option<f64> {
        let all = self.limit * to_float(SHARE_MS) / to_float(WINDOW_MS);
        (self.accounts.len() > 1).then(|| all / to_float(self.accounts.len() as u64))
    }
}

impl Use {
    /// Requests in the last second, as far as two seconds of the clock tell.
    fn used(&self, passed: f64) -> f64 {
        f64::from(self.this_second) + f64::from(self.last_second) * (1.0 - passed)
    }
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds since the start")]
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

    /// How many requests leave out of so many that are tried at a moment, each over at once.
    fn leave(budget: &Arc<Budget>, class: Class, who: &Account, tries: usize, now: u64) -> usize {
        (0..tries).filter(|_| budget.take(class, Some(who), Moment(now)).is_ok()).count()
    }

    #[test]
    fn no_window_of_ten_seconds_has_more_than_the_limit() {
        let budget = budget(1_000);
        let one = account("a");
        let sent: Vec<(u64, usize)> =
            (0..40_000).step_by(7).map(|now| (now, leave(&budget, Class::Submit, &one, 3, now))).collect();
        for (began, _) in &sent {
            let window = sent.iter().filter(|(at, _)| (*began..began + WINDOW_MS).contains(at));
            let count: usize = window.map(|(_, count)| count).sum();
            assert!(count <= 1_000, "{count} requests in the ten seconds from {began} ms");
        }
        let all: usize = sent.iter().map(|(_, count)| count).sum();
        assert!(all > 3_200, "{all} of some 3400 in 40 s: the limit is not used");
    }

    #[test]
    fn polls_leave_room_for_what_is_worth_more() {
        let budget = budget(1_000);
        let one = account("a");
        let mut order = [Class::Poll, Class::Balance, Class::Report, Class::Submit].iter();
        assert_eq!(
            order.by_ref().map(|class| leave(&budget, *class, &one, 500, 0)).collect::<Vec<_>>(),
            [160, 20, 10, 10]
        );
        assert_eq!(budget.take(Class::Poll, Some(&one), Moment(0)).expect_err("empty"), Denied::Rate);
    }

    #[test]
    fn a_storm_of_one_account_leaves_the_others_their_share() {
        let budget = budget(1_000);
        let (storm, quiet) = (account("storm"), account("quiet"));
        let (mut of_storm, mut of_quiet) = (0, 0);
        for now in (0..60_000).step_by(10) {
            of_storm += leave(&budget, Class::Poll, &storm, 20, now);
            if now % 100 == 0 {
                let left = leave(&budget, Class::Poll, &quiet, 1, now);
                assert_eq!(left, 1, "the quiet one was shed at {now} ms");
                of_quiet += left;
            }
        }
        assert!(of_storm + of_quiet > 4_700, "{of_storm} and {of_quiet} of 4800: what nobody else wants is not used");
    }

    #[test]
    fn a_429_is_obeyed_and_doubles_where_it_says_nothing() {
        let budget = budget(1_000);
        let one = account("a");
        let silent = Rate::default();
        budget.note(&Rate { retry_after_ms: Some(3_000), ..silent }, true, Moment(0));
        assert_eq!(budget.take(Class::Submit, Some(&one), Moment(2_999)).expect_err("paused"), Denied::Paused);
        assert_eq!(leave(&budget, Class::Submit, &one, 1, 3_000), 1);
        budget.note(&silent, true, Moment(3_000));
        assert_eq!(
            (leave(&budget, Class::Submit, &one, 1, 3_999), leave(&budget, Class::Submit, &one, 1, 4_000)),
            (0, 1)
        );
        budget.note(&silent, false, Moment(4_000));
        budget.note(&silent, true, Moment(4_000));
        assert_eq!(leave(&budget, Class::Submit, &one, 1, 4_500), 1, "a good answer begins anew");
        budget.note(&Rate { retry_after_ms: Some(86_400_000), ..silent }, true, Moment(5_000));
        assert_eq!(leave(&budget, Class::Submit, &one, 1, 65_000), 1, "a day is not believed");
    }

    #[test]
    fn what_the_upstream_says_is_left_is_believed() {
        let budget = budget(1_000);
        let one = account("a");
        budget.note(&Rate { limit: Some(100), remaining: Some(3), ..Rate::default() }, false, Moment(0));
        assert_eq!(leave(&budget, Class::Submit, &one, 50, 0), 3);
        budget.note(&Rate { remaining: Some(0), reset_ms: Some(2_000), ..Rate::default() }, false, Moment(10));
        assert_eq!(budget.take(Class::Submit, Some(&one), Moment(2_009)).expect_err("nothing left"), Denied::Paused);
        let silent = Rate { limit: Some(100), ..Rate::default() };
        budget.note(&silent, false, Moment(60_000));
        assert_eq!(leave(&budget, Class::Submit, &one, 50, 60_000), 19, "the limit of 100 is forgotten");
        // A limit too low to be asked about again is not believed, and none is for ever.
        budget.note(&Rate { limit: Some(1), ..Rate::default() }, false, Moment(60_000));
        assert!(leave(&budget, Class::Poll, &one, 50, 65_000) >= 1, "silenced by a limit of 1");
        assert!(leave(&budget, Class::Poll, &one, 200, 90_000) > 100, "a limit of long ago");
    }

    #[test]
    fn requests_at_once_are_bounded_in_all_and_for_each_account() {
        let options = Options { requests_per_10s: 1_000, calls_max: 3, account_calls_max: 2, pause_ms: 500 };
        let budget = Budget::new(options);
        let (one, two, three) = (account("a"), account("b"), account("c"));
        let take = |class, who| budget.take(class, Some(who), Moment(0));
        let held = [take(Class::Submit, &one), take(Class::Poll, &one)];
        assert_eq!(take(Class::Poll, &one).expect_err("two at once"), Denied::AccountCalls);
        let more = [take(Class::Submit, &two), take(Class::Report, &two)];
        assert_eq!(take(Class::Submit, &three).expect_err("three at once"), Denied::Calls);
        assert!(take(Class::Poll, &three).is_ok(), "a poll has its own bound");
        drop(held);
        assert!(take(Class::Submit, &one).is_ok());
        drop(more);
    }

    #[test]
    fn refusals_of_one_overload_count_once() {
        let budget = budget(1_000);
        (0..8).for_each(|_| budget.note(&Rate::default(), true, Moment(0)));
        assert_eq!(leave(&budget, Class::Submit, &account("a"), 1, 500), 1);
    }

    #[test]
    fn keys_that_are_made_up_take_nothing_from_those_that_are_known() {
        let budget = budget(1_000);
        let known = account("known");
        let mut of_strangers = 0;
        for now in (0..20_000).step_by(5) {
            of_strangers += (0..10).filter(|_| budget.take(Class::Submit, None, Moment(now)).is_ok()).count();
            if now % 50 == 0 {
                assert_eq!(leave(&budget, Class::Poll, &known, 1, now), 1, "shed at {now} ms");
            }
        }
        assert!(of_strangers > 900, "{of_strangers}: what the known ones do not want is not used");
        assert!(budget.state().accounts.keys().flatten().count() <= 1);
    }

    #[test]
    fn accounts_that_are_gone_are_forgotten() {
        let budget = budget(1_000_000);
        (0..1_000).for_each(|number| assert_eq!(leave(&budget, Class::Poll, &account(&format!("k{number}")), 1, 0), 1));
        leave(&budget, Class::Poll, &account("a"), 1, 2 * SHARE_MS);
        assert_eq!(budget.state().accounts.len(), 1);
    }
}
