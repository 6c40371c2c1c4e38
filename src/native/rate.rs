//! What an answer says about the upstream's limit: `X-RateLimit-*`, on every answer (uCaptcha, overview page), and
//! `Retry-After` (RFC 9110, section 10.2.3), which its pages do not mention but what stands before it may send.

use chrono::DateTime;

/// What is said. Nothing, where it is not said or cannot be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rate {
    /// Requests in a window.
    pub limit: Option<u32>,
    /// Those that are left of this one.
    pub remaining: Option<u32>,
    /// Until the next one begins, in milliseconds.
    pub reset_ms: Option<u64>,
    /// Until one may come again, in milliseconds.
    pub retry_after_ms: Option<u64>,
}

impl Rate {
    /// Reads headers, given by name in lower case. `now` is Unix time in seconds, for an upstream that does not say what
    /// time it has.
    pub fn read<'h>(header: impl Fn(&'static str) -> Option<&'h str>, now: i64) -> Self {
        let number = |name| header(name).and_then(leading_number);
        let date = |text: &str| DateTime::parse_from_rfc2822(text).ok().map(|date| date.timestamp());
        // Its clock and ours may differ; the difference of two of its own times does not.
        let now = header("date").and_then(date).unwrap_or(now);
        let until = |moment: i64| u64::try_from(moment.saturating_sub(now)).unwrap_or(0).saturating_mul(1_000);
        let reset_ms = number("x-ratelimit-reset").map(|reset| match i64::try_from(reset) {
            // A Unix time as documented, in milliseconds as others write it, or seconds from now.
            Ok(moment) if moment > 100_000_000_000 => until(moment / 1_000),
            Ok(moment) if moment > 1_000_000_000 => until(moment),
            _ => reset.saturating_mul(1_000),
        });
        let retry_after_ms = header("retry-after").and_then(|text| match leading_number(text) {
            Some(seconds) => Some(seconds.saturating_mul(1_000)),
            None => date(text).map(until),
        });
        let small = |name| number(name).map(|number| u32::try_from(number).unwrap_or(u32::MAX));
        Self { limit: small("x-ratelimit-limit"), remaining: small("x-ratelimit-remaining"), reset_ms, retry_after_ms }
    }
}

/// The number that a text begins with: some write `10000;w=10`.
fn leading_number(text: &str) -> Option<u64> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text.get(..end)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(headers: &[(&'static str, &'static str)]) -> Rate {
        Rate::read(|name| headers.iter().find(|(known, _)| *known == name).map(|(_, text)| *text), 1_800_000_000)
    }

    #[test]
    fn limits_are_read_as_they_are_written() {
        let documented =
            [("x-ratelimit-limit", "10000"), ("x-ratelimit-remaining", " 17 "), ("x-ratelimit-reset", "1800000004")];
        let rate = Rate { limit: Some(10_000), remaining: Some(17), reset_ms: Some(4_000), retry_after_ms: None };
        assert_eq!(read(&documented), rate);
        assert_eq!(
            read(&[("x-ratelimit-reset", "7"), ("x-ratelimit-limit", "100;w=10")]),
            Rate { limit: Some(100), reset_ms: Some(7_000), ..Rate::default() }
        );
        assert_eq!(read(&[("x-ratelimit-reset", "1800000004999")]).reset_ms, Some(4_000));
    }

    #[test]
    fn a_clock_that_differs_from_ours_does_no_harm() {
        let date = ("date", "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(read(&[date, ("retry-after", "Sun, 06 Nov 1994 08:49:40 GMT")]).retry_after_ms, Some(3_000));
        assert_eq!(read(&[date, ("retry-after", "Sun, 06 Nov 1994 08:00:00 GMT")]).retry_after_ms, Some(0));
        assert_eq!(read(&[("retry-after", "30")]).retry_after_ms, Some(30_000));
    }

    #[test]
    fn nonsense_says_nothing() {
        let odd = [
            ("x-ratelimit-limit", "many"),
            ("x-ratelimit-remaining", "-1"),
            ("x-ratelimit-reset", ""),
            ("retry-after", "soon"),
        ];
        assert_eq!(read(&odd), Rate::default());
        assert_eq!(read(&[("retry-after", "99999999999999999999")]), Rate::default());
    }
}
