//! What members and strangers see.

use axum::body::Body;
use futures_util::stream;
use http::Request;
use serde_json::json;
use tokio::sync::mpsc;

use crate::support::{ADMIN, BOB, EVE, MANAGEMENT, World, cluster, eventually, read};

fn names(list: &serde_json::Value) -> Vec<String> {
    list["items"].as_array().unwrap().iter().map(|item| item["metadata"]["name"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn lists_show_what_the_caller_may_see() {
    let world = World::new().await;
    for name in ["c-aaaaa", "c-bbbbb", "c-ccccc"] {
        world.cluster(name).await;
    }
    let uri = format!("{MANAGEMENT}/clusters");
    assert_eq!(names(&world.get(BOB, &uri).await.expect(200)), Vec::<String>::new());
    world.bind(BOB, "c-bbbbb", "cluster-member").await;
    let list = world.get(BOB, &format!("{uri}?limit=1")).await.expect(200);
    assert_eq!(names(&list), ["c-bbbbb"]);
    assert!(list["metadata"]["continue"].is_null() && list["metadata"]["remainingItemCount"].is_null());
    let bindings = world.get(BOB, &format!("{MANAGEMENT}/clusterroletemplatebindings")).await.expect(200);
    assert!(bindings["items"].as_array().unwrap().iter().all(|item| item["metadata"]["namespace"] == "c-bbbbb"));
    world.get(BOB, &format!("{uri}/c-aaaaa")).await.refused(403, "Forbidden");
    world.delete(BOB, &format!("{uri}/c-bbbbb")).await.refused(403, "Forbidden");
    let none = world.get(EVE, &uri).await.expect(200);
    assert_eq!(names(&none), Vec::<String>::new());
}

#[tokio::test]
async fn whoever_makes_a_cluster_can_go_on_at_once() {
    let world = World::new().await;
    for at in 0..10 {
        let name = format!("c-mine{at}");
        world.post(BOB, &format!("{MANAGEMENT}/clusters"), &cluster(&name, &name)).await.expect(201);
        let token = json!({"apiVersion": "management.cattle.io/v3", "kind": "ClusterRegistrationToken"});
        let uri = format!("{MANAGEMENT}/namespaces/{name}/clusterregistrationtokens");
        world.post(BOB, &uri, &token).await.expect(201);
    }
    assert_eq!(names(&world.get(BOB, &format!("{MANAGEMENT}/clusters")).await.expect(200)).len(), 10);
}

#[tokio::test]
async fn nobody_gives_more_than_they_have() {
    let world = World::new().await;
    world.cluster("c-aaaaa").await;
    world.bind(BOB, "c-aaaaa", "cluster-owner").await;
    let binding = |role: &str, user: &str| {
        json!({
            "apiVersion": "management.cattle.io/v3", "kind": "ClusterRoleTemplateBinding", "roleTemplateName": role, "userName": user,
        })
    };
    let uri = format!("{MANAGEMENT}/namespaces/c-aaaaa/clusterroletemplatebindings");
    let made = world.post(BOB, &uri, &binding("cluster-member", EVE)).await.expect(201);
    assert_eq!((&made["clusterName"], &made["userPrincipalName"]), (&json!("c-aaaaa"), &json!("local://u-evess")));
    world.post(BOB, &uri, &binding("no-such-role", EVE)).await.refused(422, "Invalid");
    world.post(EVE, &uri, &binding("cluster-owner", EVE)).await.refused(403, "Forbidden");
    let global = json!({
        "apiVersion": "management.cattle.io/v3", "kind": "GlobalRoleBinding", "globalRoleName": "admin", "userName": BOB,
    });
    world.post(BOB, &format!("{MANAGEMENT}/globalrolebindings"), &global).await.refused(403, "Forbidden");
    let uri = format!("{MANAGEMENT}/clusters/c-aaaaa");
    world.merge(BOB, &uri, &json!({"spec": {"description": "mine"}})).await.expect(200);
    world.merge(EVE, &uri, &json!({"spec": {"description": "mine"}})).await.refused(403, "Forbidden");
}

/// A body may take half a minute. What counts is what its sender may do when it is there.
#[tokio::test]
async fn rights_that_end_while_the_body_comes_do_not_count() {
    let world = World::new().await;
    world.cluster("c-aaaaa").await;
    world.bind(BOB, "c-aaaaa", "cluster-owner").await;
    let (uri, binding) = (
        format!("{MANAGEMENT}/clusters/c-aaaaa"),
        format!("{MANAGEMENT}/namespaces/c-aaaaa/clusterroletemplatebindings/{BOB}-cluster-owner"),
    );
    let patch = json!({"spec": {"description": "late"}}).to_string();
    let mut put = world.get(ADMIN, &uri).await.expect(200);
    put["spec"]["description"] = json!("late");
    for (method, kind, body) in [
        ("PATCH", "application/merge-patch+json", patch),
        ("PUT", "application/json", put.to_string()),
        ("DELETE", "application/json", "{}".to_owned()),
    ] {
        let (sender, receiver) = mpsc::channel::<Result<String, std::io::Error>>(1);
        let request = Request::builder().method(method).uri(&uri).header("content-type", kind);
        let request = request
            .body(Body::from_stream(stream::unfold(receiver, async |mut receiver| {
                Some((receiver.recv().await?, receiver))
            })))
            .unwrap();
        let answer = world.raw(BOB, request);
        let change = async {
            sender.send(Ok(body[..1].to_owned())).await.unwrap();
            // The second piece is taken when the first one was read, hence after the first check.
            sender.reserve().await.unwrap();
            world.delete(ADMIN, &binding).await.expect(200);
            eventually("the end of the right", || async { world.get(BOB, &uri).await.code == 403 }).await;
            sender.send(Ok(body[1..].to_owned())).await.unwrap();
            drop(sender);
        };
        let (answer, ()) = tokio::join!(answer, change);
        read(answer).await.refused(403, "Forbidden");
        world.bind(BOB, "c-aaaaa", "cluster-owner").await;
    }
    let cluster = world.get(ADMIN, &uri).await.expect(200);
    assert_eq!(cluster["spec"]["description"], json!(null));
}
