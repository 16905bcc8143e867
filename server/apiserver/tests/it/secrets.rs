//! Secrets go in and come out once, and are in nothing that is stored or shown.

use cattle_api::{Secret, resource, sealed};
use cattle_apiserver::registration_token_matches;
use cattle_auth::{NewPassword, Passwords, Verdict};
use cattle_store::{Key, Page, Store};
use serde_json::json;

use crate::support::{ADMIN, BOB, EXT, MANAGEMENT, World, wait};

const PASSWORD: &str = "seven quiet cows under an elm";

/// Every object in the store, as text.
async fn everything(world: &World) -> String {
    let mut text = String::new();
    for kind in resource::ALL {
        for object in world.store.list(kind, None, Page::ALL).await.unwrap().items {
            text.push_str(&serde_json::to_string(&object).unwrap());
        }
    }
    text
}

#[tokio::test]
async fn a_password_is_hashed_sealed_and_never_seen_again() {
    let world = World::new().await;
    let applied =
        json!({"apiVersion": "management.cattle.io/v3", "kind": "User", "username": "ann", "password": PASSWORD});
    let mut user = applied.clone();
    user["metadata"] = json!({"name": "u-annnn", "annotations": {
        "kubectl.kubernetes.io/last-applied-configuration": applied.to_string()}});
    let made = world.post(ADMIN, &format!("{MANAGEMENT}/users"), &user).await;
    assert!(!made.text.contains(PASSWORD), "{}", made.text);
    let made = made.expect(201);
    assert_eq!(made["principalIds"], json!(["local://u-annnn"]));
    assert!(
        made["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"]
            .as_str()
            .unwrap()
            .contains("ann")
    );
    assert!(!everything(&world).await.contains(PASSWORD));
    let key = Key::cluster(&resource::USER, "u-annnn");
    let hash = world.store.unseal(&key, sealed::PASSWORD_HASH).await.unwrap().unwrap();
    let right = Passwords::cheap().verify(&Secret::from(PASSWORD.to_owned()), Some(&hash)).await.unwrap();
    assert!(matches!(right, Verdict::Right { .. }), "the sealed hash is of the password");
    let roles = world
        .get(ADMIN, &format!("{MANAGEMENT}/globalrolebindings?fieldSelector=userName%3Du-annnn"))
        .await
        .expect(200);
    assert_eq!(roles["items"][0]["globalRoleName"], "user", "every new user gets the default roles");
    drop(NewPassword::generate());

    let at = format!("{MANAGEMENT}/users/u-annnn");
    let refused = world.merge(ADMIN, &at, &json!({"password": "another good password"})).await;
    assert!(!refused.text.contains("another good"), "{}", refused.text);
    refused.refused(422, "Invalid");
    let short =
        json!({"apiVersion": "management.cattle.io/v3", "kind": "User", "username": "bea", "password": "hunter2"});
    let refused = world.post(ADMIN, &format!("{MANAGEMENT}/users"), &short).await;
    assert!(!refused.text.contains("hunter2"), "{}", refused.text);
    refused.refused(422, "Invalid");
    let twice = json!({"apiVersion": "management.cattle.io/v3", "kind": "User", "username": "ANN"});
    world.post(ADMIN, &format!("{MANAGEMENT}/users"), &twice).await.refused(422, "Invalid");
}

#[tokio::test]
async fn a_registration_token_is_shown_once_and_kept_as_a_hash() {
    let world = World::new().await;
    world.cluster("c-aaaaa").await;
    let tokens = format!("{MANAGEMENT}/namespaces/c-aaaaa/clusterregistrationtokens");
    let body =
        json!({"apiVersion": "management.cattle.io/v3", "kind": "ClusterRegistrationToken", "spec": {"ttlMinutes": 5}});
    let made = world.post(ADMIN, &tokens, &body).await.expect(201);
    let token = made["status"]["token"].as_str().unwrap().to_owned();
    assert_eq!(token.len(), 54);
    assert!(!made["status"]["expiresAt"].is_null());
    let name = made["metadata"]["name"].as_str().unwrap();
    let shown = world.get(ADMIN, &format!("{tokens}/{name}")).await;
    assert!(!shown.text.contains(&token) && !everything(&world).await.contains(&token));
    assert_eq!(shown.expect(200)["spec"]["clusterName"], "c-aaaaa");
    let key = Key::namespaced(&resource::CLUSTER_REGISTRATION_TOKEN, "c-aaaaa", name);
    let hash = world.store.unseal(&key, sealed::REGISTRATION_TOKEN_HASH).await.unwrap().unwrap();
    assert!(registration_token_matches("c-aaaaa", &Secret::from(token.clone()), &hash));
    assert!(!registration_token_matches("c-bbbbb", &Secret::from(token), &hash));
}

#[tokio::test]
async fn a_token_is_its_makers_and_is_shown_once() {
    let world = World::new().await;
    let body = json!({"apiVersion": "ext.cattle.io/v1", "kind": "Token", "spec": {"description": "ci", "ttl": 60000}});
    let made = world.post(BOB, &format!("{EXT}/tokens"), &body).await.expect(201);
    let (name, value) = (made["metadata"]["name"].as_str().unwrap(), made["status"]["value"].as_str().unwrap());
    assert!(value.starts_with(&format!("{name}:")), "the bearer string is name and secret");
    assert_eq!((&made["spec"]["userID"], &made["spec"]["ttl"]), (&json!(BOB), &json!(60000)));
    let secret = value.split_once(':').unwrap().1;
    assert!(!everything(&world).await.contains(secret));
    let at = format!("{EXT}/tokens/{name}");
    let shown = world.get(BOB, &at).await.expect(200);
    assert!(shown["status"]["value"].is_null() && !shown["status"]["expiresAt"].is_null());
    world.get(crate::support::EVE, &at).await.refused(404, "NotFound");
    world.delete(crate::support::EVE, &at).await.refused(404, "NotFound");
    world.merge(crate::support::EVE, &at, &json!({"spec": {"enabled": false}})).await.refused(404, "NotFound");
    assert_eq!(world.get(crate::support::EVE, &format!("{EXT}/tokens")).await.expect(200)["items"], json!([]));
    assert_eq!(world.get(BOB, &format!("{EXT}/tokens")).await.expect(200)["items"].as_array().unwrap().len(), 1);
    for spec in
        [json!({"userID": ADMIN}), json!({"kind": "session"}), json!({"clusterName": "c-zzzzz"}), json!({"ttl": -1})]
    {
        let body = json!({"apiVersion": "ext.cattle.io/v1", "kind": "Token", "spec": spec});
        let answer = world.post(BOB, &format!("{EXT}/tokens"), &body).await;
        assert!(matches!(answer.code, 403 | 422), "{spec}: {}", answer.text);
    }
    world.merge(BOB, &at, &json!({"spec": {"ttl": 120_000}})).await.refused(422, "Invalid");
    world.merge(BOB, &at, &json!({"spec": {"enabled": false}})).await.expect(200);
    world.delete(BOB, &at).await.expect(200);
}

#[tokio::test]
async fn a_kubeconfig_has_a_token_that_goes_with_it() {
    let world = World::new().await;
    world.cluster("c-aaaaa").await;
    world.cluster("c-bbbbb").await;
    world.bind(BOB, "c-aaaaa", "cluster-member").await;
    let body = |clusters: serde_json::Value| json!({"apiVersion": "ext.cattle.io/v1", "kind": "Kubeconfig", "spec": {"clusters": clusters}});
    let uri = format!("{EXT}/kubeconfigs");
    world.post(BOB, &uri, &body(json!(["c-bbbbb"]))).await.refused(422, "Invalid");
    let made = world.post(BOB, &uri, &body(json!(["*"]))).await.expect(201);
    let file = made["status"]["value"].as_str().unwrap();
    assert!(file.contains("/k8s/clusters/c-aaaaa") && !file.contains("c-bbbbb"), "{file}");
    let parsed: kube::config::Kubeconfig = kube::config::Kubeconfig::from_yaml(file).unwrap();
    assert_eq!(parsed.current_context.as_deref(), Some("display c-aaaaa"));
    assert_eq!(parsed.contexts[0].context.as_ref().unwrap().user.as_deref(), Some("display c-aaaaa"));
    assert_eq!(parsed.auth_infos[0].name, "display c-aaaaa");
    let token = made["status"]["tokens"][0].as_str().unwrap();
    assert!(file.contains(&format!("{token}:")), "{file}");
    let tokens = world.get(BOB, &format!("{EXT}/tokens/{token}")).await.expect(200);
    assert_eq!(tokens["spec"]["kind"], "kubeconfig");
    let name = made["metadata"]["name"].as_str().unwrap();
    assert!(world.get(BOB, &format!("{uri}/{name}")).await.expect(200)["status"]["value"].is_null());
    world.get(crate::support::EVE, &format!("{uri}/{name}")).await.refused(404, "NotFound");
    world.delete(BOB, &format!("{uri}/{name}")).await.expect(200);
    world.get(BOB, &format!("{EXT}/tokens/{token}")).await.refused(404, "NotFound");
}

#[tokio::test]
async fn everything_of_a_user_goes_with_the_user() {
    let world = World::new().await;
    world.cluster("c-aaaaa").await;
    world.bind(BOB, "c-aaaaa", "cluster-owner").await;
    world
        .post(BOB, &format!("{EXT}/tokens"), &json!({"apiVersion": "ext.cattle.io/v1", "kind": "Token", "spec": {}}))
        .await
        .expect(201);
    let config = json!({"apiVersion": "ext.cattle.io/v1", "kind": "Kubeconfig", "spec": {"clusters": ["c-aaaaa"]}});
    world.post(BOB, &format!("{EXT}/kubeconfigs"), &config).await.expect(201);
    world.delete(ADMIN, &format!("{MANAGEMENT}/users/{ADMIN}")).await.refused(403, "Forbidden");
    world.delete(ADMIN, &format!("{MANAGEMENT}/users/{BOB}")).await.expect(200);
    wait("nothing to be left", || true).await;
    assert!(!everything(&world).await.contains(BOB));
}
