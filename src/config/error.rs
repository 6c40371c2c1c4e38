//! The error for an invalid configuration.

use std::fmt;

/// Why a configuration is invalid. The text names the file or variable, the key and the allowed values. It contains no
/// credentials of a URL, whichever key they were set for.
#[derive(Debug)]
pub struct ConfigError(String);

impl ConfigError {
    /// Creates an error with this text.
    pub(super) fn new(text: impl AsRef<str>) -> Self {
        Self(mask_credentials(text.as_ref()))
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConfigError {}

/// Replaces the credentials of each URL by `***`. A password may contain any character but a space or a quote, because
/// an invalid URL may have them unescaped.
fn mask_credentials(text: &str) -> String {
    let mut masked = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, tail)) = rest.split_once("://") {
        masked.push_str(before);
        masked.push_str("://");
        let end = tail.find(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '`')).unwrap_or(tail.len());
        let (url, after) = tail.split_at(end);
        match url.rsplit_once('@') {
            Some((_, host)) => {
                masked.push_str("***@");
                masked.push_str(host);
            }
            None => masked.push_str(url),
        }
        rest = after;
    }
    masked.push_str(rest);
    masked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_of_urls_are_masked() {
        let masked = ConfigError::new("got \"socks5://u:p@ss/w@h:1\", not http://h/ or `https://u@h`").to_string();
        assert_eq!(masked, "got \"socks5://***@h:1\", not http://h/ or `https://***@h`");
    }
}
