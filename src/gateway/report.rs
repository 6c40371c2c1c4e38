//! Reports: each is sent upstream at most once.

use std::sync::Arc;

use super::operations::{Operations, join_all};
use crate::domain::{Account, Failure, LegacyId, Verdict};
use crate::native::{answer, call};

impl Operations {
    /// Reports on a task, or on each member of a group. Returns the first failure.
    pub(super) async fn report(&self, account: &Account, id: LegacyId, verdict: Verdict) -> Result<(), Failure> {
        let Some(members) = self.ledger.members(account, id) else {
            return self.report_one(account, id, verdict).await;
        };
        let reports = members.iter().map(|member| {
            let (operations, account, member) = (self.clone(), account.clone(), *member);
            async move { operations.report_one(&account, member, verdict).await }
        });
        join_all(reports).await.into_iter().collect()
    }

    /// Sends one report in its own task, so that its outcome is recorded even if the client disconnects.
    async fn report_one(&self, account: &Account, id: LegacyId, verdict: Verdict) -> Result<(), Failure> {
        let Some(task) = self.ledger.begin_report(account, id, verdict)? else {
            return Ok(());
        };
        let call = call::feedback_task(&task, verdict);
        let (upstream, ledger) = (Arc::clone(&self.upstream), self.ledger.clone());
        #[expect(clippy::disallowed_methods, reason = "a report outlives the client that sent it")]
        let reporting = tokio::spawn(async move {
            let result = upstream.call(&task.account, call, answer::parse_feedback).await;
            ledger.end_report(id, verdict, &result);
            result
        });
        reporting.await.unwrap_or(Err(Failure::OutcomeUnknown))
    }
}
