//! Texts of a known syntax: URLs, hosts and cookies.

use crate::json::has_few_values;
use url::Url;

/// Returns the URL unchanged if it is an absolute http(s) URL with a host.
pub(super) fn http_url(text: &str) -> Option<String> {
    let url = Url::parse(text).ok()?;
    (matches!(url.scheme(), "http" | "https") && url.has_host()).then(|| text.to_owned())
}

/// Returns the host of a URL, with its port unless that is the scheme's default: a server on another port is another server.
/// A bare `host` or `host:port` stays unchanged but for its path.
pub(super) fn host(text: &str) -> Option<String> {
    if let Ok(url) = Url::parse(text)
        && let Some(host) = url.host_str()
    {
        return Some(url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")));
    }
    let host = text.split('/').next()?;
    let (name, port) = host.split_once(':').unwrap_or((host, "1"));
    (url::Host::parse(name).is_ok() && port.parse::<u16>().is_ok()).then(|| host.to_owned())
}

/// Converts `K1:V1;K2:V2;`, or a JSON array of objects with `name` and `value`, to `K1=V1; K2=V2`. Pairs that already
/// use `=` stay unchanged.
pub(super) fn parse_cookies(text: &str) -> Option<String> {
    if text.starts_with('[') {
        if !has_few_values(text.as_bytes()) {
            return None;
        }
        let list: Vec<serde_json::Value> = serde_json::from_str(text).ok()?;
        let pair = |cookie: &serde_json::Value| {
            Some(format!("{}={}", cookie.get("name")?.as_str()?, cookie.get("value")?.as_str()?))
        };
        return Some(list.iter().map(pair).collect::<Option<Vec<_>>>()?.join("; "));
    }
    let pairs = text.split(';').map(str::trim).filter(|pair| !pair.is_empty());
    let pairs = pairs.map(|pair| match (pair.find(':'), pair.find('=')) {
        (Some(colon), equals) if equals.is_none_or(|equals| colon < equals) => pair.replacen(':', "=", 1),
        _ => pair.to_owned(),
    });
    Some(pairs.collect::<Vec<_>>().join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_keeps_its_port() {
        for (text, expected) in [
            ("https://api.e.com/v2", Some("api.e.com")),
            ("https://api.e.com:8443/v2", Some("api.e.com:8443")),
            ("https://api.e.com:443/", Some("api.e.com")),
            ("https://[::1]:8443/", Some("[::1]:8443")),
            ("api.e.com/v2", Some("api.e.com")),
            ("api.e.com:8443/v2", Some("api.e.com:8443")),
            ("api.e.com:x", None),
            ("api.e.com:1:2", None),
            ("api.e.com:", None),
            ("no host", None),
            ("", None),
        ] {
            assert_eq!(host(text).as_deref(), expected, "{text}");
        }
    }
}
