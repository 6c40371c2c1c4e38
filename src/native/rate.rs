//! Rate-limit headers of an answer: `X-RateLimit-*`, present on every answer (uCaptcha, overview page), and
//! `Retry-After` (RFC 9110, section 10.2.3), which uCaptcha does not document but a proxy in front of it may send.

use chrono::DateTime;

/// Rate-limit headers. `None` for a header that is absent or malformed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rate {
    /// Requests per window.
    pub limit: Option<u32>,
    /// Requests left in the current window.
    pub remaining: Option<u32>,
    /// Milliseconds until the next window begins.
    pub reset_ms: Option<u64>,
    /// Milliseconds until the next request is allowed.
    pub retry_after_ms: Option<u64>,
}

impl Rate {
    /// Parses the headers, given a look-up by lower-case name. `now_unix_s` replaces a missing `Date` header.
    pub fn from_headers<'h>(header: impl Fn(&'static str) -> Option<&'h str>, now_unix_s: i64) -> Self {
        let number = |name| header(name).and_then(leading_number);
        let date = |text: &str| DateTime::parse_from_rfc2822(text).ok().map(|date| date.timestamp());
        // The upstream's clock may differ from the local one, so both times are taken from its headers.
        let now_unix_s = header("date").and_then(date).unwrap_or(now_unix_s);
        let until_ms =
            |unix_s: i64| u64::try_from(unix_s.saturating_sub(now_unix_s)).unwrap_or(0).saturating_mul(1_000);
        let reset_ms = number("x-ratelimit-reset").map(|reset| match i64::try_from(reset) {
            // Unix time in seconds as documented, in milliseconds as other services send it, or seconds from now.
            Ok(unix_ms) if unix_ms > 100_000_000_000 => until_ms(unix_ms / 1_000),
            Ok(unix_s) if unix_s > 1_000_000_000 => until_ms(unix_s),
            _ => reset.saturating_mul(1_000),
        });
        let retry_after_ms = header("retry-after").and_then(|text| match leading_number(text) {
            Some(seconds) => Some(seconds.saturating_mul(1_000)),
            None => date(text).map(until_ms),
        });
        let count = |name| number(name).map(|number| u32::try_from(number).unwrap_or(u32::MAX));
        Self { limit: count("x-ratelimit-limit"), remaining: count("x-ratelimit-remaining"), reset_ms, retry_after_ms }
    }
}

/// Returns the number at the start of a text, because some services send `10000;w=10`.
fn leading_number(text: &str) -> Option<u64> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text.get(..end)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(headers: &[(&'static str, &'static str)]) -> Rate {
        Rate::from_headers(
            |name| headers.iter().find(|(known, _)| *known == name).map(|(_, text)| *text),
            1_800_000_000,
        )
    }

    #[test]
    fn all_header_formats_are_parsed() {
        let documented =
            [("x-ratelimit-limit", "10000"), ("x-ratelimit-remaining", " 17 "), ("x-ratelimit-reset", "1800000004")];
        let rate = Rate { limit: Some(10_000), remaining: Some(17), reset_ms: Some(4_000), retry_after_ms: None };
        assert_eq!(parse(&documented), rate);
        assert_eq!(
            parse(&[("x-ratelimit-reset", "7"), ("x-ratelimit-limit", "100;w=10")]),
            Rate { limit: Some(100), reset_ms: Some(7_000), ..Rate::default() }
        );
        assert_eq!(parse(&[("x-ratelimit-reset", "1800000004999")]).reset_ms, Some(4_000));
    }

    #[test]
    fn a_different_clock_of_the_upstream_does_no_harm() {
        let date = ("date", "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(parse(&[date, ("retry-after", "Sun, 06 Nov 1994 08:49:40 GMT")]).retry_after_ms, Some(3_000));
        assert_eq!(parse(&[date, ("retry-after", "Sun, 06 Nov 1994 08:00:00 GMT")]).retry_after_ms, Some(0));
        assert_eq!(parse(&[("retry-after", "30")]).retry_after_ms, Some(30_000));
    }

    #[test]
    fn malformed_headers_are_ignored() {
        let malformed = [
            ("x-ratelimit-limit", "many"),
            ("x-ratelimit-remaining", "-1"),
            ("x-ratelimit-reset", ""),
            ("retry-after", "soon"),
        ];
        assert_eq!(parse(&malformed), Rate::default());
        assert_eq!(parse(&[("retry-after", "99999999999999999999")]), Rate::default());
    }
}
