//! Gauges of the ledger.

use super::Ledger;
use crate::telemetry::metrics::MetricsRegistry;

impl Ledger {
    /// Registers gauges of the ledger's size.
    pub fn register_metrics(&self, registry: &MetricsRegistry) {
        let gauge = |name, help, read: fn(&Ledger) -> usize| {
            let ledger = self.clone();
            registry.gauge(name, help, move || read(&ledger));
        };
        gauge("capgate_records", "Tasks in the ledger.", |ledger| ledger.stats().records);
        gauge("capgate_record_bytes", "Bytes charged for the tasks in the ledger.", |ledger| ledger.stats().bytes);
        gauge("capgate_flights", "Polls of the upstream in progress.", |ledger| ledger.stats().flights);
        gauge(
            "capgate_reports_waiting",
            "Reports that were acknowledged and wait to be sent again.",
            Ledger::queued_reports,
        );
        gauge("capgate_accounts", "Accounts with a task in the ledger.", |ledger| ledger.stats().accounts);
    }
}
