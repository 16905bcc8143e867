//! The life of objects: create, read, change, delete.

use serde_json::{Value, json};

use crate::support::{ADMIN, BOB, EXT, MANAGEMENT, World, cluster};

fn uri(name: &str) -> String {
    format!("{MANAGEMENT}/clusters/{name}")
}

#[tokio::test]
async fn a_created_object_is_what_was_asked_for_and_what_the_server_adds() {
    let world = World::new().await;
    let made = world.cluster("c-aaaaa").await;
    assert_eq!(made["kind"], "Cluster");
    assert_eq!(made["spec"], json!({"displayName": "display c-aaaaa"}));
    for field in ["uid", "resourceVersion", "creationTimestamp", "generation", "managedFields"] {
        assert!(!made["metadata"][field].is_null(), "{field}: {made}");
    }
    assert_eq!(made["metadata"]["annotations"]["field.cattle.io/creatorId"], ADMIN);
    assert_eq!(world.get(ADMIN, &uri("c-aaaaa")).await.expect(200), made);
    let bindings =
        world.get(ADMIN, &format!("{MANAGEMENT}/namespaces/c-aaaaa/clusterroletemplatebindings")).await.expect(200);
    assert_eq!(bindings["items"][0]["userName"], ADMIN, "whoever makes a cluster owns it");
    assert_eq!(bindings["items"][0]["roleTemplateName"], "cluster-owner");
}

#[tokio::test]
async fn names_are_generated_and_yaml_is_read() {
    let world = World::new().await;
    let yaml = "apiVersion: management.cattle.io/v3\nkind: Cluster\nmetadata:\n  generateName: c-\nspec:\n  displayName: one\n";
    let clusters = format!("{MANAGEMENT}/clusters");
    let made = world.send(ADMIN, "POST", &clusters, "application/yaml", yaml).await.expect(201);
    let name = made["metadata"]["name"].as_str().unwrap();
    assert!(name.starts_with("c-") && name.len() == 7, "{name}");
    let nameless = json!({"apiVersion": "management.cattle.io/v3", "kind": "Cluster", "spec": {"displayName": "two"}});
    assert!(
        world.post(ADMIN, &clusters, &nameless).await.expect(201)["metadata"]["name"]
            .as_str()
            .unwrap()
            .starts_with("c-")
    );
    let answer = world.get_as(ADMIN, &uri(name), "application/yaml").await;
    assert!(answer.text.contains("displayName: one"), "{}", answer.text);
}

#[tokio::test]
async fn updates_replace_the_spec_and_leave_what_is_the_servers() {
    let world = World::new().await;
    let mut object = world.cluster("c-aaaaa").await;
    let (uid, generation) = (object["metadata"]["uid"].clone(), object["metadata"]["generation"].as_i64().unwrap());
    object["spec"]["description"] = json!("words");
    object["status"]["driver"] = json!("forged");
    object["metadata"]["creationTimestamp"] = json!("2001-01-01T00:00:00Z");
    let new = world.put(ADMIN, &uri("c-aaaaa"), &object).await.expect(200);
    assert_eq!(new["spec"]["description"], "words");
    assert_eq!(new["status"]["driver"], "imported");
    assert_eq!((&new["metadata"]["uid"], new["metadata"]["generation"].as_i64()), (&uid, Some(generation + 1)));
    assert_ne!(new["metadata"]["creationTimestamp"], "2001-01-01T00:00:00Z");
    let same = world.put(ADMIN, &uri("c-aaaaa"), &new).await.expect(200);
    assert_eq!(same["metadata"]["resourceVersion"], new["metadata"]["resourceVersion"], "no change, no version");
}

/// What the server alone makes can be read and watched, and nothing else.
#[tokio::test]
async fn nodes_are_read_only() {
    let world = World::new().await;
    world.cluster("c-aaaaa").await;
    let nodes = format!("{MANAGEMENT}/namespaces/c-aaaaa/nodes");
    let node = json!({
        "apiVersion": "management.cattle.io/v3", "kind": "Node",
        "metadata": { "name": "m-1", "namespace": "c-aaaaa" }, "spec": { "requestedHostname": "n" },
    });
    assert_eq!(world.get(ADMIN, &nodes).await.expect(200)["items"], json!([]));
    let one = format!("{nodes}/m-1");
    world.post(ADMIN, &nodes, &node).await.refused(405, "MethodNotAllowed");
    world.put(ADMIN, &one, &node).await.refused(405, "MethodNotAllowed");
    world.merge(ADMIN, &one, &node).await.refused(405, "MethodNotAllowed");
    world.apply(ADMIN, &format!("{one}?fieldManager=x"), &node).await.refused(405, "MethodNotAllowed");
    world.delete(ADMIN, &one).await.refused(405, "MethodNotAllowed");
    world.delete(ADMIN, &nodes).await.refused(405, "MethodNotAllowed");
    world.get(ADMIN, &one).await.refused(404, "NotFound");
}

/// A cluster that could be given another CA or other keys here would be another cluster to every user of it.
#[tokio::test]
async fn only_the_server_writes_a_status() {
    let world = World::new().await;
    let mut cluster = world.cluster("c-aaaaa").await;
    let identity = json!({
        "kubeSystemUid": "0b8c8d5e-0000-4000-8000-000000000000", "caCert": "forged", "caGeneration": 7,
        "apiServerName": "evil.example.org", "issuer": "https://evil.example.org", "jwks": "{}",
    });
    cluster["status"]["identity"] = identity.clone();
    cluster["status"]["driver"] = json!("forged");
    let patch = json!({"status": {"identity": identity, "driver": "forged"}});
    let json_patch = json!([{"op": "add", "path": "/status/identity", "value": identity}]);
    let status = format!("{}/status", uri("c-aaaaa"));
    world.put(ADMIN, &status, &cluster).await.refused(405, "MethodNotAllowed");
    world.merge(ADMIN, &status, &patch).await.refused(405, "MethodNotAllowed");
    let mut config = cluster.clone();
    config["metadata"] = json!({"name": "c-aaaaa"});
    world.apply(ADMIN, &format!("{status}?fieldManager=x&force=true"), &config).await.refused(405, "MethodNotAllowed");
    let send =
        async |at: &str| world.send(ADMIN, "PATCH", at, "application/json-patch+json", json_patch.to_string()).await;
    send(&status).await.refused(405, "MethodNotAllowed");
    // On the object itself it is put back, whatever the format.
    world.put(ADMIN, &uri("c-aaaaa"), &cluster).await.expect(200);
    world.merge(ADMIN, &uri("c-aaaaa"), &patch).await.expect(200);
    world.apply(ADMIN, &format!("{}?fieldManager=x&force=true", uri("c-aaaaa")), &config).await.expect(200);
    send(&uri("c-aaaaa")).await.expect(200);
    let read = world.get(ADMIN, &status).await.expect(200);
    assert_eq!((&read["status"]["driver"], &read["status"]["identity"]), (&json!("imported"), &json!(null)));
    for other in [
        format!("{EXT}/tokens/token-aaaaa/status"),
        format!("{EXT}/kubeconfigs/kubeconfig-aaaaa/status"),
        format!("{MANAGEMENT}/namespaces/c-aaaaa/clusterregistrationtokens/crt-aaaaa/status"),
    ] {
        world.merge(ADMIN, &other, &json!({"status": {}})).await.refused(405, "MethodNotAllowed");
    }
    world.merge(ADMIN, &format!("{MANAGEMENT}/users/{ADMIN}/status"), &json!({})).await.refused(404, "NotFound");
}

#[tokio::test]
async fn every_patch_format_changes_what_it_says() {
    let world = World::new().await;
    world.cluster("c-aaaaa").await;
    let at = uri("c-aaaaa");
    let merged = world.merge(ADMIN, &at, &json!({"metadata": {"labels": {"a": "1", "b": "2"}}})).await.expect(200);
    assert_eq!(merged["metadata"]["labels"], json!({"a": "1", "b": "2"}));
    let patch = json!([{"op": "test", "path": "/metadata/labels/a", "value": "1"}, {"op": "remove", "path": "/metadata/labels/a"}]);
    let patched = world.send(ADMIN, "PATCH", &at, "application/json-patch+json", patch.to_string()).await.expect(200);
    assert_eq!(patched["metadata"]["labels"], json!({"b": "2"}));
    world.send(ADMIN, "PATCH", &at, "application/json-patch+json", patch.to_string()).await.refused(422, "Invalid");
    let config = json!({
        "apiVersion": "management.cattle.io/v3", "kind": "Cluster", "metadata": {"name": "c-aaaaa"}, "spec": {"description": "d"},
    });
    let applied = world.apply(ADMIN, &format!("{at}?fieldManager=one"), &config).await.expect(200);
    assert_eq!((&applied["spec"]["description"], &applied["metadata"]["labels"]["b"]), (&json!("d"), &json!("2")));
    let mut other = config.clone();
    other["spec"]["description"] = json!("e");
    let conflict = world.apply(ADMIN, &format!("{at}?fieldManager=two"), &other).await.refused(409, "Conflict");
    assert_eq!(
        conflict,
        "Apply failed with 1 conflict: conflict with \"one\" using management.cattle.io/v3: .spec.description"
    );
    let forced = world.apply(ADMIN, &format!("{at}?fieldManager=two&force=true"), &other).await.expect(200);
    assert_eq!(forced["spec"]["description"], "e");
    other["spec"] = json!({});
    let released = world.apply(ADMIN, &format!("{at}?fieldManager=two"), &other).await.expect(200);
    assert_eq!(released["spec"], json!({"displayName": "display c-aaaaa"}));
    let fresh = cluster("c-bbbbb", "fresh");
    let made = world.apply(ADMIN, &format!("{}?fieldManager=one", uri("c-bbbbb")), &fresh).await.expect(201);
    assert_eq!(made["metadata"]["managedFields"][0]["fieldsV1"], json!({"f:spec": {"f:displayName": {}}}));
    let again = world.apply(ADMIN, &format!("{}?fieldManager=one", uri("c-bbbbb")), &fresh).await.expect(200);
    assert_eq!(again["metadata"]["resourceVersion"], made["metadata"]["resourceVersion"]);
}

#[tokio::test]
async fn patches_without_a_version_survive_each_other() {
    let world = World::new().await;
    world.cluster("c-aaaaa").await;
    let at = uri("c-aaaaa");
    let patches = (0..5).map(|n| {
        let (world, at) = (&world, &at);
        async move { world.merge(ADMIN, at, &json!({"metadata": {"labels": {format!("l{n}"): "x"}}})).await.code }
    });
    let codes = futures_util::future::join_all(patches).await;
    assert_eq!(codes, [200; 5]);
    let labels = world.get(ADMIN, &at).await.expect(200)["metadata"]["labels"].as_object().unwrap().len();
    assert_eq!(labels, 5);
}

#[tokio::test]
async fn deletion_waits_for_finalizers() {
    let world = World::new().await;
    world.cluster("c-aaaaa").await;
    let at = uri("c-aaaaa");
    world.merge(ADMIN, &at, &json!({"metadata": {"finalizers": ["example.com/hold"]}})).await.expect(200);
    let waiting = world.delete(ADMIN, &at).await.expect(200);
    assert_eq!(waiting["kind"], "Cluster");
    assert!(!waiting["metadata"]["deletionTimestamp"].is_null());
    world.delete(ADMIN, &at).await.expect(200);
    let more = json!({"metadata": {"finalizers": ["example.com/hold", "example.com/more"]}});
    let message = world.merge(ADMIN, &at, &more).await.refused(422, "Invalid");
    assert!(message.contains("no new finalizers can be added if the object is being deleted"), "{message}");
    let child =
        json!({"apiVersion": "management.cattle.io/v3", "kind": "ClusterRegistrationToken", "metadata": {"name": "t"}});
    let message = world
        .post(ADMIN, &format!("{MANAGEMENT}/namespaces/c-aaaaa/clusterregistrationtokens"), &child)
        .await
        .refused(403, "Forbidden");
    assert!(message.contains("being terminated"), "{message}");
    world.merge(ADMIN, &at, &json!({"metadata": {"finalizers": null}})).await.expect(200);
    world.get(ADMIN, &at).await.refused(404, "NotFound");
}

#[tokio::test]
async fn a_deleted_cluster_takes_its_namespace_with_it() {
    let world = World::new().await;
    let made = world.cluster("c-aaaaa").await;
    world.cluster("c-bbbbb").await;
    let gone = world.delete(ADMIN, &uri("c-aaaaa")).await.expect(200);
    assert_eq!(
        (&gone["kind"], &gone["status"], &gone["details"]["kind"]),
        (&json!("Status"), &json!("Success"), &json!("clusters"))
    );
    assert_eq!(gone["details"]["uid"], made["metadata"]["uid"]);
    let left = world.get(ADMIN, &format!("{MANAGEMENT}/clusterroletemplatebindings")).await.expect(200);
    let namespaces: Vec<_> =
        left["items"].as_array().unwrap().iter().map(|item| &item["metadata"]["namespace"]).collect();
    assert_eq!(namespaces, ["c-bbbbb"]);
}

#[tokio::test]
async fn collections_are_deleted_by_selector() {
    let world = World::new().await;
    for name in ["c-aaaaa", "c-bbbbb", "c-ccccc"] {
        world.cluster(name).await;
    }
    world.merge(ADMIN, &uri("c-bbbbb"), &json!({"metadata": {"labels": {"keep": "yes"}}})).await.expect(200);
    let gone = world.delete(ADMIN, &format!("{MANAGEMENT}/clusters?labelSelector=!keep")).await.expect(200);
    assert_eq!(gone["items"].as_array().unwrap().len(), 2);
    let left = world.get(ADMIN, &format!("{MANAGEMENT}/clusters")).await.expect(200);
    assert_eq!(left["items"][0]["metadata"]["name"], "c-bbbbb");
    assert_eq!(left["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn dry_runs_answer_and_change_nothing() {
    let world = World::new().await;
    let object = world.cluster("c-aaaaa").await;
    let all = |world: &World| {
        let uri = format!("{MANAGEMENT}/clusters");
        let world = world.api.clone();
        async move {
            let request = http::Request::get(uri).body(axum::body::Body::empty()).unwrap();
            crate::support::read(world.serve(request, crate::support::person(ADMIN)).await).await.body["items"].clone()
        }
    };
    let before = all(&world).await;
    let dry = "dryRun=All";
    let made = world.post(ADMIN, &format!("{MANAGEMENT}/clusters?{dry}"), &cluster("c-bbbbb", "b")).await.expect(201);
    assert!(!made["metadata"]["uid"].is_null());
    assert!(made["metadata"]["resourceVersion"].is_null(), "what was not stored has no version");
    world
        .post(ADMIN, &format!("{MANAGEMENT}/clusters?{dry}"), &cluster("c-aaaaa", "x"))
        .await
        .refused(409, "AlreadyExists");
    let mut changed = object.clone();
    changed["spec"]["description"] = json!("dry");
    let shown = world.put(ADMIN, &format!("{}?{dry}", uri("c-aaaaa")), &changed).await.expect(200);
    assert_eq!(shown["spec"]["description"], "dry");
    assert_eq!(shown["metadata"]["resourceVersion"], changed["metadata"]["resourceVersion"], "kubectl diff shows it");
    world
        .merge(ADMIN, &format!("{}?{dry}", uri("c-aaaaa")), &json!({"spec": {"description": "dry"}}))
        .await
        .expect(200);
    world.delete(ADMIN, &format!("{}?{dry}", uri("c-aaaaa"))).await.expect(200);
    world.delete(ADMIN, &format!("{MANAGEMENT}/clusters?{dry}")).await.expect(200);
    let token = json!({"apiVersion": "ext.cattle.io/v1", "kind": "Token", "spec": {}});
    let token = world.post(ADMIN, &format!("{EXT}/tokens?{dry}"), &token).await.expect(201);
    assert!(token["status"]["value"].is_null(), "a token that was not made has no bearer string");
    assert_eq!(all(&world).await, before);
}

#[tokio::test]
async fn unknown_fields_are_dropped_with_a_warning() {
    let world = World::new().await;
    let mut object = cluster("c-aaaaa", "a");
    object["spec"]["colour"] = json!("blue");
    object["metadata"]["flavour"] = json!("sweet");
    let answer = world.post(ADMIN, &format!("{MANAGEMENT}/clusters"), &object).await;
    let warnings: Vec<&str> = answer.headers.get_all("warning").iter().map(|one| one.to_str().unwrap()).collect();
    assert_eq!(warnings, [r#"299 - "unknown field \"metadata.flavour\"""#, r#"299 - "unknown field \"spec.colour\"""#]);
    assert_eq!(answer.expect(201)["spec"], json!({"displayName": "a"}));
    let quiet = world
        .post(ADMIN, &format!("{MANAGEMENT}/clusters?fieldValidation=Ignore"), &{
            let mut other = cluster("c-bbbbb", "b");
            other["spec"]["colour"] = json!("blue");
            other
        })
        .await;
    assert!(!quiet.headers.contains_key("warning"));
    quiet.expect(201);
}

#[tokio::test]
async fn builtin_roles_keep_their_meaning() {
    let world = World::new().await;
    let at = format!("{MANAGEMENT}/roletemplates/cluster-owner");
    world.delete(ADMIN, &at).await.refused(403, "Forbidden");
    world.merge(ADMIN, &at, &json!({"rules": []})).await.refused(403, "Forbidden");
    world.merge(ADMIN, &at, &json!({"locked": true})).await.expect(200);
    let role = |name: &str, includes: Value| {
        json!({
            "apiVersion": "management.cattle.io/v3", "kind": "RoleTemplate", "metadata": {"name": name}, "context": "cluster",
            "roleTemplateNames": includes, "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}],
        })
    };
    let roles = format!("{MANAGEMENT}/roletemplates");
    world.post(ADMIN, &roles, &role("rt-a", json!(["rt-none"]))).await.refused(422, "Invalid");
    world.post(ADMIN, &roles, &role("rt-a", json!(["cluster-member"]))).await.expect(201);
    world.post(ADMIN, &roles, &role("rt-b", json!(["rt-a"]))).await.expect(201);
    let cycle = world
        .merge(ADMIN, &format!("{roles}/rt-a"), &json!({"roleTemplateNames": ["rt-b"]}))
        .await
        .refused(422, "Invalid");
    assert!(cycle.contains("would include itself"), "{cycle}");
    world.delete(ADMIN, &format!("{roles}/rt-a")).await.refused(409, "Conflict");
    world.delete(ADMIN, &format!("{roles}/rt-b")).await.expect(200);
    world.delete(ADMIN, &format!("{roles}/rt-a")).await.expect(200);
}

#[tokio::test]
async fn a_role_that_somebody_has_is_not_deleted() {
    let world = World::new().await;
    let (roles, bindings) = (format!("{MANAGEMENT}/globalroles"), format!("{MANAGEMENT}/globalrolebindings"));
    let role = json!({"apiVersion": "management.cattle.io/v3", "kind": "GlobalRole", "metadata": {"name": "gr-a"}, "rules": []});
    world.post(ADMIN, &roles, &role).await.expect(201);
    let binding = json!({
        "apiVersion": "management.cattle.io/v3", "kind": "GlobalRoleBinding", "metadata": {"name": "grb-a"},
        "globalRoleName": "gr-a", "userName": BOB,
    });
    world.post(ADMIN, &bindings, &binding).await.expect(201);
    let refused = world.delete(ADMIN, &format!("{roles}/gr-a")).await.refused(409, "Conflict");
    assert!(refused.contains("1 bindings give it"), "{refused}");
    world.delete(ADMIN, &format!("{bindings}/grb-a")).await.expect(200);
    world.delete(ADMIN, &format!("{roles}/gr-a")).await.expect(200);
}

#[tokio::test]
async fn settings_have_known_names_and_values() {
    let world = World::new().await;
    let settings = format!("{MANAGEMENT}/settings");
    let setting = |name: &str, value: &str| json!({"apiVersion": "management.cattle.io/v3", "kind": "Setting", "metadata": {"name": name}, "value": value});
    world.post(ADMIN, &settings, &setting("none-such", "1")).await.refused(422, "Invalid");
    world.post(ADMIN, &settings, &setting("password-min-length", "short")).await.refused(422, "Invalid");
    let made = world.post(ADMIN, &settings, &setting("password-min-length", "20")).await.expect(201);
    assert_eq!((&made["default"], &made["customized"]), (&json!("12"), &json!(true)));
    let at = format!("{settings}/password-min-length");
    let reset = world.merge(ADMIN, &at, &json!({"value": ""})).await.expect(200);
    assert_eq!(reset["customized"], false);
    world.delete(ADMIN, &at).await.refused(403, "Forbidden");
}
