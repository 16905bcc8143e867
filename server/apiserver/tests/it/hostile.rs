//! Objects with every field replaced by what does not belong there: an answer, never a defect.

use serde_json::{Value, json};

use crate::support::{ADMIN, EXT, MANAGEMENT, World};

/// Pointers to every value in an object.
fn pointers(value: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, value)| {
            pointers(value, &format!("{at}/{}", name.replace('~', "~0").replace('/', "~1")), found);
        }),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(index, value)| pointers(value, &format!("{at}/{index}"), found));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn samples() -> Vec<(String, Value)> {
    let metadata = json!({
        "name": "c-aaaaa", "generateName": "c-", "labels": {"a": "b"}, "annotations": {"a": "b"}, "finalizers": ["a.b/c"],
        "ownerReferences": [{"apiVersion": "v1", "kind": "X", "name": "x", "uid": "x"}], "resourceVersion": "",
        "managedFields": [{"manager": "m", "operation": "Update", "fieldsV1": {"f:spec": {}}}],
    });
    let management = |kind: &str, fields: Value| {
        let mut object = json!({"apiVersion": "management.cattle.io/v3", "kind": kind, "metadata": metadata});
        object.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        object
    };
    let ext = |kind: &str, spec: Value| json!({"apiVersion": "ext.cattle.io/v1", "kind": kind, "metadata": metadata, "spec": spec});
    let rule = json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]);
    vec![
        (
            format!("{MANAGEMENT}/clusters"),
            management(
                "Cluster",
                json!({"spec": {"displayName": "a", "rebind": {"caSha256": "x"}}, "status": {"driver": "x"}}),
            ),
        ),
        (
            format!("{MANAGEMENT}/users"),
            management(
                "User",
                json!({"username": "x", "password": "hunter2 and seven cows", "principalIds": ["a://b"], "enabled": true}),
            ),
        ),
        (format!("{MANAGEMENT}/settings"), management("Setting", json!({"value": "1"}))),
        (
            format!("{MANAGEMENT}/roletemplates"),
            management(
                "RoleTemplate",
                json!({"context": "cluster", "rules": rule, "roleTemplateNames": ["cluster-member"]}),
            ),
        ),
        (
            format!("{MANAGEMENT}/namespaces/c-there/clusterroletemplatebindings"),
            management("ClusterRoleTemplateBinding", json!({"userName": ADMIN, "roleTemplateName": "cluster-owner"})),
        ),
        (
            format!("{MANAGEMENT}/namespaces/c-there/clusterregistrationtokens"),
            management("ClusterRegistrationToken", json!({"spec": {"ttlMinutes": 5}})),
        ),
        (
            format!("{EXT}/tokens"),
            ext("Token", json!({"userID": ADMIN, "ttl": 1, "kind": "", "clusterName": "c-there", "enabled": true})),
        ),
        (
            format!("{EXT}/kubeconfigs"),
            ext(
                "Kubeconfig",
                json!({"clusters": ["c-there"], "currentContext": "c-there", "ttl": 5, "includeDefaultEntry": true}),
            ),
        ),
    ]
}

#[tokio::test]
async fn misplaced_values_are_the_clients_mistake() {
    let world = World::new().await;
    world.cluster("c-there").await;
    let wrong = [
        json!(null),
        json!(true),
        json!(-1),
        json!(i64::MAX),
        json!(1.5),
        json!(""),
        json!("\u{0}\u{202e}"),
        json!([]),
        json!([[]]),
        json!({}),
        json!({"": {"": null}}),
    ];
    for (uri, sample) in samples() {
        let mut all = Vec::new();
        pointers(&sample, "", &mut all);
        for pointer in all {
            for value in &wrong {
                let mut object = sample.clone();
                value.clone_into(object.pointer_mut(&pointer).unwrap());
                let answer = world.post(ADMIN, &format!("{uri}?dryRun=All"), &object).await;
                assert!(answer.code < 500, "{uri} {pointer} {value}: {}", answer.text);
                assert!(!answer.text.contains("hunter2"), "{uri} {pointer}: {}", answer.text);
            }
        }
    }
    let uri = format!("{MANAGEMENT}/clusters/c-there");
    let sample = world.get(ADMIN, &uri).await.expect(200);
    let mut all = Vec::new();
    pointers(&sample, "", &mut all);
    for pointer in all {
        for value in &wrong {
            let patch = json!([{"op": "replace", "path": pointer, "value": value}]).to_string();
            let answer =
                world.send(ADMIN, "PATCH", &format!("{uri}?dryRun=All"), "application/json-patch+json", patch).await;
            assert!(answer.code < 500, "{pointer} {value}: {}", answer.text);
            let mut object = sample.clone();
            value.clone_into(object.pointer_mut(&pointer).unwrap());
            let answer = world.apply(ADMIN, &format!("{uri}?dryRun=All&fieldManager=x&force=1"), &object).await;
            assert!(answer.code < 500, "{pointer} {value}: {}", answer.text);
        }
    }
}
