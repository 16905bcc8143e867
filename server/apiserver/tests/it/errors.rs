//! Every refusal, by code, reason and wording.

use axum::body::Body;
use http::Request;
use serde_json::{Value, json};

use crate::support::{ADMIN, BOB, EVE, EXT, MANAGEMENT, World, cluster, read};

struct Case {
    name: &'static str,
    user: &'static str,
    method: &'static str,
    uri: String,
    kind: &'static str,
    body: String,
    code: u16,
    reason: &'static str,
    message: &'static str,
}

fn case(
    name: &'static str,
    method: &'static str,
    path: &str,
    body: &Value,
    code: u16,
    reason: &'static str,
    message: &'static str,
) -> Case {
    let uri = if path.starts_with('/') { path.to_owned() } else { format!("{MANAGEMENT}/{path}") };
    let kind = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
    let body = if body.is_null() { String::new() } else { body.to_string() };
    Case { name, user: ADMIN, method, uri, kind, body, code, reason, message }
}

impl Case {
    fn by(self, user: &'static str) -> Self {
        Self { user, ..self }
    }

    fn typed(self, kind: &'static str) -> Self {
        Self { kind, ..self }
    }

    fn text(self, body: &str) -> Self {
        Self { body: body.to_owned(), ..self }
    }
}

async fn check(world: &World, cases: Vec<Case>) {
    for case in cases {
        let answer = world.send(case.user, case.method, &case.uri, case.kind, case.body).await;
        let text = answer.text.clone();
        assert_eq!(answer.code, case.code, "{}: {text}", case.name);
        let message = answer.refused(case.code, case.reason);
        assert!(message.contains(case.message), "{}: {message}", case.name);
    }
}

#[tokio::test]
async fn paths_and_methods() {
    let world = World::new().await;
    let none = Value::Null;
    let missing = "could not find the requested resource";
    check(
        &world,
        vec![
            case("unknown group", "GET", "/apis/x.y/v1/things", &none, 404, "NotFound", missing),
            case("unknown version", "GET", "/apis/management.cattle.io/v1/clusters", &none, 404, "NotFound", missing),
            case("unknown resource", "GET", "nothings", &none, 404, "NotFound", missing),
            case("unknown subresource", "GET", "clusters/c-aaaaa/scale", &none, 404, "NotFound", missing),
            case("status of a kind without", "GET", "users/u-admin/status", &none, 404, "NotFound", missing),
            case("namespace on a cluster kind", "GET", "namespaces/c-aaaaa/clusters", &none, 404, "NotFound", missing),
            case("object without its namespace", "GET", "clusterregistrationtokens/x", &none, 404, "NotFound", missing),
            case("encoded slash", "GET", "clusters/a%2fb", &none, 404, "NotFound", missing),
            case("dot segments", "GET", "clusters/../users", &none, 404, "NotFound", missing),
            case(
                "post to an object",
                "POST",
                "clusters/c-aaaaa",
                &none,
                405,
                "MethodNotAllowed",
                "does not allow this method",
            ),
            case(
                "put to a collection",
                "PUT",
                "clusters",
                &none,
                405,
                "MethodNotAllowed",
                "does not allow this method",
            ),
            case("options", "OPTIONS", "clusters", &none, 405, "MethodNotAllowed", "does not allow this method"),
            case("post to discovery", "POST", "/apis", &none, 405, "MethodNotAllowed", "does not allow this method"),
            case("create without namespace", "POST", "clusterregistrationtokens", &none, 405, "MethodNotAllowed", ""),
            case(
                "missing object",
                "GET",
                "clusters/c-aaaaa",
                &none,
                404,
                "NotFound",
                "clusters.management.cattle.io \"c-aaaaa\" not found",
            ),
            case(
                "delete of a missing object",
                "DELETE",
                "clusters/c-aaaaa",
                &none,
                404,
                "NotFound",
                "\"c-aaaaa\" not found",
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn bodies() {
    let world = World::new().await;
    let good = cluster("c-aaaaa", "a");
    let with = |pointer: &str, value: Value| {
        let mut object = good.clone();
        if let Some(at) = object.pointer_mut(pointer) {
            *at = value;
        } else {
            object["extra"] = value;
        }
        object
    };
    let deep = format!("{}{}", "[".repeat(100), "]".repeat(100));
    check(&world, vec![
        case("no body", "POST", "clusters", &Value::Null, 400, "BadRequest", "could not be read"),
        case("not JSON", "POST", "clusters", &Value::Null, 400, "BadRequest", "could not be read").text("{nope"),
        case("too deep", "POST", "clusters", &Value::Null, 400, "BadRequest", "at most 64 levels").text(&deep),
        case("not an object", "POST", "clusters", &json!([1]), 400, "BadRequest", "not an object"),
        case("no kind", "POST", "clusters", &json!({"apiVersion": "management.cattle.io/v3"}), 400, "BadRequest", "Object 'Kind' is missing"),
        case("other kind", "POST", "clusters", &with("/kind", json!("User")), 400, "BadRequest", "kind in the data (User)"),
        case("other version", "POST", "clusters", &with("/apiVersion", json!("v1")), 400, "BadRequest", "API version in the data (v1)"),
        case("protobuf", "POST", "clusters", &good, 415, "UnsupportedMediaType", "application/json, application/yaml")
            .typed("application/vnd.kubernetes.protobuf"),
        case("form", "POST", "clusters", &good, 415, "UnsupportedMediaType", "").typed("application/x-www-form-urlencoded"),
        case("strategic merge patch", "PATCH", "clusters/c-aaaaa", &json!({}), 415, "UnsupportedMediaType", "application/merge-patch+json")
            .typed("application/strategic-merge-patch+json"),
        case("version on create", "POST", "clusters", &json!({
            "apiVersion": "management.cattle.io/v3", "kind": "Cluster", "metadata": {"name": "c-aaaaa", "resourceVersion": "1"},
            "spec": {"displayName": "a"}}), 400, "BadRequest", "resourceVersion should not be set"),
        case("strict unknown", "POST", "clusters?fieldValidation=Strict", &with("/none", json!(1)), 400, "BadRequest",
            "strict decoding error: unknown field \"extra\""),
        case("strict duplicate", "POST", "clusters?fieldValidation=Strict", &Value::Null, 400, "BadRequest", "duplicate field \"spec.displayName\"")
            .text(r#"{"apiVersion":"management.cattle.io/v3","kind":"Cluster","metadata":{"name":"c-aaaaa"},"spec":{"displayName":"a","displayName":"b"}}"#),
        case("other namespace", "POST", "namespaces/c-aaaaa/clusterregistrationtokens", &json!({
            "apiVersion": "management.cattle.io/v3", "kind": "ClusterRegistrationToken",
            "metadata": {"name": "t", "namespace": "c-bbbbb"}}), 400, "BadRequest", "does not match the namespace sent on the request"),
        case("namespace of nothing", "POST", "namespaces/c-zzzzz/clusterregistrationtokens", &json!({
            "apiVersion": "management.cattle.io/v3", "kind": "ClusterRegistrationToken", "metadata": {"name": "t"}}),
            404, "NotFound", "namespaces \"c-zzzzz\" not found"),
    ]).await;
    let huge = Request::post(format!("{MANAGEMENT}/clusters")).body(Body::from(vec![b' '; 1024 * 1024 + 1])).unwrap();
    let message = read(world.raw(ADMIN, huge).await).await.refused(413, "RequestEntityTooLarge");
    assert!(message.contains("limit is 1048576"), "{message}");
}

#[tokio::test]
async fn fields() {
    let world = World::new().await;
    world.cluster("c-taken").await;
    let made = |metadata: Value, spec: Value| json!({"apiVersion": "management.cattle.io/v3", "kind": "Cluster", "metadata": metadata, "spec": spec});
    let name = json!({"name": "c-aaaaa"});
    for (object, field, cause) in [
        (made(name.clone(), json!({})), "spec.displayName", "FieldValueRequired"),
        (made(name.clone(), json!({"displayName": 1})), "spec.displayName", "FieldValueTypeInvalid"),
        (made(name.clone(), json!({"displayName": "a".repeat(300)})), "spec.displayName", "FieldValueTooLong"),
        (made(name.clone(), json!({"displayName": "display c-taken"})), "spec.displayName", "FieldValueDuplicate"),
        (made(json!({"name": "other"}), json!({"displayName": "a"})), "metadata.name", "FieldValueInvalid"),
        (
            made(json!({"name": "c-aaaaa", "labels": {"a b": "c"}}), json!({"displayName": "a"})),
            "metadata.labels",
            "FieldValueInvalid",
        ),
        (
            made(json!({"name": "c-aaaaa", "labels": {"a": "b c"}}), json!({"displayName": "a"})),
            "metadata.labels",
            "FieldValueInvalid",
        ),
        (
            made(json!({"name": "c-aaaaa", "annotations": {"a": "x".repeat(300_000)}}), json!({"displayName": "a"})),
            "metadata.annotations",
            "FieldValueTooLong",
        ),
        (
            made(json!({"name": "c-aaaaa", "finalizers": ["plain"]}), json!({"displayName": "a"})),
            "metadata.finalizers",
            "FieldValueInvalid",
        ),
    ] {
        let answer = world.post(ADMIN, &format!("{MANAGEMENT}/clusters"), &object).await;
        let details = answer.body["details"].clone();
        let message = answer.refused(422, "Invalid");
        assert!(message.starts_with("Cluster.management.cattle.io"), "{message}");
        assert_eq!(
            (details["kind"].as_str(), details["group"].as_str()),
            (Some("Cluster"), Some("management.cattle.io"))
        );
        let causes = details["causes"].as_array().unwrap();
        assert!(
            causes.iter().any(|have| have["field"] == field && have["reason"] == cause),
            "{field} {cause}: {details}"
        );
    }
    let nameless = json!({
        "apiVersion": "management.cattle.io/v3", "kind": "ClusterRoleTemplateBinding", "roleTemplateName": "cluster-owner",
        "userName": "u-gone0",
    });
    let answer =
        world.post(ADMIN, &format!("{MANAGEMENT}/namespaces/c-taken/clusterroletemplatebindings"), &nameless).await;
    assert_eq!(answer.body["details"]["causes"][0]["field"], "userName");
    answer.refused(422, "Invalid");
}

#[tokio::test]
async fn conflicts_and_preconditions() {
    let world = World::new().await;
    let first = world.cluster("c-aaaaa").await;
    let uri = format!("{MANAGEMENT}/clusters/c-aaaaa");
    let again = world.post(ADMIN, &format!("{MANAGEMENT}/clusters"), &cluster("c-aaaaa", "b")).await;
    assert_eq!(again.refused(409, "AlreadyExists"), "clusters.management.cattle.io \"c-aaaaa\" already exists");
    world.merge(ADMIN, &uri, &json!({"metadata": {"labels": {"a": "b"}}})).await.expect(200);
    let stale = world.put(ADMIN, &uri, &first).await.refused(409, "Conflict");
    assert!(stale.contains("the object has been modified; please apply your changes to the latest version"), "{stale}");
    let mut unversioned = first.clone();
    unversioned["metadata"].as_object_mut().unwrap().remove("resourceVersion");
    let message = world.put(ADMIN, &uri, &unversioned).await.refused(422, "Invalid");
    assert!(
        message.contains("metadata.resourceVersion: Invalid value: 0: must be specified for an update"),
        "{message}"
    );
    let mut renamed = first.clone();
    renamed["metadata"]["name"] = json!("c-other");
    let message = world.put(ADMIN, &uri, &renamed).await.refused(400, "BadRequest");
    assert!(message.contains("does not match the name on the URL"), "{message}");
    let old_patch =
        json!({"metadata": {"resourceVersion": first["metadata"]["resourceVersion"]}, "spec": {"description": "x"}});
    world.merge(ADMIN, &uri, &old_patch).await.refused(409, "Conflict");
    let foreign = json!({"metadata": {"uid": "00000000-0000-0000-0000-000000000000"}});
    let message = world.merge(ADMIN, &uri, &foreign).await.refused(409, "Conflict");
    assert!(message.contains("Precondition failed: UID in precondition"), "{message}");
    for preconditions in [json!({"uid": "x"}), json!({"resourceVersion": "1"})] {
        let options = json!({"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": preconditions});
        let answer = world.send(ADMIN, "DELETE", &uri, "application/json", options.to_string()).await;
        assert!(answer.refused(409, "Conflict").contains("Precondition failed"));
    }
    for options in [
        json!({"propagationPolicy": "Sideways"}),
        json!({"propagationPolicy": "Orphan", "orphanDependents": true}),
        json!({"gracePeriodSeconds": -1}),
        json!({"dryRun": ["Some"]}),
    ] {
        world.send(ADMIN, "DELETE", &uri, "application/json", options.to_string()).await.refused(422, "Invalid");
    }
    world.get(ADMIN, &uri).await.expect(200);
}

#[tokio::test]
async fn lists_and_queries() {
    let world = World::new().await;
    let none = Value::Null;
    check(
        &world,
        vec![
            case("bad limit", "GET", "clusters?limit=x", &none, 400, "BadRequest", "limit"),
            case(
                "bad continue",
                "GET",
                "clusters?limit=1&continue=abc",
                &none,
                400,
                "BadRequest",
                "continue key is not valid",
            ),
            case(
                "bad label selector",
                "GET",
                "clusters?labelSelector=a%20in%20(b",
                &none,
                400,
                "BadRequest",
                "unable to parse requirement",
            ),
            case(
                "bad field selector",
                "GET",
                "clusters?fieldSelector=spec.x%3Dy",
                &none,
                400,
                "BadRequest",
                "field label not supported: spec.x",
            ),
            case(
                "version in the future",
                "GET",
                "clusters?resourceVersion=999999",
                &none,
                504,
                "Timeout",
                "Too large resource version",
            ),
            case(
                "exact version that is gone",
                "GET",
                "clusters?resourceVersion=1&resourceVersionMatch=Exact",
                &none,
                410,
                "Expired",
                "too old",
            ),
            case(
                "watch from the future",
                "GET",
                "clusters?watch=1&resourceVersion=999999",
                &none,
                410,
                "Expired",
                "too old",
            ),
            case("bad dry run", "POST", "clusters?dryRun=Maybe", &json!({}), 400, "BadRequest", "dryRun"),
            case(
                "apply without manager",
                "PATCH",
                "clusters/c-aaaaa",
                &json!({}),
                422,
                "Invalid",
                "fieldManager: Required value: is required for apply patch",
            )
            .typed("application/apply-patch+yaml"),
            case(
                "force without apply",
                "PATCH",
                "clusters/c-aaaaa?force=true",
                &json!({}),
                422,
                "Invalid",
                "may not be specified for non-apply patch",
            ),
        ],
    )
    .await;
    let answer = world.get_as(ADMIN, &format!("{MANAGEMENT}/clusters"), "application/vnd.kubernetes.protobuf").await;
    assert!(answer.refused(406, "NotAcceptable").contains("application/json"));
    let late = world.get(ADMIN, &format!("{MANAGEMENT}/clusters?resourceVersion=999999")).await;
    assert_eq!(late.headers["retry-after"], "1");
    assert_eq!(late.body["details"]["causes"][0]["reason"], "ResourceVersionTooLarge");
}

#[tokio::test]
async fn strangers() {
    let world = World::new().await;
    world.cluster("c-aaaaa").await;
    let none = Value::Null;
    let there = world.get(EVE, &format!("{MANAGEMENT}/clusters/c-aaaaa")).await.refused(403, "Forbidden");
    let not_there = world.get(EVE, &format!("{MANAGEMENT}/clusters/c-bbbbb")).await.refused(403, "Forbidden");
    assert_eq!(there.replace("c-aaaaa", "c-bbbbb"), not_there, "a refusal must not say what exists");
    assert_eq!(
        there,
        "clusters.management.cattle.io \"c-aaaaa\" is forbidden: User \"u-evess\" cannot get resource \"clusters\" in API group \"management.cattle.io\" at the cluster scope"
    );
    check(
        &world,
        vec![
            case(
                "create",
                "POST",
                "clusters",
                &cluster("c-bbbbb", "b"),
                403,
                "Forbidden",
                "cannot create resource \"clusters\"",
            )
            .by(EVE),
            case("users", "DELETE", "users/u-admin", &none, 403, "Forbidden", "cannot delete resource \"users\"")
                .by(BOB),
            case(
                "settings",
                "PATCH",
                "settings/server-url",
                &json!({}),
                403,
                "Forbidden",
                "cannot patch resource \"settings\"",
            )
            .by(BOB),
            case(
                "status",
                "PATCH",
                "clusters/c-aaaaa/status",
                &json!({}),
                405,
                "MethodNotAllowed",
                "does not allow this method",
            )
            .by(BOB),
            case(
                "namespaced",
                "GET",
                "namespaces/c-aaaaa/clusterregistrationtokens",
                &none,
                403,
                "Forbidden",
                "in the namespace \"c-aaaaa\"",
            )
            .by(BOB),
            case("body not read", "POST", "users", &none, 403, "Forbidden", "cannot create").by(BOB).text("{not json"),
            case(
                "tokens of others",
                "GET",
                &format!("{EXT}/tokens/token-of-another"),
                &none,
                404,
                "NotFound",
                "\"token-of-another\" not found",
            )
            .by(BOB),
        ],
    )
    .await;
}

#[tokio::test]
async fn no_change_without_audit() {
    let world = World::new().await;
    world.cluster("c-aaaaa").await;
    world.audit.full.store(true, std::sync::atomic::Ordering::SeqCst);
    let uri = format!("{MANAGEMENT}/clusters/c-aaaaa");
    let before = world.get(ADMIN, &uri).await.expect(200);
    let label = json!({"metadata": {"labels": {"a": "b"}}});
    for answer in [
        world.post(ADMIN, &format!("{MANAGEMENT}/clusters"), &cluster("c-bbbbb", "b")).await,
        world.merge(ADMIN, &uri, &label).await,
        world.delete(ADMIN, &uri).await,
        world.delete(ADMIN, &format!("{MANAGEMENT}/clusters")).await,
    ] {
        assert_eq!(answer.refused(503, "ServiceUnavailable"), "the audit log is full");
    }
    assert_eq!(world.get(ADMIN, &uri).await.expect(200), before);
    world.audit.full.store(false, std::sync::atomic::Ordering::SeqCst);
    world.merge(ADMIN, &uri, &label).await.expect(200);
    let seen = world.audit.seen.lock().unwrap().clone();
    assert!(seen.contains(&("patch clusters c-aaaaa".into(), 200)), "{seen:?}");
}
