//! The roles that every server has, as Rancher's documentation names them.

use k8s_openapi::api::rbac::v1::PolicyRule;

use crate::management::{GlobalRole, GlobalRoleFields, RoleTemplate, RoleTemplateFields};

/// Role template of a cluster's owners.
pub const CLUSTER_OWNER: &str = "cluster-owner";
/// Role template of a cluster's members.
pub const CLUSTER_MEMBER: &str = "cluster-member";
/// Global role of administrators.
pub const ADMIN: &str = "admin";
/// Global role of everybody.
pub const USER: &str = "user";

const MANAGEMENT: &str = "management.cattle.io";
const EXT: &str = "ext.cattle.io";
const READ: &[&str] = &["get", "list", "watch"];

/// The builtin role templates. The server puts them back at each start.
#[must_use]
pub fn role_templates() -> Vec<RoleTemplate> {
    vec![cluster_owner(), cluster_member()]
}

/// The builtin global roles. The server puts them back at each start.
#[must_use]
pub fn global_roles() -> Vec<GlobalRole> {
    vec![admin(), user()]
}

fn cluster_owner() -> RoleTemplate {
    let rules = vec![
        rule("*", &["*"], &["*"]),
        rule(MANAGEMENT, &["clusters"], &["own"]),
        PolicyRule { non_resource_urls: Some(strings(&["*"])), verbs: strings(&["*"]), ..PolicyRule::default() },
    ];
    let fields = RoleTemplateFields {
        display_name: "Cluster Owner".to_owned(),
        description: "Everything in one cluster, and who else may enter it.".to_owned(),
        cluster_creator_default: true,
        rules,
        ..cluster_role()
    };
    RoleTemplate::new(CLUSTER_OWNER, fields)
}

/// Without project: what describes the cluster, no workloads.
fn cluster_member() -> RoleTemplate {
    let rules = vec![
        rule("ui.cattle.io", &["navlinks"], READ),
        rule(MANAGEMENT, &["clusterroletemplatebindings"], READ),
        rule(MANAGEMENT, &["projects"], &["create"]),
        rule(MANAGEMENT, &["nodes", "nodepools"], READ),
        rule("", &["nodes", "persistentvolumes"], READ),
        rule("storage.k8s.io", &["storageclasses"], READ),
        rule("apiregistration.k8s.io", &["apiservices"], READ),
        rule(MANAGEMENT, &["clusterevents"], READ),
        rule("catalog.cattle.io", &["clusterrepos"], READ),
        rule("metrics.k8s.io", &["nodemetrics", "nodes"], READ),
    ];
    let fields = RoleTemplateFields {
        display_name: "Cluster Member".to_owned(),
        description: "Sees what one cluster is made of; may create projects.".to_owned(),
        rules,
        ..cluster_role()
    };
    RoleTemplate::new(CLUSTER_MEMBER, fields)
}

fn admin() -> GlobalRole {
    let rules = vec![
        rule("*", &["*"], &["*"]),
        PolicyRule { non_resource_urls: Some(strings(&["*"])), verbs: strings(&["*"]), ..PolicyRule::default() },
    ];
    let fields = GlobalRoleFields {
        display_name: "Admin".to_owned(),
        description: "Everything, at the server and in every cluster.".to_owned(),
        builtin: true,
        rules,
        ..GlobalRoleFields::default()
    };
    GlobalRole::new(ADMIN, fields)
}

/// Lists of what is owned by somebody (clusters, tokens) are filtered by the API server; these rules open the door.
fn user() -> GlobalRole {
    let rules = vec![
        rule(MANAGEMENT, &["clusters"], &["create"]),
        rule(MANAGEMENT, &["roletemplates", "settings"], READ),
        rule(EXT, &["tokens", "kubeconfigs"], &["create", "get", "list", "watch", "update", "patch", "delete"]),
    ];
    let fields = GlobalRoleFields {
        display_name: "User".to_owned(),
        description: "Signs in, creates clusters, and sees what memberships give.".to_owned(),
        new_user_default: true,
        builtin: true,
        rules,
    };
    GlobalRole::new(USER, fields)
}

fn cluster_role() -> RoleTemplateFields {
    RoleTemplateFields { builtin: true, context: "cluster".to_owned(), ..RoleTemplateFields::default() }
}

fn rule(group: &str, resources: &[&str], verbs: &[&str]) -> PolicyRule {
    PolicyRule {
        api_groups: Some(strings(&[group])),
        resources: Some(strings(resources)),
        verbs: strings(verbs),
        ..PolicyRule::default()
    }
}

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::{self, Kind};

    #[test]
    fn builtin_roles_pass_the_rules_of_their_kinds() {
        fn check<K: Kind>(objects: &[K]) {
            for object in objects {
                let dynamic = resource::encode(object).expect("encodes");
                K::resource().validate(&dynamic, None).unwrap_or_else(|errors| panic!("{object:?}: {errors}"));
            }
        }
        check(&role_templates());
        check(&global_roles());
    }
}
