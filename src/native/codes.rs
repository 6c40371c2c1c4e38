//! The meaning of the upstream's error codes: the failure of each, and its subject.
//!
//! On a poll, only a code about the task itself is final. Any other code describes the upstream, the gateway's address
//! or the account, and the task, which is paid for, may still be solved.
//!
//! Sources: uCaptcha's error page; 2captcha's v2 error table, whose codes a provider of uCaptcha may pass through; the
//! error pages of CapSolver and CapMonster Cloud; AnySolver, which omits the prefix `ERROR_`. Codes are compared without
//! that prefix. A code that is not listed is classified by its HTTP status.

use crate::domain::Failure;

/// The subject of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    /// The task itself. Final.
    Task,
    /// The task is not ready; some services of this kind send this as an error.
    Pending,
    /// Anything else.
    Other(MaskedCause),
}

/// Why an answer to a poll says nothing about the task: such an answer reads as not ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaskedCause {
    /// The upstream rejects the key.
    Key,
    /// The account has no money.
    Balance,
    /// The upstream rejects the gateway's address.
    Address,
    /// The upstream is overloaded, or limits the rate of requests.
    Load,
    /// The upstream has an internal error, or is under maintenance.
    Service,
    /// The upstream rejects the form of the poll.
    Request,
    /// The error has no code, or one that is not known to be about the task.
    UnknownCode,
    /// The upstream does not know the task. Final once the upstream has repeated it for some time.
    UnknownTask,
    /// The answer is about another task.
    OtherTask,
    /// The answer cannot be interpreted.
    Unusable,
}

impl MaskedCause {
    /// Every cause.
    pub const ALL: [Self; 10] = [
        Self::Key,
        Self::Balance,
        Self::Address,
        Self::Load,
        Self::Service,
        Self::Request,
        Self::UnknownCode,
        Self::UnknownTask,
        Self::OtherTask,
        Self::Unusable,
    ];

    /// Returns the label for metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Balance => "balance",
            Self::Address => "address",
            Self::Load => "load",
            Self::Service => "service",
            Self::Request => "request",
            Self::UnknownCode => "unknown_code",
            Self::UnknownTask => "unknown_task",
            Self::OtherTask => "other_task",
            Self::Unusable => "unusable",
        }
    }
}

const TASK: Subject = Subject::Task;
const KEY: Subject = Subject::Other(MaskedCause::Key);
const ADDRESS: Subject = Subject::Other(MaskedCause::Address);
const LOAD: Subject = Subject::Other(MaskedCause::Load);
const SERVICE: Subject = Subject::Other(MaskedCause::Service);
const REQUEST: Subject = Subject::Other(MaskedCause::Request);

/// The known codes without `ERROR_`, with their subject and their failure. `None`: the code is passed through if it has
/// the prefix.
static CODES: &[(&str, Subject, Option<Failure>)] = &[
    // uCaptcha.
    ("CAPTCHA_UNSOLVABLE", TASK, Some(Failure::Unsolvable)),
    ("WRONG_CAPTCHA_ID", TASK, Some(Failure::TaskUnknown)),
    ("PAGEURL", TASK, Some(Failure::PageUrl)),
    // The site key is wrong, not missing: the gateway sends no request without one.
    ("SITEKEY", TASK, Some(Failure::SiteKey)),
    ("BAD_PROXY", TASK, Some(Failure::ProxyBad)),
    ("PROXY_FORMAT", TASK, Some(Failure::ProxyFormat)),
    ("TASK_NOT_SUPPORTED", TASK, Some(Failure::TaskUnsupported)),
    ("KEY_DOES_NOT_EXIST", KEY, Some(Failure::KeyUnknown)),
    ("WRONG_USER_KEY", KEY, Some(Failure::KeyMalformed)),
    ("ZERO_BALANCE", Subject::Other(MaskedCause::Balance), Some(Failure::ZeroBalance)),
    // On a poll, these parameters are those of `getTaskResult`.
    ("BAD_PARAMETERS", REQUEST, Some(Failure::Parameters)),
    ("NO_PROVIDERS_AVAILABLE", LOAD, Some(Failure::NoProviders)),
    ("CAPCHA_NOT_READY", Subject::Pending, Some(Failure::Unavailable)),
    // 2captcha, v2 and res.php.
    ("NO_SUCH_CAPCHA_ID", TASK, Some(Failure::TaskUnknown)),
    ("BAD_DUPLICATES", TASK, None),
    ("TOKEN_EXPIRED", TASK, None),
    ("BAD_TOKEN_OR_PAGEURL", TASK, None),
    ("GOOGLEKEY", TASK, None),
    ("WRONG_GOOGLEKEY", TASK, None),
    ("CAPTCHA_ID", TASK, None),
    ("RECAPTCHA_INVALID_SITEKEY", TASK, Some(Failure::SiteKey)),
    ("PROXY_CONNECTION_FAILED", TASK, Some(Failure::ProxyBad)),
    ("ZERO_CAPTCHA_FILESIZE", TASK, Some(Failure::ImageTooSmall)),
    ("TOO_BIG_CAPTCHA_FILESIZE", TASK, Some(Failure::ImageTooBig)),
    ("IMAGE_TYPE_NOT_SUPPORTED", TASK, Some(Failure::ImageType)),
    ("WRONG_FILE_EXTENSION", TASK, None),
    ("CAPTCHAIMAGE_BLOCKED", TASK, None),
    ("NO_SLOT_AVAILABLE", LOAD, Some(Failure::NoProviders)),
    ("IP_NOT_ALLOWED", ADDRESS, Some(Failure::AddressRefused)),
    ("IP_BLOCKED", ADDRESS, Some(Failure::AddressRefused)),
    ("IP_BANNED", ADDRESS, Some(Failure::AddressRefused)),
    ("NO_SUCH_METHOD", REQUEST, None),
    ("TASK_ABSENT", REQUEST, None),
    ("DUPLICATE_REPORT", REQUEST, Some(Failure::ReportDuplicate)),
    ("REPORT_NOT_RECORDED", REQUEST, Some(Failure::ReportRefused)),
    // CapSolver.
    ("TASKID_INVALID", TASK, Some(Failure::TaskUnknown)),
    ("TASK_TIMEOUT", TASK, Some(Failure::Unsolvable)),
    ("INVALID_TASK_DATA", TASK, None),
    ("BAD_REQUEST", REQUEST, None),
    ("RATE_LIMIT", LOAD, None),
    ("SERVICE_UNAVALIABLE", SERVICE, Some(Failure::NoProviders)),
    // CapMonster Cloud, which sends `CAPTCHA_NOT_READY` and `WRONG_CAPTCHA_ID` without the prefix.
    ("CAPTCHA_NOT_READY", Subject::Pending, Some(Failure::Unavailable)),
    ("DOMAIN_NOT_ALLOWED", TASK, None),
    ("INVALID_TASK", TASK, None),
    ("PROXY_BANNED", TASK, Some(Failure::ProxyBad)),
    ("PROXY_CONNECT_REFUSED", TASK, Some(Failure::ProxyBad)),
    ("PROXY_NOT_AUTHORISED", TASK, Some(Failure::ProxyBad)),
    ("PROXY_READ_TIMEOUT", TASK, Some(Failure::ProxyBad)),
    ("PROXY_CREDENTIALS_INVALID_CHARACTER", TASK, Some(Failure::ProxyFormat)),
    ("PROXY_MISSING", TASK, None),
    ("RECAPTCHA_INVALID_DOMAIN", TASK, None),
    ("RECAPTCHA_TIMEOUT", TASK, Some(Failure::Unsolvable)),
    ("WRONG_USERAGENT", TASK, None),
    ("TOO_MUCH_REQUESTS", LOAD, None),
    ("SERVICE_NOT_AVAILABLE", SERVICE, Some(Failure::NoProviders)),
    // AnySolver.
    ("DOMAIN_BANNED", TASK, None),
    ("IMAGE_CORRUPTED", TASK, Some(Failure::Upload)),
    ("IMAGE_TOO_LARGE", TASK, Some(Failure::ImageTooBig)),
    ("IMAGE_TOO_SMALL", TASK, Some(Failure::ImageTooSmall)),
    ("USER_BANNED", KEY, None),
    ("INTERNAL_ERROR", SERVICE, Some(Failure::NoProviders)),
    // Usual names of these conditions; no document of such a service lists them.
    ("TOO_MANY_REQUESTS", LOAD, None),
    ("MAINTENANCE", SERVICE, Some(Failure::NoProviders)),
    ("SERVICE_UNAVAILABLE", SERVICE, Some(Failure::NoProviders)),
    ("INTERNAL", SERVICE, Some(Failure::NoProviders)),
    ("INTERNAL_SERVER_ERROR", SERVICE, Some(Failure::NoProviders)),
];

/// The meaning of an error on a poll.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PollError {
    /// The task failed.
    Final(Failure),
    /// The task is not ready.
    Pending,
    /// The error is not about the task.
    Masked(MaskedCause, Failure),
}

/// Returns the failure for the `errorCode` of a refused request.
pub(super) fn from_error_code(code: &str, status: u16) -> Failure {
    match find(code) {
        // After a 5xx, a submit may have been accepted.
        Some((SERVICE, _)) if status >= 500 => from_status(status),
        Some((_, Some(failure))) => failure.clone(),
        // A 429 or 5xx says nothing about the request, even if the body contains a code.
        _ if is_legacy_code(code) && status != 429 && status < 500 => Failure::Other(code.into()),
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

/// Returns the meaning of a refused poll, by its `errorCode` if it has one.
pub(super) fn from_poll_error(code: Option<&str>, status: u16) -> PollError {
    let Some(code) = code else {
        return PollError::Masked(cause_from_status(status), from_status(status));
    };
    let failure = || not_sent_if_no_providers(from_error_code(code, status));
    match find(code) {
        Some((Subject::Task, known)) => PollError::Final(task_failure(code, known)),
        Some((Subject::Pending, _)) => PollError::Pending,
        Some((Subject::Other(cause), _)) => PollError::Masked(cause, failure()),
        None => PollError::Masked(cause_from_status(status), failure()),
    }
}

/// A provider already has the task, so this code describes the poll: it is refused because of load.
fn not_sent_if_no_providers(failure: Failure) -> Failure {
    if failure == Failure::NoProviders { Failure::NotSent } else { failure }
}

fn cause_from_status(status: u16) -> MaskedCause {
    match status {
        401 => MaskedCause::Key,
        402 => MaskedCause::Balance,
        429 => MaskedCause::Load,
        500.. => MaskedCause::Service,
        _ => MaskedCause::UnknownCode,
    }
}

/// Returns the failure for the `errorCode` of a failed task. The failure is final, so it is never a transient one, and
/// never one about the client's account: the provider that failed may have had no money, for example.
pub(super) fn from_failed_task(code: &str) -> Failure {
    match find(code) {
        Some((Subject::Task, known)) => task_failure(code, known),
        // The parameters are those of the task.
        None | Some((REQUEST, _)) => task_failure(code, None),
        Some(_) => Failure::Unsolvable,
    }
}

/// Returns the final failure of a task. Without a legacy equivalent, the task was not solved.
fn task_failure(code: &str, known: Option<&Failure>) -> Failure {
    match known {
        Some(Failure::TaskUnsupported) => Failure::Unsolvable,
        Some(failure) => failure.clone(),
        None if is_legacy_code(code) => Failure::Other(code.into()),
        None => Failure::Unsolvable,
    }
}

/// Whether a code means that the task is not ready.
pub(super) fn is_pending(code: &str) -> bool {
    find(code).is_some_and(|(subject, _)| subject == Subject::Pending)
}

fn find(code: &str) -> Option<(Subject, Option<&'static Failure>)> {
    let name = code.strip_prefix("ERROR_").unwrap_or(code);
    CODES.iter().find(|(known, _, _)| *known == name).map(|(_, subject, failure)| (*subject, failure.as_ref()))
}

/// Whether a code can be passed through to a legacy client. Clients recognise an error by its prefix.
fn is_legacy_code(code: &str) -> bool {
    code.strip_prefix("ERROR_").is_some_and(|name| {
        (1..=60).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_code_is_listed_once_and_without_its_prefix() {
        let mut seen = HashSet::new();
        for (name, _, _) in CODES {
            assert!(seen.insert(name) && !name.starts_with("ERROR_"), "{name}");
        }
    }

    #[test]
    fn only_errors_about_the_task_are_final_on_a_poll() {
        for (name, subject, _) in CODES {
            for code in [(*name).to_owned(), format!("ERROR_{name}")] {
                for status in [200, 400, 404, 500] {
                    let error = from_poll_error(Some(&code), status);
                    let is_final = matches!(error, PollError::Final(_));
                    assert_eq!(is_final, *subject == Subject::Task, "{code} with status {status}: {error:?}");
                    if let PollError::Final(failure) = error {
                        let is_transient = matches!(
                            failure,
                            Failure::NotSent | Failure::Unavailable | Failure::OutcomeUnknown | Failure::Parameters
                        );
                        assert!(!is_transient, "{code} with status {status}: {failure:?}");
                    }
                }
            }
        }
        for status in 200..600 {
            for code in [None, Some("ERROR_NEW"), Some("NEW"), Some("")] {
                assert!(matches!(from_poll_error(code, status), PollError::Masked(..)), "{code:?} {status}");
            }
        }
    }

    #[test]
    fn a_failed_task_never_blames_the_account() {
        for (name, subject, _) in CODES {
            let failure = from_failed_task(&format!("ERROR_{name}"));
            if matches!(subject, Subject::Other(cause) if *cause != MaskedCause::Request) {
                assert_eq!(failure, Failure::Unsolvable, "{name}");
            }
        }
        assert_eq!(from_failed_task("ERROR_NEW"), Failure::Other("ERROR_NEW".into()));
        assert_eq!(from_failed_task("NEW"), Failure::Unsolvable);
    }
}
