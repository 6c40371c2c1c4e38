//! Decodes one parameter of a submit into one native value.

use super::media::{AUDIO_BYTES_MAX, audio, image, image_array, image_list, images};
use super::text::{host, http_url, parse_cookies};
use crate::domain::Failure;
use crate::legacy::base64;
use crate::legacy::form::Form;
use crate::legacy::limits::SubmitLimits;
use crate::methods::{self, Kind, Need, Param, Value};

/// Longest text of one parameter other than an image, in bytes. The longest known ones are pages in base64 (TSPD).
const TEXT_BYTES_MAX: usize = 1024 * 1024;

/// Decodes one parameter. `None`: its native field is omitted.
pub(super) fn decode_value(form: &Form, param: &Param, limits: &SubmitLimits) -> Result<Option<Value>, Failure> {
    match param.kind {
        Kind::Image => return image(form, param.legacy, param.need, limits.image_bytes_max),
        Kind::Images => return images(form, param, limits.image_bytes_max),
        Kind::ImageList => return image_list(form, param, limits.image_bytes_max).map(Some),
        Kind::ImageArray => return image_array(form, param, limits.image_bytes_max).map(Some),
        Kind::Record => return Ok(record(form, param)),
        Kind::PreviousTask => return Ok(previous_task(form, param)),
        _ => {}
    }
    if param.kind == Kind::Audio
        && let Some(bytes) = form.first_file(param.legacy)
    {
        return audio(bytes).map(Some);
    }
    let text = match (form.first_non_empty(param.legacy), param.need) {
        (Some(text), _) => text,
        (None, Need::Default(text)) => text,
        (None, Need::Optional) => return Ok(None),
        (None, Need::Required) => return Err(missing_parameter(param)),
    };
    let text_max = if param.kind == Kind::Audio { AUDIO_BYTES_MAX * 2 } else { TEXT_BYTES_MAX };
    if text.len() > text_max {
        return Err(Failure::Parameter(first_name(param)));
    }
    parse_text(param, text).map(Some)
}

fn parse_text(param: &Param, text: &str) -> Result<Value, Failure> {
    let malformed = || Failure::Parameter(first_name(param));
    Ok(match param.kind {
        Kind::Flag => Value::Flag(methods::is_true(text)),
        Kind::Integer => Value::Number(parse_integer(text).ok_or_else(malformed)?.to_string()),
        Kind::Decimal => {
            /// Above any angle or score. Bounds the digits.
            const DECIMAL_MAX: f64 = 1e6;
            let number: f64 = text.parse().map_err(|_| malformed())?;
            if !number.is_finite() || number.abs() > DECIMAL_MAX {
                return Err(malformed());
            }
            // A zero may be negative.
            Value::Number((number + 0.0).to_string())
        }
        Kind::PageUrl => Value::Text(http_url(text).ok_or(Failure::PageUrl)?),
        Kind::Url => Value::Text(http_url(text).ok_or_else(malformed)?),
        Kind::Host => Value::Text(host(text).ok_or_else(malformed)?),
        Kind::GoogleKey => {
            let is_key = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
            if !is_key {
                return Err(Failure::SiteKey);
            }
            Value::Text(text.to_owned())
        }
        Kind::Cookies => Value::Text(parse_cookies(text).ok_or_else(malformed)?),
        Kind::Audio => audio(&base64::decode(text)?)?,
        Kind::Text
        | Kind::Image
        | Kind::Images
        | Kind::ImageList
        | Kind::ImageArray
        | Kind::Record
        | Kind::PreviousTask => Value::Text(text.to_owned()),
    })
}

/// Parses a whole number, also with a decimal point and zeros only: 2captcha-java writes every number as a double.
fn parse_integer(text: &str) -> Option<i32> {
    without_fraction(text)?.parse().ok()
}

/// Returns the digits before a decimal point, if only zeros follow it.
fn without_fraction(text: &str) -> Option<&str> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    fraction.bytes().all(|digit| digit == b'0').then_some(whole)
}

/// Returns the legacy id of an earlier task, which the gateway replaces by the native one. `None` for 0, and for a text
/// that is no id: the id is only a hint to the worker (2captcha docs).
fn previous_task(form: &Form, param: &Param) -> Option<Value> {
    let id: u64 = without_fraction(form.first_non_empty(param.legacy)?)?.parse().ok()?;
    (id != 0).then(|| Value::Number(id.to_string()))
}

/// Returns `name[member]=…` as JSON text, or the text that the client sent.
fn record(form: &Form, param: &Param) -> Option<Value> {
    for name in param.legacy {
        let members = form.members(name);
        if !members.is_empty() {
            let member = |(name, text): (&str, &str)| (name.to_owned(), Value::Text(text.to_owned()));
            return Some(Value::Text(Value::Record(members.into_iter().map(member).collect()).to_json()));
        }
        if let Some(text) = form.non_empty(name) {
            return Some(Value::Text(text.to_owned()));
        }
    }
    None
}

/// Returns the legacy service's failure for a missing parameter (2captcha docs, in.php errors).
pub(super) fn missing_parameter(param: &Param) -> Failure {
    match first_name(param) {
        _ if param.kind == Kind::PageUrl => Failure::PageUrl,
        _ if matches!(param.kind, Kind::Audio | Kind::ImageList | Kind::ImageArray) => Failure::Upload,
        "googlekey" => Failure::SiteKeyMissing,
        name => Failure::Parameter(name),
    }
}

fn first_name(param: &Param) -> &'static str {
    param.legacy.first().copied().unwrap_or("method")
}
