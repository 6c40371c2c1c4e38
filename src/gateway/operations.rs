//! The operations of the legacy API on the ledger and the upstream. Each operation has its own file, which adds its
//! methods to [`Operations`].

use std::sync::Arc;
use std::time::Duration;

use super::balance_cache::BalanceCache;
use super::upstream_client::UpstreamClient;
use crate::ledger::Ledger;

/// Shared state of all operations. Cheap to clone.
#[derive(Clone)]
pub(super) struct Operations {
    pub(super) ledger: Ledger,
    pub(super) upstream: Arc<UpstreamClient>,
    pub(super) balances: Arc<BalanceCache>,
    /// How long a client waits for the upstream to accept its submit, before it gets its id anyway.
    pub(super) submit_wait: Duration,
}

/// Runs all futures concurrently, each in its own task, and returns their results in order.
///
/// # Panics
/// If one of them panics, as if it had been awaited in place.
pub(super) async fn join_all<T: Send + 'static>(
    futures: impl Iterator<Item = impl Future<Output = T> + Send + 'static>,
) -> Vec<T> {
    #[expect(clippy::disallowed_methods, reason = "at most as many as one request may name, and awaited below")]
    let tasks: Vec<_> = futures.map(tokio::spawn).collect();
    let mut results = Vec::with_capacity(tasks.len());
    for task in tasks {
        match task.await {
            Ok(result) => results.push(result),
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
    results
}
