//! One legacy id for several tasks: a client may send several images to be turned, and waits for all answers in one
//! (2captcha docs, rotate). Each is a task of its own in the ledger; the id that the client knows stands for them.

use std::sync::Arc;

use super::{Gateway, as_final, together};
use crate::ledger::Path;
use crate::ledger::table::Landing;
use crate::methods::Payload;
use crate::op::{Account, Failure, LegacyId, Outcome, Solved, Task, Verdict};

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
        let group = self.ledger.open(account, last.method)?;
        if let Some(pingback) = &last.pingback {
            // The client knows one id, and is told once.
            self.ledger.set_pingback(group, pingback.clone());
        }
        tasks.push(last);
        for task in &mut tasks {
            task.pingback = None;
        }
        let submits = tasks.into_iter().map(|task| {
            let (gateway, account) = (self.clone(), account.clone());
            async move { (task.method, gateway.submit(&account, task).await) }
        });
        let submitted = together(submits).await;
        if submitted.iter().all(|(_, result)| result.is_err()) {
            self.ledger.withdraw(group);
            return Err(submitted.into_iter().find_map(|(_, result)| result.err()).unwrap_or(Failure::Unavailable));
        }
        let mut members = Vec::with_capacity(submitted.len());
        for (method, result) in submitted {
            members.push(match result {
                Ok(id) => id,
                Err(refusal) => {
                    let id = self.ledger.open(account, method)?;
                    self.ledger.settle(id, None, &Outcome::Failed(as_final(refusal)));
                    id
                }
            });
        }
        self.ledger.group(group, members.into());
        Ok(group)
    }

    /// Polls the tasks that one stands for, and joins what they have.
    pub(super) async fn poll_group(&self, account: &Account, members: &[LegacyId]) -> (Landing, Path) {
        let polls = members.iter().map(|member| {
            let (gateway, account, member) = (self.clone(), account.clone(), *member);
            async move {
                let polled = gateway.ledger.poll(&account, member, |task| gateway.ask_for_result(&task)).await;
                // A member stands for nothing else.
                polled.unwrap_or((Err(Failure::TaskUnknown), Path::Unknown))
            }
        });
        join(together(polls).await)
    }

    /// Reports on a task, or on each of those that it stands for; what is refused for one is told.
    pub(super) async fn report_all(&self, account: &Account, id: LegacyId, verdict: Verdict) -> Result<(), Failure> {
        let Some(members) = self.ledger.members(account, id) else {
            return self.report(account, id, verdict).await;
        };
        let mut reported = Ok(());
        for member in members.iter() {
            reported = reported.and(self.report(account, *member, verdict).await);
        }
        reported
    }
}

/// The answer of a task that stands for others: theirs, in their order (2captcha docs, several rotate images). Ready when
/// all are, failed when one is.
fn join(polled: Vec<(Landing, Path)>) -> (Landing, Path) {
    let mut texts = Vec::with_capacity(polled.len());
    let mut costs = Some(0.0);
    let mut how = Path::Hit;
    let mut is_ready = true;
    for (landing, path) in polled {
        if path != Path::Hit {
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
    let cost = costs.map(|cost| cost.to_string());
    let solved = Solved { payload: Payload::Text(texts.join("|")), extras: Vec::new(), cost };
    (Ok(Outcome::Solved(Arc::new(solved))), how)
}
