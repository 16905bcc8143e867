//! `Token`: lets its bearer act as a user, for a while. The bearer string is `<name>:<secret>`.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::field::{FieldErrors, FieldProblem};
use crate::names;
use crate::resource::{self, Kind, Resource};

/// Label with the user's name, so that a user's tokens are one label selector away.
pub const USER_LABEL: &str = "authn.management.cattle.io/token-userId";
/// Label with the token's kind.
pub const KIND_LABEL: &str = "authn.management.cattle.io/kind";

/// `spec.kind` of a sign-in.
pub const KIND_SESSION: &str = "session";
/// `spec.kind` of a token in a kubeconfig.
pub const KIND_KUBECONFIG: &str = "kubeconfig";
/// `spec.kind` of an API token.
pub const KIND_API: &str = "";

/// Whose the token is and how long it lasts.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "ext.cattle.io",
    version = "v1",
    kind = "Token",
    doc = "Lets its bearer act as a user, for a while.",
    derive = "PartialEq",
    derive = "Default",
    status = "TokenStatus",
    category = "cattle",
    printcolumn(name = "User", type_ = "string", json_path = ".spec.userID"),
    printcolumn(name = "Kind", type_ = "string", json_path = ".spec.kind"),
    printcolumn(name = "Cluster", type_ = "string", json_path = ".spec.clusterName"),
    printcolumn(name = "Expires", type_ = "string", json_path = ".status.expiresAt"),
    printcolumn(name = "Description", type_ = "string", priority = 1, json_path = ".spec.description"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
pub struct TokenSpec {
    /// The user; the caller when absent.
    #[serde(default, rename = "userID", skip_serializing_if = "String::is_empty")]
    pub user_id: String,
    /// `session`, `kubeconfig`, or empty for an API token.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// What the token is for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// How long the token lasts from its creation, in milliseconds; 0 is without end, where the settings allow that.
    #[serde(default)]
    pub ttl: i64,
    /// `false`: refused. Absent means `true`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Good for this cluster only, not for the server's own API; empty is good everywhere.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cluster_name: String,
}

impl TokenSpec {
    /// Whether the token is good as far as this switch goes.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.enabled.unwrap_or(true)
    }
}

/// What the server says of the token.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TokenStatus {
    /// The bearer string `<name>:<secret>`. Only in the answer to the create; never stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// When the token ends; absent when it has no end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,
    /// Whether it has ended. Computed on read.
    #[serde(default)]
    pub expired: bool,
    /// Whether the request that reads it was made with it. Computed on read.
    #[serde(default)]
    pub current: bool,
}

impl Kind for Token {
    fn resource() -> &'static Resource {
        &resource::TOKEN
    }

    fn validate(&self, old: Option<&Self>, errors: &mut FieldErrors) {
        let spec = &self.spec;
        if ![KIND_SESSION, KIND_KUBECONFIG, KIND_API].contains(&spec.kind.as_str()) {
            errors.push("spec.kind", FieldProblem::NotSupported, "must be `session`, `kubeconfig` or empty");
        }
        if spec.ttl < 0 {
            errors.push("spec.ttl", FieldProblem::Invalid, "must not be negative (milliseconds; 0 is without end)");
        }
        errors.at_most("spec.description", &spec.description, 1024);
        if !spec.cluster_name.is_empty() && !names::is_cluster_name(&spec.cluster_name) && spec.cluster_name != "local"
        {
            errors.push("spec.clusterName", FieldProblem::Invalid, "must be the name of a cluster (`c-…`)");
        }
        let Some(old) = old else { return };
        errors.unchanged("spec.userID", &old.spec.user_id, &spec.user_id);
        errors.unchanged("spec.kind", &old.spec.kind, &spec.kind);
        errors.unchanged("spec.clusterName", &old.spec.cluster_name, &spec.cluster_name);
        let longer = old.spec.ttl != 0 && (spec.ttl == 0 || spec.ttl > old.spec.ttl);
        if longer {
            errors.push("spec.ttl", FieldProblem::Forbidden, "can be made shorter, not longer");
        }
    }
}
