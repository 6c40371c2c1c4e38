//! What the upstream's error codes mean. Source: uCaptcha's error page; the numeric-table names of 2captcha's v2, which
//! a provider behind uCaptcha may let through; the rest by HTTP status.

use crate::domain::Failure;

/// Meaning of an `errorCode` of a refused request.
pub(super) fn failure(code: &str, status: u16) -> Failure {
    match code {
        "ERROR_KEY_DOES_NOT_EXIST" => Failure::KeyUnknown,
        "ERROR_WRONG_USER_KEY" => Failure::KeyMalformed,
        "ERROR_ZERO_BALANCE" => Failure::ZeroBalance,
        "ERROR_IP_NOT_ALLOWED" | "ERROR_IP_BLOCKED" => Failure::AddressRefused,
        "ERROR_PAGEURL" => Failure::PageUrl,
        // The request had a site key, or it would not have left.
        "ERROR_SITEKEY" | "ERROR_RECAPTCHA_INVALID_SITEKEY" => Failure::SiteKey,
        "ERROR_BAD_PARAMETERS" => Failure::Parameters,
        "ERROR_BAD_PROXY" => Failure::ProxyBad,
        "ERROR_PROXY_FORMAT" => Failure::ProxyFormat,
        "ERROR_CAPTCHA_UNSOLVABLE" | "CAPTCHA_UNSOLVABLE" => Failure::Unsolvable,
        "ERROR_WRONG_CAPTCHA_ID" | "ERROR_NO_SUCH_CAPCHA_ID" => Failure::TaskUnknown,
        "TASK_NOT_SUPPORTED" | "ERROR_TASK_NOT_SUPPORTED" => Failure::TaskUnsupported,
        "NO_PROVIDERS_AVAILABLE" | "ERROR_NO_SLOT_AVAILABLE" => Failure::NoProviders,
        "ERROR_ZERO_CAPTCHA_FILESIZE" => Failure::ImageTooSmall,
        "ERROR_TOO_BIG_CAPTCHA_FILESIZE" => Failure::ImageTooBig,
        "ERROR_IMAGE_TYPE_NOT_SUPPORTED" => Failure::ImageType,
        "ERROR_DUPLICATE_REPORT" => Failure::ReportDuplicate,
        "ERROR_REPORT_NOT_RECORDED" => Failure::ReportRefused,
        // Trouble is no word on the request, whatever it calls itself.
        other if is_legacy_code(other) && status != 429 && status < 500 => Failure::Other(other.into()),
        _ => by_status(status),
    }
}

/// Meaning of a refusal that says nothing else.
pub(super) fn by_status(status: u16) -> Failure {
    match status {
        401 => Failure::KeyUnknown,
        402 => Failure::ZeroBalance,
        404 => Failure::TaskUnknown,
        429 => Failure::NotSent,
        500.. => Failure::Unavailable,
        _ => Failure::Parameters,
    }
}

/// Meaning of the `errorCode` of a task that failed: never trouble, since it is final.
pub(super) fn of_failed_task(code: &str) -> Failure {
    match failure(code, 200) {
        // It has this name on both sides, and here it is the task's own.
        Failure::Parameters if is_legacy_code(code) => Failure::Other(code.into()),
        // Nobody took it, or nothing that a legacy client has a word for: it was not solved.
        Failure::NoProviders | Failure::TaskUnsupported | Failure::Parameters => Failure::Unsolvable,
        known => known,
    }
}

/// Whether a code can be passed to a legacy client as it stands: clients recognise an error by its prefix.
fn is_legacy_code(code: &str) -> bool {
    code.strip_prefix("ERROR_").is_some_and(|name| {
        (1..=60).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
    })
}
