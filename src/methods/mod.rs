//! The captcha-method table: the one place where a legacy name and a native name share a line.
//!
//! A method is a row of data. What a row cannot say becomes a small function directly under it, taking neutral
//! [`Value`]s, never a raw form or JSON text. Rows know nothing of how a parameter is read from a request or written to
//! the wire; [`Kind`] only names what it is.
//!
//! To add a method, add a row to the file of its family, list the row in [`METHODS`], and add a transcript.

mod clicks;
mod image;
mod puzzle;
mod recaptcha;
mod token;
mod value;

pub use value::{Payload, Value, json_text};

/// One way to submit: what a legacy client says, and what the upstream is told.
#[derive(Clone, Debug)]
pub struct Method {
    /// Unique name of the row, for metrics, logs, the configuration and documents.
    pub name: &'static str,
    /// Values of `method=` that select this row.
    pub legacy: &'static [&'static str],
    /// Further parameters that must have these values. The first row that matches wins.
    pub when: &'static [(&'static str, &'static str)],
    /// Native `task.type`.
    pub task_type: TaskType,
    /// Parameters, in the order in which they are written upstream.
    pub params: &'static [Param],
    /// Groups of native fields of which at least one must be there.
    pub any_of: &'static [&'static [&'static str]],
    /// Where the answer stands in the native solution.
    pub solution: Solution,
    /// Native key and legacy JSON member of what stands beside the answer.
    pub extras: &'static [(&'static str, &'static str)],
    /// How sure the native names are.
    pub certainty: Certainty,
}

impl Method {
    /// Whether its site key is a reCAPTCHA one, for which there are error codes of their own.
    pub fn has_google_key(&self) -> bool {
        self.params.iter().any(|param| param.kind == Kind::GoogleKey)
    }
}

/// What a row is when it says nothing else.
const ROW: Method = Method {
    name: "",
    legacy: &[],
    when: &[],
    task_type: TaskType { proxyless: None, proxied: None },
    params: &[],
    any_of: &[],
    solution: TOKEN,
    extras: &[],
    certainty: Certainty::Guessed,
};

/// How sure the native names of a row are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certainty {
    /// Printed in uCaptcha's documents.
    Seen,
    /// 2captcha's v2 names, which uCaptcha's documents follow where they name any.
    Inferred,
    /// 2captcha's v2 names of a method of which uCaptcha says nothing.
    Guessed,
}

/// Native names of a task without and with a proxy of the client's own. At least one is there.
#[derive(Clone, Debug)]
pub struct TaskType {
    /// Without a proxy. `None`: the method needs one.
    pub proxyless: Option<&'static str>,
    /// With one. `None`: the method takes no proxy, and one that was sent is left out (2captcha docs, reCAPTCHA v3).
    pub proxied: Option<&'static str>,
}

/// One parameter of a method.
#[derive(Clone, Debug)]
pub struct Param {
    /// Legacy names, the documented one first, then those seen in clients. The first that is present counts. None at all
    /// for a field that is always written with its default.
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
    /// The page: an absolute http(s) URL.
    PageUrl,
    /// An absolute http(s) URL of something else.
    Url,
    /// The host of a URL, or a host as it stands.
    Host,
    /// A reCAPTCHA site key: letters, digits, `-` and `_`, with error codes of its own (2captcha docs).
    GoogleKey,
    /// `K1:V1;K2:V2;`, or a JSON array of objects with `name` and `value` (2captcha docs, reCAPTCHA cookies); written
    /// upstream as `K1=V1; K2=V2`.
    Cookies,
    /// A record said as `name[key]=value` or as JSON, written as JSON text (2captcha docs, Arkose Labs `data[blob]`).
    Record,
    /// An image, as a file part or as base64 text; written upstream as base64.
    Image,
    /// Several images, each of which makes a task of its own: file parts, then `file_1` to `file_9`.
    Images,
    /// Several images in one list, one from each legacy name, all required.
    ImageList,
    /// Several images in one list, said as a JSON array of base64 texts, or as `name[]` or `name[0]`.
    ImageArray,
    /// An audio file in base64.
    Audio,
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
#[derive(Clone, Copy, Debug)]
pub enum Solution {
    /// A text, under the first of these keys that is there; without any of them the whole object is the answer.
    Text(&'static [&'static str]),
    /// An object: its members, and the native keys to look for each under.
    Object(&'static [(&'static str, &'static [&'static str])]),
    /// What a function makes of it. `None`: the whole object is the answer.
    Composed(fn(&Value) -> Option<Payload>),
}

/// A text under `token`, as most methods have it.
const TOKEN: Solution = Solution::Text(&["token"]);

/// All rows. Order matters within one `legacy` name: rows with more conditions stand before those with fewer.
pub static METHODS: &[&[&Method]] =
    &[recaptcha::ROWS, token::ROWS, puzzle::ROWS, clicks::ROWS, image::ROWS, &[&image::QUESTION]];

/// The table that requests are decoded with: all rows, some of them perhaps changed by the configuration.
#[derive(Clone, Debug)]
pub struct Table {
    rows: Vec<&'static Method>,
}

impl Default for Table {
    fn default() -> Self {
        Self { rows: METHODS.concat() }
    }
}

impl Table {
    /// All rows, in the order in which they are tried.
    pub fn rows(&self) -> &[&'static Method] {
        &self.rows
    }

    /// The row that a submit means, given its `method=` and a look-up of its other parameters.
    pub fn find<'a>(&self, legacy: &str, get: impl Fn(&str) -> Option<&'a str>) -> Option<&'static Method> {
        let holds = |(name, wanted): &(&str, &str)| get(name).is_some_and(|said| holds(wanted, said));
        self.rows.iter().find(|row| row.legacy.contains(&legacy) && row.when.iter().all(holds)).copied()
    }

    /// Puts a changed row in the place of the one of its name. Rows live as long as the process, so this is for its
    /// start.
    pub fn replace(&mut self, changed: Method) {
        if let Some(row) = self.rows.iter_mut().find(|row| row.name == changed.name) {
            *row = Box::leak(Box::new(changed));
        }
    }
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

/// A field that is always written with this text.
const fn fixed(native: &'static str, kind: Kind, text: &'static str) -> Param {
    Param { legacy: &[], native, kind, need: Need::Default(text) }
}

/// Names of a task that takes a proxy or none.
const fn either(proxyless: &'static str, proxied: &'static str) -> TaskType {
    TaskType { proxyless: Some(proxyless), proxied: Some(proxied) }
}

/// Name of a task that takes no proxy.
const fn without_proxy(name: &'static str) -> TaskType {
    TaskType { proxyless: Some(name), proxied: None }
}

/// Name of a task that needs a proxy.
const fn with_proxy(name: &'static str) -> TaskType {
    TaskType { proxyless: None, proxied: Some(name) }
}

const PAGE_URL: Param = required(&["pageurl", "url"], "websiteURL", Kind::PageUrl);
const SITE_KEY: Param = required(&["sitekey"], "websiteKey", Kind::Text);
const USER_AGENT: Param = optional(&["userAgent", "useragent"], "userAgent", Kind::Text);

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn row_names_are_unique() {
        let mut seen = HashSet::new();
        for row in Table::default().rows() {
            assert!(seen.insert(row.name), "two rows are named {}", row.name);
        }
    }

    #[test]
    fn no_row_is_shadowed_by_an_earlier_one() {
        let table = Table::default();
        for (at, later) in table.rows().iter().enumerate() {
            for earlier in table.rows().iter().take(at) {
                let same_name = later.legacy.iter().any(|name| earlier.legacy.contains(name));
                let always_first = earlier.when.iter().all(|condition| later.when.contains(condition));
                assert!(!(same_name && always_first), "{} never matches: {} does", later.name, earlier.name);
            }
        }
    }

    #[test]
    fn rows_are_whole() {
        for row in Table::default().rows() {
            assert!(!row.name.is_empty() && !row.legacy.is_empty(), "{row:?} lacks a name");
            assert!(row.task_type.proxyless.or(row.task_type.proxied).is_some(), "{} has no type", row.name);
            let mut seen = HashSet::new();
            for param in row.params {
                assert!(seen.insert(param.native), "{} writes {} twice", row.name, param.native);
                let is_fixed = param.legacy.is_empty();
                let is_whole = !is_fixed || matches!(param.need, Need::Default(_));
                assert!(is_whole, "{}: {} is never written", row.name, param.native);
            }
            for native in row.any_of.iter().copied().flatten() {
                assert!(seen.contains(native), "{} wants {native}, which it never writes", row.name);
            }
        }
    }
}
