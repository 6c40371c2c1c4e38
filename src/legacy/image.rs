//! Images as they are sent: a file part, or base64 text. Checked by content, before anything goes upstream.

use std::borrow::Cow;

use bytes::Bytes;

use super::form::decode_base64;
use crate::domain::Failure;

/// Smallest image, in bytes: below it the legacy service answers `ERROR_ZERO_CAPTCHA_FILESIZE` (2captcha docs).
const BYTES_MIN: usize = 100;

/// The bytes of an image, from a file part or from base64 text, if either is there.
///
/// # Errors
/// [`Failure::Upload`], [`Failure::ImageTooSmall`], [`Failure::ImageTooBig`] or [`Failure::ImageType`].
pub(super) fn image_bytes<'a>(
    file: Option<&'a Bytes>,
    text: Option<&str>,
    bytes_max: usize,
) -> Result<Option<Cow<'a, [u8]>>, Failure> {
    let bytes: Cow<'a, [u8]> = match (file, text) {
        (Some(bytes), _) => Cow::Borrowed(bytes),
        (None, Some(text)) => {
            // Before decoding, so that a huge text costs no second buffer. Half more for base64 and its line ends.
            if text.len() > bytes_max.saturating_mul(3) / 2 + 1024 {
                return Err(Failure::ImageTooBig);
            }
            Cow::Owned(decode_base64(text)?)
        }
        (None, None) => return Ok(None),
    };
    if bytes.len() < BYTES_MIN {
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

/// JPEG, PNG or GIF (2captcha docs), by content: names and types of uploads say nothing.
fn is_image(bytes: &[u8]) -> bool {
    [&b"\xff\xd8\xff"[..], b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a"].iter().any(|magic| bytes.starts_with(magic))
}
