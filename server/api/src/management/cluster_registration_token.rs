//! `ClusterRegistrationToken`: lets one cluster bind itself to one cluster record, for a while.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::field::{FieldErrors, FieldProblem};
use crate::resource::{self, Kind, Resource};

/// Minutes that a registration token is good for when nothing else is asked.
pub const DEFAULT_TTL_MINUTES: i64 = 24 * 60;
/// The longest life of a registration token that may be asked for, in minutes.
pub const MAX_TTL_MINUTES: i64 = 30 * 24 * 60;

/// What the token is for. The object's namespace is the cluster's name.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "management.cattle.io",
    version = "v3",
    kind = "ClusterRegistrationToken",
    doc = "A token with which a cluster registers itself.",
    namespaced,
    derive = "PartialEq",
    derive = "Default",
    status = "ClusterRegistrationTokenStatus",
    shortname = "crt",
    category = "cattle",
    printcolumn(name = "Cluster", type_ = "string", json_path = ".spec.clusterName"),
    printcolumn(name = "Expires", type_ = "string", json_path = ".status.expiresAt"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
pub struct ClusterRegistrationTokenSpec {
    /// The cluster; equal to `metadata.namespace`.
    pub cluster_name: String,
    /// How long the token is good for, in minutes; 24 hours when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_minutes: Option<i64>,
}

/// What the server made.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterRegistrationTokenStatus {
    /// The cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_name: Option<String>,
    /// When the token ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,
    /// The token. Only in the answer to the create; never stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// Where the manifest is; it has the token in it. Only in the answer to the create.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest_url: Option<String>,
    /// What to run where the cluster is; it has the token in it. Only in the answer to the create.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
}

impl Kind for ClusterRegistrationToken {
    fn resource() -> &'static Resource {
        &resource::CLUSTER_REGISTRATION_TOKEN
    }

    fn validate(&self, old: Option<&Self>, errors: &mut FieldErrors) {
        if self.metadata.namespace.as_deref() != Some(&self.spec.cluster_name) {
            errors.push(
                "spec.clusterName",
                FieldProblem::Invalid,
                "must be the cluster that the namespace is named after",
            );
        }
        if let Some(ttl) = self.spec.ttl_minutes
            && !(1..=MAX_TTL_MINUTES).contains(&ttl)
        {
            errors.push("spec.ttlMinutes", FieldProblem::Invalid, format!("must be from 1 to {MAX_TTL_MINUTES}"));
        }
        if let Some(old) = old {
            errors.unchanged("spec.clusterName", &old.spec.cluster_name, &self.spec.cluster_name);
            errors.unchanged("spec.ttlMinutes", &old.spec.ttl_minutes, &self.spec.ttl_minutes);
        }
    }
}
