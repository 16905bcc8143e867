//! What each kind accepts, and which field it blames otherwise.

use cattle_api::FieldErrors;
use cattle_api::resource::{self, Resource};
use kube::core::DynamicObject;
use serde_json::{Value, json};

fn object(resource: &Resource, mut json: Value) -> DynamicObject {
    json["apiVersion"] = json!(resource.api_version());
    json["kind"] = json!(resource.kind);
    serde_json::from_value(json).expect("an object")
}

/// Paths of the fields that are blamed.
fn blamed(resource: &Resource, new: &Value, old: Option<&Value>) -> Vec<String> {
    let (new, old) = (object(resource, new.clone()), old.map(|old| object(resource, old.clone())));
    let errors = resource.validate(&new, old.as_ref()).err().unwrap_or_default();
    errors.as_slice().iter().map(|error| error.path.clone()).collect()
}

/// `good`, with the value at a JSON pointer replaced (its parent is made if it is not there).
fn with(good: &Value, pointer: &str, value: &Value) -> Value {
    let mut changed = good.clone();
    let (parent, field) = pointer.rsplit_once('/').expect("a pointer");
    changed.pointer_mut(parent).expect("a parent")[field] = value.clone();
    changed
}

/// Each change of a good object is blamed on one field.
fn table(resource: &Resource, good: &Value, cases: &[(&str, Value, &str)]) {
    assert_eq!(blamed(resource, good, None), Vec::<String>::new());
    for (pointer, value, path) in cases {
        assert_eq!(blamed(resource, &with(good, pointer, value), None), [*path], "{pointer} = {value}");
    }
}

/// Each change is refused as an update.
fn frozen(resource: &Resource, good: &Value, cases: &[(&str, Value, &str)]) {
    assert_eq!(blamed(resource, good, Some(good)), Vec::<String>::new());
    for (pointer, value, path) in cases {
        let found = blamed(resource, &with(good, pointer, value), Some(good));
        assert!(found.iter().any(|found| found == path), "{pointer} = {value}: {found:?}");
    }
}

#[test]
fn cluster() {
    let good = json!({"metadata": {"name": "c-abcde"}, "spec": {"displayName": "prod"}});
    let resource = &resource::CLUSTER;
    table(
        resource,
        &good,
        &[
            ("/metadata/name", json!("prod"), "metadata.name"),
            ("/metadata/name", json!("c-a.bcde"), "metadata.name"),
            ("/metadata/namespace", json!("c-abcde"), "metadata.namespace"),
            ("/metadata/finalizers", json!(["plain"]), "metadata.finalizers"),
            ("/spec/displayName", json!(""), "spec.displayName"),
            ("/spec/displayName", json!("a\u{7}b"), "spec.displayName"),
            ("/spec/displayName", json!("a".repeat(254)), "spec.displayName"),
            ("/spec/agentEnvVars", json!([{"name": "A", "value": "b"}, {"name": "A"}]), "spec.agentEnvVars[1].name"),
            ("/spec/agentEnvVars", json!([{"name": "cattle_server"}]), "spec.agentEnvVars[0].name"),
            ("/spec/agentEnvVars", json!([{"name": "1A"}]), "spec.agentEnvVars[0].name"),
            ("/spec/agentEnvVars", json!([{"name": "A", "value": "$(B)"}]), "spec.agentEnvVars[0].value"),
            ("/spec/agentEnvVars", json!([{"name": "A", "value": "a\nb"}]), "spec.agentEnvVars[0].value"),
            ("/spec/rebind", json!({"caSha256": "abc"}), "spec.rebind.caSha256"),
            ("/spec/displayName", json!(7), ""),
        ],
    );
    assert_eq!(blamed(resource, &with(&good, "/spec/rebind", &json!({"caSha256": "a".repeat(64)})), None), [""; 0]);

    let identity = json!({"kubeSystemUid": "1", "caCert": "x", "caGeneration": 1, "apiServerName": "n", "issuer": "i", "jwks": "{}"});
    let bound = with(&good, "/status", &json!({"identity": identity}));
    frozen(
        resource,
        &bound,
        &[
            ("/status/identity/kubeSystemUid", json!("2"), "status.identity.kubeSystemUid"),
            ("/status/identity", Value::Null, "status.identity.kubeSystemUid"),
        ],
    );
    let rotated = with(&bound, "/status/identity/caCert", &json!("y"));
    assert_eq!(blamed(resource, &rotated, Some(&bound)), [""; 0]);
}

#[test]
fn cluster_registration_token() {
    let good =
        json!({"metadata": {"generateName": "crt-", "namespace": "c-abcde"}, "spec": {"clusterName": "c-abcde"}});
    let resource = &resource::CLUSTER_REGISTRATION_TOKEN;
    table(
        resource,
        &good,
        &[
            ("/spec/clusterName", json!("c-other"), "spec.clusterName"),
            ("/spec/ttlMinutes", json!(0), "spec.ttlMinutes"),
            ("/spec/ttlMinutes", json!(43201), "spec.ttlMinutes"),
            ("/metadata/generateName", json!("Crt_"), "metadata.generateName"),
        ],
    );
    frozen(resource, &good, &[("/spec/ttlMinutes", json!(43200), "spec.ttlMinutes")]);
}

#[test]
fn cluster_role_template_binding() {
    let good = json!({
        "metadata": {"name": "creator", "namespace": "c-abcde"},
        "clusterName": "c-abcde", "roleTemplateName": "cluster-owner", "userName": "u-abcde",
    });
    let resource = &resource::CLUSTER_ROLE_TEMPLATE_BINDING;
    table(
        resource,
        &good,
        &[
            ("/clusterName", json!("c-other"), "clusterName"),
            ("/roleTemplateName", json!(""), "roleTemplateName"),
            ("/userName", json!(""), "userName"),
            ("/groupName", json!("admins"), "groupPrincipalName"),
        ],
    );
    frozen(
        resource,
        &good,
        &[
            ("/roleTemplateName", json!("cluster-member"), "roleTemplateName"),
            ("/userName", json!("u-other"), "userName"),
            ("/clusterName", json!("c-other"), "clusterName"),
        ],
    );
    let completed = with(&good, "/userPrincipalName", &json!("local://u-abcde"));
    assert_eq!(blamed(resource, &completed, Some(&good)), [""; 0], "a principal may be added");
}

#[test]
fn role_template() {
    let rule = json!({"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]});
    let good = json!({"metadata": {"name": "rt-abcde"}, "context": "cluster", "rules": [rule]});
    table(
        &resource::ROLE_TEMPLATE,
        &good,
        &[
            ("/context", json!("galaxy"), "context"),
            ("/external", json!(true), "rules"),
            ("/rules/0/verbs", json!([]), "rules[0].verbs"),
            ("/rules/0/resources", json!([]), "rules[0].resources"),
            ("/rules/0/apiGroups", json!([]), "rules[0].apiGroups"),
            ("/rules/0/nonResourceURLs", json!(["/healthz"]), "rules[0].nonResourceURLs"),
            ("/roleTemplateNames", json!(["rt-abcde"]), "roleTemplateNames[0]"),
            ("/roleTemplateNames", json!(["view", "view"]), "roleTemplateNames[1]"),
            ("/roleTemplateNames", json!([""]), "roleTemplateNames[0]"),
        ],
    );
    frozen(
        &resource::ROLE_TEMPLATE,
        &good,
        &[("/builtin", json!(true), "builtin"), ("/context", json!(""), "context")],
    );
}

#[test]
fn global_roles_and_bindings() {
    let role = json!({"metadata": {"name": "gr-abcde"}, "rules": []});
    table(
        &resource::GLOBAL_ROLE,
        &role,
        &[("/rules", json!([{"verbs": ["get"], "apiGroups": [""]}]), "rules[0].resources")],
    );
    frozen(&resource::GLOBAL_ROLE, &role, &[("/builtin", json!(true), "builtin")]);

    let good = json!({"metadata": {"name": "grb-abcde"}, "globalRoleName": "admin", "userName": "u-abcde"});
    let resource = &resource::GLOBAL_ROLE_BINDING;
    table(
        resource,
        &good,
        &[
            ("/globalRoleName", json!(""), "globalRoleName"),
            ("/userName", json!(""), "userName"),
            ("/groupPrincipalName", json!("g"), "groupPrincipalName"),
        ],
    );
    frozen(
        resource,
        &good,
        &[("/globalRoleName", json!("user"), "globalRoleName"), ("/userName", json!("u-other"), "userName")],
    );
}

#[test]
fn user() {
    let good = json!({"metadata": {"name": "u-abcde"}, "username": "somebody", "password": "a long password"});
    let resource = &resource::USER;
    table(
        resource,
        &good,
        &[
            ("/username", json!("a:b"), "username"),
            ("/username", json!("a b"), "username"),
            ("/username", json!("a".repeat(254)), "username"),
            ("/principalIds", json!(["u-abcde"]), "principalIds[0]"),
            ("/metadata/name", json!("u.abcde"), "metadata.name"),
        ],
    );
    let stored = json!({"metadata": {"name": "u-abcde"}, "username": "somebody"});
    frozen(
        resource,
        &stored,
        &[("/username", json!("other"), "username"), ("/password", json!("new password"), "password")],
    );
}

#[test]
fn setting() {
    let good = json!({"metadata": {"name": "password-min-length"}, "value": "16", "default": "12"});
    let resource = &resource::SETTING;
    table(
        resource,
        &good,
        &[
            ("/metadata/name", json!("no-such-setting"), "metadata.name"),
            ("/value", json!("7"), "value"),
            ("/value", json!("many"), "value"),
        ],
    );
    assert_eq!(blamed(resource, &with(&good, "/value", &json!("")), None), [""; 0], "empty is the default");
    frozen(resource, &good, &[("/default", json!("8"), "default")]);
    let read_only = json!({"metadata": {"name": "server-url"}, "value": "https://a.example", "default": ""});
    frozen(resource, &read_only, &[("/value", json!("https://b.example"), "value")]);
}

#[test]
fn token() {
    let good = json!({"metadata": {"name": "token-abcde"}, "spec": {"userID": "u-abcde", "ttl": 1000, "clusterName": "c-abcde"}});
    let resource = &resource::TOKEN;
    table(
        resource,
        &good,
        &[
            ("/spec/kind", json!("other"), "spec.kind"),
            ("/spec/ttl", json!(-1), "spec.ttl"),
            ("/spec/clusterName", json!("../etc"), "spec.clusterName"),
            ("/spec/description", json!("a".repeat(1025)), "spec.description"),
        ],
    );
    frozen(
        resource,
        &good,
        &[
            ("/spec/userID", json!("u-other"), "spec.userID"),
            ("/spec/clusterName", json!(""), "spec.clusterName"),
            ("/spec/kind", json!("session"), "spec.kind"),
            ("/spec/ttl", json!(1001), "spec.ttl"),
            ("/spec/ttl", json!(0), "spec.ttl"),
        ],
    );
    assert_eq!(blamed(resource, &with(&good, "/spec/ttl", &json!(999)), Some(&good)), [""; 0], "shorter is fine");
}

#[test]
fn kubeconfig() {
    let good = json!({"metadata": {"generateName": "kubeconfig-"}, "spec": {"clusters": ["c-abcde"], "ttl": 60}});
    let resource = &resource::KUBECONFIG;
    table(
        resource,
        &good,
        &[
            ("/spec/clusters", json!(["*", "c-abcde"]), "spec.clusters"),
            ("/spec/clusters", json!(["c-abcde", "c-abcde"]), "spec.clusters[1]"),
            ("/spec/clusters", json!(["prod"]), "spec.clusters[0]"),
            ("/spec/currentContext", json!("c-other"), "spec.currentContext"),
            ("/spec/ttl", json!(-1), "spec.ttl"),
        ],
    );
    frozen(resource, &good, &[("/spec/clusters", json!(["*"]), "spec.clusters"), ("/spec/ttl", json!(61), "spec.ttl")]);
}

#[test]
fn names_that_are_no_names() {
    for bad in ["../x", "a/b", "A", "a_b", "", "a%2fb", "ä"] {
        let user = json!({"metadata": {"name": bad}, "username": "x"});
        assert!(blamed(&resource::USER, &user, None).contains(&"metadata.name".to_owned()), "{bad}");
    }
    let nameless = json!({"metadata": {}, "username": "x"});
    assert_eq!(blamed(&resource::USER, &nameless, None), ["metadata.name"]);
}

#[test]
fn canonical_objects_have_no_unknown_and_no_transient_fields() {
    let user = json!({
        "metadata": {"name": "u-abcde", "labels": {"a": "b"}}, "username": "x", "password": "secret", "unknown": 1,
    });
    let user = resource::USER.canonical(&object(&resource::USER, user)).expect("a user");
    assert_eq!(user.data, json!({"username": "x", "mustChangePassword": false}));
    assert_eq!(user.metadata.labels.expect("kept")["a"], "b");

    let token = json!({
        "metadata": {"name": "token-abcde"}, "spec": {"userID": "u-abcde"}, "status": {"value": "token-abcde:secret"},
    });
    let token = resource::TOKEN.canonical(&object(&resource::TOKEN, token)).expect("a token");
    assert!(!token.data.to_string().contains("secret"), "{}", token.data);
}

#[test]
fn every_transient_field_is_one_that_the_kind_has() {
    for resource in resource::ALL {
        let schema = resource.schema();
        for pointer in resource.transient {
            let path = pointer.replace('/', "/properties/");
            assert!(schema.pointer(&path).is_some(), "{resource} has no {pointer}");
        }
    }
}

#[test]
fn errors_name_all_that_is_wrong() {
    let bad = object(&resource::GLOBAL_ROLE_BINDING, json!({"metadata": {}, "globalRoleName": ""}));
    let errors: FieldErrors = resource::GLOBAL_ROLE_BINDING.validate(&bad, None).expect_err("it is bad");
    let text = errors.to_string();
    for part in ["globalRoleName: must be set", "userName: name a user or a group", "metadata.name: "] {
        assert!(text.contains(part), "{text}");
    }
}
