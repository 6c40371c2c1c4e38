//! The types of a row, and the constructors and shared parameters that rows are written with.

use super::value::{Payload, Value};

/// One way to submit a task: its legacy names and its native names.
#[derive(Clone, Debug)]
pub struct Method {
    /// Unique name of the row, for metrics, logs, the configuration and documents.
    pub name: &'static str,
    /// Values of `method=` that select this row.
    pub legacy: &'static [&'static str],
    /// Other parameters that must have these values. The first row that matches wins.
    pub when: &'static [(&'static str, &'static str)],
    /// Conditions each of which selects this row as well, without those of `when`.
    pub also_when: &'static [(&'static str, &'static str)],
    /// Native `task.type`.
    pub task_type: TaskType,
    /// Parameters, in the order in which they are written upstream.
    pub params: &'static [Param],
    /// Groups of native fields. At least one field of each group must be present.
    pub any_of: &'static [&'static [&'static str]],
    /// Location of the answer in the native solution.
    pub solution: Solution,
    /// Native key and legacy JSON member of values that accompany the answer.
    pub extras: &'static [(&'static str, &'static str)],
    /// Evidence for the native names.
    pub certainty: Certainty,
}

impl Method {
    /// Whether the method takes a reCAPTCHA site key. Only these have their own error codes.
    pub fn has_google_key(&self) -> bool {
        self.params.iter().any(|param| param.kind == Kind::GoogleKey)
    }
}

/// Evidence for the native names of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certainty {
    /// Printed in uCaptcha's documents.
    Seen,
    /// 2captcha's v2 names, which uCaptcha's documents follow where they name any.
    Inferred,
    /// 2captcha's v2 names of a method that uCaptcha's documents do not mention.
    Guessed,
}

/// Native task types without and with a proxy of the client. At least one is set.
#[derive(Clone, Debug)]
pub struct TaskType {
    /// Type without a proxy. `None`: the method requires a proxy.
    pub proxyless: Option<&'static str>,
    /// Type with a proxy. `None`: the method takes no proxy and ignores the client's (2captcha docs, reCAPTCHA v3).
    pub proxied: Option<&'static str>,
}

/// One parameter of a method.
#[derive(Clone, Debug)]
pub struct Param {
    /// Legacy names: the documented one first, then those seen in clients. The first that is present counts. Empty for
    /// a field that is always written with its default.
    pub legacy: &'static [&'static str],
    /// Native field. A dot descends into a nested record.
    pub native: &'static str,
    /// Type of the value.
    pub kind: Kind,
    /// Handling of an absent parameter.
    pub need: Need,
}

/// The type of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Text, passed through.
    Text,
    /// A boolean, see [`is_true`](super::value::is_true).
    Flag,
    /// A whole number; `4.0` is one (2captcha-java writes every number as a double).
    Integer,
    /// A decimal number. Whole ones are written without a decimal point.
    Decimal,
    /// The page with the captcha: an absolute http(s) URL.
    PageUrl,
    /// Another absolute http(s) URL.
    Url,
    /// A host, or a URL of which only host and port are passed on.
    Host,
    /// A reCAPTCHA site key: letters, digits, `-` and `_`, with its own error codes (2captcha docs).
    GoogleKey,
    /// `K1:V1;K2:V2;`, or a JSON array of objects with `name` and `value` (2captcha docs, reCAPTCHA cookies); written
    /// upstream as `K1=V1; K2=V2`.
    Cookies,
    /// A record, sent as `name[key]=value` or as JSON; written upstream as JSON text (2captcha docs, Arkose Labs
    /// `data[blob]`).
    Record,
    /// An image, sent as a file part or as base64 text; written upstream as base64.
    Image,
    /// Several images, each of which becomes a task: file parts, then `file_1` to `file_9`.
    Images,
    /// Several images in one list, one from each legacy name, all required.
    ImageList,
    /// Several images in one list, sent as a JSON array of base64 texts, or as `name[]` or `name[0]`.
    ImageArray,
    /// The legacy id of an earlier task of the same account, written upstream as its native id. 0 means none (2captcha's
    /// C#, Go, Java and PHP examples), and so does an id that the ledger does not know.
    PreviousTask,
    /// An audio file, sent as a file part or as base64 text.
    Audio,
}

/// Handling of an absent parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// The submit is refused.
    Required,
    /// The native field is omitted.
    Optional,
    /// The native field gets this text, which the legacy service documents as the default.
    Default(&'static str),
}

/// Location of the answer in the native `solution` object.
#[derive(Clone, Copy, Debug)]
pub enum Solution {
    /// A text, under the first of these keys that is present. Without any of them, the whole object is the answer.
    Text(&'static [&'static str]),
    /// An object: each legacy member, and the native keys to try for it.
    Object(&'static [(&'static str, &'static [&'static str])]),
    /// The return value of a function. `None`: the whole object is the answer.
    Composed(fn(&Value) -> Option<Payload>),
}

/// In a condition, matches any text but an empty one and 0.
pub(super) const PRESENT: &str = "*";

/// Defaults for the fields that a row omits.
pub(super) const DEFAULTS: Method = Method {
    name: "",
    legacy: &[],
    when: &[],
    also_when: &[],
    task_type: TaskType { proxyless: None, proxied: None },
    params: &[],
    any_of: &[],
    // Most methods return a text under `token`.
    solution: Solution::Text(&["token"]),
    extras: &[],
    certainty: Certainty::Guessed,
};

pub(super) const PAGE_URL: Param = required(&["pageurl", "url"], "websiteURL", Kind::PageUrl);
pub(super) const SITE_KEY: Param = required(&["sitekey"], "websiteKey", Kind::Text);
pub(super) const USER_AGENT: Param = optional(&["userAgent", "useragent"], "userAgent", Kind::Text);

/// Declares a parameter that a submit must have.
pub(super) const fn required(legacy: &'static [&'static str], native: &'static str, kind: Kind) -> Param {
    Param { legacy, native, kind, need: Need::Required }
}

/// Declares a parameter that may be absent.
pub(super) const fn optional(legacy: &'static [&'static str], native: &'static str, kind: Kind) -> Param {
    Param { legacy, native, kind, need: Need::Optional }
}

/// Declares a field that is always written with this text.
pub(super) const fn fixed(native: &'static str, kind: Kind, text: &'static str) -> Param {
    Param { legacy: &[], native, kind, need: Need::Default(text) }
}

/// Declares the types of a task that takes an optional proxy.
pub(super) const fn optional_proxy(proxyless: &'static str, proxied: &'static str) -> TaskType {
    TaskType { proxyless: Some(proxyless), proxied: Some(proxied) }
}

/// Declares the type of a task that takes no proxy.
pub(super) const fn without_proxy(name: &'static str) -> TaskType {
    TaskType { proxyless: Some(name), proxied: None }
}

/// Declares the type of a task that requires a proxy.
pub(super) const fn with_proxy(name: &'static str) -> TaskType {
    TaskType { proxyless: None, proxied: Some(name) }
}
