//! Submits: each reserves a record in the ledger, then sends one native call that is never repeated.

use std::sync::Arc;

use tokio::sync::oneshot;
use tracing::Instrument;

use super::operations::Operations;
use super::upstream_client::Caller;
use crate::domain::{CreatedTask, Failure, LegacyId, Task};
use crate::memory::MemoryCharge;
use crate::native::{answer, call};

impl Operations {
    /// Submits one task, or several under one id.
    /// `charge` is for the body that the tasks were decoded from; from now on it is for the calls.
    pub(super) async fn submit(
        &self,
        caller: Caller<'_>,
        mut tasks: Vec<Task>,
        charge: MemoryCharge,
    ) -> Result<LegacyId, Failure> {
        match (tasks.pop(), tasks.is_empty()) {
            (None, _) => Err(Failure::MethodUnknown),
            (Some(task), true) => self.submit_one(caller, task, charge).await,
            (Some(last), false) => {
                tasks.push(last);
                self.submit_group(caller, tasks, charge).await
            }
        }
    }

    async fn submit_one(&self, caller: Caller<'_>, task: Task, charge: MemoryCharge) -> Result<LegacyId, Failure> {
        let id = self.ledger.open(caller.account, task.method)?;
        if let Some(pingback) = &task.pingback {
            self.ledger.set_pingback(id, pingback.clone());
        }
        match self.create(caller, task, id, charge).await {
            Ok(()) => Ok(id),
            Err(refusal) => {
                // No client knows the id.
                self.ledger.withdraw(id);
                Err(refusal)
            }
        }
    }

    /// Sends the submit of a task that has a record, and settles or binds the record by the answer. The call runs in
    /// its own task: neither a disconnected client nor `submit_wait` cancels it, and a late answer still finds the
    /// record. The call is charged until the upstream has read it.
    pub(super) async fn create(
        &self,
        caller: Caller<'_>,
        mut task: Task,
        id: LegacyId,
        mut charge: MemoryCharge,
    ) -> Result<(), Failure> {
        let Caller { account, client } = caller;
        let (result_tx, result_rx) = oneshot::channel();
        task.resolve_previous(|previous| self.ledger.native_id(account, previous).as_ref().map(call::id_to_value));
        let draft = call::draft_create_task(account, &task);
        if !charge.try_grow_to(task.size_bytes() + draft.size_bytes()) {
            self.ledger.refuse(id, to_final(Failure::NotSent));
            return Err(Failure::NotSent);
        }
        let mut call = draft.encode();
        let (upstream, ledger, account) = (Arc::clone(&self.upstream), self.ledger.clone(), account.clone());
        let span = tracing::info_span!("submit", task = id.0, method = task.method.name);
        // The call holds all that it needs of the task, which may be a large image.
        let method = task.method;
        drop(task);
        charge.shrink_to(call.body.len());
        call.body = charge.attach_to(call.body);
        let creating = async move {
            let caller = Caller { account: &account, client };
            let accepted = upstream.call(caller, call, |answer| answer::parse_created_task(answer, method)).await;
            let result = match accepted {
                Ok(CreatedTask { native, outcome: Some(outcome) }) => ledger.settle(id, native, &outcome).await,
                Ok(CreatedTask { native: Some(native), outcome: None }) => ledger.bind(id, native).await,
                // The upstream may work on the task, so the record stays open until its own deadline.
                Ok(CreatedTask { native: None, outcome: None }) | Err(Failure::OutcomeUnknown) => ledger.save(id).await,
                Err(failure) => {
                    ledger.refuse(id, to_final(failure.clone()));
                    Err(failure)
                }
            };
            // A client that no longer waits has its id and polls.
            let _ = result_tx.send(result);
        };
        #[expect(clippy::disallowed_methods, reason = "a submit outlives the client that sent it")]
        tokio::spawn(creating.instrument(span));
        match tokio::time::timeout(self.submit_wait, result_rx).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) | Err(_) => self.ledger.save(id).await,
        }
    }
}

/// Returns the final failure of a refused submit, for a client that got its id before the refusal. Transient failures
/// become final, because they would read as not ready forever.
fn to_final(failure: Failure) -> Failure {
    match failure {
        Failure::NotSent | Failure::Unavailable | Failure::OutcomeUnknown => Failure::Unsolvable,
        refusal => refusal,
    }
}
