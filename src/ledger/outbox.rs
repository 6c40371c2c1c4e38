//! Reports that were acknowledged and wait to be sent again.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use crate::domain::{LegacyId, Moment};

/// Pause after the first failed attempt, in milliseconds. Doubles with each further one.
const PAUSE_MIN_MS: u64 = 1_000;
/// Longest pause between two attempts, in milliseconds.
const PAUSE_MAX_MS: u64 = 60_000;

/// Tasks with a report to send, by the moment of the next attempt, with the number of attempts that have failed. Its
/// lock is held only inside its methods, so that a caller may hold any other.
#[derive(Debug, Default)]
pub(super) struct Outbox(Mutex<BTreeMap<(Moment, LegacyId), u32>>);

/// The head of the outbox.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NextReport {
    /// The report of this task is due after so many failed attempts, and was removed.
    Due(LegacyId, u32),
    /// Nothing is due before this moment.
    At(Moment),
    /// There is none.
    Empty,
}

impl Outbox {
    /// Adds a report after so many failed attempts.
    pub(super) fn insert(&self, id: LegacyId, attempts: u32, now: Moment) {
        let pause_ms = match attempts {
            0 => 0,
            _ => PAUSE_MIN_MS.saturating_mul(1 << (attempts - 1).min(16)).min(PAUSE_MAX_MS),
        };
        self.0.lock().insert((now.after_ms(pause_ms), id), attempts);
    }

    /// Removes the first report, if it is due.
    pub(super) fn pop_due(&self, now: Moment) -> NextReport {
        let mut reports = self.0.lock();
        match reports.first_entry() {
            None => NextReport::Empty,
            Some(first) if first.key().0 > now => NextReport::At(first.key().0),
            Some(first) => {
                let ((_, id), attempts) = first.remove_entry();
                NextReport::Due(id, attempts)
            }
        }
    }

    /// Returns the tasks.
    pub(super) fn ids(&self) -> Vec<LegacyId> {
        self.0.lock().keys().map(|(_, id)| *id).collect()
    }

    /// Returns the number of reports.
    pub(super) fn len(&self) -> usize {
        self.0.lock().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_minute() {
        let outbox = Outbox::default();
        let pauses = [0, 1, 2, 3, 6, 7, 100].map(|attempts| {
            outbox.insert(LegacyId(7), attempts, Moment(5));
            let due = match outbox.pop_due(Moment(4)) {
                NextReport::At(moment) => moment,
                other => panic!("{other:?}"),
            };
            assert_eq!(outbox.pop_due(due), NextReport::Due(LegacyId(7), attempts));
            due.millis_since(Moment(5)) / 1_000
        });
        assert_eq!(pauses, [0, 1, 2, 4, 32, 60, 60]);
        assert_eq!((outbox.pop_due(Moment(u64::MAX)), outbox.len()), (NextReport::Empty, 0));
    }
}
