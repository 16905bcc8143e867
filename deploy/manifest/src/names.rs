//! The names, labels and paths that the server, the agent and the tests share.

/// Namespace of the agents and of the server's own account.
pub const NAMESPACE: &str = "cattle-system";
/// Namespace of the impersonators: one service account and one Secret for each user.
pub const IMPERSONATION_NAMESPACE: &str = "cattle-impersonation-system";
/// ServiceAccount in [`NAMESPACE`] that the server acts as. No pod runs as it.
pub const SERVER_ACCOUNT: &str = "cattle";
/// ServiceAccount, Deployment and roles of the cluster agent.
pub const AGENT: &str = "cattle-cluster-agent";
/// ServiceAccount and DaemonSet of the node agents.
pub const NODE_AGENT: &str = "cattle-node-agent";
/// ClusterRole and ClusterRoleBinding of the server's account.
pub const SERVER_ROLE: &str = "cattle-server";
/// ClusterRole that a RoleBinding gives to the server's account in [`IMPERSONATION_NAMESPACE`] only.
pub const IMPERSONATION_ROLE: &str = "cattle-server-impersonation";
/// ClusterRoleBinding of the agent's account to Kubernetes' own role for the issuer's discovery documents.
pub const AGENT_DISCOVERY_BINDING: &str = "cattle-cluster-agent-issuer-discovery";
/// PriorityClass of the agent's pods (Rancher's name).
pub const AGENT_PRIORITY_CLASS: &str = "cattle-cluster-agent-priority-class";
/// Kubernetes' own role for `/.well-known/openid-configuration` and `/openid/v1/jwks`.
pub const ISSUER_DISCOVERY_ROLE: &str = "system:service-account-issuer-discovery";
/// The namespace whose UID identifies a cluster.
pub const IDENTITY_NAMESPACE: &str = "kube-system";

/// Label on everything that the manifest and the server create downstream; deletion selects by it.
pub const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";
/// Value of [`MANAGED_BY_LABEL`], and the server's field manager in server-side apply.
pub const MANAGER: &str = "cattle-server";
/// Rancher's label on what it creates; kept for tools and documented commands that select by it.
pub const CREATOR_LABEL: &str = "cattle.io/creator";
/// Value of [`CREATOR_LABEL`].
pub const CREATOR: &str = "norman";
/// Rancher's label on impersonators (value `true`).
pub const IMPERSONATOR_LABEL: &str = "authz.cluster.cattle.io/impersonator";
/// Rancher's annotation on a ClusterRole made from a RoleTemplate; the value is the template's name.
pub const ROLE_OWNER_ANNOTATION: &str = "authz.cluster.cattle.io/clusterrole-owner";
/// Rancher's label on a binding made from a ClusterRoleTemplateBinding; the value is `<namespace>_<name>`.
pub const BINDING_OWNER_LABEL: &str = "authz.cluster.cattle.io/rtb-owner-updated";

/// Where the agent finds the credentials Secret (files `url` and `token`).
pub const CREDENTIALS_DIR: &str = "/cattle-credentials";
/// Where the agent finds its projected token.
pub const TOKEN_DIR: &str = "/var/run/secrets/cattle.io/agent";
/// File name of the projected token in [`TOKEN_DIR`].
pub const TOKEN_FILE: &str = "token";
/// Life of the projected token in seconds; the kubelet rotates it at 80 %.
pub const TOKEN_SECONDS: i64 = 3600;
/// Port of the agent's admin listener: liveness, readiness, metrics.
pub const ADMIN_PORT: i32 = 8080;
/// Port of a node agent's admin listener, on the loopback of its node: beside that of `kube-api-auth` (6440).
pub const NODE_ADMIN_PORT: i32 = 6439;

/// The audience of an agent's projected token: this cluster at this server, and nothing else.
#[must_use]
pub fn agent_audience(cluster_id: &str, server_id: &str) -> String {
    format!("cattle:{cluster_id}:{server_id}")
}
