//! The access model by example: one small world, and what each person may do in it.

use cattle_api::{builtin, resource};
use kube::core::DynamicObject;
use serde_json::{Value, json};

use super::*;

pub(crate) fn object(namespace: Option<&str>, name: &str, body: Value) -> DynamicObject {
    let mut value = json!({ "apiVersion": "v", "kind": "k", "metadata": { "name": name, "namespace": namespace } });
    value.as_object_mut().unwrap().extend(body.as_object().unwrap().clone());
    serde_json::from_value(value).unwrap()
}

pub(crate) fn user(index: &mut AccessIndex, name: &str, login: &str) {
    index.apply(Kind::User, &object(None, name, json!({ "username": login, "enabled": true })));
}

pub(crate) fn bind(index: &mut AccessIndex, cluster: &str, name: &str, user: &str, template: &str) {
    let body = json!({ "clusterName": cluster, "userName": user, "roleTemplateName": template });
    index.apply(Kind::ClusterRoleTemplateBinding, &object(Some(cluster), name, body));
}

pub(crate) fn bind_global(index: &mut AccessIndex, name: &str, user: &str, role: &str) {
    let body = json!({ "userName": user, "globalRoleName": role });
    index.apply(Kind::GlobalRoleBinding, &object(None, name, body));
}

pub(crate) fn template(index: &mut AccessIndex, name: &str, body: Value) {
    index.apply(Kind::RoleTemplate, &object(None, name, body));
}

/// root is administrator; olga owns c-one; mia is its member; tom is an ordinary user with nothing; eve is a stranger.
pub(crate) fn world() -> AccessIndex {
    let mut index = AccessIndex::default();
    for (name, login) in [("u-root", "admin"), ("u-olga", "olga"), ("u-mia", "mia"), ("u-tom", "tom"), ("u-eve", "eve")]
    {
        user(&mut index, name, login);
    }
    for role in builtin::global_roles() {
        index.apply(Kind::GlobalRole, &resource::encode(&role).unwrap());
    }
    for role in builtin::role_templates() {
        index.apply(Kind::RoleTemplate, &resource::encode(&role).unwrap());
    }
    bind_global(&mut index, "grb-1", "u-root", "admin");
    bind_global(&mut index, "grb-2", "u-tom", "user");
    bind(&mut index, "c-one", "crtb-1", "u-olga", "cluster-owner");
    bind(&mut index, "c-one", "crtb-2", "u-mia", "cluster-member");
    index
}

fn who(name: &str) -> UserInfo {
    UserInfo::for_test(name, name.trim_start_matches("u-"))
}

fn management<'a>(
    verb: &'a str,
    resource: &'a str,
    namespace: Option<&'a str>,
    name: Option<&'a str>,
) -> Attributes<'a> {
    Attributes { verb, group: MANAGEMENT, resource, subresource: None, namespace, name }
}

#[test]
fn an_empty_index_and_an_index_out_of_step_deny_everything() {
    let root = who("u-root");
    let get = management("get", "clusters", None, Some("c-one"));
    assert_eq!(AccessIndex::default().authorize(&root, &get), Decision::Deny(Denied::NoSuchUser));
    let access = Access::new();
    access.change(|index| *index = world());
    assert_eq!(access.authorize(&root, &get), Decision::Deny(Denied::NotReady));
    assert!(!access.may_enter(&root, "c-one"));
    assert_eq!(access.entrants("c-one"), None);
    access.publish(world());
    assert_eq!(access.authorize(&root, &get), Decision::Allow);
    access.out_of_sync();
    assert!(!access.may_enter(&root, "c-one"));
    assert!(access.may_grant(&root, "c-one", "cluster-member").is_err());
}

#[test]
fn entering_takes_a_binding_in_that_cluster_or_administration() {
    let index = world();
    let enters = |user: &str, cluster: &str| index.may_enter(&who(user), cluster);
    assert!(enters("u-root", "c-one") && enters("u-root", "c-two"));
    assert!(enters("u-olga", "c-one") && !enters("u-olga", "c-two"));
    assert!(enters("u-mia", "c-one"));
    assert!(!enters("u-tom", "c-one") && !enters("u-eve", "c-one") && !enters("u-nobody", "c-one"));
    assert_eq!(index.entrants("c-one"), ["u-mia", "u-olga", "u-root"]);
    assert_eq!(index.entrants("c-two"), ["u-root"]);
}

#[test]
fn requests_get_the_decision_of_the_table() {
    use Decision::{Allow, Filtered};
    const NO: Decision = Decision::Deny(Denied::Forbidden);
    let index = world();
    let in_one = Some("c-one");
    #[rustfmt::skip]
    let table: &[(Attributes<'_>, [Decision; 5])] = &[
        //                                                                     root   olga      mia       tom       eve
        (management("list", "clusters", None, None),                          [Allow, Filtered, Filtered, Filtered, Filtered]),
        (management("watch", "clusters", None, None),                         [Allow, Filtered, Filtered, Filtered, Filtered]),
        (management("get", "clusters", None, Some("c-one")),                  [Allow, Allow,    Allow,    NO,       NO]),
        (management("get", "clusters", None, Some("c-two")),                  [Allow, NO,       NO,       NO,       NO]),
        (management("patch", "clusters", None, Some("c-one")),                [Allow, Allow,    NO,       NO,       NO]),
        (management("delete", "clusters", None, Some("c-one")),               [Allow, Allow,    NO,       NO,       NO]),
        (management("delete", "clusters", None, Some("c-two")),               [Allow, NO,       NO,       NO,       NO]),
        (management("deletecollection", "clusters", None, None),              [Allow, NO,       NO,       NO,       NO]),
        (management("create", "clusters", None, None),                        [Allow, NO,       NO,       Allow,    NO]),
        (management("get", "clusterroletemplatebindings", in_one, Some("x")), [Allow, Allow,    Allow,    NO,       NO]),
        (management("list", "clusterroletemplatebindings", in_one, None),     [Allow, Allow,    Allow,    NO,       NO]),
        (management("list", "clusterroletemplatebindings", None, None),       [Allow, Filtered, Filtered, Filtered, Filtered]),
        (management("create", "clusterroletemplatebindings", in_one, None),   [Allow, Allow,    NO,       NO,       NO]),
        (management("create", "clusterroletemplatebindings", Some("c-two"), None), [Allow, NO,  NO,       NO,       NO]),
        (management("delete", "clusterroletemplatebindings", None, None),     [Allow, NO,       NO,       NO,       NO]),
        (management("create", "clusterregistrationtokens", in_one, None),     [Allow, Allow,    NO,       NO,       NO]),
        (management("get", "clusterregistrationtokens", in_one, Some("x")),   [Allow, Allow,    NO,       NO,       NO]),
        (management("list", "users", None, None),                             [Allow, Filtered, Filtered, Filtered, Filtered]),
        (management("create", "users", None, None),                           [Allow, NO,       NO,       NO,       NO]),
        (management("get", "users", None, Some("u-mia")),                     [Allow, NO,       Allow,    NO,       NO]),
        (management("patch", "users", None, Some("u-mia")),                   [Allow, NO,       NO,       NO,       NO]),
        (management("get", "settings", None, Some("server-url")),             [Allow, NO,       NO,       Allow,    NO]),
        (management("update", "settings", None, Some("server-url")),          [Allow, NO,       NO,       NO,       NO]),
        (management("get", "globalroles", None, Some("admin")),               [Allow, NO,       NO,       NO,       NO]),
        (management("create", "globalrolebindings", None, None),              [Allow, NO,       NO,       NO,       NO]),
        (management("update", "roletemplates", None, Some("cluster-member")), [Allow, NO,       NO,       NO,       NO]),
        (management("get", "secrets", in_one, Some("x")),                     [Allow, NO,       NO,       NO,       NO]),
    ];
    for (attributes, expected) in table {
        let people = ["u-root", "u-olga", "u-mia", "u-tom", "u-eve"];
        for (name, expected) in people.into_iter().zip(expected) {
            assert_eq!(index.authorize(&who(name), attributes), *expected, "{name}: {attributes:?}");
        }
    }
}

#[test]
fn a_clusters_status_is_the_servers() {
    let index = world();
    let patch = Attributes { subresource: Some("status"), ..management("patch", "clusters", None, Some("c-one")) };
    assert_eq!(index.authorize(&who("u-olga"), &patch), Decision::Deny(Denied::Forbidden));
    let get = Attributes { verb: "get", ..patch };
    assert_eq!(index.authorize(&who("u-mia"), &get), Decision::Allow);
}

#[test]
fn tokens_show_to_their_owner_whatever_is_asked() {
    let index = world();
    let list = Attributes { group: "ext.cattle.io", ..management("list", "tokens", None, None) };
    let delete = Attributes { group: "ext.cattle.io", ..management("delete", "tokens", None, Some("token-x")) };
    assert_eq!(index.authorize(&who("u-olga"), &list), Decision::Filtered);
    assert_eq!(index.authorize(&who("u-olga"), &delete), Decision::Filtered);
    let token =
        |owner| ObjectRef { group: "ext.cattle.io", resource: "tokens", namespace: None, name: "token-x", owner };
    assert_eq!(index.authorize(&who("u-tom"), &list), Decision::Filtered, "the rules of `user` name tokens");
    assert!(index.visible(&who("u-olga"), &token(Some("u-olga"))));
    assert!(!index.visible(&who("u-olga"), &token(Some("u-mia"))));
    assert!(!index.visible(&who("u-olga"), &token(None)));
    assert!(index.visible(&who("u-root"), &token(Some("u-mia"))));
}

#[test]
fn lists_show_what_get_would() {
    let index = world();
    let seen = |user: &str, resource: &str, namespace: Option<&str>, name: &str| {
        index.visible(&who(user), &ObjectRef { group: MANAGEMENT, resource, namespace, name, owner: None })
    };
    assert!(seen("u-mia", "clusters", None, "c-one") && !seen("u-mia", "clusters", None, "c-two"));
    assert!(seen("u-mia", "users", None, "u-mia") && !seen("u-mia", "users", None, "u-olga"));
    assert!(seen("u-mia", "clusterroletemplatebindings", Some("c-one"), "crtb-1"));
    assert!(!seen("u-mia", "clusterroletemplatebindings", Some("c-two"), "crtb-1"));
    assert!(!seen("u-mia", "clusterregistrationtokens", Some("c-one"), "default-token"));
    assert!(seen("u-tom", "settings", None, "server-url") && !seen("u-eve", "settings", None, "server-url"));
}

#[test]
fn a_cluster_scoped_token_enters_its_cluster_and_nothing_else() {
    let index = world();
    let scoped = who("u-root").with_cluster_scope("c-one");
    assert!(index.may_enter(&scoped, "c-one"));
    assert!(!index.may_enter(&scoped, "c-two"));
    let get = management("get", "clusters", None, Some("c-one"));
    assert_eq!(index.authorize(&scoped, &get), Decision::Deny(Denied::ClusterScopedToken));
    let object = ObjectRef { group: MANAGEMENT, resource: "clusters", namespace: None, name: "c-one", owner: None };
    assert!(!index.visible(&scoped, &object));
    assert_eq!(index.may_grant(&scoped, "c-one", "cluster-member"), Err(Denied::Escalation));
    assert_eq!(index.may_grant_global(&scoped), Err(Denied::Escalation));
}

#[test]
fn nobody_gives_more_than_they_have() {
    let mut index = world();
    template(&mut index, "sealed", json!({ "locked": true }));
    template(&mut index, "project-owner", json!({ "context": "project" }));
    template(&mut index, "both", json!({ "roleTemplateNames": ["cluster-member", "cluster-owner"] }));
    let grants = |user: &str, cluster: &str, template: &str| index.may_grant(&who(user), cluster, template);
    assert_eq!(grants("u-root", "c-two", "cluster-owner"), Ok(()));
    assert_eq!(grants("u-olga", "c-one", "cluster-owner"), Ok(()));
    assert_eq!(grants("u-olga", "c-two", "cluster-member"), Err(Denied::Escalation));
    assert_eq!(grants("u-mia", "c-one", "cluster-member"), Ok(()));
    assert_eq!(grants("u-mia", "c-one", "cluster-owner"), Err(Denied::Escalation));
    assert_eq!(grants("u-mia", "c-one", "both"), Err(Denied::Escalation), "what is inherited counts");
    assert_eq!(grants("u-eve", "c-one", "cluster-member"), Err(Denied::Escalation));
    assert_eq!(grants("u-root", "c-one", "sealed"), Err(Denied::RoleLocked));
    assert_eq!(grants("u-root", "c-one", "project-owner"), Err(Denied::NotAClusterRole));
    assert_eq!(grants("u-root", "c-one", "no-such"), Err(Denied::NoSuchRole));
    assert_eq!(index.may_grant_global(&who("u-olga")), Err(Denied::Escalation));
    assert_eq!(index.may_grant_global(&who("u-root")), Ok(()));
}

#[test]
fn inheritance_is_followed_once_around_a_circle() {
    let mut index = world();
    template(&mut index, "a", json!({ "roleTemplateNames": ["b"] }));
    template(&mut index, "b", json!({ "roleTemplateNames": ["a", "cluster-member", "gone"] }));
    bind(&mut index, "c-two", "crtb-9", "u-tom", "a");
    let roles = index.roles(&who("u-tom"), "c-two");
    assert_eq!(roles.templates.iter().map(String::as_str).collect::<Vec<_>>(), ["a", "b", "cluster-member"]);
}

#[test]
fn void_objects_give_nothing() {
    let cases = [
        json!({ "clusterName": "c-two", "userName": "u-eve", "roleTemplateName": "cluster-owner" }),
        json!({ "clusterName": "c-one", "roleTemplateName": "cluster-owner" }),
        json!({ "clusterName": "c-one", "userName": "", "roleTemplateName": "cluster-owner" }),
        json!({ "clusterName": "c-one", "userName": "u-eve", "roleTemplateName": "no-such" }),
        json!({ "clusterName": "c-one", "userName": "u-eve", "groupName": "x", "roleTemplateName": "cluster-owner" }),
        json!({ "clusterName": "c-one", "userPrincipalName": "ldap://u-eve", "roleTemplateName": "cluster-owner" }),
        json!({ "clusterName": "c-one", "userName": "u-tom", "userPrincipalName": "local://u-eve",
                "roleTemplateName": "cluster-owner" }),
        json!({ "clusterName": "c-one", "userName": ["u-eve"], "roleTemplateName": "cluster-owner" }),
        json!({ "userName": "u-eve", "roleTemplateName": "cluster-owner" }),
    ];
    for body in cases {
        let mut index = world();
        index.apply(Kind::ClusterRoleTemplateBinding, &object(Some("c-one"), "crtb-9", body.clone()));
        assert!(!index.may_enter(&who("u-eve"), "c-one") && !index.may_enter(&who("u-eve"), "c-two"), "{body}");
    }
    let mut index = world();
    let body =
        json!({ "clusterName": "c-one", "userPrincipalName": "local://u-eve", "roleTemplateName": "cluster-member" });
    index.apply(Kind::ClusterRoleTemplateBinding, &object(Some("c-one"), "crtb-9", body));
    assert!(index.may_enter(&who("u-eve"), "c-one"), "the same shape, well formed, does");
}

#[test]
fn a_broken_update_takes_the_right_away_instead_of_keeping_it() {
    let mut index = world();
    let broken = json!({ "clusterName": "c-one", "userName": 7, "roleTemplateName": "cluster-owner" });
    index.apply(Kind::ClusterRoleTemplateBinding, &object(Some("c-one"), "crtb-1", broken));
    assert!(!index.may_enter(&who("u-olga"), "c-one"));
}

#[test]
fn disabled_deleted_and_dying_users_may_nothing() {
    let disabled = object(None, "u-root", json!({ "username": "admin", "enabled": false }));
    let mut dying = object(None, "u-root", json!({ "username": "admin", "enabled": true }));
    dying.metadata.deletion_timestamp = Some(serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap());
    for change in [disabled, dying] {
        let mut index = world();
        index.apply(Kind::User, &change);
        assert!(!index.may_enter(&who("u-root"), "c-one"));
        let list = management("list", "clusters", None, None);
        assert_eq!(index.authorize(&who("u-root"), &list), Decision::Deny(Denied::NoSuchUser));
        assert_eq!(index.may_grant_global(&who("u-root")), Err(Denied::Escalation));
        assert_eq!(index.entrants("c-two"), Vec::<String>::new());
    }
}

#[test]
fn groups_bind_as_users_do() {
    let mut index = world();
    let body = json!({ "clusterName": "c-two", "groupPrincipalName": "ops", "roleTemplateName": "cluster-member" });
    index.apply(Kind::ClusterRoleTemplateBinding, &object(Some("c-two"), "crtb-9", body));
    assert!(index.may_enter(&who("u-eve").with_groups(&["ops"]), "c-two"));
    assert!(!index.may_enter(&who("u-eve"), "c-two"));
}

#[test]
fn sign_in_names_have_no_case() {
    let index = world();
    assert_eq!(index.user_by_login("Olga"), Some("u-olga"));
    assert_eq!(index.user_by_login(" olga "), Some("u-olga"));
    assert_eq!(index.user_by_login("olg"), None);
    assert_eq!(index.user_by_login(""), None);
}

#[test]
fn a_reset_forgets_what_is_not_listed() {
    let mut index = world();
    index.reset(Kind::ClusterRoleTemplateBinding, []);
    assert!(!index.may_enter(&who("u-olga"), "c-one"));
    assert!(index.may_enter(&who("u-root"), "c-one"));
}
