//! `Kubeconfig`: a kubeconfig file for some clusters, with tokens of its own that end when it is deleted.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::condition::Condition;
use crate::field::{FieldErrors, FieldProblem};
use crate::names;
use crate::resource::{self, Kind, Resource};

/// The most clusters in one kubeconfig.
pub const MAX_CLUSTERS: usize = 256;

/// What the kubeconfig is for.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "ext.cattle.io",
    version = "v1",
    kind = "Kubeconfig",
    doc = "A kubeconfig file for some clusters.",
    derive = "PartialEq",
    derive = "Default",
    status = "KubeconfigStatus",
    category = "cattle",
    printcolumn(name = "Clusters", type_ = "string", json_path = ".spec.clusters"),
    printcolumn(name = "TTL", type_ = "integer", json_path = ".spec.ttl"),
    printcolumn(name = "Status", type_ = "string", json_path = ".status.summary"),
    printcolumn(name = "Description", type_ = "string", priority = 1, json_path = ".spec.description"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
pub struct KubeconfigSpec {
    /// Names of clusters, or `*` alone for all that the caller may enter.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clusters: Vec<String>,
    /// The cluster whose context is the current one; the first when absent.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub current_context: String,
    /// What it is for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// How long its tokens last, in seconds; 0 is the setting `kubeconfig-default-token-ttl-minutes`.
    #[serde(default)]
    pub ttl: i64,
    /// Whether the server itself gets a context as well.
    #[serde(default)]
    pub include_default_entry: bool,
}

/// What the server made.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KubeconfigStatus {
    /// Conditions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// `Complete` or `Error`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub summary: String,
    /// Names of the `Token` objects in it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tokens: Vec<String>,
    /// The file. Only in the answer to the create; never stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

impl Kind for Kubeconfig {
    fn resource() -> &'static Resource {
        &resource::KUBECONFIG
    }

    fn validate(&self, old: Option<&Self>, errors: &mut FieldErrors) {
        let spec = &self.spec;
        if spec.clusters.len() > MAX_CLUSTERS {
            errors.push("spec.clusters", FieldProblem::TooLong, format!("must name at most {MAX_CLUSTERS} clusters"));
        }
        let all = spec.clusters.iter().any(|name| name == "*");
        if all && spec.clusters.len() > 1 {
            errors.push("spec.clusters", FieldProblem::Invalid, "`*` stands alone");
        }
        for (index, name) in spec.clusters.iter().enumerate().filter(|(_, name)| *name != "*") {
            let path = format!("spec.clusters[{index}]");
            if !names::is_cluster_name(name) && name != "local" {
                errors.push(path, FieldProblem::Invalid, "must be the name of a cluster (`c-…`)");
            } else if spec.clusters[..index].contains(name) {
                errors.push(path, FieldProblem::Duplicate, "is there twice");
            }
        }
        if !all && !spec.current_context.is_empty() && !spec.clusters.contains(&spec.current_context) {
            errors.push("spec.currentContext", FieldProblem::Invalid, "must be one of the clusters");
        }
        if spec.ttl < 0 {
            errors.push("spec.ttl", FieldProblem::Invalid, "must not be negative (seconds)");
        }
        errors.at_most("spec.description", &spec.description, 1024);
        let Some(old) = old else { return };
        errors.unchanged("spec.clusters", &old.spec.clusters, &spec.clusters);
        errors.unchanged("spec.currentContext", &old.spec.current_context, &spec.current_context);
        errors.unchanged("spec.ttl", &old.spec.ttl, &spec.ttl);
    }
}
