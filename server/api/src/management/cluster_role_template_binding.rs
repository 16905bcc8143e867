//! `ClusterRoleTemplateBinding`: gives a role in one cluster to a user or a group.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::field::{FieldErrors, FieldProblem};
use crate::resource::{self, Kind, Resource};

/// The binding's fields, which stand at the top level. The object's namespace is the cluster's name.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "management.cattle.io",
    version = "v3",
    kind = "ClusterRoleTemplateBinding",
    doc = "A role in one cluster for a user or a group.",
    namespaced,
    no_spec,
    derive = "PartialEq",
    derive = "Default",
    shortname = "crtb",
    category = "cattle",
    printcolumn(name = "Cluster", type_ = "string", json_path = ".clusterName"),
    printcolumn(name = "Role", type_ = "string", json_path = ".roleTemplateName"),
    printcolumn(name = "User", type_ = "string", json_path = ".userName"),
    printcolumn(name = "Group", type_ = "string", json_path = ".groupPrincipalName"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
pub struct ClusterRoleTemplateBindingFields {
    /// The cluster; equal to `metadata.namespace`.
    pub cluster_name: String,
    /// The role.
    pub role_template_name: String,
    /// The user, by the name of the `User` object.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub user_name: String,
    /// The user, by principal (`local://u-xxxxx`).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub user_principal_name: String,
    /// The group, by its plain name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub group_name: String,
    /// The group, by principal.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub group_principal_name: String,
}

impl ClusterRoleTemplateBindingFields {
    /// The group that the binding names, by principal before plain name.
    #[must_use]
    pub fn group(&self) -> Option<&str> {
        [&self.group_principal_name, &self.group_name].into_iter().find(|name| !name.is_empty()).map(String::as_str)
    }
}

impl Kind for ClusterRoleTemplateBinding {
    fn resource() -> &'static Resource {
        &resource::CLUSTER_ROLE_TEMPLATE_BINDING
    }

    fn validate(&self, old: Option<&Self>, errors: &mut FieldErrors) {
        let spec = &self.spec;
        if self.metadata.namespace.as_deref() != Some(&spec.cluster_name) {
            errors.push("clusterName", FieldProblem::Invalid, "must be the cluster that the namespace is named after");
        }
        errors.required("roleTemplateName", &spec.role_template_name);
        let user = !spec.user_name.is_empty() || !spec.user_principal_name.is_empty();
        match (user, spec.group().is_some()) {
            (false, false) => errors.push("userName", FieldProblem::Required, "name a user or a group"),
            (true, true) => {
                errors.push("groupPrincipalName", FieldProblem::Forbidden, "name a user or a group, not both");
            }
            (true, false) | (false, true) => {}
        }
        let Some(old) = old else { return };
        errors.unchanged("clusterName", &old.spec.cluster_name, &spec.cluster_name);
        errors.unchanged("roleTemplateName", &old.spec.role_template_name, &spec.role_template_name);
        set_once(errors, "userName", &old.spec.user_name, &spec.user_name);
        set_once(errors, "userPrincipalName", &old.spec.user_principal_name, &spec.user_principal_name);
        set_once(errors, "groupName", &old.spec.group_name, &spec.group_name);
        set_once(errors, "groupPrincipalName", &old.spec.group_principal_name, &spec.group_principal_name);
    }
}

/// A subject may be completed (the principal of a user, say) but not exchanged.
fn set_once(errors: &mut FieldErrors, path: &str, old: &str, new: &str) {
    if !old.is_empty() && old != new {
        errors.push(path, FieldProblem::Forbidden, "cannot be changed once it is set");
    }
}
