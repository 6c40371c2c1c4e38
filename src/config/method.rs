//! `[methods.<name>]`: a row of the method table under names that turned out to be others.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::ConfigError;
use crate::methods::{Method, Param, TaskType};

/// What of a row is changed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MethodSection {
    /// Native task type without a proxy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxyless: Option<String>,
    /// Native task type with one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxied: Option<String>,
    /// Native fields: the name in the table, and the one to write instead.
    pub fields: BTreeMap<String, String>,
}

impl MethodSection {
    /// The row as it becomes. Names live as long as the process, like the table itself.
    pub(super) fn apply(&self, name: &str, row: &Method) -> Result<Method, ConfigError> {
        let own = |text: &String| -> &'static str { Box::leak(text.clone().into_boxed_str()) };
        let mut params: Vec<Param> = row.params.to_vec();
        for (native, changed) in &self.fields {
            let param = params.iter_mut().find(|param| param.native == native).ok_or_else(|| {
                let names: Vec<&str> = row.params.iter().map(|param| param.native).collect();
                ConfigError(format!("methods.{name}.fields: no field {native}; there are {}", names.join(", ")))
            })?;
            param.native = own(changed);
        }
        // `any_of` and the split of images go by native names, so they are changed alike.
        let rename = |native: &&'static str| self.fields.get(*native).map_or(*native, own);
        let any_of: Vec<&'static [&'static str]> =
            row.any_of.iter().map(|group| &*group.iter().map(rename).collect::<Vec<_>>().leak()).collect();
        let task_type = TaskType {
            proxyless: self.proxyless.as_ref().map(own).or(row.task_type.proxyless),
            proxied: self.proxied.as_ref().map(own).or(row.task_type.proxied),
        };
        Ok(Method { task_type, params: params.leak(), any_of: any_of.leak(), ..row.clone() })
    }
}
