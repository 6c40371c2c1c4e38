//! Polls: answered from memory, or by one flight that identical polls share.

use std::sync::Arc;

use super::operations::{Operations, join_all};
use super::upstream_client::Caller;
use crate::domain::{Account, Failure, LegacyId, Outcome, TaskRef};
use crate::ledger::{PollReply, PollResult, PollSource};
use crate::native::{Answer, MaskedCause, answer, call};

impl Operations {
    /// Polls one id, which may be that of a group.
    pub(super) async fn poll(&self, account: &Account, id: LegacyId) -> (PollResult, PollSource) {
        let reply = self.poll_task(account, id).await;
        self.resolve_group(account, reply).await
    }

    /// Polls one id that [`Ledger::try_answer`](crate::ledger::Ledger::try_answer) did not answer.
    pub(super) async fn poll_unanswered(&self, account: &Account, id: LegacyId) -> (PollResult, PollSource) {
        let reply = self.ledger.poll(account, id, |task| self.fetch_result(task)).await;
        self.resolve_group(account, reply).await
    }

    /// Polls one id. The reply may be a group.
    pub(super) async fn poll_task(&self, account: &Account, id: LegacyId) -> PollReply {
        match self.ledger.try_answer(account, id) {
            Some(reply) => reply,
            None => self.ledger.poll(account, id, |task| self.fetch_result(task)).await,
        }
    }

    async fn resolve_group(&self, account: &Account, reply: PollReply) -> (PollResult, PollSource) {
        match reply {
            PollReply::Answer(result, source) => (result, source),
            PollReply::Group(members) => self.poll_group(account, &members).await,
        }
    }

    /// Polls several ids at once; a malformed id keeps its place in the list. The time is that of the slowest poll, not
    /// the sum. Only polls that have to wait get a task: a hundred ids would cost a hundred kilobytes.
    pub(super) async fn poll_many(
        &self,
        account: &Account,
        ids: Vec<Result<LegacyId, Failure>>,
    ) -> Vec<(PollResult, Option<PollSource>)> {
        let mut unanswered = Vec::new();
        let mut polled = Vec::with_capacity(ids.len());
        for (at, id) in ids.into_iter().enumerate() {
            polled.push(match id.map(|id| (id, self.ledger.try_answer(account, id))) {
                Ok((_, Some(PollReply::Answer(result, source)))) => (result, Some(source)),
                Ok((id, Some(PollReply::Group(_)) | None)) => {
                    unanswered.push((at, id));
                    (Ok(Outcome::NotReady), None)
                }
                Err(failure) => (Err(failure), None),
            });
        }
        let polls = unanswered.into_iter().map(|(at, id)| {
            let (operations, account) = (self.clone(), account.clone());
            async move { (at, operations.poll(&account, id).await) }
        });
        for (at, (result, source)) in join_all(polls).await {
            if let Some(slot) = polled.get_mut(at) {
                *slot = (result, Some(source));
            }
        }
        polled
    }

    /// Fetches the result of a task from the upstream: the work of one flight. The future borrows nothing, because
    /// a flight outlives its client.
    pub(super) fn fetch_result(&self, task: TaskRef) -> impl Future<Output = PollResult> + Send + 'static + use<> {
        let upstream = Arc::clone(&self.upstream);
        async move {
            let call = call::get_task_result(&task);
            let parse = |answer: &Answer| {
                let result = answer::parse_task_result(answer, task.method, Some(&task.native));
                let cause = match &result {
                    // The ledger masks this, until it has been repeated for some time.
                    Ok(Outcome::Failed(Failure::TaskUnknown)) => Some(MaskedCause::UnknownTask),
                    Ok(_) => None,
                    Err(masked) => Some(masked.cause),
                };
                if let Some(cause) = cause {
                    upstream.metrics.count_masked_poll(cause);
                }
                result.map_err(|masked| masked.failure)
            };
            // Clients share the flight of a task, so it has none of its own.
            let caller = Caller { account: &task.account, client: None };
            upstream.call(caller, call, parse).await.map_err(|failure| mask(&failure))
        }
    }
}

/// Replaces a failure of a poll that is not about the task, such as a refused key, by one that reads as not ready:
/// clients treat any other as final, and the task, which is paid for, may still be solved.
fn mask(failure: &Failure) -> Failure {
    if *failure == Failure::NotSent { Failure::NotSent } else { Failure::Unavailable }
}
