//! A control plane comes up, does its work, takes faults, and leaves nothing.

#![expect(clippy::unwrap_used, reason = "helpers of a test panic like the test itself")]

use std::time::Duration;

use cattle_harness::{ControlPlane, ControlPlaneOptions, wait_for};
use serde_json::Value;

const DEADLINE: Duration = Duration::from_secs(60);

fn claims(token: &str) -> Value {
    let body = token.split('.').nth(1).expect("a token has three parts");
    let engine = base64::engine::general_purpose::URL_SAFE_NO_PAD;
    serde_json::from_slice(&base64::Engine::decode(&engine, body).unwrap()).unwrap()
}

fn living(marker: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(line) = std::fs::read(entry.path().join("cmdline")) else { continue };
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains(marker) {
            found.push(line);
        }
    }
    found
}

#[tokio::test]
async fn it_serves_authorizes_and_leaves_nothing() {
    let cluster = ControlPlane::start(ControlPlaneOptions::default()).await.unwrap();
    let directory = cluster.directory().to_owned();

    let version = cluster.kubectl(["version"]).ok().await.unwrap();
    assert!(version.contains(&format!("Server Version: {}", cattle_harness::KUBERNETES_VERSION)), "{version}");
    cluster.kubectl(["create", "configmap", "hello", "--from-literal=key=value"]).ok().await.unwrap();
    let map = cluster.kubectl(["get", "configmap", "hello"]).json().await.unwrap();
    assert_eq!(map["data"]["key"], "value");

    let stranger = cluster.kubeconfig_for("stranger", None).unwrap();
    let denied = cluster.kubectl(["get", "configmaps"]).env("KUBECONFIG", stranger).output().await.unwrap();
    assert!(!denied.status.success());
    assert!(denied.error().contains(r#"User "stranger" cannot list resource "configmaps""#), "{}", denied.error());

    let token = cluster.service_account_token("default", "default", "someone").await.unwrap();
    assert_eq!(claims(&token)["aud"][0], "someone");
    assert_eq!(claims(&token)["iss"], cluster.issuer());

    let marker = directory.display().to_string();
    assert_eq!(living(&marker).len(), 3, "etcd, API server and controller manager");
    drop(cluster);
    assert_eq!(living(&marker), Vec::<String>::new());
    assert!(!directory.exists());
}

#[tokio::test]
async fn two_with_the_same_names_stand_side_by_side() {
    let start = || ControlPlane::start(ControlPlaneOptions::default());
    let (first, second) = tokio::join!(start(), start());
    let (first, second) = (first.unwrap(), second.unwrap());
    assert_ne!(first.address(), second.address());
    first.kubectl(["create", "namespace", "only-here"]).ok().await.unwrap();
    let there = second.kubectl(["get", "namespace", "only-here"]).output().await.unwrap();
    assert!(there.error().contains("NotFound"), "{}", there.error());
    // The names are the same and the keys are not: one CA never vouches for the other.
    let strayed = first.http().unwrap().get(format!("{}/readyz", second.url())).send().await;
    assert!(strayed.unwrap_err().is_connect());
}

#[tokio::test]
async fn it_takes_faults_and_comes_back() {
    let mut cluster = ControlPlane::start(ControlPlaneOptions::default()).await.unwrap();
    cluster.kubectl(["create", "namespace", "kept"]).ok().await.unwrap();

    cluster.apiserver().pause().unwrap();
    let (url, http) = (format!("{}/readyz", cluster.url()), cluster.http().unwrap());
    let silent = http.get(&url).timeout(Duration::from_millis(500)).send().await;
    assert!(silent.unwrap_err().is_timeout());
    cluster.apiserver().resume().unwrap();
    wait_for("an answer", DEADLINE, async || Ok(http.get(&url).send().await?.error_for_status()?)).await.unwrap();

    cluster.kill_apiserver().await.unwrap();
    assert!(http.get(&url).send().await.unwrap_err().is_connect());
    cluster.start_apiserver().await.unwrap();
    cluster.kubectl(["get", "namespace", "kept"]).ok().await.unwrap();
}

#[tokio::test]
async fn service_account_keys_and_ca_rotate() {
    let options = ControlPlaneOptions { controllers: false, ..ControlPlaneOptions::default() };
    let mut cluster = ControlPlane::start(options).await.unwrap();
    cluster.kubectl(["create", "serviceaccount", "robot"]).ok().await.unwrap();
    let keys = async |cluster: &ControlPlane| {
        let jwks: Value = serde_json::from_str(&cluster.kubectl(["get", "--raw", "/openid/v1/jwks"]).ok().await?)?;
        anyhow::Ok(jwks["keys"].as_array().map_or(0, Vec::len))
    };
    let works = async |cluster: &ControlPlane, token: &str| {
        let ca = format!("--certificate-authority={}", cluster.directory().join("ca.crt").display());
        let call = cluster.kubectl([
            "auth",
            "whoami",
            "--kubeconfig=/dev/null",
            "--server",
            &cluster.url(),
            "--token",
            token,
            &ca,
        ]);
        call.output().await.unwrap().status.success()
    };
    let issuer = cluster.issuer();
    let old = cluster.service_account_token("default", "robot", issuer).await.unwrap();
    assert!(works(&cluster, &old).await);
    assert_eq!(keys(&cluster).await.unwrap(), 1);

    cluster.rotate_service_account_keys(true).await.unwrap();
    assert_eq!(keys(&cluster).await.unwrap(), 2);
    assert!(works(&cluster, &old).await, "the old key still verifies");
    let new = cluster.service_account_token("default", "robot", issuer).await.unwrap();

    cluster.rotate_service_account_keys(false).await.unwrap();
    assert_eq!(keys(&cluster).await.unwrap(), 1);
    assert!(!works(&cluster, &new).await, "its key is gone");

    let (before, http) = (cluster.ca_pem(), cluster.http().unwrap());
    cluster.rotate_ca().await.unwrap();
    assert_ne!(cluster.ca_pem(), before);
    assert!(http.get(cluster.url()).send().await.is_err(), "who pinned the old CA is out");
    cluster.kubectl(["get", "serviceaccount", "robot"]).ok().await.unwrap();
}

#[tokio::test]
async fn a_second_apiserver_shares_the_data() {
    let options = ControlPlaneOptions { controllers: false, ..ControlPlaneOptions::default() };
    let mut cluster = ControlPlane::start(options).await.unwrap();
    let second = cluster.second_apiserver().await.unwrap();
    assert_ne!(second.url(), cluster.url());
    cluster.kubectl(["create", "namespace", "shared"]).ok().await.unwrap();
    let seen = cluster.kubectl(["get", "namespace", "shared"]).env("KUBECONFIG", second.kubeconfig());
    seen.ok().await.unwrap();
}
