//! Answers of the upstream, as every row of the method table reads them. The input is the HTTP status up to the first
//! line feed, and the body.
#![no_main]

use std::sync::LazyLock;

use bytes::Bytes;
use capgate::legacy::ReplyContext;
use capgate::methods::Table;
use capgate::native::{Answer, answer};
use capgate::domain::{OpResult, Failure, Outcome};
use libfuzzer_sys::fuzz_target;

static TABLE: LazyLock<Table> = LazyLock::new(Table::default);

fuzz_target!(|data: &[u8]| {
    let (status, body) = capgate_fuzz::line(data);
    // What is no status that HTTP could carry counts as success, where most of the reader is.
    let status = std::str::from_utf8(status).ok().and_then(|text| text.parse().ok());
    let status = status.filter(|status| (100..1000).contains(status)).unwrap_or(200);
    let answer = Answer::new(status, Bytes::copy_from_slice(body));
    // Most rows read an answer alike, and what was rendered once need not be again.
    let mut seen = Vec::new();
    for method in TABLE.rows() {
        polled(answer::parse_task_result(&answer, method), &mut seen);
        match answer::parse_created_task(&answer, method) {
            Ok(accepted) => {
                assert!(accepted.native.is_some() || accepted.outcome.is_some(), "accepted, and nothing came of it");
                if let Some(outcome) = accepted.outcome {
                    polled(Ok(outcome), &mut seen);
                }
            }
            Err(failure) => capgate_fuzz::check_both(&Err(failure), ReplyContext::Submit),
        }
    }
    let balance = answer::parse_balance(&answer);
    assert!(balance.as_ref().map_or(true, |money| money.is_finite()), "{balance:?} is no money");
    capgate_fuzz::check_both(&balance.map(OpResult::Balance), ReplyContext::Balance);
    capgate_fuzz::check_both(&answer::parse_feedback(&answer).map(|()| OpResult::Reported), ReplyContext::Report);
});

fn polled(outcome: Result<Outcome, Failure>, seen: &mut Vec<Result<Outcome, Failure>>) {
    if seen.contains(&outcome) {
        return;
    }
    seen.push(outcome.clone());
    if let Ok(Outcome::Solved(solved)) = &outcome {
        assert!(solved.size_bytes() > 0, "an answer that costs the ledger nothing");
    }
    // Two, since an answer may be an empty word in a list, but a list is never empty.
    let many = OpResult::PolledMany(vec![outcome.clone(), outcome.clone()]);
    capgate_fuzz::check_both(&Ok(many), ReplyContext::GetMany);
    let done = outcome.map(OpResult::Polled);
    capgate_fuzz::check_both(&done, ReplyContext::Get);
    capgate_fuzz::check_both(&done, ReplyContext::GetWithPrice);
}
