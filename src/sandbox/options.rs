//! Options of the sandbox.

use std::collections::BTreeMap;

/// Options of the sandbox.
#[derive(Clone, Debug)]
pub struct Options {
    /// Time from createTask to the solution, in milliseconds. Zero: createTask returns the solution.
    pub solve_ms: u64,
    /// Overrides `solve_ms` for native task types.
    pub solve_ms_by_type: BTreeMap<String, u64>,
    /// Delay of every answer, in milliseconds.
    pub latency_ms: u64,
    /// Share of tasks that fail, 0 to 1.
    pub failure_rate: f64,
    /// Seed of task ids and of the choice of tasks that fail.
    pub seed: u64,
    /// Requests per ten seconds before 429.
    pub requests_per_10s: u64,
}
