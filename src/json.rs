//! A bound on the memory that parsing JSON takes: a value takes some hundred bytes, but only two in the text.

/// Most values in a text. Real requests and answers have fewer than a hundred.
const VALUES_MAX: usize = 10_000;

/// Whether a text has few enough values to be parsed. Commas and brackets in strings count as well.
pub fn has_few_values(text: &[u8]) -> bool {
    memchr::memchr3_iter(b',', b'[', b'{', text).take(VALUES_MAX).count() < VALUES_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_counted_without_parsing() {
        assert!(has_few_values(b"") && has_few_values(br#"{"a":[1,2,{"b":null}]}"#));
        for value in ["1,", "[", "{\"a\":", "[],"] {
            assert!(has_few_values(value.repeat(4_000).as_bytes()), "{value}");
            assert!(!has_few_values(value.repeat(10_001).as_bytes()), "{value}");
        }
        assert!(has_few_values(&vec![b'a'; 4 << 20]), "a large image is one value");
    }
}
