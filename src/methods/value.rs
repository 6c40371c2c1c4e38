//! Values that pass between the two dialects through a row of the table.

/// A value on its way from one dialect to the other.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// JSON null.
    Null,
    /// A boolean.
    Flag(bool),
    /// A number as decimal text, so that no digit is lost.
    Number(String),
    /// A text.
    Text(String),
    /// An ordered list.
    List(Vec<Value>),
    /// Named members, in their original order.
    Record(Vec<(String, Value)>),
}

impl Value {
    /// Returns a member of a record.
    pub fn get(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Record(members) => members.iter().find(|(known, _)| known == name).map(|(_, value)| value),
            _ => None,
        }
    }

    /// Returns a text, or a number as text: services of this kind send one where the other is documented.
    pub fn scalar(&self) -> Option<&str> {
        match self {
            Self::Number(text) | Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Returns the items of a list.
    pub fn items(&self) -> Option<&[Self]> {
        match self {
            Self::List(items) => Some(items),
            _ => None,
        }
    }

    /// Encodes the value as compact JSON. Members keep their order and numbers their digits.
    pub fn to_json(&self) -> String {
        let mut text = String::new();
        self.write_json(&mut text);
        text
    }

    fn write_json(&self, out: &mut String) {
        match self {
            Self::Null => out.push_str("null"),
            Self::Flag(flag) => out.push_str(if *flag { "true" } else { "false" }),
            Self::Number(digits) => out.push_str(digits),
            Self::Text(text) => out.push_str(&json_string(text)),
            Self::List(items) => {
                out.push('[');
                for (at, item) in items.iter().enumerate() {
                    if at > 0 {
                        out.push(',');
                    }
                    item.write_json(out);
                }
                out.push(']');
            }
            Self::Record(members) => {
                out.push('{');
                for (at, (name, value)) in members.iter().enumerate() {
                    if at > 0 {
                        out.push(',');
                    }
                    out.push_str(&json_string(name));
                    out.push(':');
                    value.write_json(out);
                }
                out.push('}');
            }
        }
    }

    /// Returns the approximate heap size, in bytes.
    pub fn size_bytes(&self) -> usize {
        match self {
            Self::Null | Self::Flag(_) => 0,
            Self::Number(text) | Self::Text(text) => text.len(),
            Self::List(items) => items.iter().map(|item| item.size_bytes() + size_of::<Self>()).sum(),
            Self::Record(members) => {
                members.iter().map(|(name, value)| name.len() + value.size_bytes() + 2 * size_of::<Self>()).sum()
            }
        }
    }
}

/// Encodes a JSON string literal.
pub fn json_string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Whether a text is one of the spellings of true that clients send for a flag. Any other text is false. 2captcha-java
/// writes every number as a double.
pub fn is_true(text: &str) -> bool {
    ["1", "1.0", "true", "yes", "on"].iter().any(|spelling| text.eq_ignore_ascii_case(spelling))
}

/// An answer, in the forms that the text and the JSON notation need.
#[derive(Clone, Debug, PartialEq)]
pub enum Payload {
    /// The same text in both notations.
    Text(String),
    /// An object or a list: JSON text in the text notation, a JSON value in the JSON notation.
    Structure(Value),
    /// A different value in each notation.
    Composed {
        /// For the text notation.
        text: String,
        /// For the JSON notation.
        json: Value,
    },
}

impl Payload {
    /// Returns the text notation.
    pub fn to_text(&self) -> String {
        match self {
            Self::Text(text) | Self::Composed { text, .. } => text.clone(),
            Self::Structure(value) => value.to_json(),
        }
    }

    /// Returns the approximate heap size, in bytes.
    pub fn size_bytes(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Structure(value) => value.size_bytes(),
            Self::Composed { text, json } => text.len() + json.size_bytes(),
        }
    }
}
