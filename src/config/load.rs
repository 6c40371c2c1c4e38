//! Loads the configuration: the file, then the environment.

use std::fmt;
use std::path::{Path, PathBuf};
use std::string::FromUtf8Error;

use serde::Deserialize as _;

use super::environment::Variable;
use super::error::ConfigError;
use super::method_rows::build_table;
use super::sections::Sections;
use super::validate::validate;
use crate::methods::Table;

/// A validated configuration.
#[derive(Clone, Debug, Default)]
pub struct Config {
    pub(super) sections: Sections,
    /// The method table with the changed rows of `[methods]`.
    pub(super) method_table: Table,
    /// `$CREDENTIALS_DIRECTORY`, in which systemd puts secrets.
    pub(super) credentials_folder: Option<PathBuf>,
}

impl PartialEq for Config {
    fn eq(&self, other: &Self) -> bool {
        // The method table is derived from the sections.
        self.sections == other.sections
    }
}

impl Config {
    /// Reads the file, if there is one, and applies the environment to it. Keys that neither sets have their default.
    ///
    /// # Errors
    /// If the file cannot be read, or a key is unknown, out of range or inconsistent with another.
    pub fn load(file: Option<&Path>, environment: impl Iterator<Item = (String, String)>) -> Result<Self, ConfigError> {
        let mut merged = file.map(read_file).transpose()?.unwrap_or_default();
        let mut credentials_folder = None;
        let environment = environment.inspect(|(name, value)| {
            if name == "CREDENTIALS_DIRECTORY" && !value.is_empty() {
                credentials_folder = Some(PathBuf::from(value));
            }
        });
        apply_environment(&mut merged, environment)?;
        let sections = Sections::deserialize(merged).map_err(|error| ConfigError::new(error.to_string()))?;
        validate(&sections)?;
        let method_table = build_table(&sections.methods)?;
        Ok(Self { sections, method_table, credentials_folder })
    }

    /// Lists all environment variables: name, section and key.
    pub fn variables() -> Vec<(String, String, String)> {
        Variable::all().into_iter().map(|variable| (variable.name, variable.section, variable.key)).collect()
    }
}

fn read_file(path: &Path) -> Result<toml::Table, ConfigError> {
    let refuse = |error: &dyn fmt::Display| ConfigError::new(format!("{}: {error}", path.display()));
    let bytes = std::fs::read(path).map_err(|error| refuse(&error))?;
    let text = String::from_utf8(bytes).map_err(|error| refuse(&describe_utf8(&error)))?;
    // Parsed into the typed sections first: only errors of this parse contain the position.
    toml::from_str::<Sections>(&text).map_err(|error| refuse(&describe(&error, &text)))?;
    toml::from_str(&text).map_err(|error| refuse(&describe(&error, &text)))
}

/// Describes the first bytes that are not UTF-8 by their line.
fn describe_utf8(error: &FromUtf8Error) -> String {
    let valid = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
    format!("line {}: invalid UTF-8", memchr::memchr_iter(b'\n', valid).count() + 1)
}

/// Describes an error by its position, its key and its message. Omits the line, which the error's own text contains:
/// it may hold a password.
fn describe(error: &toml::de::Error, text: &str) -> String {
    let at = error.span().map_or(0, |span| span.start);
    let before = text.get(..at).unwrap_or_default();
    let (line, start) = (before.matches('\n').count() + 1, before.rfind('\n').map_or(0, |at| at + 1));
    let column = before.get(start..).unwrap_or_default().chars().count() + 1;
    let key = text.get(start..).unwrap_or_default().split_once('=').map_or("", |(key, _)| key.trim());
    let is_key = |key: &str| key.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    let key = Some(key).filter(|key| !key.is_empty() && is_key(key)).map(|key| format!("{key}: "));
    format!("line {line}, column {column}: {}{}", key.unwrap_or_default(), error.message())
}

/// Ignores unknown variables. Other programs set some with the same prefix: Kubernetes sets `CAPGATE_PORT` for a
/// service of that name.
fn apply_environment(
    merged: &mut toml::Table,
    environment: impl Iterator<Item = (String, String)>,
) -> Result<(), ConfigError> {
    let variables = Variable::all();
    for (name, text) in environment {
        let Some(variable) = variables.iter().find(|variable| variable.name == name) else { continue };
        let value = variable.parse(&text);
        // Checked alone, so that the error names the variable.
        Sections::deserialize(variable.to_file(value.clone()))
            .map_err(|error| ConfigError::new(format!("environment variable {name}: {}", error.message())))?;
        let section = merged.entry(variable.section.clone()).or_insert_with(|| toml::Table::new().into());
        if let toml::Value::Table(section) = section {
            section.insert(variable.key.clone(), value);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::methods::Method;

    fn load(text: &str) -> Config {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("capgate.toml");
        std::fs::write(&path, text).expect("a written file");
        Config::load(Some(&path), std::iter::empty()).expect("a valid configuration")
    }

    #[test]
    fn changed_rows_are_built_once() {
        const RENAMED: &str = "[methods.turnstile]\nproxyless = \"A\"\n[methods.altcha]\nproxyless = \"B\"\n";
        let rows = |config: &Config| config.legacy_limits().submit.table.rows().to_vec();
        let is_same = |one: &[&Method], other: &[&Method]| {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| std::ptr::eq(*one, *other))
        };
        let config = load(RENAMED);
        let first = rows(&config);
        assert!(!is_same(&first, &rows(&Config::default())), "no row was changed");
        for _ in 0..100 {
            assert!(is_same(&first, &rows(&config)), "another call built other rows");
        }
        assert!(is_same(&first, &rows(&load(RENAMED))), "a second load built other rows");
        assert!(!is_same(&first, &rows(&load("[methods.turnstile]\nproxyless = \"C\"\n"))));
    }

    #[test]
    fn https_needs_a_certificate() {
        assert!(Config::default().https_listener().is_none());
        let config = load("[tls]\ncert = \"c.pem\"\nkey = \"k.pem\"\n");
        let (address, files) = config.https_listener().expect("a listener");
        assert_eq!((address.port(), files.cert.as_str(), files.key.as_str()), (8443, "c.pem", "k.pem"));
    }
}
