//! Lists, pages, selectors, tables, metadata, discovery, OpenAPI and the reviews of oneself.

use axum::body::Body;
use http::Request;
use serde_json::{Value, json};

use crate::support::{ADMIN, BOB, EVE, MANAGEMENT, World, read};

const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";

async fn some(world: &World, count: usize) {
    for at in 0..count {
        world.cluster(&format!("c-aaa{at:02}")).await;
    }
}

#[tokio::test]
async fn pages_cover_everything_once_at_one_version() {
    let world = World::new().await;
    some(&world, 7).await;
    let (mut names, mut versions, mut next) = (Vec::new(), Vec::new(), String::new());
    loop {
        let page = world.get(ADMIN, &format!("{MANAGEMENT}/clusters?limit=3{next}")).await.expect(200);
        names.extend(
            page["items"].as_array().unwrap().iter().map(|item| item["metadata"]["name"].as_str().unwrap().to_owned()),
        );
        versions.push(page["metadata"]["resourceVersion"].clone());
        let Some(token) = page["metadata"]["continue"].as_str() else { break };
        if names.len() == 3 {
            assert_eq!(page["metadata"]["remainingItemCount"], 4);
            world.cluster("c-aaa000").await;
        }
        next = format!("&continue={token}");
    }
    let wanted: Vec<String> = (0..7).map(|at| format!("c-aaa{at:02}")).collect();
    assert_eq!(names, wanted);
    assert!(versions.windows(2).all(|pair| pair[0] == pair[1]), "{versions:?}");
}

#[tokio::test]
async fn selectors_narrow_lists() {
    let world = World::new().await;
    some(&world, 4).await;
    world
        .merge(ADMIN, &format!("{MANAGEMENT}/clusters/c-aaa01"), &json!({"metadata": {"labels": {"env": "prod"}}}))
        .await
        .expect(200);
    for (query, wanted) in [
        ("labelSelector=env%3Dprod", vec!["c-aaa01"]),
        ("labelSelector=env", vec!["c-aaa01"]),
        ("labelSelector=!env&limit=2", vec!["c-aaa00", "c-aaa02"]),
        ("fieldSelector=metadata.name%3Dc-aaa02", vec!["c-aaa02"]),
        ("fieldSelector=metadata.name%3Dc-none0", vec![]),
        ("fieldSelector=spec.displayName%3Ddisplay%20c-aaa03", vec!["c-aaa03"]),
    ] {
        let list = world.get(ADMIN, &format!("{MANAGEMENT}/clusters?{query}")).await.expect(200);
        let names: Vec<_> =
            list["items"].as_array().unwrap().iter().map(|item| item["metadata"]["name"].as_str().unwrap()).collect();
        assert_eq!(names, wanted, "{query}");
    }
}

#[tokio::test]
async fn tables_and_metadata_are_made_on_request() {
    let world = World::new().await;
    some(&world, 2).await;
    let uri = format!("{MANAGEMENT}/clusters");
    let table = world.get_as(ADMIN, &uri, TABLE).await.expect(200);
    assert_eq!((&table["kind"], &table["columnDefinitions"][1]["name"]), (&json!("Table"), &json!("Display Name")));
    assert_eq!(table["rows"][0]["cells"][1], "display c-aaa00");
    assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    let whole = world.get_as(ADMIN, &format!("{uri}?includeObject=Object"), TABLE).await.expect(200);
    assert_eq!(whole["rows"][0]["object"]["kind"], "Cluster");
    assert!(
        world.get_as(ADMIN, &format!("{uri}?includeObject=None"), TABLE).await.expect(200)["rows"][0]
            .get("object")
            .is_none()
    );
    let one = world.get_as(ADMIN, &format!("{uri}/c-aaa00"), TABLE).await.expect(200);
    assert_eq!(one["rows"].as_array().unwrap().len(), 1);
    let metadata = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";
    let list = world.get_as(ADMIN, &uri, metadata).await.expect(200);
    assert_eq!(list["kind"], "PartialObjectMetadataList");
    assert!(list["items"][0].get("spec").is_none());
    let metadata = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io";
    assert_eq!(
        world.get_as(ADMIN, &format!("{uri}/c-aaa00"), metadata).await.expect(200)["kind"],
        "PartialObjectMetadata"
    );
}

#[tokio::test]
async fn large_answers_are_compressed_and_head_has_no_body() {
    let world = World::new().await;
    world.cluster("c-aaaaa").await;
    let uri = format!("{MANAGEMENT}/clusters/c-aaaaa");
    let notes = json!({"metadata": {"annotations": {"notes": "x".repeat(200_000)}}});
    world.merge(ADMIN, &uri, &notes).await.expect(200);
    let request = Request::get(&uri).header("accept-encoding", "gzip").body(Body::empty()).unwrap();
    let response = world.raw(ADMIN, request).await;
    assert_eq!(response.headers()["content-encoding"], "gzip");
    assert!(response.headers().contains_key("audit-id"));
    let request = Request::head(&uri).body(Body::empty()).unwrap();
    let head = read(world.raw(ADMIN, request).await).await;
    assert_eq!((head.code, head.text.as_str()), (200, ""));
}

#[tokio::test]
async fn discovery_has_both_forms() {
    let world = World::new().await;
    let groups = world.get(EVE, "/apis").await.expect(200);
    let names: Vec<_> =
        groups["groups"].as_array().unwrap().iter().map(|group| group["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["management.cattle.io", "ext.cattle.io", "authentication.k8s.io", "authorization.k8s.io"]);
    let list = world.get(EVE, MANAGEMENT).await.expect(200);
    let resource = |name: &str| list["resources"].as_array().unwrap().iter().find(|one| one["name"] == name).cloned();
    assert_eq!(resource("clusterregistrationtokens").unwrap()["shortNames"], json!(["crt"]));
    assert_eq!(resource("clusters/status").unwrap()["verbs"], json!(["get"]));
    assert_eq!(world.get(EVE, "/apis/ext.cattle.io").await.expect(200)["preferredVersion"]["version"], "v1");
    assert_eq!(world.get(EVE, "/api").await.expect(200)["versions"], json!([]));
    for version in ["v2", "v2beta1"] {
        let accept =
            format!("application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList,application/json");
        let answer = world.get_as(EVE, "/apis", &accept).await;
        let media = answer.headers["content-type"].to_str().unwrap().to_owned();
        assert_eq!(media, format!("application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList"));
        let found = answer.expect(200);
        assert_eq!(found["items"][0]["versions"][0]["resources"][0]["resource"], "clusters");
        assert_eq!(world.get_as(EVE, "/api", &accept).await.expect(200)["items"], json!([]));
    }
    assert_eq!(world.get(EVE, "/version").await.expect(200)["major"], "1");
}

#[tokio::test]
async fn openapi_describes_every_kind() {
    let world = World::new().await;
    let index = world.get(EVE, "/openapi/v3").await.expect(200);
    let url = index["paths"]["apis/management.cattle.io/v3"]["serverRelativeURL"].as_str().unwrap().to_owned();
    let answer = world.get(EVE, &url).await;
    assert!(answer.headers["cache-control"].to_str().unwrap().contains("immutable"));
    let tag = answer.headers["etag"].clone();
    let document = answer.expect(200);
    let schema = &document["components"]["schemas"]["io.cattle.management.v3.Cluster"];
    assert_eq!(schema["x-kubernetes-group-version-kind"][0]["kind"], "Cluster");
    assert_eq!(schema["properties"]["spec"]["properties"]["displayName"]["type"], "string");
    let patch = &document["paths"]["/apis/management.cattle.io/v3/clusters/{name}"]["patch"];
    assert_eq!(patch["x-kubernetes-group-version-kind"]["kind"], "Cluster");
    assert!(patch["parameters"].as_array().unwrap().iter().any(|one| one["name"] == "fieldValidation"));
    let mut references = Vec::new();
    collect(&document, &mut references);
    for reference in references {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
    }
    let request = Request::get(&url).header("if-none-match", tag).body(Body::empty()).unwrap();
    assert_eq!(read(world.raw(EVE, request).await).await.code, 304);
    assert_eq!(world.get(EVE, "/openapi/v3/apis/none/v1").await.code, 404);
    let second = world.get(EVE, "/openapi/v2").await.expect(200);
    assert!(second["definitions"]["io.cattle.ext.v1.Token"].is_object());
}

fn collect(value: &Value, references: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            if let Some(Value::String(reference)) = fields.get("$ref") {
                references.push(reference.clone());
            }
            fields.values().for_each(|value| collect(value, references));
        }
        Value::Array(items) => items.iter().for_each(|value| collect(value, references)),
        _ => {}
    }
}

#[tokio::test]
async fn everybody_may_ask_about_themselves() {
    let world = World::new().await;
    let review =
        |kind: &str, group: &str, spec: Value| json!({"apiVersion": format!("{group}/v1"), "kind": kind, "spec": spec});
    let who = review("SelfSubjectReview", "authentication.k8s.io", json!({}));
    let who = world.post(BOB, "/apis/authentication.k8s.io/v1/selfsubjectreviews", &who).await.expect(201);
    assert_eq!(who["status"]["userInfo"]["username"], BOB);
    assert_eq!(who["status"]["userInfo"]["extra"]["principalid"], json!(["local://u-bobby"]));
    for (user, verb, resource, wanted) in [
        (ADMIN, "delete", "users", true),
        (BOB, "delete", "users", false),
        (BOB, "create", "clusters", true),
        (EVE, "create", "clusters", false),
    ] {
        let spec = json!({"resourceAttributes": {"verb": verb, "group": "management.cattle.io", "resource": resource, "namespace": "default"}});
        let asked = review("SelfSubjectAccessReview", "authorization.k8s.io", spec);
        let answer =
            world.post(user, "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", &asked).await.expect(201);
        assert_eq!(answer["status"]["allowed"], wanted, "{user} {verb} {resource}");
    }
    let asked = review("SelfSubjectRulesReview", "authorization.k8s.io", json!({"namespace": "default"}));
    let rules = world.post(BOB, "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", &asked).await.expect(201);
    assert!(rules["status"]["evaluationError"].as_str().unwrap().contains("your clusters"), "{rules}");
    let all = world.post(ADMIN, "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", &asked).await.expect(201);
    assert_eq!(all["status"]["incomplete"], false);
    let rules = rules["status"]["resourceRules"].as_array().unwrap().clone();
    assert!(
        rules.iter().any(|rule| rule["resources"] == json!(["clusters"])
            && rule["verbs"].as_array().unwrap().contains(&json!("create")))
    );
    world.get(BOB, "/apis/authentication.k8s.io/v1/selfsubjectreviews").await.refused(405, "MethodNotAllowed");
    let wrong = review("Cluster", "authentication.k8s.io", json!({}));
    world.post(BOB, "/apis/authentication.k8s.io/v1/selfsubjectreviews", &wrong).await.refused(400, "BadRequest");
}
