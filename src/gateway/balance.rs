//! The money left, remembered briefly: some clients ask before each submit, all threads of theirs at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dashmap::DashMap;
use tokio::sync::OnceCell;

use super::Gateway;
use crate::domain::{Account, Failure, Moment};
use crate::native::{answer, call};

/// Most accounts whose balance is remembered. Above it, everybody asks for themselves.
const ACCOUNTS_MAX: usize = 10_000;

/// What was answered, and when. Empty while somebody asks; the others wait there.
type Asked = Arc<OnceCell<(Result<f64, Failure>, Moment)>>;

/// Balances.
#[derive(Debug)]
pub(super) struct Balances {
    ttl_ms: u64,
    accounts: DashMap<Account, Asked>,
    /// When the accounts were looked through last.
    looked: AtomicU64,
}

impl Balances {
    /// Nothing known.
    pub(super) fn new(ttl_ms: u64) -> Self {
        Self { ttl_ms, accounts: DashMap::new(), looked: AtomicU64::new(0) }
    }

    /// What is known of an account, or where it will be.
    fn of(&self, account: &Account, now: Moment) -> Asked {
        // Trouble is shared by those who ask at the same time, and remembered by nobody.
        let is_old =
            |asked: &Asked| asked.get().is_some_and(|(said, at)| said.is_err() || at.after_ms(self.ttl_ms) <= now);
        if let Some(asked) = self.accounts.get(account).filter(|asked| !is_old(asked)) {
            return Arc::clone(&asked);
        }
        // A full map is looked through once in a while, and not by everybody.
        let looked = self.looked.load(Ordering::Relaxed);
        if self.accounts.len() >= ACCOUNTS_MAX && looked.saturating_add(self.ttl_ms) < now.0 {
            self.looked.store(now.0, Ordering::Relaxed);
            self.accounts.retain(|_, asked| !is_old(asked));
        }
        if self.accounts.len() >= ACCOUNTS_MAX {
            return Asked::default();
        }
        let mut asked = self.accounts.entry(account.clone()).or_default();
        if is_old(&asked) {
            *asked = Asked::default();
        }
        Arc::clone(&asked)
    }
}

impl Gateway {
    /// The money left.
    pub(super) async fn balance(&self, account: &Account) -> Result<f64, Failure> {
        let asked = self.balances.of(account, self.outlet.clock.now());
        let ask = || async {
            let result = self.outlet.ask(account, call::get_balance(account), answer::parse_balance).await;
            (result, self.outlet.clock.now())
        };
        asked.get_or_init(ask).await.0.clone()
    }
}
