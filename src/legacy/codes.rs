//! What a failure is called on the legacy wire: the only file that spells those codes.
//!
//! The `match` has no default arm on purpose, so that a new [`Failure`] does not compile before it has a code for every
//! [`ReplyContext`]. Sources: 2captcha docs (error tables of in.php and res.php), uCaptcha's error page, `docs/protocol.md`.

use super::ReplyContext;
use crate::domain::Failure;

/// Not an error. Sic: the protocol spells it without the T, and clients compare the whole text.
pub const NOT_READY: &str = "CAPCHA_NOT_READY";

/// What a report is answered with (uCaptcha, `res.php` page).
pub const REPORT_RECORDED: &str = "OK_REPORT_RECORDED";

const PARAMETERS: &str = "ERROR_BAD_PARAMETERS";
const NO_SLOT: &str = "ERROR_NO_SLOT_AVAILABLE";
const UNSOLVABLE: &str = "ERROR_CAPTCHA_UNSOLVABLE";
const NOT_RECORDED: &str = "ERROR_REPORT_NOT_RECORDED";

/// Every code that a client may be told, for `method=get_server_errors`.
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

/// The code for a failure at a place.
pub fn code(failure: &Failure, place: ReplyContext) -> &str {
    match failure {
        Failure::Other(code) => code,
        known => label(known, place),
    }
}

/// The code as metrics and logs may hold it: a closed set, whatever the upstream says.
pub fn label(failure: &Failure, place: ReplyContext) -> &'static str {
    let is_poll = matches!(place, ReplyContext::Get | ReplyContext::GetWithPrice | ReplyContext::GetMany);
    match failure {
        Failure::KeyMalformed => "ERROR_WRONG_USER_KEY",
        Failure::KeyUnknown => "ERROR_KEY_DOES_NOT_EXIST",
        Failure::ZeroBalance => "ERROR_ZERO_BALANCE",
        Failure::AddressRefused => "ERROR_IP_NOT_ALLOWED",
        Failure::ActionMissing => "ERROR_EMPTY_ACTION",
        // Our choice for the first two: no answer to them is documented or was seen.
        Failure::ActionUnknown | Failure::MethodUnknown | Failure::Parameter(_) => PARAMETERS,
        // A poll has no parameters that its client could mend, so there it can only mean that no answer will come.
        Failure::Parameters | Failure::TaskUnsupported | Failure::NoProviders if is_poll => UNSOLVABLE,
        // Clients recognise an error by its prefix, which the native name of an unsupported task does not have.
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
        // A submit names no task: the upstream has no such endpoint, say, and surely took nothing.
        Failure::TaskUnknown if place == ReplyContext::Submit => NO_SLOT,
        Failure::TaskUnknown => "ERROR_WRONG_CAPTCHA_ID",
        Failure::Unsolvable => UNSOLVABLE,
        // Every client keeps polling on this answer and on no other, so a poll never shows trouble. `OutcomeUnknown` on a
        // submit cannot be seen by a client, who has got an id by then.
        Failure::NotSent | Failure::Unavailable | Failure::OutcomeUnknown => match place {
            ReplyContext::Get | ReplyContext::GetWithPrice | ReplyContext::GetMany => NOT_READY,
            ReplyContext::Report => NOT_RECORDED,
            ReplyContext::Submit | ReplyContext::Balance | ReplyContext::UnknownAction => NO_SLOT,
        },
        Failure::ReportDuplicate => "ERROR_DUPLICATE_REPORT",
        Failure::ReportRefused => NOT_RECORDED,
        Failure::Other(_) => "ERROR_OTHER",
    }
}
