//! Types of values. Each rejects bad values during deserialisation, so that the error contains the line of the file and
//! later code need not check again.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use url::Url;

use crate::legacy::{SELECTION_MODES, is_provider_name};

/// A whole number from `MIN` to `MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Ranged<const MIN: u64, const MAX: u64>(pub(super) u64);

impl<const MIN: u64, const MAX: u64> Ranged<MIN, MAX> {
    /// Converts the number from milliseconds.
    pub(super) fn duration(self) -> Duration {
        Duration::from_millis(self.0)
    }

    /// Converts the number to a count, saturated at `usize::MAX`.
    pub(super) fn count(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl<'de, const MIN: u64, const MAX: u64> Deserialize<'de> for Ranged<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InRange<const MIN: u64, const MAX: u64>;

        impl<const MIN: u64, const MAX: u64> Visitor<'_> for InRange<MIN, MAX> {
            type Value = Ranged<MIN, MAX>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a whole number from {MIN} to {MAX}")
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
                if (MIN..=MAX).contains(&number) {
                    Ok(Ranged(number))
                } else {
                    Err(E::invalid_value(Unexpected::Unsigned(number), &self))
                }
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Self::Value, E> {
                match u64::try_from(number) {
                    Ok(number) => self.visit_u64(number),
                    Err(_) => Err(E::invalid_value(Unexpected::Signed(number), &self)),
                }
            }
        }

        deserializer.deserialize_u64(InRange::<MIN, MAX>)
    }
}

/// A share from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "f64")]
pub(super) struct Share(pub(super) f64);

impl TryFrom<f64> for Share {
    type Error = &'static str;

    fn try_from(share: f64) -> Result<Self, Self::Error> {
        if (0.0..=1.0).contains(&share) { Ok(Self(share)) } else { Err("expected a number from 0.0 to 1.0") }
    }
}

/// A value of uCaptcha's `selectionMode`; empty for none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct SelectionMode(pub(super) String);

impl TryFrom<String> for SelectionMode {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if text.is_empty() || SELECTION_MODES.contains(&text.as_str()) {
            Ok(Self(text))
        } else {
            Err(format!("expected \"\" or one of {}", SELECTION_MODES.join(", ")))
        }
    }
}

/// Name of a provider, which submits accept; empty for none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct ProviderName(pub(super) String);

impl TryFrom<String> for ProviderName {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        // The empty name passes too.
        let expected = "expected \"\" or the name of one provider: at most 64 letters, digits, -, _ and ., or every submit \
                        is refused";
        if is_provider_name(&text) { Ok(Self(text)) } else { Err(expected) }
    }
}

/// Path of a PEM file; empty for none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct PemFile(pub(super) String);

impl TryFrom<String> for PemFile {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        // Errors and logs name the file, and must not show a private key.
        let is_path = !text.contains(['\n', '\r']) && !text.contains("-----BEGIN");
        if is_path { Ok(Self(text)) } else { Err("expected the path of a PEM file, not its contents") }
    }
}

/// Path of a file or folder that is no PEM file; empty for none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct FilePath(pub(super) String);

impl TryFrom<String> for FilePath {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        // Errors and logs name the path, and must not show a key.
        let is_key = text.len() >= 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let is_path = !is_key && !text.contains(['\n', '\r', '\0']);
        if is_path { Ok(Self(text)) } else { Err("expected a path, not the contents of a file") }
    }
}

/// A listener's `address:port`; empty for off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Address(pub(super) Option<SocketAddr>);

impl Address {
    /// Parses a default.
    pub(super) fn parse(text: &str) -> Self {
        Self(text.parse().ok())
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.is_empty() {
            return Ok(Self(None));
        }
        let expected = &"an address and a port such as \"127.0.0.1:8080\" or \"[::]:8080\", or \"\" for off";
        text.parse()
            .map(|address| Self(Some(address)))
            .map_err(|_| D::Error::invalid_value(Unexpected::Str(&text), expected))
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.map(|address| address.to_string()).unwrap_or_default())
    }
}

/// Base URL of the upstream; empty for the embedded sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct UpstreamUrl(pub(super) Option<Url>);

impl<'de> Deserialize<'de> for UpstreamUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.is_empty() {
            return Ok(Self(None));
        }
        // The error omits the text, which may contain a password.
        let expected = "expected a base URL such as \"https://api.ucaptcha.net\": http or https, a host, no user, \
                        query or fragment";
        let url = Url::parse(&text).map_err(|_| D::Error::custom(expected))?;
        let is_base_url = matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none();
        if is_base_url { Ok(Self(Some(url))) } else { Err(D::Error::custom(expected)) }
    }
}

impl Serialize for UpstreamUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.as_ref().map(Url::as_str).unwrap_or_default())
    }
}
