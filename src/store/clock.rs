//! The time of the store: Unix milliseconds that survive restarts and neither jump nor run backwards, because they decide
//! when a task that is paid for expires. While the process runs, the monotonic clock drives it. Over a restart it
//! continues from a [`Heartbeat`].

use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// Longest downtime that the wall clock can prove. No task lives longer, so a longer time is either a wrong clock or
/// makes no difference.
const DOWNTIME_MAX_MS: u64 = 24 * 60 * 60 * 1_000;

/// The clocks of the system at one instant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SystemTimes {
    /// The wall clock, which somebody may set.
    pub wall_unix_ms: u64,
    /// Milliseconds since the system started.
    pub uptime_ms: Option<u64>,
    /// Identifies the start of the system.
    pub boot_id: Option<String>,
}

impl SystemTimes {
    /// Reads the clocks.
    pub fn now() -> Self {
        #[expect(clippy::disallowed_methods, reason = "the wall clock itself")]
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok();
        Self {
            wall_unix_ms: u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX),
            uptime_ms: std::fs::read_to_string("/proc/uptime").ok().and_then(|text| parse_uptime(&text)),
            boot_id: boot_id.map(|text| text.trim().to_owned()).filter(|id| !id.is_empty()),
        }
    }

    /// Returns the milliseconds since earlier readings, as far as they can be known.
    fn elapsed_ms(&self, earlier: &Self) -> u64 {
        if self.boot_id.is_some()
            && self.boot_id == earlier.boot_id
            && let (Some(now), Some(then)) = (self.uptime_ms, earlier.uptime_ms)
            && let Some(elapsed_ms) = now.checked_sub(then)
        {
            return elapsed_ms;
        }
        // The system was started in between, so only the wall clock is left.
        let elapsed_ms = self.wall_unix_ms.checked_sub(earlier.wall_unix_ms);
        elapsed_ms.filter(|elapsed_ms| *elapsed_ms <= DOWNTIME_MAX_MS).unwrap_or(0)
    }
}

/// Parses `/proc/uptime`: seconds with two decimals.
fn parse_uptime(text: &str) -> Option<u64> {
    let (seconds, hundredths) = text.split_whitespace().next()?.split_once('.')?;
    Some(seconds.parse::<u64>().ok()? * 1_000 + hundredths.parse::<u64>().ok()? * 10)
}

/// The time of the store, with the clocks of the system at the same instant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// The time of the store.
    pub store_unix_ms: u64,
    /// The clocks of the system.
    pub system: SystemTimes,
}

impl Heartbeat {
    /// Returns the first heartbeat of a process, after the last one of the process before.
    pub fn after(last: Option<&Self>, system: SystemTimes) -> Self {
        let store_unix_ms =
            last.map_or(system.wall_unix_ms, |last| last.store_unix_ms.saturating_add(system.elapsed_ms(&last.system)));
        Self { store_unix_ms, system }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_MS: u64 = 24 * 60 * 60 * 1_000;
    const YEAR_MS: u64 = 365 * DAY_MS;
    const WALL: u64 = 1_700_000_000_000;

    fn times(wall_unix_ms: u64, boot: &str, uptime_ms: u64) -> SystemTimes {
        SystemTimes { wall_unix_ms, uptime_ms: Some(uptime_ms), boot_id: Some(boot.to_owned()) }
    }

    #[test]
    fn without_a_reboot_the_wall_clock_does_not_matter() {
        let last = Heartbeat::after(None, times(WALL, "a", 5_000));
        assert_eq!(last.store_unix_ms, WALL);
        for wall in [WALL + 7_000, WALL + YEAR_MS, WALL - YEAR_MS, WALL + 60 * 60 * 1_000] {
            assert_eq!(Heartbeat::after(Some(&last), times(wall, "a", 12_000)).store_unix_ms, WALL + 7_000);
        }
    }

    #[test]
    fn after_a_reboot_the_wall_clock_counts_up_to_a_day() {
        let last = Heartbeat::after(None, times(WALL, "a", 5_000));
        for (wall, elapsed_ms) in [
            (WALL + 60_000, 60_000),
            (WALL + DAY_MS, DAY_MS),
            (WALL + DAY_MS + 1, 0),
            (WALL + YEAR_MS, 0),
            (WALL - YEAR_MS, 0),
        ] {
            assert_eq!(Heartbeat::after(Some(&last), times(wall, "b", 12_000)).store_unix_ms, WALL + elapsed_ms);
        }
        // Times in the store stay behind a clock that was once ahead, and go on from there.
        let later = Heartbeat::after(Some(&last), times(WALL - YEAR_MS, "b", 1_000));
        let last = Heartbeat::after(Some(&later), times(WALL - YEAR_MS + 9_000, "c", 1_000));
        assert_eq!(last.store_unix_ms, WALL + 9_000);
    }

    #[test]
    fn the_uptime_is_read_where_the_system_has_one() {
        assert_eq!(parse_uptime("35172.09 68123.94\n"), Some(35_172_090));
        assert_eq!(parse_uptime("x"), None);
        let (first, second) = (SystemTimes::now(), SystemTimes::now());
        assert!(first.wall_unix_ms > WALL && second.elapsed_ms(&first) < 60_000);
    }
}
