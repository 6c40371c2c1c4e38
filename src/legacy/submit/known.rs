//! The parameters that a submit may have. Others are ignored and counted.

use crate::methods::Method;

/// Parameters of every method. Includes those that are accepted but have no native equivalent: the worker's language,
/// the developer's id, and a dump of the request (which would print the key, so none is returned).
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

/// Whether a submit of that method may have that parameter.
pub(in crate::legacy) fn is_known_parameter(method: &Method, name: &str) -> bool {
    let name = name.split('[').next().unwrap_or(name);
    let is_numbered_file = name.strip_prefix("file_").is_some_and(|number| number.parse::<u8>().is_ok());
    COMMON.contains(&name)
        || is_numbered_file
        || method.params.iter().any(|param| param.legacy.contains(&name))
        || method.when.iter().chain(method.also_when).any(|(known, _)| *known == name)
}
