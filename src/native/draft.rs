//! JSON that is written from borrowed texts, first to measure it and then into a buffer of its exact size. A call with an
//! image is large, and every copy of it counts.

use serde_json::Value as Json;

use crate::methods::Value;

/// A JSON value that borrows its texts.
#[derive(Debug)]
pub(super) enum Draft<'t> {
    /// A text.
    Text(&'t str),
    /// A value of a task.
    Value(&'t Value),
    /// Named members in their order.
    Record(Vec<(&'t str, Draft<'t>)>),
}

impl Draft<'_> {
    /// Writes the value as compact JSON, in parts.
    pub(super) fn write(&self, out: &mut impl FnMut(&str)) {
        match self {
            Self::Text(text) => write_text(text, out),
            Self::Value(value) => write_value(value, out),
            Self::Record(members) => {
                write_record(members.iter().map(|(name, member)| (*name, member)), out, |member, out| {
                    member.write(out);
                });
            }
        }
    }
}

/// Inserts a value at a dotted path. Creates the records on the path, and replaces a value that is there already.
pub(super) fn insert<'t>(members: &mut Vec<(&'t str, Draft<'t>)>, path: &'t str, value: Draft<'t>) {
    let (name, rest) = path.split_once('.').map_or((path, None), |(name, rest)| (name, Some(rest)));
    let known = members.iter().position(|(known, _)| *known == name);
    let Some(rest) = rest else {
        match known.and_then(|at| members.get_mut(at)) {
            Some((_, member)) => *member = value,
            None => members.push((name, value)),
        }
        return;
    };
    let at = known.unwrap_or_else(|| {
        members.push((name, Draft::Record(Vec::new())));
        members.len() - 1
    });
    if let Some((_, Draft::Record(inner))) = members.get_mut(at) {
        insert(inner, rest, value);
    }
}

fn write_value(value: &Value, out: &mut impl FnMut(&str)) {
    match value {
        Value::Null => out("null"),
        Value::Flag(flag) => out(if *flag { "true" } else { "false" }),
        // Decoding has checked the digits. A text that is not a number is sent as a text.
        Value::Number(digits) => match serde_json::from_str::<Json>(digits) {
            Ok(number) => out(&number.to_string()),
            Err(_) => write_text(digits, out),
        },
        Value::Text(text) => write_text(text, out),
        Value::List(items) => {
            out("[");
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out(",");
                }
                write_value(item, out);
            }
            out("]");
        }
        Value::Record(members) => {
            write_record(members.iter().map(|(name, member)| (name.as_str(), member)), out, write_value);
        }
    }
}

fn write_record<'m, T: 'm, W: FnMut(&str)>(
    members: impl Iterator<Item = (&'m str, &'m T)>,
    out: &mut W,
    write_member: impl Fn(&T, &mut W),
) {
    out("{");
    for (at, (name, member)) in members.enumerate() {
        if at > 0 {
            out(",");
        }
        write_text(name, out);
        out(":");
        write_member(member, out);
    }
    out("}");
}

/// Writes a string literal with the escapes that `serde_json` writes.
fn write_text(text: &str, out: &mut impl FnMut(&str)) {
    let is_escaped = |byte: u8| byte < 0x20 || byte == b'"' || byte == b'\\';
    out("\"");
    // An image in base64 has no escapes; the compiler vectorizes this loop.
    if text.bytes().fold(false, |any, byte| any | is_escaped(byte)) {
        let mut rest = text;
        while let Some(at) = rest.bytes().position(is_escaped) {
            let (plain, tail) = rest.split_at(at);
            let (escaped, tail) = tail.split_at(1);
            out(plain);
            match escaped {
                "\"" => out("\\\""),
                "\\" => out("\\\\"),
                "\u{8}" => out("\\b"),
                "\t" => out("\\t"),
                "\n" => out("\\n"),
                "\u{c}" => out("\\f"),
                "\r" => out("\\r"),
                other => out(&format!("\\u{:04x}", other.bytes().next().unwrap_or_default())),
            }
            rest = tail;
        }
        out(rest);
    } else {
        out(text);
    }
    out("\"");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(draft: &Draft) -> String {
        let mut text = String::new();
        draft.write(&mut |part| text.push_str(part));
        text
    }

    #[test]
    fn texts_are_written_as_serde_json_writes_them() {
        let all: String = (0..0x180).filter_map(char::from_u32).collect();
        for text in [&all, "", "plain", "\"", "end\\"] {
            assert_eq!(written(&Draft::Text(text)), Json::from(text).to_string());
        }
    }

    #[test]
    fn paths_create_records_and_later_values_replace_earlier_ones() {
        let (number, list) = (Value::Number("0.30".to_owned()), Value::List(vec![Value::Null, Value::Flag(true)]));
        let mut members = vec![("type", Draft::Text("T"))];
        insert(&mut members, "a.b", Draft::Value(&number));
        insert(&mut members, "a.c.d", Draft::Value(&list));
        insert(&mut members, "a.b.lost", Draft::Text("under a value"));
        insert(&mut members, "type", Draft::Text("U"));
        let record = Value::Record(vec![("x".to_owned(), Value::Number("no number".to_owned()))]);
        insert(&mut members, "r", Draft::Value(&record));
        let json = r#"{"type":"U","a":{"b":0.3,"c":{"d":[null,true]}},"r":{"x":"no number"}}"#;
        assert_eq!(written(&Draft::Record(members)), json);
    }
}
