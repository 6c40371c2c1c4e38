//! `in.php`: the parameters of a submit, checked against the row of the method table that they mean.
//!
//! Whatever can be refused here is refused here, with the legacy service's own code and without an upstream call: a
//! submit costs money.

use url::Url;

use super::form::{Form, decode_base64, encode_base64};
use crate::methods::{self, Kind, Method, Need, Param, Value};
use crate::op::{Failure, Task};

/// Bounds on what is submitted.
#[derive(Clone, Debug)]
pub struct SubmitLimits {
    /// Largest image, in bytes after base64 is undone. 2captcha documents 600 kB.
    pub image_bytes_max: usize,
}

/// Smallest image, in bytes: below it the legacy service answers `ERROR_ZERO_CAPTCHA_FILESIZE` (2captcha docs).
const IMAGE_BYTES_MIN: usize = 100;

/// Longest text of one parameter other than an image, in bytes. The longest real ones, `data-s` and cookies, have a few
/// kilobytes.
const TEXT_BYTES_MAX: usize = 64 * 1024;

/// Understands a submit.
pub(super) fn decode(form: &Form, limits: &SubmitLimits) -> Result<Task, Failure> {
    let said = method_name(form).ok_or(Failure::MethodUnknown)?;
    let method = methods::find(said, |name| form.get(name)).ok_or(Failure::MethodUnknown)?;
    let mut fields = Vec::with_capacity(method.params.len());
    for param in method.params {
        if let Some(value) = value(form, param, limits)? {
            fields.push((param.native, value));
        }
    }
    Ok(Task { method, fields, proxy: proxy(form, method)? })
}

/// `method=`, or what its absence means: the legacy service's documented forms, and 2captcha-go, leave it out where a
/// file or a body is sent.
fn method_name(form: &Form) -> Option<&str> {
    if let Some(name) = form.get("method").filter(|name| !name.is_empty()) {
        return Some(name);
    }
    if form.file("file").is_some() {
        return Some("post");
    }
    form.get("body").map(|_| "base64")
}

fn value(form: &Form, param: &Param, limits: &SubmitLimits) -> Result<Option<Value>, Failure> {
    if param.kind == Kind::Image {
        return image(form, param, limits);
    }
    let said = param.legacy.iter().find_map(|name| form.get(name)).map(str::trim).filter(|text| !text.is_empty());
    let text = match (said, param.need) {
        (Some(text), _) => text,
        (None, Need::Default(text)) => text,
        (None, Need::Optional) => return Ok(None),
        (None, Need::Required) => return Err(missing(param)),
    };
    if text.len() > TEXT_BYTES_MAX {
        return Err(Failure::Parameter(first_name(param)));
    }
    read(param, text).map(Some)
}

fn read(param: &Param, text: &str) -> Result<Value, Failure> {
    let bad = || Failure::Parameter(first_name(param));
    Ok(match param.kind {
        Kind::Text => Value::Text(text.to_owned()),
        Kind::Flag => Value::Flag(methods::is_true(text)),
        Kind::Integer => Value::Number(text.parse::<i32>().map_err(|_| bad())?.to_string()),
        Kind::Decimal => {
            let number: f64 = text.parse().map_err(|_| bad())?;
            if !number.is_finite() {
                return Err(bad());
            }
            Value::Number(number.to_string())
        }
        Kind::Url => Value::Text(page_url(text)?),
        Kind::SiteKey => {
            let is_key = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
            if !is_key {
                return Err(Failure::SiteKey);
            }
            Value::Text(text.to_owned())
        }
        Kind::Cookies => Value::Text(cookies(text)),
        Kind::Image => return Err(bad()),
    })
}

/// The URL as it was sent, once it is known to be an absolute http(s) URL with a host.
fn page_url(text: &str) -> Result<String, Failure> {
    let url = Url::parse(text).map_err(|_| Failure::PageUrl)?;
    if matches!(url.scheme(), "http" | "https") && url.has_host() { Ok(text.to_owned()) } else { Err(Failure::PageUrl) }
}

/// `K1:V1;K2:V2;` as `K1=V1; K2=V2`. What is already written with `=` stays.
fn cookies(text: &str) -> String {
    let pairs = text.split(';').map(str::trim).filter(|pair| !pair.is_empty());
    let written = pairs.map(|pair| match (pair.find(':'), pair.find('=')) {
        (Some(colon), equals) if equals.is_none_or(|equals| colon < equals) => pair.replacen(':', "=", 1),
        _ => pair.to_owned(),
    });
    written.collect::<Vec<_>>().join("; ")
}

fn image(form: &Form, param: &Param, limits: &SubmitLimits) -> Result<Option<Value>, Failure> {
    let file = param.legacy.iter().find_map(|name| form.file(name));
    let text = param.legacy.iter().find_map(|name| form.get(name)).filter(|text| !text.trim().is_empty());
    let decoded;
    let bytes: &[u8] = match (file, text, param.need) {
        (Some(bytes), _, _) => bytes,
        (None, Some(text), _) => {
            // Before decoding, so that a huge text costs no second buffer. A third more for base64, and its line ends.
            if text.len() > limits.image_bytes_max.saturating_mul(3) / 2 + 1024 {
                return Err(Failure::ImageTooBig);
            }
            decoded = decode_base64(text)?;
            &decoded
        }
        (None, None, Need::Required) => return Err(Failure::Upload),
        (None, None, _) => return Ok(None),
    };
    if bytes.len() < IMAGE_BYTES_MIN {
        return Err(Failure::ImageTooSmall);
    }
    if bytes.len() > limits.image_bytes_max {
        return Err(Failure::ImageTooBig);
    }
    if !is_image(bytes) {
        return Err(Failure::ImageType);
    }
    Ok(Some(Value::Text(encode_base64(bytes))))
}

/// JPEG, PNG or GIF (2captcha docs), by content: names and types of uploads say nothing.
fn is_image(bytes: &[u8]) -> bool {
    [&b"\xff\xd8\xff"[..], b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a"].iter().any(|magic| bytes.starts_with(magic))
}

/// `login:password@host:port` and `proxytype`, as the one text that uCaptcha's error page names:
/// `type://login:password@host:port`.
fn proxy(form: &Form, method: &Method) -> Result<Option<String>, Failure> {
    let Some(said) = form.get("proxy").map(str::trim).filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    if method.task_type.proxied.is_none() {
        return Ok(None);
    }
    let (in_front, address) = match said.split_once("://") {
        Some((scheme, address)) => (Some(scheme), address),
        None => (None, said),
    };
    let scheme = form.get("proxytype").map(str::trim).filter(|text| !text.is_empty()).or(in_front).unwrap_or("http");
    let scheme = match scheme.to_ascii_lowercase().as_str() {
        // A proxy that is spoken to over TLS is written as plain http in 2captcha's own v2 libraries.
        "http" | "https" => "http",
        "socks4" => "socks4",
        "socks5" => "socks5",
        _ => return Err(Failure::ProxyFormat),
    };
    // The last `@`: passwords hold any character, host names do not.
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
            format!("{scheme}://{}:{}@{name}:{port}", escape(user), escape(password))
        }
        None => format!("{scheme}://{name}:{port}"),
    }))
}

/// Percent-encodes what would end a user name or password in a URL.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

/// What the legacy service says when a parameter is not there (2captcha docs, in.php errors).
fn missing(param: &Param) -> Failure {
    match first_name(param) {
        "pageurl" => Failure::PageUrl,
        "googlekey" => Failure::SiteKeyMissing,
        name => Failure::Parameter(name),
    }
}

fn first_name(param: &Param) -> &'static str {
    param.legacy.first().copied().unwrap_or("method")
}
