//! `GlobalRoleBinding`: gives a global role to a user or a group.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::field::{FieldErrors, FieldProblem};
use crate::resource::{self, Kind, Resource};

/// The binding's fields, which stand at the top level.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "management.cattle.io",
    version = "v3",
    kind = "GlobalRoleBinding",
    doc = "A global role for a user or a group.",
    no_spec,
    derive = "PartialEq",
    derive = "Default",
    shortname = "grb",
    category = "cattle",
    printcolumn(name = "Role", type_ = "string", json_path = ".globalRoleName"),
    printcolumn(name = "User", type_ = "string", json_path = ".userName"),
    printcolumn(name = "Group", type_ = "string", json_path = ".groupPrincipalName"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
pub struct GlobalRoleBindingFields {
    /// The role.
    pub global_role_name: String,
    /// The user, by the name of the `User` object.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub user_name: String,
    /// The group, by principal.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub group_principal_name: String,
}

impl Kind for GlobalRoleBinding {
    fn resource() -> &'static Resource {
        &resource::GLOBAL_ROLE_BINDING
    }

    fn validate(&self, old: Option<&Self>, errors: &mut FieldErrors) {
        let spec = &self.spec;
        errors.required("globalRoleName", &spec.global_role_name);
        match (spec.user_name.is_empty(), spec.group_principal_name.is_empty()) {
            (true, true) => errors.push("userName", FieldProblem::Required, "name a user or a group"),
            (false, false) => {
                errors.push("groupPrincipalName", FieldProblem::Forbidden, "name a user or a group, not both");
            }
            (true, false) | (false, true) => {}
        }
        if let Some(old) = old {
            errors.unchanged("globalRoleName", &old.spec.global_role_name, &spec.global_role_name);
            errors.unchanged("userName", &old.spec.user_name, &spec.user_name);
            errors.unchanged("groupPrincipalName", &old.spec.group_principal_name, &spec.group_principal_name);
        }
    }
}
