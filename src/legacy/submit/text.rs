//! Texts of a known syntax: URLs, hosts and cookies.

use url::Url;

/// Returns the URL unchanged if it is an absolute http(s) URL with a host.
pub(super) fn http_url(text: &str) -> Option<String> {
    let url = Url::parse(text).ok()?;
    (matches!(url.scheme(), "http" | "https") && url.has_host()).then(|| text.to_owned())
}

/// Returns the host of a URL. A bare `host` or `host:port` stays unchanged but for its path.
pub(super) fn host(text: &str) -> Option<String> {
    let host = match Url::parse(text) {
        Ok(url) if url.has_host() => url.host_str()?.to_owned(),
        _ => text.split('/').next()?.to_owned(),
    };
    url::Host::parse(host.split(':').next()?).is_ok().then_some(host)
}

/// Converts `K1:V1;K2:V2;`, or a JSON array of objects with `name` and `value`, to `K1=V1; K2=V2`. Pairs that already
/// use `=` stay unchanged.
pub(super) fn parse_cookies(text: &str) -> Option<String> {
    if text.starts_with('[') {
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
