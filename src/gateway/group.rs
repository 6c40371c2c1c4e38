//! One legacy id for several tasks: a client may send several images to rotate and waits for all answers in one
//! (2captcha docs, rotate). Each image is a task of its own in the ledger; the group's record represents all of them.

use std::sync::Arc;

use super::operations::{Operations, join_all};
use super::upstream_client::Caller;
use crate::domain::{Account, Failure, LegacyId, Outcome, Solved, Task};
use crate::ledger::{PollReply, PollResult, PollSource};
use crate::memory::MemoryCharge;
use crate::methods::Payload;

impl Operations {
    /// Submits several tasks under one id. If only some are refused, the client gets its id and its polls return the
    /// refusal, because the other tasks are already paid for.
    pub(super) async fn submit_group(
        &self,
        caller: Caller<'_>,
        tasks: Vec<Task>,
        mut charge: MemoryCharge,
    ) -> Result<LegacyId, Failure> {
        let Some(first) = tasks.first() else {
            return Err(Failure::MethodUnknown);
        };
        let pingback = first.pingback.clone();
        let (group, members) = self.open_group(caller.account, &tasks)?;
        // The client knows one id, and gets one pingback.
        if let Some(pingback) = pingback {
            self.ledger.set_pingback(group, pingback);
        }
        let creates = tasks.into_iter().zip(members.clone()).map(|(task, id)| {
            let (operations, account, client) = (self.clone(), caller.account.clone(), caller.client);
            let charge = charge.split(task.size_bytes());
            async move { operations.create(Caller { account: &account, client }, task, id, charge).await }
        });
        let mut results = join_all(creates).await;
        if results.iter().all(Result::is_err) {
            self.withdraw_group(group, &members);
            return results.swap_remove(0).map(|()| group);
        }
        // The record of a refused member holds its refusal.
        if let Err(refusal) = self.ledger.set_members(group, members.as_slice().into()).await {
            self.withdraw_group(group, &members);
            return Err(refusal);
        }
        Ok(group)
    }

    /// Reserves records for a group and all its members, before the first task is paid for.
    fn open_group(&self, account: &Account, tasks: &[Task]) -> Result<(LegacyId, Vec<LegacyId>), Failure> {
        let method = tasks.first().ok_or(Failure::MethodUnknown)?.method;
        let group = self.ledger.open(account, method)?;
        let mut members = Vec::with_capacity(tasks.len());
        for _ in tasks {
            match self.ledger.open(account, method) {
                Ok(id) => members.push(id),
                Err(full) => {
                    self.withdraw_group(group, &members);
                    return Err(full);
                }
            }
        }
        Ok((group, members))
    }

    fn withdraw_group(&self, group: LegacyId, members: &[LegacyId]) {
        members.iter().chain([&group]).for_each(|id| self.ledger.withdraw(*id));
    }

    /// Polls all members at once and joins their answers.
    pub(super) async fn poll_group(&self, account: &Account, members: &[LegacyId]) -> (PollResult, PollSource) {
        let polls = members.iter().map(|member| {
            let (operations, account, member) = (self.clone(), account.clone(), *member);
            async move {
                match operations.poll_task(&account, member).await {
                    PollReply::Answer(result, source) => (result, source),
                    // A member is never a group itself.
                    PollReply::Group(_) => (Err(Failure::TaskUnknown), PollSource::Unknown),
                }
            }
        });
        join_results(join_all(polls).await)
    }
}

/// Joins the results of a group in the order of its members (2captcha docs, several rotate images). It is ready when
/// all are, and failed when one is.
fn join_results(polled: Vec<(PollResult, PollSource)>) -> (PollResult, PollSource) {
    let mut texts = Vec::with_capacity(polled.len());
    let mut cost_sum = Some(0.0);
    let mut group_source = PollSource::Hit;
    let mut is_ready = true;
    for (result, source) in polled {
        if source != PollSource::Hit {
            group_source = source;
        }
        match result {
            Ok(Outcome::Solved(solved)) => {
                texts.push(solved.payload.to_text());
                let cost = solved.cost.as_ref().and_then(|cost| cost.parse::<f64>().ok());
                cost_sum = cost_sum.zip(cost).map(|(sum, cost)| sum + cost);
            }
            Ok(Outcome::NotReady) => is_ready = false,
            failed => return (failed, group_source),
        }
    }
    if !is_ready {
        return (Ok(Outcome::NotReady), group_source);
    }
    // Prices have at most eight decimals; rounding removes the noise of binary fractions from the sum.
    let cost = cost_sum.map(|cost: f64| ((cost * 1e8).round() / 1e8).to_string());
    let solved = Solved { payload: Payload::Text(texts.join("|")), extras: Vec::new(), cost, took_ms: None };
    (Ok(Outcome::Solved(Arc::new(solved))), group_source)
}
