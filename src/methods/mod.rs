//! The captcha-method table: the one place where a legacy name and a native name share a line.
//!
//! A method is a row of data. What a row cannot say becomes a small function directly under it, taking neutral
//! [`Value`]s, never a raw form or JSON text. Rows know nothing of how a parameter is read from a request or written to
//! the wire; [`Kind`] only names what it is.
//!
//! To add a method, add a row to the file of its family, list the row in [`METHODS`], and add a transcript.

mod image;
mod recaptcha;

/// One way to submit: what a legacy client says, and what the upstream is told.
#[derive(Debug)]
pub struct Method {
    /// Unique name of the row, for metrics, logs and documents.
    pub name: &'static str,
    /// Values of `method=` that select this row.
    pub legacy: &'static [&'static str],
    /// Further parameters that must have these values. The first row that matches wins.
    pub when: &'static [(&'static str, &'static str)],
    /// Native `task.type`.
    pub task_type: TaskType,
    /// Parameters, in the order in which they are written upstream.
    pub params: &'static [Param],
    /// Where the answer stands in the native solution.
    pub solution: Solution,
}

/// Native names of a task without and with a proxy of the client's own.
#[derive(Debug)]
pub struct TaskType {
    /// Without a proxy.
    pub proxyless: &'static str,
    /// With one. `None`: the method takes no proxy, and one that was sent is left out (2captcha docs, reCAPTCHA v3).
    pub proxied: Option<&'static str>,
}

/// One parameter of a method.
#[derive(Debug)]
pub struct Param {
    /// Legacy names, the documented one first, then those seen in clients. The first that is present counts.
    pub legacy: &'static [&'static str],
    /// Native field; a dot descends into a nested record.
    pub native: &'static str,
    /// How its text is understood.
    pub kind: Kind,
    /// What happens when it is absent.
    pub need: Need,
}

/// How the text of a parameter is understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// As it stands.
    Text,
    /// True or false, see [`is_true`].
    Flag,
    /// A whole number.
    Integer,
    /// A decimal number.
    Decimal,
    /// An absolute http(s) URL.
    Url,
    /// A site key: letters, digits, `-` and `_`.
    SiteKey,
    /// `K1:V1;K2:V2;`, written upstream as `K1=V1; K2=V2` (2captcha docs, reCAPTCHA cookies).
    Cookies,
    /// An image, as a file part or as base64 text; written upstream as base64.
    Image,
}

/// What happens when a parameter is absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// The submit is refused.
    Required,
    /// The native field is left out.
    Optional,
    /// The native field gets this text, because the legacy service documents it as the default.
    Default(&'static str),
}

/// Where the answer stands in the native `solution` object.
#[derive(Debug)]
pub struct Solution {
    /// Keys to try for a text answer, in order; without any of them the whole object is the answer.
    pub text: &'static [&'static str],
    /// Native key and legacy JSON member of what stands beside the answer.
    pub extras: &'static [(&'static str, &'static str)],
}

/// A value on its way between the two dialects.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Nothing.
    Null,
    /// True or false.
    Flag(bool),
    /// A number, as its decimal text, so that no digit is lost on the way.
    Number(String),
    /// Text.
    Text(String),
    /// An ordered list.
    List(Vec<Value>),
    /// Named members, in the order they came.
    Record(Vec<(String, Value)>),
}

impl Value {
    /// Bytes that this value keeps allocated, roughly.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Null | Self::Flag(_) => 0,
            Self::Number(text) | Self::Text(text) => text.len(),
            Self::List(items) => items.iter().map(|item| item.bytes() + size_of::<Self>()).sum(),
            Self::Record(members) => {
                members.iter().map(|(name, value)| name.len() + value.bytes() + 2 * size_of::<Self>()).sum()
            }
        }
    }
}

/// All rows. Order matters within one `legacy` name: rows with more conditions stand before those with fewer.
pub static METHODS: &[&Method] = &[&recaptcha::V3, &recaptcha::V2_ENTERPRISE, &recaptcha::V2, &image::TEXT_IMAGE];

/// The row that a submit means, given its `method=` and a look-up of its other parameters.
pub fn find<'a>(legacy: &str, get: impl Fn(&str) -> Option<&'a str>) -> Option<&'static Method> {
    METHODS
        .iter()
        .find(|row| {
            row.legacy.contains(&legacy)
                && row.when.iter().all(|(name, wanted)| get(name).is_some_and(|said| holds(wanted, said)))
        })
        .copied()
}

/// Whether a condition of a row holds: `1` stands for any spelling of true, other texts for themselves.
fn holds(wanted: &str, said: &str) -> bool {
    said.eq_ignore_ascii_case(wanted) || (wanted == "1" && is_true(said))
}

/// The spellings of true that clients send for a flag; everything else is false.
pub fn is_true(text: &str) -> bool {
    ["1", "true", "yes", "on"].iter().any(|spelling| text.eq_ignore_ascii_case(spelling))
}

/// A parameter without which the submit is refused.
const fn required(legacy: &'static [&'static str], native: &'static str, kind: Kind) -> Param {
    Param { legacy, native, kind, need: Need::Required }
}

/// A parameter that may be absent.
const fn optional(legacy: &'static [&'static str], native: &'static str, kind: Kind) -> Param {
    Param { legacy, native, kind, need: Need::Optional }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn row_names_are_unique() {
        let mut seen = HashSet::new();
        for row in METHODS {
            assert!(seen.insert(row.name), "two rows are named {}", row.name);
        }
    }

    #[test]
    fn no_row_is_shadowed_by_an_earlier_one() {
        for (at, later) in METHODS.iter().enumerate() {
            for earlier in METHODS.iter().take(at) {
                let same_name = later.legacy.iter().any(|name| earlier.legacy.contains(name));
                let always_first = earlier.when.iter().all(|condition| later.when.contains(condition));
                assert!(!(same_name && always_first), "{} never matches: {} does", later.name, earlier.name);
            }
        }
    }

    #[test]
    fn native_fields_are_written_once_per_row() {
        for row in METHODS {
            let mut seen = HashSet::new();
            for param in row.params {
                assert!(seen.insert(param.native), "{} writes {} twice", row.name, param.native);
                assert!(!param.legacy.is_empty(), "{} has a parameter without a legacy name", row.name);
            }
        }
    }
}
