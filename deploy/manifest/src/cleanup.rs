//! What is left in a cluster that could not be reached when it was deleted, and the lines that remove it by hand.

use crate::names;

/// Cluster-scoped objects of the manifest besides the namespaces, as `(plural.group, name)`.
///
/// The server's own role and binding are among them: whoever deletes with the server's credential removes those last.
pub const CLUSTER_SCOPED: &[(&str, &str)] = &[
    ("clusterrolebindings.rbac.authorization.k8s.io", names::AGENT_DISCOVERY_BINDING),
    ("clusterrolebindings.rbac.authorization.k8s.io", names::AGENT),
    ("clusterroles.rbac.authorization.k8s.io", names::AGENT),
    ("clusterroles.rbac.authorization.k8s.io", names::IMPERSONATION_ROLE),
    ("priorityclasses.scheduling.k8s.io", names::AGENT_PRIORITY_CLASS),
    ("clusterrolebindings.rbac.authorization.k8s.io", names::SERVER_ROLE),
    ("clusterroles.rbac.authorization.k8s.io", names::SERVER_ROLE),
];

/// Commands that remove everything of ours from a cluster, for a person with administrator rights in it.
///
/// Selected by our label, never by Rancher's: another server's objects stay.
#[must_use]
pub fn commands() -> Vec<String> {
    let selector = format!("{}={}", names::MANAGED_BY_LABEL, names::MANAGER);
    vec![
        format!("kubectl delete clusterrolebindings,clusterroles,priorityclasses -l {selector}"),
        format!("kubectl delete namespace {} {} --ignore-not-found", names::IMPERSONATION_NAMESPACE, names::NAMESPACE),
    ]
}
