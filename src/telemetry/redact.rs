//! Masks text that looks like an API key: the last safeguard before a line is written.

/// Replaces the value after every `key=`, `clientKey:` and the like by `***`.
pub(super) fn redact(text: &str) -> String {
    let mut masked = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = find_key(rest) {
        let (before, tail) = rest.split_at(at + 3);
        masked.push_str(before);
        let separator_bytes = tail.len() - tail.trim_start_matches(['=', ':', '"', '\\', ' ', '\'']).len();
        let (separator, value) = tail.split_at(separator_bytes);
        masked.push_str(separator);
        rest = value;
        if separator.contains(['=', ':']) {
            let end = value
                .find(|c: char| !c.is_ascii_graphic() || matches!(c, '&' | '"' | '\'' | ',' | ';' | '}' | ')' | '\\'))
                .unwrap_or(value.len());
            if end > 0 {
                masked.push_str("***");
            }
            rest = value.split_at(end).1;
        }
    }
    masked.push_str(rest);
    masked
}

/// Finds the word "key" in any case.
fn find_key(text: &str) -> Option<usize> {
    text.as_bytes().windows(3).position(|word| word.eq_ignore_ascii_case(b"key"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_look_like_keys_are_masked() {
        let masked = redact("GET /res.php?key=c0ffee&action=get {\"clientKey\":\"c0ffee-1\"} KEY: c0ffee, keyboard c0");
        assert_eq!(masked, "GET /res.php?key=***&action=get {\"clientKey\":\"***\"} KEY: ***, keyboard c0");
        assert_eq!(redact("key=a+b/c=&x"), "key=***&x");
        assert_eq!(redact("key"), "key");
        assert_eq!(redact("key="), "key=");
    }
}
