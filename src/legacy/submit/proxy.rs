//! The client's own proxy.

use crate::domain::Failure;
use crate::legacy::form::Form;
use crate::methods::{Method, TaskType};

/// Converts `login:password@host:port` and `proxytype` to the single text that uCaptcha's error page documents:
/// `type://login:password@host:port`.
pub(super) fn decode_proxy(form: &Form, method: &Method) -> Result<Option<String>, Failure> {
    let proxy = match (form.non_empty("proxy"), &method.task_type) {
        (_, TaskType { proxied: None, .. }) | (None, TaskType { proxyless: Some(_), .. }) => return Ok(None),
        (None, TaskType { proxyless: None, .. }) => return Err(Failure::Parameter("proxy")),
        (Some(proxy), _) => proxy,
    };
    let (prefix, address) = match proxy.split_once("://") {
        Some((prefix, address)) => (Some(prefix), address),
        None => (None, proxy),
    };
    let scheme = form.non_empty("proxytype").or(prefix).unwrap_or("http");
    let scheme = match scheme.to_ascii_lowercase().as_str() {
        // 2captcha's own v2 libraries write a proxy that is reached over TLS as plain http.
        "http" | "https" => "http",
        "socks4" => "socks4",
        "socks5" => "socks5",
        _ => return Err(Failure::ProxyFormat),
    };
    // The last `@`, because passwords may contain one and host names may not.
    let (login, host) = match address.rsplit_once('@') {
        Some((login, host)) => (Some(login), host),
        None => (None, address),
    };
    let (name, port) = host.rsplit_once(':').ok_or(Failure::ProxyFormat)?;
    let port: u16 = port.parse().map_err(|_| Failure::ProxyFormat)?;
    if port == 0 || url::Host::parse(name).is_err() {
        return Err(Failure::ProxyFormat);
    }
    Ok(Some(match login {
        Some(login) => {
            let (user, password) = login.split_once(':').unwrap_or((login, ""));
            format!("{scheme}://{}:{}@{name}:{port}", percent_encode(user), percent_encode(password))
        }
        None => format!("{scheme}://{name}:{port}"),
    }))
}

/// Percent-encodes all characters except the unreserved ones of URLs (RFC 3986, section 2.3).
fn percent_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}
