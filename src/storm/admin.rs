//! What the gateway's own metrics say of the calls that it made.

use std::collections::BTreeMap;

/// Native calls by endpoint.
pub type Calls = BTreeMap<String, u64>;

/// The endpoint whose calls are polls.
pub const POLLS: &str = "getTaskResult";

/// Reads the calls out of `/metrics`, whatever their results were.
pub fn calls(metrics: &str) -> Calls {
    let mut calls = Calls::new();
    for line in metrics.lines() {
        let Some((labels, count)) =
            line.strip_prefix("capgate_upstream_calls_total{").and_then(|rest| rest.rsplit_once("} "))
        else {
            continue;
        };
        let endpoint = labels.split(',').find_map(|label| label.trim().strip_prefix("endpoint=\"")?.strip_suffix('"'));
        if let (Some(endpoint), Ok(count)) = (endpoint, count.trim().parse::<u64>()) {
            *calls.entry(endpoint.to_owned()).or_insert(0) += count;
        }
    }
    calls
}

/// What was called since. A gateway that was restarted meanwhile begins at zero.
pub fn since(before: &Calls, after: &Calls) -> Calls {
    let earlier = |endpoint: &String| before.get(endpoint).copied().unwrap_or(0);
    after.iter().map(|(endpoint, count)| (endpoint.clone(), count.saturating_sub(earlier(endpoint)))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_summed_over_their_results() {
        let before = calls("capgate_upstream_calls_total{endpoint=\"getTaskResult\",result=\"ok\"} 5\n");
        let after = calls(
            "# TYPE capgate_upstream_calls_total counter\n\
             capgate_upstream_calls_total{endpoint=\"createTask\",result=\"ok\"} 3\n\
             capgate_upstream_calls_total{endpoint=\"getTaskResult\",result=\"ok\"} 9\n\
             capgate_upstream_calls_total{endpoint=\"getTaskResult\",result=\"timeout\"} 2\n\
             capgate_upstream_calls_total{odd} many\ncapgate_records 1\n",
        );
        let expected = [("createTask".to_owned(), 3), (POLLS.to_owned(), 6)];
        assert_eq!(since(&before, &after), Calls::from(expected));
    }
}
