//! Reports. Without a store, each is sent upstream at most once, and acknowledged once the upstream has recorded it. With a
//! store, each is acknowledged once it is durable, and sent until the upstream has recorded or refused it.

use std::sync::Arc;

use super::operations::{Operations, join_all};
use super::upstream_client::Caller;
use crate::domain::{Failure, LegacyId, TaskRef, Verdict};
use crate::native::{answer, call};

impl Operations {
    /// Reports on a task, or on each member of a group. Returns the first failure.
    pub(super) async fn report(&self, caller: Caller<'_>, id: LegacyId, verdict: Verdict) -> Result<(), Failure> {
        self.ledger.ensure_restored(id).await;
        let Some(members) = self.ledger.members(caller.account, id) else {
            return self.report_one(caller, id, verdict).await;
        };
        let reports = members.iter().map(|member| {
            let (operations, account, client, member) = (self.clone(), caller.account.clone(), caller.client, *member);
            async move { operations.report_one(Caller { account: &account, client }, member, verdict).await }
        });
        join_all(reports).await.into_iter().collect()
    }

    /// Sends one report in its own task, so that its outcome is recorded even if the client disconnects.
    async fn report_one(&self, caller: Caller<'_>, id: LegacyId, verdict: Verdict) -> Result<(), Failure> {
        self.ledger.ensure_restored(id).await;
        let Some(task) = self.ledger.begin_report(caller.account, id, verdict)? else {
            return Ok(());
        };
        let call = call::feedback_task(&task, verdict);
        let (upstream, ledger, client) = (Arc::clone(&self.upstream), self.ledger.clone(), caller.client);
        #[expect(clippy::disallowed_methods, reason = "a report outlives the client that sent it")]
        let reporting = tokio::spawn(async move {
            ledger.save_report(id).await?;
            let result = upstream.call(Caller { account: &task.account, client }, call, answer::parse_feedback).await;
            ledger.end_report(id, verdict, result)
        });
        reporting.await.unwrap_or(Err(Failure::OutcomeUnknown))
    }

    /// Sends a report again. The future borrows nothing.
    pub(super) fn send_report(
        &self,
        task: &TaskRef,
        verdict: Verdict,
    ) -> impl Future<Output = Result<(), Failure>> + Send + 'static + use<> {
        let (upstream, account, call) =
            (Arc::clone(&self.upstream), task.account.clone(), call::feedback_task(task, verdict));
        async move { upstream.call(Caller { account: &account, client: None }, call, answer::parse_feedback).await }
    }
}
