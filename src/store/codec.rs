//! The bytes of a stored value. The first byte is the version of the format: later versions read earlier ones, and an
//! unknown version is an error, never an empty store.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// A value in one of the formats, the newest last. The variant's number is the first byte.
#[derive(Serialize, Deserialize)]
enum Versioned<T> {
    V0(T),
}

/// The number of the newest format.
const NEWEST: u8 = 0;

/// Why a value was not decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// A newer version of the program has written it.
    Newer,
    /// It is no value of this type.
    Malformed,
}

/// Encodes a value.
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    // Fails only for a sequence of unknown length, which no value contains.
    postcard::to_stdvec(&Versioned::V0(value)).unwrap_or_default()
}

/// Decodes a value.
///
/// # Errors
/// [`DecodeError`].
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    if bytes.first().is_some_and(|version| *version > NEWEST) {
        return Err(DecodeError::Newer);
    }
    match postcard::take_from_bytes(bytes) {
        Ok((Versioned::V0(value), [])) => Ok(value),
        _ => Err(DecodeError::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::super::snapshot::{FailureSnapshot, NativeIdSnapshot, ReportSnapshot, StateSnapshot, TaskSnapshot};
    use super::*;

    fn task() -> TaskSnapshot {
        TaskSnapshot {
            legacy_id: 123_456_789_012,
            account_key: "0123456789abcdef0123456789abcdef".to_owned(),
            method: "recaptcha_v2".to_owned(),
            upstream: 0,
            native_id: Some(NativeIdSnapshot::Text("0b0e7a1c-6f52-4f8e-9d4b-3b1f6f1c2d3e".to_owned())),
            pingback: None,
            state: StateSnapshot::Open { accepted_unix_ms: 1_700_000_000_000, not_ready_age_ms: 5_000, polls_used: 3 },
            report: ReportSnapshot::None,
            expires_unix_ms: 1_700_001_800_000,
        }
    }

    #[test]
    fn a_task_has_the_bytes_of_its_version() {
        // Stored tasks of earlier releases have these bytes.
        let bytes = encode(&task());
        assert_eq!(decode(&bytes), Ok(task()));
        assert_eq!(bytes[0], NEWEST);
        assert_eq!(bytes.len(), 111);
    }

    #[test]
    fn foreign_bytes_are_refused() {
        let bytes = encode(&task());
        for length in 0..bytes.len() {
            assert_eq!(decode::<TaskSnapshot>(&bytes[..length]), Err(DecodeError::Malformed));
        }
        assert_eq!(decode::<TaskSnapshot>(&[&bytes[..], b"x"].concat()), Err(DecodeError::Malformed));
        assert_eq!(decode::<TaskSnapshot>(&[&[NEWEST + 1], &bytes[1..]].concat()), Err(DecodeError::Newer));
    }

    #[test]
    fn a_failure_is_stored_by_name() {
        let failed = StateSnapshot::Failed(FailureSnapshot::Named("unsolvable".to_owned()));
        let task = TaskSnapshot { state: failed, native_id: Some(NativeIdSnapshot::Number(7)), ..task() };
        assert_eq!(decode(&encode(&task)), Ok(task));
    }
}
