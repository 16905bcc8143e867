//! `RoleTemplate`: a role that can be bound in clusters.

use k8s_openapi::api::rbac::v1::PolicyRule;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::field::{FieldErrors, FieldProblem};
use crate::resource::{self, Kind, Resource};

/// The role's fields, which stand at the top level.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "management.cattle.io",
    version = "v3",
    kind = "RoleTemplate",
    doc = "A role that can be bound in clusters.",
    no_spec,
    derive = "PartialEq",
    derive = "Default",
    shortname = "rt",
    category = "cattle",
    printcolumn(name = "Display Name", type_ = "string", json_path = ".displayName"),
    printcolumn(name = "Context", type_ = "string", json_path = ".context"),
    printcolumn(name = "Builtin", type_ = "boolean", json_path = ".builtin"),
    printcolumn(name = "External", type_ = "boolean", priority = 1, json_path = ".external"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
pub struct RoleTemplateFields {
    /// The name that people see.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub display_name: String,
    /// What the role is for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// What it allows in a cluster. Resources of the server's own API stand here as well.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<PolicyRule>,
    /// Made by the server; cannot be changed or deleted.
    #[serde(default)]
    pub builtin: bool,
    /// The rules are those of a ClusterRole of the same name that exists downstream; the server only binds to it.
    #[serde(default)]
    pub external: bool,
    /// Not offered in pickers.
    #[serde(default)]
    pub hidden: bool,
    /// May not be used in new bindings.
    #[serde(default)]
    pub locked: bool,
    /// Given to whoever creates a cluster.
    #[serde(default)]
    pub cluster_creator_default: bool,
    /// Given to whoever creates a project.
    #[serde(default)]
    pub project_creator_default: bool,
    /// Marks a role of cluster-wide administrators.
    #[serde(default)]
    pub administrative: bool,
    /// `cluster`, `project`, or empty for a role that is only inherited from.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub context: String,
    /// The roles that this one includes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub role_template_names: Vec<String>,
}

impl Kind for RoleTemplate {
    fn resource() -> &'static Resource {
        &resource::ROLE_TEMPLATE
    }

    fn validate(&self, old: Option<&Self>, errors: &mut FieldErrors) {
        let spec = &self.spec;
        if !["cluster", "project", ""].contains(&spec.context.as_str()) {
            errors.push("context", FieldProblem::NotSupported, "must be `cluster`, `project` or empty");
        }
        if spec.external && !spec.rules.is_empty() {
            errors.push("rules", FieldProblem::Forbidden, "an external role has the rules of its ClusterRole");
        }
        check_rules(errors, "rules", &spec.rules);
        for (index, name) in spec.role_template_names.iter().enumerate() {
            let path = format!("roleTemplateNames[{index}]");
            errors.required(&path, name);
            if Some(name) == self.metadata.name.as_ref() {
                errors.push(&path, FieldProblem::Invalid, "a role cannot include itself");
            }
            if spec.role_template_names[..index].contains(name) {
                errors.push(&path, FieldProblem::Duplicate, "is there twice");
            }
        }
        if let Some(old) = old {
            errors.unchanged("builtin", &old.spec.builtin, &spec.builtin);
            errors.unchanged("context", &old.spec.context, &spec.context);
        }
    }
}

/// Rules as Kubernetes demands them: verbs always, and either resources with API groups or paths.
pub(crate) fn check_rules(errors: &mut FieldErrors, path: &str, rules: &[PolicyRule]) {
    let given = |list: &Option<Vec<String>>| list.as_ref().is_some_and(|list| !list.is_empty());
    for (index, rule) in rules.iter().enumerate() {
        let path = format!("{path}[{index}]");
        if rule.verbs.is_empty() {
            errors.push(format!("{path}.verbs"), FieldProblem::Required, "must name at least one verb");
        }
        if given(&rule.non_resource_urls) {
            if given(&rule.resources) || given(&rule.api_groups) || given(&rule.resource_names) {
                let detail = "a rule is for paths or for resources, not both";
                errors.push(format!("{path}.nonResourceURLs"), FieldProblem::Invalid, detail);
            }
            continue;
        }
        if !given(&rule.resources) {
            errors.push(format!("{path}.resources"), FieldProblem::Required, "must name at least one resource");
        }
        if !given(&rule.api_groups) {
            errors.push(format!("{path}.apiGroups"), FieldProblem::Required, "must name at least one API group");
        }
    }
}
