//! The parameters that a submit may have. Others are ignored and counted.

use super::media::NUMBERED_FILES;
use crate::methods::{Kind, Method};

/// Parameters of every method. Includes those that are accepted but have no native equivalent: the worker's language,
/// the developer's id, and a dump of the request (which would print the key, so none is returned).
pub const COMMON_PARAMETERS: &[&str] = &[
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
    let has_numbered_files = method.params.iter().any(|param| param.kind == Kind::Images);
    COMMON_PARAMETERS.contains(&name)
        || (has_numbered_files && NUMBERED_FILES.contains(&name))
        || method.params.iter().any(|param| param.legacy.contains(&name))
        || method.when.iter().chain(method.also_when).any(|(known, _)| *known == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::methods::Table;

    #[test]
    fn numbered_files_are_known_where_they_are_read() {
        let is_known = |method: &str, name: &str| {
            let table = Table::default();
            let row = table.rows().iter().find(|row| row.name == method).expect("a row");
            is_known_parameter(row, name)
        };
        assert!(is_known("rotate", "file_1") && is_known("rotate", "file_9") && is_known("rotate", "file"));
        assert!(!is_known("rotate", "file_0") && !is_known("rotate", "file_10") && !is_known("rotate", "file_01"));
        assert!(!is_known("recaptcha_v2", "file_1"));
    }
}
