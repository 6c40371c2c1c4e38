//! What of the configuration goes to whom: the option struct of each owner, so that no other module knows a key.

use std::time::Duration;

use super::Config;
use crate::budget;
use crate::domain::Routing;
use crate::gateway;
use crate::ledger::table;
use crate::legacy::{FormLimits, Limits, SubmitLimits};
use crate::sandbox;

impl Config {
    /// For `legacy`.
    pub fn legacy_limits(&self) -> Limits {
        let upstream = &self.upstream;
        let said = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
        Limits {
            form: FormLimits { pairs_max: self.limits.pairs_max.size() },
            submit: SubmitLimits {
                image_bytes_max: self.limits.image_bytes_max.size(),
                // Checked when it was loaded.
                table: self.table().unwrap_or_default(),
                routing: Routing {
                    selection_mode: said(&upstream.selection_mode.0),
                    provider: said(&upstream.provider),
                },
            },
            ids_max: self.limits.ids_max.size(),
        }
    }

    /// For `ledger`.
    pub fn ledger_options(&self) -> table::Options {
        let ledger = &self.ledger;
        table::Options {
            pacing: table::Pacing {
                floor_ms: ledger.poll_interval_min_ms.0,
                ceiling_ms: ledger.poll_interval_max_ms.0,
                poll_cost_ms: ledger.poll_cost_ms.0,
                polls_max: u16::try_from(ledger.polls_max.0).unwrap_or(u16::MAX),
                life_ms: ledger.open_ttl_ms.0,
            },
            trouble_ttl_ms: ledger.trouble_ttl_ms.0,
            stale_ms: ledger.stale_ms.0,
            recent_ms: ledger.recent_ms.0,
            open_ttl_ms: ledger.open_ttl_ms.0,
            answer_ttl_ms: ledger.answer_ttl_ms.0,
            unbound_ttl_ms: ledger.unbound_ttl_ms.0,
            records_max: ledger.records_max.size(),
            account_records_max: ledger.account_records_max.size(),
            bytes_max: ledger.bytes_max.size(),
            flights_max: ledger.flights_max.size(),
            followers_max: ledger.followers_max.size(),
        }
    }

    /// How long a poll waits for a flight.
    pub fn follow_deadline(&self) -> Duration {
        self.ledger.follow_deadline_ms.duration()
    }

    /// For `gateway`.
    pub fn gateway_options(&self) -> gateway::Options {
        gateway::Options {
            limits: self.legacy_limits(),
            submit_wait: self.ledger.submit_wait_ms.duration(),
            balance_ttl_ms: self.upstream.balance_ttl_ms.0,
            refused_ttl_ms: self.upstream.refused_ttl_ms.0,
        }
    }

    /// For `budget`.
    pub fn budget_options(&self) -> budget::Options {
        let upstream = &self.upstream;
        budget::Options {
            requests_per_10s: u32::try_from(upstream.requests_per_10s.0).unwrap_or(u32::MAX),
            calls_max: upstream.calls_max.size(),
            account_calls_max: upstream.account_calls_max.size(),
            pause_ms: upstream.pause_ms.0,
        }
    }

    /// For `sandbox`.
    pub fn sandbox_options(&self) -> sandbox::Options {
        let sandbox = &self.sandbox;
        sandbox::Options {
            solve_ms: sandbox.solve_ms.0,
            solve_ms_by_type: sandbox.solve_ms_by_type.iter().map(|(name, ms)| (name.clone(), ms.0)).collect(),
            latency_ms: sandbox.latency_ms.0,
            failure_rate: sandbox.failure_rate.0,
            seed: sandbox.seed.0,
            requests_per_10s: sandbox.requests_per_10s.0,
        }
    }
}
