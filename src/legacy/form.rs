//! What was said: the parameters of one request, from wherever a client put them.
//!
//! Not what was meant: nothing here knows a parameter by name. Query and body are read by one parser into one [`Form`],
//! and everything behind it (account, ledger, native call, log) uses that one result, so that no two of them can see
//! different requests. Reading is total: any bytes give a form or a refusal, in work bounded by [`FormLimits`].

use std::borrow::Cow;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use serde_json::Value as Json;

use super::multipart;
use crate::domain::Failure;
use crate::http::{Inbound, Verb};

/// Bounds on what one request may say.
#[derive(Clone, Debug)]
pub struct FormLimits {
    /// Most parameters and file parts of one request, query and body together.
    pub pairs_max: usize,
}

/// A file part of a multipart body.
#[derive(Clone, Debug)]
pub struct File {
    /// Name of the form field; the file's own name is not kept, since clients send anything there (2captcha-php
    /// sends the word `file`).
    pub name: String,
    /// The file.
    pub bytes: Bytes,
}

/// A name and a text, borrowed from the request where they stand there as they are.
type Pair<'i> = (Cow<'i, str>, Cow<'i, str>);

/// Parameters of one request.
#[derive(Clone, Debug, Default)]
pub struct Form<'i> {
    query: Vec<Pair<'i>>,
    body: Vec<Pair<'i>>,
    files: Vec<File>,
}

impl<'i> Form<'i> {
    /// Reads query and body. What could be read before a refusal is in the form all the same, so that the refusal can
    /// be worded in the style that was asked for.
    ///
    /// The body of a GET is not read, as in PHP, which the legacy service is written in.
    pub fn read(inbound: &'i Inbound, limits: &FormLimits) -> (Self, Result<(), Failure>) {
        let mut form = Self::default();
        let mut result = urlencoded(&inbound.query, limits.pairs_max, &mut form.query, "query");
        if result.is_ok() && inbound.verb == Verb::Post && !inbound.body.is_empty() {
            result = form.read_body(inbound, limits.pairs_max - form.query.len());
        }
        (form, result)
    }

    /// The text of a parameter: the body before the query, the last of several before the first (PHP's order).
    ///
    /// Empty text is present; the word `undefined`, which JavaScript clients send for what they do not have, is not.
    pub fn get(&self, name: &str) -> Option<&str> {
        let last = |pairs: &'_ [Pair<'i>]| pairs.iter().rposition(|(key, _)| key == name);
        let pair = match last(&self.body) {
            Some(at) => self.body.get(at),
            None => last(&self.query).and_then(|at| self.query.get(at)),
        };
        pair.map(|(_, text)| &**text).filter(|text| *text != "undefined")
    }

    /// The text of a parameter without the white space around it, if there is any text.
    pub fn said(&self, name: &str) -> Option<&str> {
        self.get(name).map(str::trim).filter(|text| !text.is_empty())
    }

    /// Whether a parameter was said several times with different texts.
    pub fn contradicts(&self, name: &str) -> bool {
        let mut texts = self.query.iter().chain(&self.body).filter(|(key, _)| key == name).map(|(_, text)| text);
        texts.next().is_some_and(|first| texts.any(|text| text != first))
    }

    /// The first file part of that name.
    pub fn file(&self, name: &str) -> Option<&Bytes> {
        self.files.iter().find(|file| file.name == name).map(|file| &file.bytes)
    }

    /// Members that were said as `name[member]`, in their order.
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

    /// The names of everything that was said.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let pairs = self.query.iter().chain(&self.body).map(|(name, _)| &**name);
        pairs.chain(self.files.iter().map(|file| file.name.as_str()))
    }

    fn read_body(&mut self, inbound: &'i Inbound, pairs_max: usize) -> Result<(), Failure> {
        let content_type = String::from_utf8_lossy(&inbound.content_type);
        let media_type = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        // 2captcha-node posts JSON and calls it multipart, without a boundary.
        let looks_like_json = inbound.body.trim_ascii_start().starts_with(b"{");
        if media_type == "multipart/form-data" && !looks_like_json {
            return self.read_multipart(&content_type, &inbound.body, pairs_max);
        }
        if media_type == "application/json" || media_type.ends_with("+json") {
            return self.read_json(&inbound.body, pairs_max);
        }
        // Command-line clients post JSON under curl's default type, so an object is tried before a form; no
        // urlencoded form that means something here begins with a brace.
        if looks_like_json && self.read_json(&inbound.body, pairs_max).is_ok() {
            return Ok(());
        }
        urlencoded(inbound.body.trim_ascii_end(), pairs_max, &mut self.body, "body")
    }

    fn read_multipart(&mut self, content_type: &str, body: &Bytes, pairs_max: usize) -> Result<(), Failure> {
        for part in multipart::parts(content_type, body, pairs_max)? {
            if part.is_file {
                self.files.push(File { name: part.name, bytes: part.bytes });
            } else {
                self.body.push((part.name.into(), String::from_utf8_lossy(&part.bytes).into_owned().into()));
            }
        }
        Ok(())
    }

    /// Reads a JSON object: numbers and booleans count as the text that a form would hold (2captcha-javascript and
    /// 2captcha-ruby send `"json":1`), null as absent, nested values as their JSON text.
    fn read_json(&mut self, body: &[u8], pairs_max: usize) -> Result<(), Failure> {
        let Ok(Json::Object(members)) = serde_json::from_slice(body) else {
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

/// Reads `name=text&…`, at most so many pairs.
fn urlencoded<'i>(
    bytes: &'i [u8],
    pairs_max: usize,
    pairs: &mut Vec<Pair<'i>>,
    place: &'static str,
) -> Result<(), Failure> {
    let mut parsed = url::form_urlencoded::parse(bytes);
    pairs.extend(parsed.by_ref().take(pairs_max));
    if parsed.next().is_none() { Ok(()) } else { Err(Failure::Parameter(place)) }
}

/// Decodes base64 as clients send it: with line breaks (Ruby), as a data URI, with its `+` turned into spaces by a form
/// that was not escaped, with or without padding.
///
/// # Errors
/// [`Failure::Upload`] for anything else.
pub fn decode_base64(text: &str) -> Result<Vec<u8>, Failure> {
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
    let engine = base64::engine::GeneralPurpose::new(
        &base64::alphabet::STANDARD,
        base64::engine::GeneralPurposeConfig::new()
            .with_decode_padding_mode(base64::engine::DecodePaddingMode::RequireNone)
            .with_decode_allow_trailing_bits(true),
    );
    engine.decode(compact).map_err(|_| Failure::Upload)
}

/// Encodes bytes in the standard alphabet with padding, as the native API takes them.
pub fn encode_base64(bytes: &[u8]) -> String {
    BASE64_STANDARD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: FormLimits = FormLimits { pairs_max: 8 };

    fn inbound(content_type: &str, query: &str, body: &str) -> Inbound {
        Inbound {
            verb: Verb::Post,
            path: String::from("/in.php"),
            query: Bytes::copy_from_slice(query.as_bytes()),
            content_type: Bytes::copy_from_slice(content_type.as_bytes()),
            body: Bytes::copy_from_slice(body.as_bytes()),
        }
    }

    fn form(content_type: &str, query: &str, body: &str) -> Form<'static> {
        let inbound = Box::leak(Box::new(inbound(content_type, query, body)));
        let (form, result) = Form::read(inbound, &LIMITS);
        result.expect("a form that can be read");
        form
    }

    #[test]
    fn body_comes_before_query_and_last_before_first() {
        let form = form("application/x-www-form-urlencoded", "a=1&b=2&b=3", "a=4");
        assert_eq!(form.get("a"), Some("4"));
        assert_eq!(form.get("b"), Some("3"));
        assert!(form.contradicts("a") && form.contradicts("b"));
        assert!(!form.contradicts("c"));
    }

    #[test]
    fn json_values_become_the_text_of_a_form() {
        let form = form("application/json", "", r#"{"id":2122988149,"json":true,"x":null,"data":{"blob":"v"}}"#);
        assert_eq!(form.get("id"), Some("2122988149"));
        assert_eq!(form.get("json"), Some("1"));
        assert_eq!(form.get("x"), None);
        assert_eq!(form.get("data"), Some(r#"{"blob":"v"}"#));
    }

    #[test]
    fn json_under_a_forms_type_is_json_and_undefined_is_absent() {
        let form = form("application/x-www-form-urlencoded", "proxy=undefined", r#" {"key":"k"}"#);
        assert_eq!(form.get("key"), Some("k"));
        assert_eq!(form.get("proxy"), None);
    }

    #[test]
    fn more_parameters_than_the_limit_are_refused() {
        assert_eq!(form("", "a=1&b=1&c=1&d=1&e=1&f=1", "g=1&h=1").get("h"), Some("1"));
        let read =
            |content_type: &str, query: &str, body: &str| Form::read(&inbound(content_type, query, body), &LIMITS).1;
        let (six, three) = ("a=1&b=1&c=1&d=1&e=1&f=1", "g=1&h=1&i=1");
        assert_eq!(read("", six, three), Err(Failure::Parameter("body")));
        assert_eq!(read("", &format!("{six}&{three}"), ""), Err(Failure::Parameter("query")));
        let members = r#"{"g":1,"h":1,"i":1}"#;
        assert_eq!(read("application/json", six, members), Err(Failure::Parameter("body")));
    }

    #[test]
    fn base64_is_read_as_clients_send_it() {
        let bytes = decode_base64("data:image/png;base64, +/+A\r\nAA==").expect("a data URI with a line break");
        assert_eq!(bytes, [0xfb, 0xff, 0x80, 0x00]);
        assert_eq!(decode_base64("+ +A").expect("a plus that became a space"), [0xfb, 0xef, 0x80]);
        assert_eq!(decode_base64("not*base64"), Err(Failure::Upload));
    }
}
