//! `in.php`: the parameters of a submit, checked against the row of the method table that they mean.
//!
//! Whatever can be refused here is refused here, with the legacy service's own code and without an upstream call: a
//! submit costs money.

use url::Url;

use super::form::{Form, decode_base64, encode_base64};
use super::image::image_bytes;
use crate::domain::{Failure, Routing, Task};
use crate::methods::{self, Kind, Method, Need, Param, Table, TaskType, Value};

/// What may be submitted.
#[derive(Clone, Debug)]
pub struct SubmitLimits {
    /// Largest image, in bytes after base64 is undone. 2captcha documents 600 kB.
    pub image_bytes_max: usize,
    /// The method table.
    pub table: Table,
    /// uCaptcha's own options, for submits that do not say otherwise.
    pub routing: Routing,
}

/// Longest text of one parameter other than an image, in bytes. The longest real ones are pages in base64 (TSPD).
const TEXT_BYTES_MAX: usize = 1024 * 1024;

/// Largest audio file, in bytes (2captcha docs).
const AUDIO_BYTES_MAX: usize = 1024 * 1024;

/// Values of `selectionMode` (uCaptcha, createTask page).
pub const SELECTION_MODES: &[&str] = &["autoCheapest", "autoFastest", "autoMostReliable", "priority"];

/// Parameters of every method. Those that are accepted and mean nothing upstream stand here as well: the language of the
/// worker, the developer's id, a dump of the request (which would print the key, so there is none).
const COMMON: &[&str] = &[
    "key",
    "method",
    "json",
    "header_acao",
    "pingback",
    "soft_id",
    "proxy",
    "proxytype",
    "lang",
    "language",
    "userAgent",
    "debug_dump",
    "selectionMode",
    "provider",
    "version",
    "enterprise",
    "recaptcha",
    "canvas",
    "coordinatescaptcha",
    "textcaptcha",
    "file",
    "body",
];

/// Whether a parameter means anything to a submit of that method.
pub(super) fn knows(method: &Method, name: &str) -> bool {
    let name = name.split('[').next().unwrap_or(name);
    let is_numbered_file = name.strip_prefix("file_").is_some_and(|number| number.parse::<u8>().is_ok());
    COMMON.contains(&name)
        || is_numbered_file
        || method.params.iter().any(|param| param.legacy.contains(&name))
        || method.when.iter().any(|(known, _)| *known == name)
}

/// Understands a submit: one task, or several where several images are to be solved one by one.
pub(super) fn decode(form: &Form, limits: &SubmitLimits) -> Result<Vec<Task>, Failure> {
    let said = method_name(form).ok_or(Failure::MethodUnknown)?;
    let method = limits.table.find(said, |name| form.get(name)).ok_or(Failure::MethodUnknown)?;
    let mut fields = Vec::with_capacity(method.params.len());
    for param in method.params {
        if let Some(value) = value(form, param, limits)? {
            fields.push((param.native, value));
        }
    }
    for group in method.any_of {
        if !fields.iter().any(|(native, _)| group.contains(native)) {
            let wanted = method.params.iter().find(|param| group.contains(&param.native));
            return Err(wanted.map_or(Failure::Parameters, missing));
        }
    }
    let task = Task {
        method,
        fields,
        proxy: proxy(form, method)?,
        routing: routing(form, &limits.routing)?,
        pingback: pingback(form)?,
    };
    Ok(split(task))
}

/// `method=`, or what its absence means: the legacy service's documented forms, and 2captcha-go and -javascript, leave it
/// out where a file, a body or a question is sent.
fn method_name<'f>(form: &'f Form<'_>) -> Option<&'f str> {
    // Trimmed: unicaps sends a space behind one of its names.
    let said = form.said("method");
    if form.said("textcaptcha").is_some() && matches!(said, None | Some("post" | "base64")) {
        return Some("textcaptcha");
    }
    if said.is_some() {
        return said;
    }
    // Only images that are to be turned come in numbers.
    if form.file("file_1").is_some() || form.get("file_1").is_some() {
        return Some("rotatecaptcha");
    }
    if form.file("file").is_some() {
        return Some("post");
    }
    form.get("body").map(|_| "base64")
}

/// A task for each of several images.
fn split(task: Task) -> Vec<Task> {
    let is_split =
        |native: &str| task.method.params.iter().any(|param| param.native == native && param.kind == Kind::Images);
    let Some(at) = task.fields.iter().position(|(native, value)| is_split(native) && value.items().is_some()) else {
        return vec![task];
    };
    let images = match task.fields.get(at) {
        Some((_, Value::List(images))) => images.clone(),
        _ => Vec::new(),
    };
    let one = |image: Value| {
        let mut task = task.clone();
        if let Some((_, value)) = task.fields.get_mut(at) {
            *value = image;
        }
        task
    };
    images.into_iter().map(one).collect()
}

fn value(form: &Form, param: &Param, limits: &SubmitLimits) -> Result<Option<Value>, Failure> {
    match param.kind {
        Kind::Image => return image(form, param.legacy, param.need, limits),
        Kind::Images => return images(form, param, limits),
        Kind::ImageList => {
            let each = param.legacy.iter().map(|name| image(form, &[name], Need::Required, limits));
            let images = each.collect::<Result<Vec<_>, _>>()?;
            return Ok(Some(Value::List(images.into_iter().flatten().collect())));
        }
        Kind::ImageArray => return image_array(form, param, limits).map(Some),
        Kind::Record => return Ok(record(form, param)),
        _ => {}
    }
    let said = first_said(form, param.legacy);
    let file = param.legacy.iter().find_map(|name| form.file(name)).filter(|_| param.kind == Kind::Audio);
    if let Some(bytes) = file {
        return audio(bytes).map(Some);
    }
    let text = match (said, param.need) {
        (Some(text), _) => text,
        (None, Need::Default(text)) => text,
        (None, Need::Optional) => return Ok(None),
        (None, Need::Required) => return Err(missing(param)),
    };
    let text_max = if param.kind == Kind::Audio { AUDIO_BYTES_MAX * 2 } else { TEXT_BYTES_MAX };
    if text.len() > text_max {
        return Err(Failure::Parameter(first_name(param)));
    }
    read(param, text).map(Some)
}

/// The first of these parameters that is there and not empty.
fn first_said<'a>(form: &'a Form, names: &[&str]) -> Option<&'a str> {
    names.iter().find_map(|name| form.said(name))
}

fn read(param: &Param, text: &str) -> Result<Value, Failure> {
    let bad = || Failure::Parameter(first_name(param));
    Ok(match param.kind {
        Kind::Flag => Value::Flag(methods::is_true(text)),
        Kind::Integer => Value::Number(text.parse::<i32>().map_err(|_| bad())?.to_string()),
        Kind::Decimal => {
            let number: f64 = text.parse().map_err(|_| bad())?;
            if !number.is_finite() {
                return Err(bad());
            }
            Value::Number(number.to_string())
        }
        Kind::PageUrl => Value::Text(http_url(text).ok_or(Failure::PageUrl)?),
        Kind::Url => Value::Text(http_url(text).ok_or_else(bad)?),
        Kind::Host => Value::Text(host(text).ok_or_else(bad)?),
        Kind::GoogleKey => {
            let is_key = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
            if !is_key {
                return Err(Failure::SiteKey);
            }
            Value::Text(text.to_owned())
        }
        Kind::Cookies => Value::Text(cookies(text).ok_or_else(bad)?),
        Kind::Audio => audio(&decode_base64(text)?)?,
        Kind::Text | Kind::Image | Kind::Images | Kind::ImageList | Kind::ImageArray | Kind::Record => {
            Value::Text(text.to_owned())
        }
    })
}

fn audio(bytes: &[u8]) -> Result<Value, Failure> {
    if bytes.len() > AUDIO_BYTES_MAX {
        return Err(Failure::ImageTooBig);
    }
    if bytes.is_empty() {
        return Err(Failure::ImageTooSmall);
    }
    Ok(Value::Text(encode_base64(bytes)))
}

/// A JSON array of images, or one for each `name[…]`.
fn image_array(form: &Form, param: &Param, limits: &SubmitLimits) -> Result<Value, Failure> {
    /// More than any puzzle has, and a bound on what is decoded.
    const IMAGES_MAX: usize = 32;
    let said = param.legacy.iter().find_map(|name| form.get(name));
    let texts: Vec<String> = match said {
        Some(json) => serde_json::from_str(json).map_err(|_| Failure::Upload)?,
        None => param.legacy.iter().flat_map(|name| form.members(name)).map(|(_, text)| text.to_owned()).collect(),
    };
    if texts.is_empty() || texts.len() > IMAGES_MAX {
        return Err(Failure::Upload);
    }
    let image = |text: &String| {
        let bytes = image_bytes(None, Some(text), limits.image_bytes_max)?.ok_or(Failure::Upload)?;
        Ok(Value::Text(encode_base64(&bytes)))
    };
    texts.iter().map(image).collect::<Result<_, _>>().map(Value::List)
}

/// `name[member]=…` as JSON text, or the text that was sent.
fn record(form: &Form, param: &Param) -> Option<Value> {
    for name in param.legacy {
        let members = form.members(name);
        if !members.is_empty() {
            let member = |(name, text): (&str, &str)| (name.to_owned(), Value::Text(text.to_owned()));
            return Some(Value::Text(Value::Record(members.into_iter().map(member).collect()).to_json()));
        }
        if let Some(text) = form.said(name) {
            return Some(Value::Text(text.to_owned()));
        }
    }
    None
}

/// The host of a URL, or a host as it stands.
fn host(text: &str) -> Option<String> {
    let host = match Url::parse(text) {
        Ok(url) if url.has_host() => url.host_str()?.to_owned(),
        _ => text.split('/').next()?.to_owned(),
    };
    url::Host::parse(host.split(':').next()?).is_ok().then_some(host)
}

/// Where the client wants to be told: an http(s) URL.
fn pingback(form: &Form) -> Result<Option<Box<str>>, Failure> {
    /// Longest one. The ledger keeps it as long as the task.
    const BYTES_MAX: usize = 2_048;
    let Some(said) = form.said("pingback") else {
        return Ok(None);
    };
    let url = http_url(said).filter(|url| url.len() <= BYTES_MAX).ok_or(Failure::Parameter("pingback"))?;
    Ok(Some(url.into_boxed_str()))
}

/// uCaptcha's own options: the request's before the deployment's.
fn routing(form: &Form, deployment: &Routing) -> Result<Routing, Failure> {
    let said = |name| form.said(name).map(str::to_owned);
    let selection_mode = said("selectionMode").or_else(|| deployment.selection_mode.clone());
    if selection_mode.as_deref().is_some_and(|mode| !SELECTION_MODES.contains(&mode)) {
        return Err(Failure::Parameter("selectionMode"));
    }
    let provider = said("provider").or_else(|| deployment.provider.clone());
    let is_name =
        |name: &str| name.len() <= 64 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    if provider.as_deref().is_some_and(|name| !is_name(name)) {
        return Err(Failure::Parameter("provider"));
    }
    Ok(Routing { selection_mode, provider })
}

/// The URL as it was sent, once it is known to be an absolute http(s) URL with a host.
fn http_url(text: &str) -> Option<String> {
    let url = Url::parse(text).ok()?;
    (matches!(url.scheme(), "http" | "https") && url.has_host()).then(|| text.to_owned())
}

/// `K1:V1;K2:V2;` as `K1=V1; K2=V2`, and likewise a JSON array of objects with `name` and `value`. What is already
/// written with `=` stays.
fn cookies(text: &str) -> Option<String> {
    if text.starts_with('[') {
        let list: Vec<serde_json::Value> = serde_json::from_str(text).ok()?;
        let pair = |cookie: &serde_json::Value| {
            Some(format!("{}={}", cookie.get("name")?.as_str()?, cookie.get("value")?.as_str()?))
        };
        return Some(list.iter().map(pair).collect::<Option<Vec<_>>>()?.join("; "));
    }
    let pairs = text.split(';').map(str::trim).filter(|pair| !pair.is_empty());
    let written = pairs.map(|pair| match (pair.find(':'), pair.find('=')) {
        (Some(colon), equals) if equals.is_none_or(|equals| colon < equals) => pair.replacen(':', "=", 1),
        _ => pair.to_owned(),
    });
    Some(written.collect::<Vec<_>>().join("; "))
}

fn image(form: &Form, names: &[&str], need: Need, limits: &SubmitLimits) -> Result<Option<Value>, Failure> {
    let file = names.iter().find_map(|name| form.file(name));
    match (image_bytes(file, first_said(form, names), limits.image_bytes_max)?, need) {
        (Some(bytes), _) => Ok(Some(Value::Text(encode_base64(&bytes)))),
        (None, Need::Required) => Err(Failure::Upload),
        (None, _) => Ok(None),
    }
}

/// One image, or a list of them: `file` or `body`, then `file_1` to `file_9`.
fn images(form: &Form, param: &Param, limits: &SubmitLimits) -> Result<Option<Value>, Failure> {
    const NUMBERED: [&str; 9] =
        ["file_1", "file_2", "file_3", "file_4", "file_5", "file_6", "file_7", "file_8", "file_9"];
    let first = image(form, param.legacy, Need::Optional, limits)?;
    let mut images: Vec<Value> = first.into_iter().collect();
    for name in NUMBERED {
        images.extend(image(form, &[name], Need::Optional, limits)?);
    }
    match images.len() {
        0 => Err(Failure::Upload),
        1 => Ok(images.pop()),
        _ => Ok(Some(Value::List(images))),
    }
}

/// `login:password@host:port` and `proxytype`, as the one text that uCaptcha's error page names:
/// `type://login:password@host:port`.
fn proxy(form: &Form, method: &Method) -> Result<Option<String>, Failure> {
    let said = match (form.said("proxy"), &method.task_type) {
        (_, TaskType { proxied: None, .. }) | (None, TaskType { proxyless: Some(_), .. }) => return Ok(None),
        (None, TaskType { proxyless: None, .. }) => return Err(Failure::Parameter("proxy")),
        (Some(said), _) => said,
    };
    let (in_front, address) = match said.split_once("://") {
        Some((scheme, address)) => (Some(scheme), address),
        None => (None, said),
    };
    let scheme = form.said("proxytype").or(in_front).unwrap_or("http");
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
        _ if param.kind == Kind::PageUrl => Failure::PageUrl,
        _ if matches!(param.kind, Kind::Audio | Kind::ImageList | Kind::ImageArray) => Failure::Upload,
        "googlekey" => Failure::SiteKeyMissing,
        name => Failure::Parameter(name),
    }
}

fn first_name(param: &Param) -> &'static str {
    param.legacy.first().copied().unwrap_or("method")
}
