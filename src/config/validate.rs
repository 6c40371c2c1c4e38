//! Rules across several keys. The types in `values` check each key alone.

use super::error::ConfigError;
use super::sections::Sections;

/// Checks the rules across keys.
///
/// # Errors
/// Names the keys that contradict each other.
pub(super) fn validate(sections: &Sections) -> Result<(), ConfigError> {
    let Sections { listen, tls, upstream, ledger, .. } = sections;
    let rules = [
        (tls.cert.is_empty() == tls.key.is_empty(), "tls.cert and tls.key: set both or none"),
        (
            listen.http.0.is_some() || (listen.https.0.is_some() && !tls.cert.is_empty()),
            "listen.http and listen.https: at least one must be on; https also needs tls.cert and tls.key",
        ),
        (
            ledger.unbound_ttl_ms.0 > upstream.submit_timeout_ms.0,
            "ledger.unbound_ttl_ms must be above upstream.submit_timeout_ms, or a late answer to a submit is lost",
        ),
        (
            ledger.poll_interval_min_ms.0 <= ledger.poll_interval_max_ms.0,
            "ledger.poll_interval_min_ms must not be above ledger.poll_interval_max_ms",
        ),
        (
            ledger.answer_ttl_ms.0 >= ledger.open_ttl_ms.0,
            "ledger.answer_ttl_ms must not be below ledger.open_ttl_ms, or the first answer of a group expires before \
             the last arrives",
        ),
    ];
    match rules.iter().find(|(holds, _)| !holds) {
        None => Ok(()),
        Some((_, rule)) => Err(ConfigError((*rule).to_owned())),
    }
}
