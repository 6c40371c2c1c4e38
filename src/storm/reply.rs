//! Replies of a legacy service, as a polling client understands them.

use crate::domain::Failure;
use crate::legacy::ReplyContext;
use crate::legacy::codes::{NOT_READY, label};

/// A reply of the legacy protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LegacyReply {
    /// The task has no answer yet.
    NotReady,
    /// `OK|…`: the id of a submitted task, or the answer to a poll.
    Ok(String),
    /// The task failed. Final.
    Failed,
    /// Any other error code.
    Code(String),
}

/// Why a request got no legacy reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestError {
    /// No connection.
    Connect,
    /// The request could not be written.
    Write,
    /// The connection ended before a response.
    NoAnswer,
    /// The connection ended within the response.
    CutOff,
    /// The response exceeds the limit.
    TooBig,
    /// No whole response within the time limit.
    Timeout,
    /// A status other than 200.
    HttpStatus,
    /// Status 200 with a body that is not a legacy reply.
    Unreadable,
}

impl RequestError {
    /// All errors, in the order of the summary.
    pub const ALL: [Self; 8] = [
        Self::Connect,
        Self::Write,
        Self::NoAnswer,
        Self::CutOff,
        Self::TooBig,
        Self::Timeout,
        Self::HttpStatus,
        Self::Unreadable,
    ];

    /// Returns the name in the summary.
    pub fn label(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Write => "write",
            Self::NoAnswer => "no_answer",
            Self::CutOff => "cut_off",
            Self::TooBig => "too_big",
            Self::Timeout => "timeout",
            Self::HttpStatus => "http_status",
            Self::Unreadable => "unreadable",
        }
    }
}

impl LegacyReply {
    /// Parses a reply in text notation.
    ///
    /// # Errors
    /// [`RequestError::Unreadable`].
    pub fn parse(body: &[u8]) -> Result<Self, RequestError> {
        /// Longer than any known code.
        const CODE_BYTES_MAX: usize = 64;
        let text = std::str::from_utf8(body).map_err(|_| RequestError::Unreadable)?.trim_ascii();
        if let Some(answer) = text.strip_prefix("OK|") {
            return Ok(Self::Ok(answer.to_owned()));
        }
        if text == NOT_READY {
            return Ok(Self::NotReady);
        }
        if [Failure::Unsolvable, Failure::ProxyBad].iter().any(|failure| label(failure, ReplyContext::Get) == text) {
            return Ok(Self::Failed);
        }
        // Includes the legacy service's numbered errors, such as "ERROR: 1003".
        let is_code = text.starts_with("ERROR")
            && text.len() <= CODE_BYTES_MAX
            && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || b"_: ".contains(&byte));
        if is_code { Ok(Self::Code(text.to_owned())) } else { Err(RequestError::Unreadable) }
    }

    /// Whether the reply to a poll is the task's final answer.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Ok(_) | Self::Failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_parsed_as_clients_parse_them() {
        let parse = |text: &str| LegacyReply::parse(text.as_bytes());
        assert_eq!(parse("OK|a|b\n"), Ok(LegacyReply::Ok("a|b".to_owned())));
        assert_eq!(parse("CAPCHA_NOT_READY"), Ok(LegacyReply::NotReady));
        assert_eq!(parse("ERROR_CAPTCHA_UNSOLVABLE"), Ok(LegacyReply::Failed));
        assert_eq!(parse("ERROR_WRONG_CAPTCHA_ID"), Ok(LegacyReply::Code("ERROR_WRONG_CAPTCHA_ID".to_owned())));
        assert_eq!(parse("ERROR: 1003"), Ok(LegacyReply::Code("ERROR: 1003".to_owned())));
        for text in ["", "<html>", "ERROR c0ffee", "OK", "\u{7f}"] {
            assert_eq!(parse(text), Err(RequestError::Unreadable), "{text}");
        }
        assert_eq!(parse(&format!("ERROR{}", "A".repeat(100))), Err(RequestError::Unreadable));
        assert_eq!(LegacyReply::parse(&[0xff]), Err(RequestError::Unreadable));
    }
}
