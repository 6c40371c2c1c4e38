//! Parses an upstream answer with every row of the method table. Input: the HTTP status up to the first line feed, then
//! the body.

use std::sync::LazyLock;

use bytes::Bytes;
use capgate::domain::{Failure, OpResult, Outcome};
use capgate::legacy::ReplyContext;
use capgate::methods::Table;
use capgate::native::{Answer, answer};

use super::checks;

static TABLE: LazyLock<Table> = LazyLock::new(Table::default);

/// Runs one input.
///
/// # Panics
/// If a check fails.
pub fn run(data: &[u8]) {
    let (status, body) = checks::split_line(data);
    // An invalid status is replaced by 200, which reaches most of the parser.
    let status = std::str::from_utf8(status).ok().and_then(|text| text.parse().ok());
    let status = status.filter(|status| (100..1000).contains(status)).unwrap_or(200);
    let answer = Answer::new(status, Bytes::copy_from_slice(body));
    // Most rows produce the same outcome, which needs to be rendered only once.
    let mut seen = Vec::new();
    for method in TABLE.rows() {
        let polled = answer::parse_task_result(&answer, method, None);
        check_polled(polled.map_err(|masked| masked.failure), &mut seen);
        match answer::parse_created_task(&answer, method) {
            Ok(accepted) => {
                assert!(
                    accepted.native.is_some() || accepted.outcome.is_some(),
                    "accepted without an id or an outcome"
                );
                if let Some(outcome) = accepted.outcome {
                    check_polled(Ok(outcome), &mut seen);
                }
            }
            Err(failure) => checks::check_both(&Err(failure), ReplyContext::Submit),
        }
    }
    let balance = answer::parse_balance(&answer);
    assert!(balance.as_ref().map_or(true, |money| money.is_finite()), "{balance:?} is not a finite balance");
    checks::check_both(&balance.map(OpResult::Balance), ReplyContext::Balance);
    checks::check_both(&answer::parse_feedback(&answer).map(|()| OpResult::Reported), ReplyContext::Report);
}

fn check_polled(outcome: Result<Outcome, Failure>, seen: &mut Vec<Result<Outcome, Failure>>) {
    if seen.contains(&outcome) {
        return;
    }
    seen.push(outcome.clone());
    if let Ok(Outcome::Solved(solved)) = &outcome {
        assert!(solved.size_bytes() > 0, "an answer that is charged zero bytes");
    }
    // Two outcomes: a single answer may be empty text, but the joined list is never empty.
    let many = OpResult::PolledMany(vec![outcome.clone(), outcome.clone()]);
    checks::check_both(&Ok(many), ReplyContext::GetMany);
    let result = outcome.map(OpResult::Polled);
    checks::check_both(&result, ReplyContext::Get);
    checks::check_both(&result, ReplyContext::GetWithPrice);
}
