//! Converts the upstream's error codes to failures. Sources: uCaptcha's error page; the names in 2captcha's v2
//! error table, which a provider of uCaptcha may pass through. Any other code is classified by its HTTP status.

use crate::domain::Failure;

/// Returns the failure for the `errorCode` of a refused request.
pub(super) fn from_error_code(code: &str, status: u16) -> Failure {
    match code {
        "ERROR_KEY_DOES_NOT_EXIST" => Failure::KeyUnknown,
        "ERROR_WRONG_USER_KEY" => Failure::KeyMalformed,
        "ERROR_ZERO_BALANCE" => Failure::ZeroBalance,
        "ERROR_IP_NOT_ALLOWED" | "ERROR_IP_BLOCKED" => Failure::AddressRefused,
        "ERROR_PAGEURL" => Failure::PageUrl,
        // The site key is wrong, not missing: the gateway sends no request without one.
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
        // A 429 or 5xx says nothing about the request, even if the body contains a code.
        other if is_legacy_code(other) && status != 429 && status < 500 => Failure::Other(other.into()),
        _ => from_status(status),
    }
}

/// Returns the failure for a refusal without a known code.
pub(super) fn from_status(status: u16) -> Failure {
    match status {
        401 => Failure::KeyUnknown,
        402 => Failure::ZeroBalance,
        404 => Failure::TaskUnknown,
        429 => Failure::NotSent,
        500.. => Failure::Unavailable,
        _ => Failure::Parameters,
    }
}

/// Returns the failure for the `errorCode` of a failed task. The failure is final, so it is never a transient one.
pub(super) fn from_failed_task(code: &str) -> Failure {
    match from_error_code(code, 200) {
        // A legacy code is passed through, because here it describes the task.
        Failure::Parameters if is_legacy_code(code) => Failure::Other(code.into()),
        // No provider took the task, or the code has no legacy equivalent: the task was not solved.
        Failure::NoProviders | Failure::TaskUnsupported | Failure::Parameters => Failure::Unsolvable,
        known => known,
    }
}

/// Whether a code can be passed through to a legacy client. Clients recognise an error by its prefix.
fn is_legacy_code(code: &str) -> bool {
    code.strip_prefix("ERROR_").is_some_and(|name| {
        (1..=60).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
    })
}
