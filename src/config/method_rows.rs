//! `[methods.<name>]`: native names that replace those of a row in the method table.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::error::ConfigError;
use crate::methods::{Method, Param, Table, TaskType};

/// Changed native names of one row.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct MethodSection {
    /// Native task type without a proxy.
    #[serde(skip_serializing_if = "Option::is_none")]
    proxyless: Option<String>,
    /// Native task type with a proxy.
    #[serde(skip_serializing_if = "Option::is_none")]
    proxied: Option<String>,
    /// Native fields: name in the table → name to send.
    fields: BTreeMap<String, String>,
}

/// Builds the method table with the changed rows.
///
/// # Errors
/// If a section names a row or field that does not exist.
pub(super) fn build_table(sections: &BTreeMap<String, MethodSection>) -> Result<Table, ConfigError> {
    let mut table = Table::default();
    for (name, section) in sections {
        let row = table.rows().iter().find(|row| row.name == name).copied().ok_or_else(|| {
            let names: Vec<&str> = table.rows().iter().map(|row| row.name).collect();
            ConfigError::new(format!("methods.{name}: no such row; expected one of {}", names.join(", ")))
        })?;
        table.replace(intern_row(row, section)?);
    }
    Ok(table)
}

/// Returns the changed row. Rows are `&'static`, so each distinct row is leaked once per process and reused by later
/// loads.
fn intern_row(row: &'static Method, section: &MethodSection) -> Result<&'static Method, ConfigError> {
    static ROWS: Mutex<BTreeMap<(&'static str, MethodSection), &'static Method>> = Mutex::new(BTreeMap::new());
    let mut rows = ROWS.lock();
    let key = (row.name, section.clone());
    if let Some(changed) = rows.get(&key) {
        return Ok(changed);
    }
    section.check(row)?;
    let changed: &'static Method = Box::leak(Box::new(section.apply(row)));
    rows.insert(key, changed);
    Ok(changed)
}

impl MethodSection {
    fn check(&self, row: &Method) -> Result<(), ConfigError> {
        let natives: Vec<&str> = row.params.iter().map(|param| param.native).collect();
        match self.fields.keys().find(|native| !natives.contains(&native.as_str())) {
            None => Ok(()),
            Some(native) => Err(ConfigError::new(format!(
                "methods.{}.fields: no field {native}; expected one of {}",
                row.name,
                natives.join(", ")
            ))),
        }
    }

    /// Builds the changed row. Leaks its names and lists.
    fn apply(&self, row: &Method) -> Method {
        let leak = |text: &String| -> &'static str { Box::leak(text.clone().into_boxed_str()) };
        let rename = |native: &'static str| self.fields.get(native).map_or(native, leak);
        let params: Vec<Param> =
            row.params.iter().map(|param| Param { native: rename(param.native), ..param.clone() }).collect();
        let any_of: Vec<&'static [&'static str]> =
            row.any_of.iter().map(|group| &*group.iter().copied().map(rename).collect::<Vec<_>>().leak()).collect();
        let task_type = TaskType {
            proxyless: self.proxyless.as_ref().map(leak).or(row.task_type.proxyless),
            proxied: self.proxied.as_ref().map(leak).or(row.task_type.proxied),
        };
        Method { task_type, params: params.leak(), any_of: any_of.leak(), ..row.clone() }
    }
}
