//! The balance of an account, cached briefly and shared by concurrent requests.

use super::operations::Operations;
use super::upstream_client::Caller;
use crate::domain::Failure;
use crate::native::{answer, call};

impl Operations {
    /// Returns the balance of an account in USD.
    pub(super) async fn balance(&self, caller: Caller<'_>) -> Result<f64, Failure> {
        let upstream = &self.upstream;
        let cell = self.balances.cell(caller.account, upstream.clock.now());
        let fetch = || async {
            let result = upstream.call(caller, call::get_balance(caller.account), answer::parse_balance).await;
            (result, upstream.clock.now())
        };
        cell.get_or_init(fetch).await.0.clone()
    }
}
