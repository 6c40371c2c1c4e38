//! Images and audio, sent as file parts or as base64 text. Checked before anything is sent upstream, and written as
//! base64.

use std::borrow::Cow;

use bytes::Bytes;

use crate::domain::Failure;
use crate::json::has_few_values;
use crate::legacy::base64;
use crate::legacy::form::Form;
use crate::methods::{Need, Param, Value};

/// Smallest image, in bytes. The legacy service answers smaller ones with `ERROR_ZERO_CAPTCHA_FILESIZE` (2captcha
/// docs).
const IMAGE_BYTES_MIN: usize = 100;

/// Largest audio file, in bytes (2captcha docs).
pub(super) const AUDIO_BYTES_MAX: usize = 1024 * 1024;

/// Names of several images.
pub(super) const NUMBERED_FILES: [&str; 9] =
    ["file_1", "file_2", "file_3", "file_4", "file_5", "file_6", "file_7", "file_8", "file_9"];

/// Decodes one image, sent under any of these names.
pub(super) fn image(form: &Form, names: &[&str], need: Need, bytes_max: usize) -> Result<Option<Value>, Failure> {
    match (image_bytes(form.first_file(names), form.first_non_empty(names), bytes_max)?, need) {
        (Some(bytes), _) => Ok(Some(Value::Text(base64::encode(&bytes)))),
        (None, Need::Required) => Err(Failure::Upload),
        (None, _) => Ok(None),
    }
}

/// Decodes one image, or a list of them: `file` or `body`, then `file_1` to `file_9`.
pub(super) fn images(form: &Form, param: &Param, bytes_max: usize) -> Result<Option<Value>, Failure> {
    let first = image(form, param.legacy, Need::Optional, bytes_max)?;
    let mut images: Vec<Value> = first.into_iter().collect();
    for name in NUMBERED_FILES {
        images.extend(image(form, &[name], Need::Optional, bytes_max)?);
    }
    match images.len() {
        0 => Err(Failure::Upload),
        1 => Ok(images.pop()),
        _ => Ok(Some(Value::List(images))),
    }
}

/// Decodes a list with one image from each legacy name.
pub(super) fn image_list(form: &Form, param: &Param, bytes_max: usize) -> Result<Value, Failure> {
    let images = param.legacy.iter().map(|name| image(form, &[name], Need::Required, bytes_max));
    let images = images.collect::<Result<Vec<_>, _>>()?;
    Ok(Value::List(images.into_iter().flatten().collect()))
}

/// Decodes a JSON array of images, or one image for each `name[…]`.
pub(super) fn image_array(form: &Form, param: &Param, bytes_max: usize) -> Result<Value, Failure> {
    /// More than any puzzle has. Bounds the decoding work.
    const IMAGES_MAX: usize = 32;
    let array = param.legacy.iter().find_map(|name| form.get(name));
    let texts: Vec<String> = match array {
        Some(json) if !has_few_values(json.as_bytes()) => return Err(Failure::Upload),
        Some(json) => serde_json::from_str(json).map_err(|_| Failure::Upload)?,
        None => param.legacy.iter().flat_map(|name| form.members(name)).map(|(_, text)| text.to_owned()).collect(),
    };
    if texts.is_empty() || texts.len() > IMAGES_MAX {
        return Err(Failure::Upload);
    }
    let image = |text: &String| {
        let bytes = image_bytes(None, Some(text), bytes_max)?.ok_or(Failure::Upload)?;
        Ok(Value::Text(base64::encode(&bytes)))
    };
    texts.iter().map(image).collect::<Result<_, _>>().map(Value::List)
}

/// Checks an audio file.
pub(super) fn audio(bytes: &[u8]) -> Result<Value, Failure> {
    if bytes.len() > AUDIO_BYTES_MAX {
        return Err(Failure::ImageTooBig);
    }
    if bytes.is_empty() {
        return Err(Failure::ImageTooSmall);
    }
    Ok(Value::Text(base64::encode(bytes)))
}

/// Returns the checked bytes of an image, from a file part or else from base64 text. `None`: neither is present.
///
/// # Errors
/// [`Failure::Upload`], [`Failure::ImageTooSmall`], [`Failure::ImageTooBig`] or [`Failure::ImageType`].
fn image_bytes<'a>(
    file: Option<&'a Bytes>,
    text: Option<&str>,
    bytes_max: usize,
) -> Result<Option<Cow<'a, [u8]>>, Failure> {
    let bytes: Cow<'a, [u8]> = match (file, text) {
        (Some(bytes), _) => Cow::Borrowed(bytes),
        (None, Some(text)) => {
            // Checked before decoding, so that a huge text needs no second buffer. Base64 and its line ends add up to
            // half of the size.
            if text.len() > bytes_max.saturating_mul(3) / 2 + 1024 {
                return Err(Failure::ImageTooBig);
            }
            Cow::Owned(base64::decode(text)?)
        }
        (None, None) => return Ok(None),
    };
    if bytes.len() < IMAGE_BYTES_MIN {
        return Err(Failure::ImageTooSmall);
    }
    if bytes.len() > bytes_max {
        return Err(Failure::ImageTooBig);
    }
    if !is_image(&bytes) {
        return Err(Failure::ImageType);
    }
    Ok(Some(bytes))
}

/// Whether the content is JPEG, PNG or GIF (2captcha docs). File names and content types of uploads are unreliable.
fn is_image(bytes: &[u8]) -> bool {
    [&b"\xff\xd8\xff"[..], b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a"].iter().any(|magic| bytes.starts_with(magic))
}
