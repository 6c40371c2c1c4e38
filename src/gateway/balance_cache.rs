//! The cache of recent balances. Some clients read the balance before each submit, from all their threads at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dashmap::DashMap;
use tokio::sync::OnceCell;

use crate::domain::{Account, Failure, Moment};

/// Most accounts in the cache. Above it, balances are read without a cache.
const ACCOUNTS_MAX: usize = 10_000;

/// A balance, and the moment at which it was read. Empty while one request reads it; concurrent requests wait for the
/// cell.
pub(super) type BalanceCell = Arc<OnceCell<(Result<f64, Failure>, Moment)>>;

/// Balances by account.
#[derive(Debug)]
pub(super) struct BalanceCache {
    ttl_ms: u64,
    cells: DashMap<Account, BalanceCell>,
    /// Moment at which expired cells were last removed, in milliseconds.
    last_sweep_ms: AtomicU64,
}

impl BalanceCache {
    /// Creates an empty cache.
    pub(super) fn new(ttl_ms: u64) -> Self {
        Self { ttl_ms, cells: DashMap::new(), last_sweep_ms: AtomicU64::new(0) }
    }

    /// Returns the cell of an account, which is fresh, being filled, or new.
    pub(super) fn cell(&self, account: &Account, now: Moment) -> BalanceCell {
        if let Some(cell) = self.cells.get(account).filter(|cell| !self.is_expired(cell, now)) {
            return Arc::clone(&cell);
        }
        // A full map is swept once per TTL, not by each request.
        let last_sweep_ms = self.last_sweep_ms.load(Ordering::Relaxed);
        if self.cells.len() >= ACCOUNTS_MAX && last_sweep_ms.saturating_add(self.ttl_ms) < now.0 {
            self.last_sweep_ms.store(now.0, Ordering::Relaxed);
            self.cells.retain(|_, cell| !self.is_expired(cell, now));
        }
        if self.cells.len() >= ACCOUNTS_MAX {
            return BalanceCell::default();
        }
        let mut cell = self.cells.entry(account.clone()).or_default();
        if self.is_expired(&cell, now) {
            *cell = BalanceCell::default();
        }
        Arc::clone(&cell)
    }

    /// Whether a cell has to be filled again. Concurrent requests share a failure, later ones do not.
    fn is_expired(&self, cell: &BalanceCell, now: Moment) -> bool {
        cell.get().is_some_and(|(result, read_at)| result.is_err() || read_at.after_ms(self.ttl_ms) <= now)
    }
}
