//! Who may do what in the downstream cluster: the server's account and the agent's account.
//!
//! Each rule stands beside the reason for it. `docs/rbac.md` is made from this table, and a test keeps it so.
//!
//! The server's account is as powerful as an administrator: who can create any role and bind it, can give it to
//! themselves. The list is narrow all the same. It bounds what a mistake can touch, it shows a reviewer what the server
//! does, and no pod runs as the account: its tokens are requested for the server, live at most 24 hours and stand in no
//! Secret.

use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject};

use crate::document::Object;
use crate::import::{cluster_metadata, metadata};
use crate::names;

/// One rule and why it is there.
pub struct Grant {
    /// What is allowed.
    pub rule: PolicyRule,
    /// What it is needed for.
    pub why: &'static str,
}

/// The rules of one role.
pub struct RoleTable {
    /// Name of the ClusterRole, or of the Role in [`names::NAMESPACE`].
    pub name: &'static str,
    /// Where it holds and for whom, for the documentation.
    pub scope: &'static str,
    /// The rules.
    pub grants: Vec<Grant>,
}

impl RoleTable {
    fn rules(&self) -> Vec<PolicyRule> {
        self.grants.iter().map(|grant| grant.rule.clone()).collect()
    }
}

/// ClusterRole of the server's account.
#[must_use]
pub fn server_cluster_role() -> RoleTable {
    let ours = &[names::NAMESPACE, names::IMPERSONATION_NAMESPACE];
    let grants = vec![
        grant(
            &["rbac.authorization.k8s.io"],
            &["clusterroles"],
            &[],
            &["bind", "create", "delete", "escalate", "get", "list", "patch", "watch"],
            "roles of members (made from role templates, which may hold any right) and of impersonators; `escalate` and \
             `bind` because the account does not hold those rights itself",
        ),
        grant(
            &["rbac.authorization.k8s.io"],
            &["clusterrolebindings"],
            &[],
            &["create", "delete", "get", "list", "patch", "watch"],
            "bindings of members, of global administrators and of impersonators",
        ),
        grant(
            &["rbac.authorization.k8s.io"],
            &["rolebindings"],
            &[],
            &["create", "delete", "get", "list", "patch", "watch"],
            "the binding that lets the account work in `cattle-impersonation-system`, made again when that namespace was \
             deleted by hand",
        ),
        grant(
            &[""],
            &["namespaces"],
            &[],
            &["get", "list", "watch"],
            "UID of `kube-system`, which identifies the cluster; existence of our namespaces",
        ),
        grant(
            &[""],
            &["namespaces"],
            &[],
            &["create"],
            "`cattle-impersonation-system`, made again when it was deleted by hand (RBAC cannot limit `create` by name)",
        ),
        grant(
            &[""],
            &["nodes"],
            &[],
            &["get", "list", "watch"],
            "the nodes that the server shows, and which of them run the control plane",
        ),
        grant(&[""], &["namespaces"], ours, &["delete"], "removal of our namespaces when the cluster is deleted"),
        grant(
            &["scheduling.k8s.io"],
            &["priorityclasses"],
            &[names::AGENT_PRIORITY_CLASS],
            &["delete", "get"],
            "removal of the agent's priority class when the cluster is deleted",
        ),
        Grant {
            rule: PolicyRule {
                non_resource_urls: Some(strings(&[
                    "/.well-known/openid-configuration",
                    "/openid/v1/jwks",
                    "/readyz",
                    "/version",
                ])),
                verbs: strings(&["get"]),
                ..PolicyRule::default()
            },
            why: "keys that sign the agents' tokens; the probe; the cluster's version",
        },
    ];
    RoleTable {
        name: names::SERVER_ROLE,
        scope: "ClusterRole, bound to ServiceAccount `cattle` in the whole cluster",
        grants,
    }
}

/// ClusterRole of the server's account inside the impersonation namespace.
#[must_use]
pub fn impersonation_role() -> RoleTable {
    let all = &["create", "delete", "get", "list", "patch", "watch"];
    let grants = vec![
        grant(&[""], &["serviceaccounts"], &[], all, "one account for each user who may enter the cluster"),
        grant(&[""], &["secrets"], &[], all, "the account's token"),
    ];
    let scope = "ClusterRole, bound to ServiceAccount `cattle` in namespace `cattle-impersonation-system` only";
    RoleTable { name: names::IMPERSONATION_ROLE, scope, grants }
}

/// Role of the server's account inside [`names::NAMESPACE`].
#[must_use]
pub fn server_role() -> RoleTable {
    let grants = vec![
        grant(&[""], &["serviceaccounts/token"], &[names::SERVER_ACCOUNT], &["create"], "renewal of its own token"),
        grant(
            &[""],
            &["pods"],
            &[],
            &["get"],
            "the node of an agent, by its pod: the tokens of Kubernetes before 1.32 do not say it",
        ),
    ];
    RoleTable { name: names::SERVER_ROLE, scope: "Role in `cattle-system`, bound to ServiceAccount `cattle`", grants }
}

/// ClusterRole of the agent's account.
#[must_use]
pub fn agent_cluster_role() -> RoleTable {
    let grants = vec![grant(
        &[""],
        &["namespaces"],
        &[names::IDENTITY_NAMESPACE],
        &["get"],
        "UID of `kube-system`, which the agent claims when it registers the cluster",
    )];
    RoleTable { name: names::AGENT, scope: "ClusterRole, bound to ServiceAccount `cattle-cluster-agent`", grants }
}

/// Role of the agent's account inside [`names::NAMESPACE`].
#[must_use]
pub fn agent_role() -> RoleTable {
    let grants = vec![grant(
        &[""],
        &["serviceaccounts/token"],
        &[names::SERVER_ACCOUNT],
        &["create"],
        "the server's first token, and one after the cluster was away for longer than a token lives",
    )];
    RoleTable {
        name: names::AGENT,
        scope: "Role in `cattle-system`, bound to ServiceAccount `cattle-cluster-agent`",
        grants,
    }
}

/// Every role with its bindings.
pub(crate) fn objects() -> Vec<Object> {
    let server = || account(names::SERVER_ACCOUNT);
    let agent = || account(names::AGENT);
    vec![
        cluster_role(&server_cluster_role()),
        cluster_role(&impersonation_role()),
        cluster_role(&agent_cluster_role()),
        cluster_binding(names::SERVER_ROLE, names::SERVER_ROLE, server()),
        cluster_binding(names::AGENT, names::AGENT, agent()),
        cluster_binding(names::AGENT_DISCOVERY_BINDING, names::ISSUER_DISCOVERY_ROLE, agent()),
        role(&server_role()),
        role(&agent_role()),
        binding(names::NAMESPACE, names::SERVER_ROLE, "Role", names::SERVER_ROLE, server()),
        binding(names::NAMESPACE, names::AGENT, "Role", names::AGENT, agent()),
        Object::new(&impersonation_binding()),
    ]
}

/// The RoleBinding that lets the server's account work in the impersonation namespace.
///
/// The server makes it again when the namespace was deleted by hand.
#[must_use]
pub fn impersonation_binding() -> RoleBinding {
    RoleBinding {
        metadata: metadata(names::IMPERSONATION_NAMESPACE, names::IMPERSONATION_ROLE),
        role_ref: role_ref("ClusterRole", names::IMPERSONATION_ROLE),
        subjects: Some(vec![account(names::SERVER_ACCOUNT)]),
    }
}

fn grant(groups: &[&str], resources: &[&str], names: &[&str], verbs: &[&str], why: &'static str) -> Grant {
    let rule = PolicyRule {
        api_groups: Some(strings(groups)),
        resources: Some(strings(resources)),
        resource_names: (!names.is_empty()).then(|| strings(names)),
        verbs: strings(verbs),
        ..PolicyRule::default()
    };
    Grant { rule, why }
}

fn cluster_role(table: &RoleTable) -> Object {
    Object::new(&ClusterRole {
        metadata: cluster_metadata(table.name),
        rules: Some(table.rules()),
        ..ClusterRole::default()
    })
}

fn role(table: &RoleTable) -> Object {
    Object::new(&Role { metadata: metadata(names::NAMESPACE, table.name), rules: Some(table.rules()) })
}

fn cluster_binding(name: &str, role: &str, subject: Subject) -> Object {
    Object::new(&ClusterRoleBinding {
        metadata: cluster_metadata(name),
        role_ref: role_ref("ClusterRole", role),
        subjects: Some(vec![subject]),
    })
}

fn binding(namespace: &str, name: &str, kind: &str, role: &str, subject: Subject) -> Object {
    Object::new(&RoleBinding {
        metadata: metadata(namespace, name),
        role_ref: role_ref(kind, role),
        subjects: Some(vec![subject]),
    })
}

fn role_ref(kind: &str, name: &str) -> RoleRef {
    RoleRef { api_group: Some("rbac.authorization.k8s.io".into()), kind: kind.into(), name: name.into() }
}

fn account(name: &str) -> Subject {
    Subject {
        kind: "ServiceAccount".into(),
        name: name.into(),
        namespace: Some(names::NAMESPACE.into()),
        ..Subject::default()
    }
}

fn strings(values: &[&str]) -> Vec<String> {
    values.iter().map(|&value| value.into()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tables() -> Vec<RoleTable> {
        vec![server_cluster_role(), server_role(), impersonation_role(), agent_cluster_role(), agent_role()]
    }

    #[test]
    fn no_rule_has_a_wildcard() {
        for table in tables() {
            for PolicyRule { api_groups, resources, resource_names, verbs, non_resource_urls } in
                table.grants.iter().map(|grant| grant.rule.clone())
            {
                let lists = [api_groups, resources, resource_names, Some(verbs), non_resource_urls];
                assert!(lists.iter().flatten().flatten().all(|value| !value.contains('*')), "{}", table.name);
            }
        }
    }

    /// What the objects that are applied give an account, role by role: rules, or the name of a role of Kubernetes.
    fn granted(account: &str) -> Vec<(String, serde_json::Value)> {
        let objects = objects();
        let bound = objects.iter().filter(|object| object.kind().ends_with("Binding"));
        let of = bound.filter(|object| {
            let subjects = object.as_json()["subjects"].as_array().cloned().unwrap_or_default();
            subjects.iter().any(|subject| subject["name"] == account && subject["namespace"] == names::NAMESPACE)
        });
        let rules = of.map(|binding| {
            let role = &binding.as_json()["roleRef"];
            let found = objects.iter().find(|object| {
                role["kind"] == object.kind()
                    && role["name"] == object.name()
                    && (object.kind() == "ClusterRole" || object.namespace() == binding.namespace())
            });
            let scope = format!("{} {}", binding.kind(), binding.namespace().unwrap_or("everywhere"));
            (scope, found.map_or_else(|| role["name"].clone(), |role| role.as_json()["rules"].clone()))
        });
        rules.collect()
    }

    #[test]
    fn the_agent_may_request_one_token_see_one_namespace_and_discover_the_issuer() {
        let json = serde_json::json!([
            ["ClusterRoleBinding everywhere", [{ "apiGroups": [""], "resources": ["namespaces"],
                "resourceNames": ["kube-system"], "verbs": ["get"] }]],
            ["ClusterRoleBinding everywhere", "system:service-account-issuer-discovery"],
            ["RoleBinding cattle-system", [{ "apiGroups": [""], "resources": ["serviceaccounts/token"],
                "resourceNames": ["cattle"], "verbs": ["create"] }]],
        ]);
        assert_eq!(serde_json::json!(granted(names::AGENT)), json);
    }

    #[test]
    fn what_is_applied_is_what_is_documented() {
        let mut applied: Vec<_> = granted(names::SERVER_ACCOUNT).into_iter().map(|(_, rules)| rules).collect();
        applied.extend(granted(names::AGENT).into_iter().map(|(_, rules)| rules).filter(serde_json::Value::is_array));
        let documented: Vec<_> = tables().iter().map(|table| serde_json::json!(table.rules())).collect();
        assert_eq!(applied.len(), documented.len());
        for rules in &documented {
            assert!(applied.contains(rules), "{rules} is documented and not applied");
        }
    }

    #[test]
    fn secrets_are_granted_in_the_impersonation_namespace_only() {
        for table in tables().iter().filter(|table| table.name != names::IMPERSONATION_ROLE) {
            let touches = |grant: &Grant| grant.rule.resources.iter().flatten().any(|resource| resource == "secrets");
            assert!(!table.grants.iter().any(touches), "{}", table.name);
        }
    }

    #[test]
    fn the_documentation_is_this_table() {
        let mut text = String::from(DOC_HEAD);
        for table in tables() {
            text += &format!("\n## `{}`\n\n{}.\n\n| may | on | why |\n|---|---|---|\n", table.name, table.scope);
            for Grant { rule, why } in &table.grants {
                text += &format!("| {} | {} | {why} |\n", rule.verbs.join(", "), on(rule));
            }
        }
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/rbac.md");
        crate::golden::check(path, &text);
    }

    fn on(rule: &PolicyRule) -> String {
        if let Some(urls) = &rule.non_resource_urls {
            return format!("`{}`", urls.join("`, `"));
        }
        let group = rule.api_groups.iter().flatten().find(|group| !group.is_empty());
        let suffix = group.map(|group| format!(" ({group})")).unwrap_or_default();
        let only =
            rule.resource_names.as_ref().map(|names| format!(" named `{}`", names.join("`, `"))).unwrap_or_default();
        format!("{}{suffix}{only}", rule.resources.iter().flatten().cloned().collect::<Vec<_>>().join(", "))
    }

    const DOC_HEAD: &str = "# Rights in a downstream cluster\n
What the import manifest grants, rule by rule. `deploy/manifest/src/access.rs` holds the table; a test writes this page
from it (`UPDATE_GOLDEN=1 cargo test -p cattle-manifest`) and fails when the two differ.\n
ServiceAccount `cattle` is the server's in the cluster. No pod runs as it: the server holds tokens that it requests for
the account, at most 24 hours long. The account can create any role and bind it, so whoever holds such a token is as
powerful as an administrator of that cluster, and of that cluster only.\n
ServiceAccount `cattle-cluster-agent` is the agent's. It may request tokens for `cattle`: the node that its pod runs on is
as trusted as that right. It may read nothing but the identity of the cluster and, through Kubernetes' own role
`system:service-account-issuer-discovery`, the public keys of the token issuer.\n";
}
