//! Environment variables: `CAPGATE_<SECTION>_<KEY>` for every key.

use super::sections::Sections;

/// A key that an environment variable sets.
pub(super) struct Variable {
    /// `CAPGATE_<SECTION>_<KEY>`.
    pub(super) name: String,
    pub(super) section: String,
    pub(super) key: String,
    /// Whether the key holds text.
    is_text: bool,
}

impl Variable {
    /// Lists the variables of all keys.
    pub(super) fn all() -> Vec<Self> {
        let mut variables = Vec::new();
        for (section, keys) in toml::Table::try_from(Sections::default()).unwrap_or_default() {
            for (key, default) in keys.as_table().into_iter().flatten() {
                let name = format!("CAPGATE_{section}_{key}").to_ascii_uppercase();
                let (section, key) = (section.clone(), key.clone());
                variables.push(Self { name, section, key, is_text: default.is_str() });
            }
        }
        variables
    }

    /// Parses the text of the variable: literal if the key holds text, TOML otherwise. Text that is not valid TOML
    /// stays text, so that the error names the expected type.
    pub(super) fn parse(&self, text: &str) -> toml::Value {
        let parse_toml = || toml::from_str::<toml::Table>(&format!("value = {text}")).ok()?.remove("value");
        let value = if self.is_text { None } else { parse_toml() };
        value.unwrap_or_else(|| toml::Value::String(text.to_owned()))
    }

    /// Builds a configuration file that sets only this key.
    pub(super) fn to_file(&self, value: toml::Value) -> toml::Table {
        let keys = toml::Table::from_iter([(self.key.clone(), value)]);
        toml::Table::from_iter([(self.section.clone(), keys.into())])
    }
}
