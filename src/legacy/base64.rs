//! Base64 as legacy clients send it, and as the native API expects it.

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::prelude::BASE64_STANDARD;

use crate::domain::Failure;

/// Decodes base64 leniently: accepts line breaks (Ruby), a data URI, spaces in place of `+` (from a form that was not
/// escaped), and missing padding.
///
/// # Errors
/// [`Failure::Upload`] for anything else.
pub fn decode(text: &str) -> Result<Vec<u8>, Failure> {
    let text = text.trim();
    let text = match text.strip_prefix("data:") {
        Some(rest) => rest.split_once(',').map_or("", |(_, data)| data).trim_start(),
        None => text,
    };
    let compact: Vec<u8> = text
        .bytes()
        .filter(|byte| !matches!(byte, b'\r' | b'\n' | b'\t' | b'='))
        .map(|byte| if byte == b' ' { b'+' } else { byte })
        .collect();
    let config = GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::RequireNone)
        .with_decode_allow_trailing_bits(true);
    GeneralPurpose::new(&STANDARD, config).decode(compact).map_err(|_| Failure::Upload)
}

/// Encodes bytes in the standard alphabet with padding, as the native API expects.
pub fn encode(bytes: &[u8]) -> String {
    BASE64_STANDARD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lenient_base64_is_decoded() {
        let bytes = decode("data:image/png;base64, +/+A\r\nAA==").expect("a data URI with a line break");
        assert_eq!(bytes, [0xfb, 0xff, 0x80, 0x00]);
        assert_eq!(decode("+ +A").expect("a space in place of a plus"), [0xfb, 0xef, 0x80]);
        assert_eq!(decode("not*base64"), Err(Failure::Upload));
    }
}
