//! Keeps the accepted keys in a store, so that a restarted process need not try them anew. Losing one costs little, so
//! nobody waits for the writes.

use std::sync::Arc;

use super::keys::{KeyChange, Keys};
use crate::domain::{Account, Moment};
use crate::ledger::Persistence;
use crate::store::Store;
use crate::store::snapshot::UnixOrigin;

/// The part of a store with the accepted keys.
#[derive(Debug)]
pub(super) struct KeyStore {
    store: Arc<Store>,
    origin: UnixOrigin,
}

impl KeyStore {
    pub(super) fn new(persistence: &Persistence) -> Self {
        Self { store: Arc::clone(&persistence.store), origin: persistence.origin }
    }

    /// Saves a change.
    pub(super) fn save(&self, account: &Account, change: KeyChange, now: Moment) {
        drop(match change {
            KeyChange::Accepted => self.store.save_accepted_key(account, self.origin.to_unix_ms(now)),
            KeyChange::Refused => self.store.remove_accepted_key(account),
        });
    }

    /// Adds all stored keys to the cache. Keys that an earlier key has sealed are sealed again.
    pub(super) async fn restore(&self, keys: &Keys, now: Moment) {
        let scanned = self.store.scan_accepted_keys(|account, has_current_key| {
            if !has_current_key {
                self.save(&account, KeyChange::Accepted, now);
            }
            keys.restore(account, now);
        });
        if let Err(error) = scanned.await {
            tracing::error!(kind = error.to_string(), "cannot restore the accepted keys");
        }
    }
}
