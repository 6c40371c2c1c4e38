//! All rows in order, and the look-up of the row that a submit selects.

use super::row::{Method, PRESENT};
use super::value::is_true;
use super::{clicks, image, puzzle, recaptcha, token};

/// All rows. Order matters within one `legacy` name: rows with more conditions precede those with fewer.
pub static METHODS: &[&[&Method]] = &[recaptcha::ROWS, token::ROWS, puzzle::ROWS, clicks::ROWS, image::ROWS];

/// The table that requests are decoded with: all rows, some of which the configuration may have changed.
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
    /// Returns all rows, in the order in which they are tried.
    pub fn rows(&self) -> &[&'static Method] {
        &self.rows
    }

    /// Finds the row that a submit selects, given its `method=` and a look-up of its other parameters.
    pub fn find<'a>(&self, legacy: &str, get: impl Fn(&str) -> Option<&'a str>) -> Option<&'static Method> {
        let is_met = |(name, expected): &(&str, &str)| get(name).is_some_and(|text| is_match(expected, text.trim()));
        let is_selected = |row: &Method| row.when.iter().all(is_met) || row.also_when.iter().any(is_met);
        self.rows.iter().find(|row| row.legacy.contains(&legacy) && is_selected(row)).copied()
    }

    /// Replaces the row of the same name.
    pub fn replace(&mut self, changed: &'static Method) {
        if let Some(row) = self.rows.iter_mut().find(|row| row.name == changed.name) {
            *row = changed;
        }
    }
}

/// Whether a text meets a condition of a row: `1` matches any spelling of true, [`PRESENT`] any text but an empty one
/// and 0, any other text matches itself, in any case.
fn is_match(expected: &str, text: &str) -> bool {
    if expected == PRESENT {
        return !text.is_empty() && text.parse::<f64>() != Ok(0.0);
    }
    text.eq_ignore_ascii_case(expected) || (expected == "1" && is_true(text))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::methods::row::Need;

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
                assert!(!(same_name && always_first), "{} is shadowed by {}", later.name, earlier.name);
            }
        }
    }

    #[test]
    fn rows_are_complete() {
        for row in Table::default().rows() {
            assert!(!row.name.is_empty() && !row.legacy.is_empty(), "{row:?} lacks a name");
            assert!(row.task_type.proxyless.or(row.task_type.proxied).is_some(), "{} has no type", row.name);
            let mut seen = HashSet::new();
            for param in row.params {
                assert!(seen.insert(param.native), "{} writes {} twice", row.name, param.native);
                let is_fixed = param.legacy.is_empty();
                let is_complete = !is_fixed || matches!(param.need, Need::Default(_));
                assert!(is_complete, "{}: {} is never written", row.name, param.native);
            }
            for native in row.any_of.iter().copied().flatten() {
                assert!(seen.contains(native), "{} requires {native}, which it never writes", row.name);
            }
        }
    }
}
