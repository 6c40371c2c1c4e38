//! One legacy id for several tasks: a client may send several images to be turned, and waits for all answers in one
//! (2captcha docs, rotate). Each is a task of its own in the ledger; the id that the client knows stands for them.

use std::sync::Arc;

use super::{Gateway, together};
use crate::domain::{Account, Failure, LegacyId, Outcome, Solved, Task, Verdict};
use crate::ledger::PollSource;
use crate::ledger::table::PollResult;
use crate::methods::Payload;

impl Gateway {
    /// Submits one task, or several that stand behind one id. Where some of several are refused, the others are paid for:
    /// the client gets its id, and polling it brings the refusal.
    pub(super) async fn submit_all(&self, account: &Account, mut tasks: Vec<Task>) -> Result<LegacyId, Failure> {
        let Some(last) = tasks.pop() else {
            return Err(Failure::MethodUnknown);
        };
        if tasks.is_empty() {
            return self.submit(account, last).await;
        }
        let (method, pingback) = (last.method, last.pingback.clone());
        tasks.push(last);
        // Room for all of them before the first is paid for.
        let group = self.ledger.open(account, method)?;
        let mut members = Vec::with_capacity(tasks.len());
        for _ in &tasks {
            match self.ledger.open(account, method) {
                Ok(id) => members.push(id),
                Err(full) => {
                    members.iter().chain([&group]).for_each(|id| self.ledger.withdraw(*id));
                    return Err(full);
                }
            }
        }
        // The client knows one id, and is told once.
        if let Some(pingback) = pingback {
            self.ledger.set_pingback(group, pingback);
        }
        let creates = tasks.into_iter().zip(members.clone()).map(|(task, id)| {
            let (gateway, account) = (self.clone(), account.clone());
            async move { gateway.create(&account, task, id).await }
        });
        let mut results = together(creates).await;
        if results.iter().all(Result::is_err) {
            members.iter().chain([&group]).for_each(|id| self.ledger.withdraw(*id));
            return results.swap_remove(0).map(|()| group);
        }
        // A member that was refused has noted it.
        self.ledger.group(group, members.into());
        Ok(group)
    }

    /// Polls the tasks that one stands for, and joins what they have.
    pub(super) async fn poll_group(&self, account: &Account, members: &[LegacyId]) -> (PollResult, PollSource) {
        let polls = members.iter().map(|member| {
            let (gateway, account, member) = (self.clone(), account.clone(), *member);
            async move {
                let polled = gateway.ledger.poll(&account, member, |task| gateway.ask_for_result(task)).await;
                // A member stands for nothing else.
                polled.unwrap_or((Err(Failure::TaskUnknown), PollSource::Unknown))
            }
        });
        join(together(polls).await)
    }

    /// Reports on a task, or on each of those that it stands for; what is refused for one is told.
    pub(super) async fn report_all(&self, account: &Account, id: LegacyId, verdict: Verdict) -> Result<(), Failure> {
        let Some(members) = self.ledger.members(account, id) else {
            return self.report(account, id, verdict).await;
        };
        let reports = members.iter().map(|member| {
            let (gateway, account, member) = (self.clone(), account.clone(), *member);
            async move { gateway.report(&account, member, verdict).await }
        });
        together(reports).await.into_iter().collect()
    }
}

/// The answer of a task that stands for others: theirs, in their order (2captcha docs, several rotate images). Ready when
/// all are, failed when one is.
fn join(polled: Vec<(PollResult, PollSource)>) -> (PollResult, PollSource) {
    let mut texts = Vec::with_capacity(polled.len());
    let mut costs = Some(0.0);
    let mut how = PollSource::Hit;
    let mut is_ready = true;
    for (landing, path) in polled {
        if path != PollSource::Hit {
            how = path;
        }
        match landing {
            Ok(Outcome::Solved(solved)) => {
                texts.push(solved.payload.to_text());
                let cost = solved.cost.as_ref().and_then(|cost| cost.parse::<f64>().ok());
                costs = costs.zip(cost).map(|(sum, cost)| sum + cost);
            }
            Ok(Outcome::NotReady) => is_ready = false,
            over => return (over, how),
        }
    }
    if !is_ready {
        return (Ok(Outcome::NotReady), how);
    }
    // Rounded where no price has digits, so that a sum of decimals reads like one.
    let cost = costs.map(|cost: f64| ((cost * 1e8).round() / 1e8).to_string());
    let solved = Solved { payload: Payload::Text(texts.join("|")), extras: Vec::new(), cost, took_ms: None };
    (Ok(Outcome::Solved(Arc::new(solved))), how)
}
