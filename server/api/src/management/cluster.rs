//! `Cluster`: a downstream cluster. Its name is the cluster id of every URL.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::agent_session::AgentSession;
use crate::condition::Condition;
use crate::field::{FieldErrors, FieldProblem};
use crate::names;
use crate::resource::{self, Kind, Resource};

/// Keeps a deleted cluster until everything that was made for it downstream is gone.
pub const CLEANUP_FINALIZER: &str = "controller.cattle.io/cluster-cleanup";

/// Set to `"true"` on a cluster that is deleted without waiting for it (`cattle cluster delete --forget`).
pub const FORGET_ANNOTATION: &str = "cattle.io/forget";

/// What the user wants of the cluster.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "management.cattle.io",
    version = "v3",
    kind = "Cluster",
    doc = "A downstream cluster.",
    derive = "PartialEq",
    derive = "Default",
    status = "ClusterStatus",
    category = "cattle",
    printcolumn(name = "Display Name", type_ = "string", json_path = ".spec.displayName"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(
        name = "Connected",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Connected\")].status"
    ),
    printcolumn(name = "Version", type_ = "string", json_path = ".status.version.gitVersion"),
    printcolumn(
        name = "Reason",
        type_ = "string",
        priority = 1,
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
pub struct ClusterSpec {
    /// The name that people see. Unique among clusters.
    #[serde(default)]
    pub display_name: String,
    /// What the cluster is for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Allows the next registration to replace the cluster's CA, once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rebind: Option<Rebind>,
    /// Environment of the agents, such as `HTTPS_PROXY` and `NO_PROXY` (Rancher's field). It stands in the next manifest;
    /// whoever may read the cluster reads it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub agent_env_vars: Vec<AgentEnvVar>,
}

/// An environment variable of the agents.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentEnvVar {
    /// A C identifier that does not begin with `CATTLE_`: those pin the server.
    pub name: String,
    /// Literal; `$(NAME)` is refused.
    #[serde(default)]
    pub value: String,
}

/// An administrator's consent to a new CA of a bound cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rebind {
    /// SHA-256 of the new CA's PEM text as the cluster publishes it, 64 hex digits.
    pub ca_sha256: String,
}

/// What is known of the cluster.
///
/// Stored are facts that change when the cluster does. `agents` and `conditions` are computed when the object is read and
/// are never stored, so they cannot be stale.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterStatus {
    /// How the cluster came here; `imported`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    /// The distribution, as far as its version tells it: `k3s`, `rke2` or empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// Who the cluster is. Set by the first registration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<ClusterIdentity>,
    /// What its API server said of its version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<KubernetesVersion>,
    /// How registration went.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registration: Option<Registration>,
    /// Sessions of its cluster agents. Those of node agents stand in the Node objects. Computed on read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub agents: Vec<AgentSession>,
    /// `Registered`, `Connected`, `Ready` and so on. Computed on read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// A cluster's identity (`kubeSystemUid` and `caCert`) and its attributes, all from its own API server over verified TLS.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterIdentity {
    /// UID of namespace kube-system. Never changes.
    pub kube_system_uid: String,
    /// PEM certificates that sign the API server's certificate. Changes only by an explicit rebind.
    pub ca_cert: String,
    /// Counts changes of `caCert`, so that connections of different CAs never share a pool.
    pub ca_generation: i64,
    /// The name that the API server's certificate is verified against.
    pub api_server_name: String,
    /// Issuer of the cluster's service account tokens.
    pub issuer: String,
    /// The keys that sign them: a JSON Web Key Set (RFC 7517), as text.
    pub jwks: String,
}

/// Kubernetes' own words about its version.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KubernetesVersion {
    /// Such as `v1.34.1+k3s1`.
    pub git_version: String,
    /// Such as `linux/amd64`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
}

/// How registration went.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Registration {
    /// When the record was bound to its identity for the first time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registered_at: Option<Time>,
    /// When a registration last wrote the identity. Registration tokens that were made before cannot change it any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bound_at: Option<Time>,
    /// The last attempt that was refused since then. An attempt that succeeds removes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_refusal: Option<Refusal>,
}

/// An attempt to register that was refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Refusal {
    /// Why.
    #[schemars(with = "String")]
    pub reason: RefusalReason,
    /// The same for people, with the next step.
    #[serde(default)]
    pub message: String,
    /// When. Written again only when the reason changes, or agents that try for ever would write for ever.
    pub at: Time,
}

/// Why an attempt to register was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum RefusalReason {
    /// The record is bound to another cluster.
    IdentityMismatch,
    /// It is the same cluster by its UID, with another CA: `cattle cluster rebind` is needed.
    CertificateAuthorityChanged,
    /// The registration token was made before the cluster was bound, and keys or name are others now.
    RegistrationTokenSpent,
    /// What the agent claimed is not what its API server says.
    ClaimMismatch,
    /// The API server could not be reached through the agent.
    ApiServerUnreachable,
    /// The API server's certificate does not fit the CA and name that the agent claimed.
    CertificateInvalid,
    /// The API server refused the server's credential.
    CredentialRefused,
    /// The API server's issuer or keys cannot be read or used.
    IssuerUnusable,
    /// The agent's own token does not verify with the cluster's keys.
    AgentTokenInvalid,
    /// The server could not store the result.
    Internal,
    /// A reason that a newer server wrote.
    #[serde(other)]
    Unknown,
}

impl Kind for Cluster {
    fn resource() -> &'static Resource {
        &resource::CLUSTER
    }

    fn validate(&self, old: Option<&Self>, errors: &mut FieldErrors) {
        if let Some(name) = &self.metadata.name
            && !names::is_cluster_name(name)
        {
            let detail =
                "must be `c-` and 5 to 40 lower-case letters, digits or `-`; leave it out and set generateName `c-`";
            errors.push("metadata.name", FieldProblem::Invalid, detail);
        }
        errors.required("spec.displayName", &self.spec.display_name);
        errors.at_most("spec.displayName", &self.spec.display_name, 253);
        if self.spec.display_name.chars().any(char::is_control) {
            errors.push("spec.displayName", FieldProblem::Invalid, "must not have control characters");
        }
        errors.at_most("spec.description", &self.spec.description, 4096);
        if let Some(rebind) = &self.spec.rebind
            && (rebind.ca_sha256.len() != 64 || !rebind.ca_sha256.bytes().all(|byte| byte.is_ascii_hexdigit()))
        {
            errors.push("spec.rebind.caSha256", FieldProblem::Invalid, "must be a SHA-256 sum in 64 hex digits");
        }
        self.validate_agent_env(errors);
        let uid = |cluster: &Self| Some(cluster.status.as_ref()?.identity.as_ref()?.kube_system_uid.clone());
        if let Some(bound) = old.and_then(uid) {
            errors.unchanged("status.identity.kubeSystemUid", &Some(bound), &uid(self));
        }
    }
}

/// Most variables of [`ClusterSpec::agent_env_vars`], and longest value; the manifest has the same bounds.
const MAX_AGENT_ENV: usize = 64;
const MAX_AGENT_ENV_VALUE: usize = 4096;

impl Cluster {
    fn validate_agent_env(&self, errors: &mut FieldErrors) {
        let variables = &self.spec.agent_env_vars;
        if variables.len() > MAX_AGENT_ENV {
            errors.push("spec.agentEnvVars", FieldProblem::Invalid, format!("at most {MAX_AGENT_ENV}"));
        }
        for (at, AgentEnvVar { name, value }) in variables.iter().take(MAX_AGENT_ENV).enumerate() {
            if !names::is_env_name(name) || name.to_ascii_uppercase().starts_with("CATTLE_") {
                let detail = "must be letters, digits and `_`, not begin with a digit, and not with `CATTLE_`";
                errors.push(format!("spec.agentEnvVars[{at}].name"), FieldProblem::Invalid, detail);
            }
            if variables[..at].iter().any(|other| other.name == *name) {
                let detail = "stands there twice";
                errors.push(format!("spec.agentEnvVars[{at}].name"), FieldProblem::Duplicate, detail);
            }
            if value.len() > MAX_AGENT_ENV_VALUE || value.chars().any(char::is_control) || value.contains("$(") {
                let detail = "must be at most 4096 bytes without control characters and without `$(`";
                errors.push(format!("spec.agentEnvVars[{at}].value"), FieldProblem::Invalid, detail);
            }
        }
    }
}
