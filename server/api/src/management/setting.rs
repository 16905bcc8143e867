//! `Setting`: one value of the server's configuration that can be changed while it runs.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::field::{FieldErrors, FieldProblem};
use crate::resource::{self, Kind, Resource};

pub mod known;

pub use known::{Known, Rule};

/// The setting's fields, which stand at the top level.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "management.cattle.io",
    version = "v3",
    kind = "Setting",
    doc = "One value of the server's configuration that can be changed while it runs.",
    no_spec,
    derive = "PartialEq",
    derive = "Default",
    category = "cattle",
    printcolumn(name = "Value", type_ = "string", json_path = ".value"),
    printcolumn(name = "Default", type_ = "string", json_path = ".default"),
    printcolumn(name = "Source", type_ = "string", priority = 1, json_path = ".source")
)]
pub struct SettingFields {
    /// The value; empty means the default.
    #[serde(default)]
    pub value: String,
    /// The value when none is set. Of the server; cannot be changed.
    #[serde(default)]
    pub default: String,
    /// Whether `value` was set by somebody.
    #[serde(default)]
    pub customized: bool,
    /// Where a value that cannot be changed here comes from (`flag`); empty otherwise.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub source: String,
}

impl SettingFields {
    /// The value, or the default when there is none.
    #[must_use]
    pub fn effective(&self) -> &str {
        if self.value.is_empty() { &self.default } else { &self.value }
    }
}

impl Kind for Setting {
    fn resource() -> &'static Resource {
        &resource::SETTING
    }

    fn validate(&self, old: Option<&Self>, errors: &mut FieldErrors) {
        let name = self.metadata.name.as_deref().unwrap_or_default();
        let Some(known) = Known::find(name) else {
            errors.push("metadata.name", FieldProblem::NotSupported, "the server has no setting of this name");
            return;
        };
        let before = old.map(|setting| &setting.spec);
        if known.read_only && before.map(|spec| &spec.value) != Some(&self.spec.value) {
            errors.push("value", FieldProblem::Forbidden, "is made by the server and cannot be changed here");
        }
        if let Some(before) = before {
            errors.unchanged("default", &before.default, &self.spec.default);
        }
        if !self.spec.value.is_empty()
            && let Err(detail) = known.rule.check(&self.spec.value)
        {
            errors.push("value", FieldProblem::Invalid, detail);
        }
    }
}
