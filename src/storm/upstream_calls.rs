//! Counts of the gateway's native calls, parsed from its metrics.

use std::collections::BTreeMap;

/// Native calls by endpoint.
pub type UpstreamCalls = BTreeMap<String, u64>;

/// The endpoint of polls.
pub const POLL_ENDPOINT: &str = "getTaskResult";

/// Parses the calls from `/metrics` and sums them over their results.
pub fn parse(metrics: &str) -> UpstreamCalls {
    let mut calls = UpstreamCalls::new();
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

/// Subtracts earlier counts. A gateway that restarted in between counts from zero again, so the difference is at least
/// zero.
pub fn difference(before: &UpstreamCalls, after: &UpstreamCalls) -> UpstreamCalls {
    let earlier = |endpoint: &String| before.get(endpoint).copied().unwrap_or(0);
    after.iter().map(|(endpoint, count)| (endpoint.clone(), count.saturating_sub(earlier(endpoint)))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_summed_over_their_results() {
        let before = parse("capgate_upstream_calls_total{endpoint=\"getTaskResult\",result=\"ok\"} 5\n");
        let after = parse(
            "# TYPE capgate_upstream_calls_total counter\n\
             capgate_upstream_calls_total{endpoint=\"createTask\",result=\"ok\"} 3\n\
             capgate_upstream_calls_total{endpoint=\"getTaskResult\",result=\"ok\"} 9\n\
             capgate_upstream_calls_total{endpoint=\"getTaskResult\",result=\"timeout\"} 2\n\
             capgate_upstream_calls_total{odd} many\ncapgate_records 1\n",
        );
        let expected = [("createTask".to_owned(), 3), (POLL_ENDPOINT.to_owned(), 6)];
        assert_eq!(difference(&before, &after), UpstreamCalls::from(expected));
    }
}
