//! Placeholders for ids that only the gateway knows: `#1` in a transcript.

use std::collections::HashMap;

#[derive(Debug, Default)]
pub(crate) struct Placeholders {
    ids: HashMap<String, String>,
}

impl Placeholders {
    pub(crate) fn set(&mut self, name: &str, id: &str) {
        self.ids.insert(name.to_owned(), id.to_owned());
    }

    /// Replaces placeholders by ids, the longest name first, so that `#1` does not match in `#10`.
    pub(crate) fn fill(&self, text: &str) -> String {
        let mut ids: Vec<_> = self.ids.iter().collect();
        ids.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
        let fill = |text: String, (name, id): &(&String, &String)| text.replace(name.as_str(), id);
        ids.iter().fold(text.to_owned(), fill)
    }

    /// If `expected` contains a new placeholder, sets it to the digits at the same position of `found`.
    pub(crate) fn learn(&mut self, expected: &str, found: &str) {
        let Some(at) = expected.find('#') else { return };
        let digits = expected[at + 1..].chars().take_while(char::is_ascii_digit).count();
        let name = &expected[at..=at + digits];
        if digits > 0 && !self.ids.contains_key(name) && found.is_char_boundary(at) {
            let id: String = found[at..].chars().take_while(char::is_ascii_digit).collect();
            if !id.is_empty() {
                self.set(name, &id);
            }
        }
    }
}
