//! What passes between the two dialects through a row of the table.

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
    /// A member of a record.
    pub fn get(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Record(members) => members.iter().find(|(known, _)| known == name).map(|(_, value)| value),
            _ => None,
        }
    }

    /// Text, or a number as its text: services of this kind send one where the other is documented.
    pub fn scalar(&self) -> Option<&str> {
        match self {
            Self::Number(text) | Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Its JSON text: compact, members in their order, numbers digit by digit.
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
            Self::Text(text) => out.push_str(&json_text(text)),
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
                    out.push_str(&json_text(name));
                    out.push(':');
                    value.write_json(out);
                }
                out.push('}');
            }
        }
    }

    /// The items of a list.
    pub fn items(&self) -> Option<&[Self]> {
        match self {
            Self::List(items) => Some(items),
            _ => None,
        }
    }

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

/// A JSON string literal.
pub fn json_text(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// An answer, as far as the two notations word it differently.
#[derive(Clone, Debug, PartialEq)]
pub enum Payload {
    /// The same text in both.
    Text(String),
    /// An object or a list: its JSON in text, itself in JSON.
    Structure(Value),
    /// A text that is put together, and what JSON has in its place.
    Composed {
        /// For text.
        text: String,
        /// For JSON.
        json: Value,
    },
}

impl Payload {
    /// As it stands in text.
    pub fn to_text(&self) -> String {
        match self {
            Self::Text(text) | Self::Composed { text, .. } => text.clone(),
            Self::Structure(value) => value.to_json(),
        }
    }

    /// Bytes that it keeps allocated, roughly.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Structure(value) => value.bytes(),
            Self::Composed { text, json } => text.len() + json.bytes(),
        }
    }
}
