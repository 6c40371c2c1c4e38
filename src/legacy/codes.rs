//! The legacy codes of failures. No other file spells these codes.
//!
//! The `match` deliberately has no default arm: a new [`Failure`] does not compile until it has a code in every
//! [`ReplyContext`]. Sources: 2captcha docs (error tables of in.php and res.php), uCaptcha's error page,
//! `docs/protocol.md`.

use super::style::ReplyContext;
use crate::domain::Failure;

/// Not an error. The protocol spells it without the T, and clients compare the whole text.
pub const NOT_READY: &str = "CAPCHA_NOT_READY";

/// The reply to a report (uCaptcha, `res.php` page).
pub const REPORT_RECORDED: &str = "OK_REPORT_RECORDED";

const PARAMETERS: &str = "ERROR_BAD_PARAMETERS";
const NO_SLOT: &str = "ERROR_NO_SLOT_AVAILABLE";
const UNSOLVABLE: &str = "ERROR_CAPTCHA_UNSOLVABLE";
const NOT_RECORDED: &str = "ERROR_REPORT_NOT_RECORDED";

/// Every code that a client may receive, for `method=get_server_errors`.
pub const ALL: &[&str] = &[
    "CAPCHA_NOT_READY",
    "ERROR_WRONG_USER_KEY",
    "ERROR_KEY_DOES_NOT_EXIST",
    "ERROR_ZERO_BALANCE",
    "ERROR_IP_NOT_ALLOWED",
    "ERROR_PAGEURL",
    "ERROR_NO_SLOT_AVAILABLE",
    "ERROR_ZERO_CAPTCHA_FILESIZE",
    "ERROR_TOO_BIG_CAPTCHA_FILESIZE",
    "ERROR_IMAGE_TYPE_NOT_SUPPORTED",
    "ERROR_UPLOAD",
    "ERROR_GOOGLEKEY",
    "ERROR_WRONG_GOOGLEKEY",
    "ERROR_PROXY_FORMAT",
    "ERROR_BAD_PROXY",
    "ERROR_PROXY_CONNECTION_FAILED",
    "ERROR_BAD_PARAMETERS",
    "ERROR_CAPTCHA_UNSOLVABLE",
    "ERROR_WRONG_ID_FORMAT",
    "ERROR_WRONG_CAPTCHA_ID",
    "ERROR_EMPTY_ACTION",
    "ERROR_REPORT_NOT_RECORDED",
    "ERROR_DUPLICATE_REPORT",
];

/// Returns the code of a failure.
pub fn code(failure: &Failure, context: ReplyContext) -> &str {
    match failure {
        Failure::Other(code) => code,
        known => label(known, context),
    }
}

/// Returns the code of a failure for metrics and logs, from a closed set even if the upstream sent another code.
pub fn label(failure: &Failure, context: ReplyContext) -> &'static str {
    let is_poll = context.is_poll();
    match failure {
        Failure::KeyMalformed => "ERROR_WRONG_USER_KEY",
        Failure::KeyUnknown => "ERROR_KEY_DOES_NOT_EXIST",
        Failure::ZeroBalance => "ERROR_ZERO_BALANCE",
        Failure::AddressRefused => "ERROR_IP_NOT_ALLOWED",
        Failure::ActionMissing => "ERROR_EMPTY_ACTION",
        // Our choice for the first two: the service's reply is neither documented nor observed.
        Failure::ActionUnknown | Failure::MethodUnknown | Failure::Parameter(_) => PARAMETERS,
        // A poll has no parameters that its client could correct, so there the code means that no answer will follow.
        Failure::Parameters | Failure::TaskUnsupported | Failure::NoProviders if is_poll => UNSOLVABLE,
        // Clients recognise an error by its prefix, which the native code for an unsupported task lacks.
        Failure::Parameters | Failure::TaskUnsupported => PARAMETERS,
        Failure::NoProviders => NO_SLOT,
        Failure::PageUrl => "ERROR_PAGEURL",
        Failure::SiteKeyMissing => "ERROR_WRONG_GOOGLEKEY",
        Failure::SiteKey => "ERROR_GOOGLEKEY",
        Failure::ProxyFormat => "ERROR_PROXY_FORMAT",
        Failure::ProxyBad if is_poll => "ERROR_PROXY_CONNECTION_FAILED",
        Failure::ProxyBad => "ERROR_BAD_PROXY",
        Failure::Upload => "ERROR_UPLOAD",
        Failure::ImageTooSmall => "ERROR_ZERO_CAPTCHA_FILESIZE",
        Failure::ImageTooBig => "ERROR_TOO_BIG_CAPTCHA_FILESIZE",
        Failure::ImageType => "ERROR_IMAGE_TYPE_NOT_SUPPORTED",
        Failure::IdMalformed => "ERROR_WRONG_ID_FORMAT",
        // A submit names no task. The upstream may lack the endpoint, for example; it certainly accepted nothing.
        Failure::TaskUnknown if context == ReplyContext::Submit => NO_SLOT,
        Failure::TaskUnknown => "ERROR_WRONG_CAPTCHA_ID",
        Failure::Unsolvable => UNSOLVABLE,
        // Clients keep polling only on `NOT_READY`, so a poll never reports a failed call. A submit never reports
        // `OutcomeUnknown`, because the gateway returns an id instead.
        Failure::NotSent | Failure::Unavailable | Failure::OutcomeUnknown => match context {
            ReplyContext::Get | ReplyContext::GetWithPrice | ReplyContext::GetMany => NOT_READY,
            ReplyContext::Report => NOT_RECORDED,
            ReplyContext::Submit | ReplyContext::Balance | ReplyContext::UnknownAction => NO_SLOT,
        },
        Failure::ReportDuplicate => "ERROR_DUPLICATE_REPORT",
        Failure::ReportRefused => NOT_RECORDED,
        Failure::Other(_) => "ERROR_OTHER",
    }
}
