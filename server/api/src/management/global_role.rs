//! `GlobalRole`: what somebody may do at the server itself.

use k8s_openapi::api::rbac::v1::PolicyRule;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::role_template::check_rules;
use crate::field::FieldErrors;
use crate::resource::{self, Kind, Resource};

/// The role's fields, which stand at the top level.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "management.cattle.io",
    version = "v3",
    kind = "GlobalRole",
    doc = "What somebody may do at the server itself.",
    no_spec,
    derive = "PartialEq",
    derive = "Default",
    category = "cattle",
    printcolumn(name = "Display Name", type_ = "string", json_path = ".displayName"),
    printcolumn(name = "Builtin", type_ = "boolean", json_path = ".builtin"),
    printcolumn(name = "Default", type_ = "boolean", json_path = ".newUserDefault"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
pub struct GlobalRoleFields {
    /// The name that people see.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub display_name: String,
    /// What the role is for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// What it allows in the server's own API.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<PolicyRule>,
    /// Given to every new user.
    #[serde(default)]
    pub new_user_default: bool,
    /// Made by the server; cannot be changed or deleted.
    #[serde(default)]
    pub builtin: bool,
}

impl Kind for GlobalRole {
    fn resource() -> &'static Resource {
        &resource::GLOBAL_ROLE
    }

    fn validate(&self, old: Option<&Self>, errors: &mut FieldErrors) {
        check_rules(errors, "rules", &self.spec.rules);
        if let Some(old) = old {
            errors.unchanged("builtin", &old.spec.builtin, &self.spec.builtin);
        }
    }
}
