//! How a call of a key that the upstream has not accepted yet has ended: whether its answer may be a refusal of the key.
//!
//! Services word the refusal of a key in many ways: a page for 401, a code of their own, the code of another error. An
//! answer to a stranger therefore counts as a refusal unless something speaks against it. A mistake costs little: the
//! next submit of the key is verified by a balance.

use super::keys::is_key_refused;
use crate::budget::CallEnd;
use crate::domain::Failure;
use crate::native::Endpoint;

/// Returns the end of a call that was answered with this status, by the failure that the answer was parsed to.
pub(super) fn from_answer(endpoint: Endpoint, status: u16, failure: Option<&Failure>) -> CallEnd {
    let Some(failure) = failure else { return CallEnd::Accepted };
    if is_key_refused(failure) {
        return CallEnd::Refused;
    }
    match endpoint {
        // The upstream has accepted the task that the call is about, so the key was not made up.
        Endpoint::GetTaskResult | Endpoint::FeedbackTask => CallEnd::Exempt,
        Endpoint::CreateTask | Endpoint::GetBalance if may_be_key_refusal(endpoint, status, failure) => {
            CallEnd::Refused
        }
        Endpoint::CreateTask | Endpoint::GetBalance => CallEnd::Inconclusive,
    }
}

/// Returns the end of a call without an answer. The upstream may have counted a bad key, if the call was sent.
pub(super) fn without_answer(was_sent: bool) -> CallEnd {
    if was_sent { CallEnd::Refused } else { CallEnd::Exempt }
}

/// Whether the answer to a submit or to a balance may be a refusal of the key in other words.
fn may_be_key_refusal(endpoint: Endpoint, status: u16, failure: &Failure) -> bool {
    // The upstream is overloaded or has a fault, whatever the body contains.
    if status == 429 || status >= 500 {
        return false;
    }
    let is_denied = matches!(status, 401 | 403);
    match failure {
        Failure::KeyMalformed | Failure::KeyUnknown | Failure::AddressRefused => true,
        // A code that is not known, or a status without one.
        Failure::Other(_) | Failure::Parameters => true,
        // No code and status 404. A submit and a balance name no task that could be unknown.
        Failure::TaskUnknown => true,
        // A page instead of an answer.
        Failure::Unavailable | Failure::OutcomeUnknown => true,
        // Neither call is a report.
        Failure::ReportDuplicate | Failure::ReportRefused => true,
        // The gateway's own failures, which no answer is parsed to.
        Failure::ActionMissing
        | Failure::ActionUnknown
        | Failure::MethodUnknown
        | Failure::Parameter(_)
        | Failure::IdMalformed => true,
        // The upstream knows the account, as it knows that it is empty.
        Failure::ZeroBalance => is_denied,
        // The upstream has no room, for nobody.
        Failure::NoProviders | Failure::NotSent => is_denied,
        // The upstream looked at the task, of which a balance has none.
        Failure::PageUrl
        | Failure::SiteKeyMissing
        | Failure::SiteKey
        | Failure::ProxyFormat
        | Failure::ProxyBad
        | Failure::Upload
        | Failure::ImageTooSmall
        | Failure::ImageTooBig
        | Failure::ImageType
        | Failure::Unsolvable
        | Failure::TaskUnsupported => is_denied || endpoint == Endpoint::GetBalance,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::methods::METHODS;
    use crate::native::{Answer, answer};

    fn end(endpoint: Endpoint, status: u16, body: &'static str) -> CallEnd {
        let answer = Answer::new(status, Bytes::from_static(body.as_bytes()));
        let method = METHODS.iter().copied().flatten().find(|row| row.name == "recaptcha_v2").expect("a row");
        let failure = match endpoint {
            Endpoint::CreateTask => answer::parse_created_task(&answer, method).err(),
            Endpoint::GetBalance => answer::parse_balance(&answer).err(),
            Endpoint::GetTaskResult => {
                answer::parse_task_result(&answer, method, None).err().map(|masked| masked.failure)
            }
            Endpoint::FeedbackTask => answer::parse_feedback(&answer).err(),
        };
        from_answer(endpoint, status, failure.as_ref())
    }

    #[test]
    fn a_refusal_of_a_key_counts_in_whatever_words() {
        let refusals = [
            (200, r#"{"errorId":1,"errorCode":"ERROR_KEY_DOES_NOT_EXIST"}"#),
            (500, r#"{"errorId":1,"errorCode":"ERROR_KEY_DOES_NOT_EXIST"}"#),
            (200, r#"{"errorId":1,"errorCode":"ERROR_IP_BANNED"}"#),
            (401, "<html>no</html>"),
            (403, "<html>no</html>"),
            (200, "<html>sign in</html>"),
            (302, ""),
            (404, r#"{"errorId":1}"#),
            (200, r#"{"errorId":1}"#),
            (401, r#"{"errorId":1,"errorCode":"UNAUTHORIZED"}"#),
            (403, r#"{"errorId":1,"errorCode":"ERROR_ACCOUNT_SUSPENDED"}"#),
            (400, r#"{"errorId":1,"errorCode":"INVALID_API_KEY"}"#),
            (200, r#"{"errorId":1,"errorCode":"ERROR_NO_SUCH_USER"}"#),
            (400, r#"{"errorId":1,"errorCode":"ERROR_BAD_PARAMETERS"}"#),
            (401, r#"{"errorId":1,"errorCode":"ERROR_ZERO_BALANCE"}"#),
            (403, r#"{"errorId":1,"errorCode":"ERROR_PAGEURL"}"#),
            (403, r#"{"errorId":1,"errorCode":"NO_PROVIDERS_AVAILABLE"}"#),
        ];
        for (status, body) in refusals {
            for endpoint in [Endpoint::CreateTask, Endpoint::GetBalance] {
                assert_eq!(end(endpoint, status, body), CallEnd::Refused, "{endpoint:?} {status} {body}");
            }
        }
    }

    #[test]
    fn faults_and_load_of_the_upstream_and_an_empty_account_are_inconclusive() {
        let inconclusive = [
            (429, "slow down"),
            (429, r#"{"errorId":1,"errorCode":"ERROR_NO_SUCH_USER"}"#),
            (500, r#"{"errorId":1,"errorCode":"ERROR_INTERNAL"}"#),
            (500, r#"{"errorId":1,"errorCode":"ERROR_NO_SUCH_USER"}"#),
            (500, r#"{"errorId":1,"errorCode":"ERROR_BAD_PARAMETERS"}"#),
            (502, "<html>"),
            (503, r#"{"errorId":1,"errorCode":"NO_PROVIDERS_AVAILABLE"}"#),
            (200, r#"{"errorId":1,"errorCode":"MAINTENANCE"}"#),
            (402, r#"{"errorId":1,"errorCode":"ERROR_ZERO_BALANCE"}"#),
            (402, r#"{"errorId":1}"#),
        ];
        for (status, body) in inconclusive {
            for endpoint in [Endpoint::CreateTask, Endpoint::GetBalance] {
                assert_eq!(end(endpoint, status, body), CallEnd::Inconclusive, "{endpoint:?} {status} {body}");
            }
        }
    }

    #[test]
    fn an_error_of_a_task_speaks_for_the_key_only_if_there_is_a_task() {
        for code in ["PAGEURL", "SITEKEY", "BAD_PROXY", "PROXY_FORMAT", "TASK_NOT_SUPPORTED", "IMAGE_TOO_SMALL"] {
            let body: &'static str = format!(r#"{{"errorId":1,"errorCode":"ERROR_{code}"}}"#).leak();
            assert_eq!(end(Endpoint::CreateTask, 400, body), CallEnd::Inconclusive, "{code}");
            assert_eq!(end(Endpoint::GetBalance, 400, body), CallEnd::Refused, "{code}");
        }
        let unsolvable = r#"{"errorId":1,"errorCode":"ERROR_CAPTCHA_UNSOLVABLE"}"#;
        assert_eq!(end(Endpoint::CreateTask, 200, unsolvable), CallEnd::Accepted);
        assert_eq!(end(Endpoint::GetBalance, 200, unsolvable), CallEnd::Refused);
    }

    #[test]
    fn only_named_refusals_count_on_polls_and_reports() {
        for endpoint in [Endpoint::GetTaskResult, Endpoint::FeedbackTask] {
            let named = r#"{"errorId":1,"errorCode":"ERROR_KEY_DOES_NOT_EXIST"}"#;
            assert_eq!(end(endpoint, 200, named), CallEnd::Refused);
            for (status, body) in [(401, "<html>"), (500, ""), (400, r#"{"errorId":1,"errorCode":"ERROR_NEW"}"#)] {
                assert_eq!(end(endpoint, status, body), CallEnd::Exempt, "{endpoint:?} {status} {body}");
            }
        }
    }

    #[test]
    fn a_call_without_an_answer_counts_if_it_was_sent() {
        assert_eq!((without_answer(true), without_answer(false)), (CallEnd::Refused, CallEnd::Exempt));
    }
}
