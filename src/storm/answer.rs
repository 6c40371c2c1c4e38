//! What a legacy answer says, as a polling client has to understand it.

use crate::domain::Failure;
use crate::legacy::ReplyContext;
use crate::legacy::codes::{NOT_READY, label};

/// What an answer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// Poll again.
    NotReady,
    /// `OK|…`: a submit's id, or a poll's answer.
    Ok(String),
    /// No answer will come: final.
    Failed,
    /// Another code.
    Code(String),
}

/// Why there was no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// No connection.
    Connect,
    /// The request could not be written.
    Write,
    /// The connection ended before an answer.
    NoAnswer,
    /// It ended within one.
    CutOff,
    /// The answer is larger than is read.
    TooBig,
    /// No whole answer within the time-out.
    Timeout,
    /// A status other than 200.
    HttpStatus,
    /// 200, and none of the protocol's texts.
    Unreadable,
}

impl Trouble {
    /// All of them.
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

    /// Its name in a summary.
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

/// Reads a text answer.
///
/// # Errors
/// When it is none of the protocol's.
pub fn read(body: &[u8]) -> Result<Said, Trouble> {
    /// Longer than any code that is known.
    const CODE_BYTES_MAX: usize = 64;
    let text = std::str::from_utf8(body).map_err(|_| Trouble::Unreadable)?.trim_ascii();
    if let Some(answer) = text.strip_prefix("OK|") {
        return Ok(Said::Ok(answer.to_owned()));
    }
    if text == NOT_READY {
        return Ok(Said::NotReady);
    }
    if [Failure::Unsolvable, Failure::ProxyBad].iter().any(|failure| label(failure, ReplyContext::Get) == text) {
        return Ok(Said::Failed);
    }
    // The legacy service also says "ERROR: 1003".
    let is_code = text.starts_with("ERROR")
        && text.len() <= CODE_BYTES_MAX
        && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || b"_: ".contains(&byte));
    if is_code { Ok(Said::Code(text.to_owned())) } else { Err(Trouble::Unreadable) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_as_clients_read_them() {
        assert_eq!(read(b"OK|a|b\n"), Ok(Said::Ok("a|b".to_owned())));
        assert_eq!(read(b"CAPCHA_NOT_READY"), Ok(Said::NotReady));
        assert_eq!(read(b"ERROR_CAPTCHA_UNSOLVABLE"), Ok(Said::Failed));
        assert_eq!(read(b"ERROR_WRONG_CAPTCHA_ID"), Ok(Said::Code("ERROR_WRONG_CAPTCHA_ID".to_owned())));
        assert_eq!(read(b"ERROR: 1003"), Ok(Said::Code("ERROR: 1003".to_owned())));
        for odd in ["", "<html>", "ERROR c0ffee", "OK", "\u{7f}"] {
            assert_eq!(read(odd.as_bytes()), Err(Trouble::Unreadable), "{odd}");
        }
        assert_eq!(read(&[b"ERROR".as_slice(), &[b'A'; 100]].concat()), Err(Trouble::Unreadable));
        assert_eq!(read(&[0xff]), Err(Trouble::Unreadable));
    }
}
