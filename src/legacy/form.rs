//! The parameters of one request, from its query and its body.
//!
//! Nothing here knows a parameter by name. One parser turns query and body into one [`Form`], and everything downstream
//! (account, ledger, native call, log) uses that one result, so that no two parts can see different requests. Parsing
//! is total: any bytes give a form or a failure, with work bounded by [`FormLimits`].

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value as Json;

use super::limits::FormLimits;
use super::multipart;
use crate::domain::Failure;
use crate::http::{Inbound, Verb};
use crate::json::has_few_values;

/// A file part of a multipart body.
#[derive(Clone, Debug)]
pub struct File {
    /// Name of the form field. The file's own name is dropped, because clients send arbitrary ones (2captcha-php sends
    /// `file`).
    pub name: String,
    /// Content of the file.
    pub bytes: Bytes,
}

/// A name and a text, borrowed from the request if they need no decoding.
type Pair<'i> = (Cow<'i, str>, Cow<'i, str>);

/// The parameters of one request.
#[derive(Clone, Debug, Default)]
pub struct Form<'i> {
    query: Vec<Pair<'i>>,
    body: Vec<Pair<'i>>,
    files: Vec<File>,
}

impl<'i> Form<'i> {
    /// Parses query and body. On an error, the form holds the parameters that were parsed before it, so that the
    /// refusal can be rendered in the requested style.
    ///
    /// The body of a GET is ignored, as in PHP, the language of the legacy service.
    pub fn parse(inbound: &'i Inbound, limits: &FormLimits) -> (Self, Result<(), Failure>) {
        let mut form = Self::default();
        let mut result = parse_urlencoded(&inbound.query, limits.pairs_max, &mut form.query, "query");
        // PHP scripts send a nonsense content type beside an empty body.
        if result.is_ok() && inbound.verb == Verb::Post && !inbound.body.trim_ascii().is_empty() {
            result = form.parse_body(inbound, limits.pairs_max - form.query.len());
        }
        (form, result)
    }

    /// Returns the text of a parameter. The body takes precedence over the query, and the last of several over the
    /// first (PHP's order).
    ///
    /// An empty text counts as present. `undefined` and `null`, which JavaScript clients send for an absent value, do not.
    pub fn get(&self, name: &str) -> Option<&str> {
        let last = |pairs: &'_ [Pair<'i>]| pairs.iter().rposition(|(key, _)| key == name);
        let pair = match last(&self.body) {
            Some(at) => self.body.get(at),
            None => last(&self.query).and_then(|at| self.query.get(at)),
        };
        pair.map(|(_, text)| &**text).filter(|text| !matches!(*text, "undefined" | "null"))
    }

    /// Returns the trimmed text of a parameter, unless it is empty.
    pub fn non_empty(&self, name: &str) -> Option<&str> {
        self.get(name).map(str::trim).filter(|text| !text.is_empty())
    }

    /// Returns the first non-empty text of several parameters.
    pub fn first_non_empty(&self, names: &[&str]) -> Option<&str> {
        names.iter().find_map(|name| self.non_empty(name))
    }

    /// Whether a parameter occurs several times with different texts.
    pub fn has_conflict(&self, name: &str) -> bool {
        let mut texts = self.query.iter().chain(&self.body).filter(|(key, _)| key == name).map(|(_, text)| text);
        texts.next().is_some_and(|first| texts.any(|text| text != first))
    }

    /// Returns the content of the first file part of that name.
    pub fn file(&self, name: &str) -> Option<&Bytes> {
        self.files.iter().find(|file| file.name == name).map(|file| &file.bytes)
    }

    /// Returns the content of the first file part of several names.
    pub fn first_file(&self, names: &[&str]) -> Option<&Bytes> {
        names.iter().find_map(|name| self.file(name))
    }

    /// Returns the members that were sent as `name[member]`, in their order.
    pub fn members(&self, name: &str) -> Vec<(&str, &str)> {
        let member = |key: &'_ str| -> Option<std::ops::Range<usize>> {
            let inner = key.strip_prefix(name)?.strip_prefix('[')?.strip_suffix(']')?;
            let start = name.len() + 1;
            Some(start..start + inner.len())
        };
        let pairs = self.query.iter().chain(&self.body);
        let found = pairs.filter_map(|(key, text)| Some((key.get(member(key)?)?, &**text)));
        found.collect()
    }

    /// Returns the names of all parameters and files.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let pairs = self.query.iter().chain(&self.body).map(|(name, _)| &**name);
        pairs.chain(self.files.iter().map(|file| file.name.as_str()))
    }

    fn parse_body(&mut self, inbound: &'i Inbound, pairs_max: usize) -> Result<(), Failure> {
        let content_type = String::from_utf8_lossy(&inbound.content_type);
        let media_type = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        // 2captcha-node posts JSON and calls it multipart, without a boundary.
        let looks_like_json = inbound.body.trim_ascii_start().starts_with(b"{");
        if media_type == "multipart/form-data" && !looks_like_json {
            return self.parse_multipart(&content_type, &inbound.body, pairs_max);
        }
        if media_type == "application/json" || media_type.ends_with("+json") {
            return self.parse_json(&inbound.body, pairs_max);
        }
        // Command-line clients post JSON with curl's default content type, so an object is tried before a form. No
        // urlencoded form of this protocol begins with a brace.
        if looks_like_json && self.parse_json(&inbound.body, pairs_max).is_ok() {
            return Ok(());
        }
        parse_urlencoded(inbound.body.trim_ascii_end(), pairs_max, &mut self.body, "body")
    }

    fn parse_multipart(&mut self, content_type: &str, body: &Bytes, pairs_max: usize) -> Result<(), Failure> {
        for part in multipart::parse(content_type, body, pairs_max)? {
            if part.is_file {
                self.files.push(File { name: part.name, bytes: part.bytes });
            } else {
                self.body.push((part.name.into(), String::from_utf8_lossy(&part.bytes).into_owned().into()));
            }
        }
        Ok(())
    }

    /// Parses a JSON object. Numbers and booleans become the text that a form would hold (2captcha-javascript and
    /// 2captcha-ruby send `"json":1`), nested values their JSON text, and null counts as absent. A repeated member is a
    /// repeated parameter.
    fn parse_json(&mut self, body: &[u8], pairs_max: usize) -> Result<(), Failure> {
        if !has_few_values(body) {
            return Err(Failure::Parameter("body"));
        }
        let Ok(Members(members)) = serde_json::from_slice(body) else {
            return Err(Failure::Parameter("body"));
        };
        if members.len() > pairs_max {
            return Err(Failure::Parameter("body"));
        }
        for (name, value) in members {
            let text = match value {
                Json::Null => continue,
                Json::Bool(flag) => String::from(if flag { "1" } else { "0" }),
                Json::Number(number) => number.to_string(),
                Json::String(text) => text,
                Json::Array(_) | Json::Object(_) => value.to_string(),
            };
            self.body.push((name.into(), text.into()));
        }
        Ok(())
    }
}

/// The members of a JSON object, in their order. A JSON map would drop repeated ones.
struct Members(Vec<(String, Json)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MembersVisitor;
        impl<'de> Visitor<'de> for MembersVisitor {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(MembersVisitor)
    }
}

/// Parses `name=text&…`, up to `pairs_max` pairs. On an error, `pairs` holds the first ones.
fn parse_urlencoded<'i>(
    bytes: &'i [u8],
    pairs_max: usize,
    pairs: &mut Vec<Pair<'i>>,
    source: &'static str,
) -> Result<(), Failure> {
    let mut parsed = url::form_urlencoded::parse(bytes);
    pairs.extend(parsed.by_ref().take(pairs_max));
    if parsed.next().is_none() { Ok(()) } else { Err(Failure::Parameter(source)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: FormLimits = FormLimits { pairs_max: 8 };

    fn inbound(content_type: &str, query: &str, body: &str) -> Inbound {
        Inbound {
            client: None,
            verb: Verb::Post,
            path: String::from("/in.php"),
            query: Bytes::copy_from_slice(query.as_bytes()),
            content_type: Bytes::copy_from_slice(content_type.as_bytes()),
            body: Bytes::copy_from_slice(body.as_bytes()),
        }
    }

    fn form(content_type: &str, query: &str, body: &str) -> Form<'static> {
        let inbound = Box::leak(Box::new(inbound(content_type, query, body)));
        let (form, result) = Form::parse(inbound, &LIMITS);
        result.expect("a valid form");
        form
    }

    #[test]
    fn body_takes_precedence_over_query_and_last_over_first() {
        let form = form("application/x-www-form-urlencoded", "a=1&b=2&b=3", "a=4");
        assert_eq!(form.get("a"), Some("4"));
        assert_eq!(form.get("b"), Some("3"));
        assert!(form.has_conflict("a") && form.has_conflict("b"));
        assert!(!form.has_conflict("c"));
    }

    #[test]
    fn json_values_become_form_texts() {
        let form = form("application/json", "", r#"{"id":2122988149,"json":true,"x":null,"data":{"blob":"v"}}"#);
        assert_eq!(form.get("id"), Some("2122988149"));
        assert_eq!(form.get("json"), Some("1"));
        assert_eq!(form.get("x"), None);
        assert_eq!(form.get("data"), Some(r#"{"blob":"v"}"#));
    }

    /// A body of 4 MiB would otherwise become a tree of a hundred and more.
    #[test]
    fn json_with_very_many_values_is_refused_unparsed() {
        let body = |values: usize| format!(r#"{{"key":"K","data":[{}1]}}"#, "1,".repeat(values));
        let parse = |body: &str| {
            let inbound = inbound("application/json", "", body);
            Form::parse(&inbound, &LIMITS).1
        };
        assert_eq!(parse(&body(9_000)), Ok(()));
        assert_eq!(parse(&body(10_000)), Err(Failure::Parameter("body")));
    }

    #[test]
    fn a_repeated_json_member_is_a_repeated_parameter() {
        let form = form("application/json", "", r#"{"a":"1","b":"1","a":"2","b":1,"c":"1","c":null}"#);
        assert!(form.has_conflict("a") && !form.has_conflict("b") && !form.has_conflict("c"));
        assert_eq!((form.get("a"), form.get("c")), (Some("2"), Some("1")));
    }

    #[test]
    fn json_with_a_form_content_type_is_parsed_and_undefined_is_absent() {
        let form = form("application/x-www-form-urlencoded", "proxy=undefined", r#" {"key":"k"}"#);
        assert_eq!(form.get("key"), Some("k"));
        assert_eq!(form.get("proxy"), None);
    }

    #[test]
    fn more_parameters_than_the_limit_are_refused() {
        assert_eq!(form("", "a=1&b=1&c=1&d=1&e=1&f=1", "g=1&h=1").get("h"), Some("1"));
        let parse =
            |content_type: &str, query: &str, body: &str| Form::parse(&inbound(content_type, query, body), &LIMITS).1;
        let (six, three) = ("a=1&b=1&c=1&d=1&e=1&f=1", "g=1&h=1&i=1");
        assert_eq!(parse("", six, three), Err(Failure::Parameter("body")));
        assert_eq!(parse("", &format!("{six}&{three}"), ""), Err(Failure::Parameter("query")));
        let members = r#"{"g":1,"h":1,"i":1}"#;
        assert_eq!(parse("application/json", six, members), Err(Failure::Parameter("body")));
    }
}
