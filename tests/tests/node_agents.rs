//! The DaemonSet on real nodes: an agent on each, which knows its host, has no right, and carries users' work while no
//! cluster agent is there and the cluster's own DNS is gone. Nodes need root.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test is the point")]
#![allow(clippy::print_stdout, reason = "why it was skipped is part of a test's output")]

use std::time::Duration;

use anyhow::{Context as _, ensure};
use cattle_harness::{Nodes, TOOLBOX_IMAGE, wait_for};
use cattle_tests::{Launch, Managed, condition};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(120);
const SYSTEM: [&str; 2] = ["-n", "cattle-system"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_agents_stand_in_on_real_nodes() -> anyhow::Result<()> {
    if let Some(reason) = Nodes::unavailable() {
        println!("skipped: {reason}");
        return Ok(());
    }
    let managed = Managed::start("stand-in", 1, Launch::default()).await?;
    hosts_are_known(&managed).await?;
    they_may_nothing(&managed).await?;
    start_pod(&managed).await?;

    // The cluster's own DNS, and the cluster agents.
    admin(&managed, &["-n", "kube-system", "delete", "deployment/coredns"]).await?;
    system(&managed, &["scale", "deployment/cattle-cluster-agent", "--replicas=0"]).await?;
    wait_for("a node agent of the control plane to be in use", SOON, async || {
        let nodes = nodes(&managed).await?;
        let states: Vec<_> = nodes.iter().map(|node| (name(node), state(node), rank(node))).collect();
        ensure!(states == [("stand-in-1", "InUse", Some(1)), ("stand-in-2", "Standby", Some(2))], "{states:?}");
        Ok(())
    })
    .await?;
    let said = through(&managed, &["exec", "stand-in", "--", "echo", "hello"]).await?;
    ensure!(said == "hello\n", "{said:?}");
    let created = through(&managed, &["create", "configmap", "during", "--from-literal=a=b"]).await?;
    ensure!(created == "configmap/during created\n", "{created:?}");
    let logged = through(&managed, &["logs", "stand-in"]).await?;
    ensure!(logged == "started\n", "{logged:?}");

    // They come back, have to be well for a while, and get the work.
    system(&managed, &["scale", "deployment/cattle-cluster-agent", "--replicas=1"]).await?;
    wait_for("the cluster agent to be in use", SOON, async || {
        let agents = managed.record().await?["status"]["agents"].clone();
        ensure!(agents[0]["state"] == "InUse" && agents[0]["rank"] == 1, "{agents}");
        Ok(())
    })
    .await?;
    through(&managed, &["get", "configmap", "during"]).await.map(drop)
}

/// What the agents say of their hosts, and the cluster of its nodes, is in the server's own API.
async fn hosts_are_known(managed: &Managed) -> anyhow::Result<()> {
    let nodes = wait_for("both nodes", SOON, async || {
        let nodes = nodes(managed).await?;
        let known = |node: &Value| {
            let kinds = ["Registered", "Connected", "Ready"].map(|kind| condition(node, kind).cloned());
            kinds.iter().flatten().filter(|condition| condition["status"] == "True").count() == 3
                && node["status"]["host"]["distribution"] == "kubeadm"
        };
        ensure!(nodes.len() == 2 && nodes.iter().all(known), "{nodes:#?}");
        Ok(nodes)
    })
    .await?;
    let host = |at: usize| &nodes[at]["status"]["host"];
    ensure!(host(0)["roles"] == json!(["control-plane", "etcd"]), "{}", host(0));
    ensure!(host(1)["roles"].is_null() && nodes[1]["spec"]["worker"] == true, "{:#}", nodes[1]);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    for (node, at) in nodes.iter().zip(0..) {
        let info = &node["status"]["internalNodeStatus"]["nodeInfo"];
        ensure!(host(at)["kernel"] == kernel.trim() && info["kernelVersion"] == kernel.trim(), "{node:#}");
        ensure!(host(at)["operatingSystem"].as_str().is_some_and(|system| !system.is_empty()), "{node:#}");
        ensure!(state(node) == "Standby", "{node:#}");
    }
    Ok(())
}

/// Their account can do what everybody can, and nothing else.
async fn they_may_nothing(managed: &Managed) -> anyhow::Result<()> {
    let account = "--as=system:serviceaccount:cattle-system:cattle-node-agent";
    for what in [["get", "secrets"], ["list", "nodes"], ["create", "serviceaccounts/token"], ["get", "pods"]] {
        let line = ["auth", "can-i", what[0], what[1], "-n", "cattle-system", account];
        let answer = managed.nodes.kubectl(line).output().await?;
        ensure!(answer.text().trim() == "no", "{what:?}: {}", answer.text());
    }
    let pods = system(managed, &["get", "pods", "-l", "app=cattle-node-agent", "-o", "json"]).await?;
    let pods: Value = serde_json::from_str(&pods)?;
    for pod in pods["items"].as_array().context("no pods")? {
        let sources = pod["spec"]["volumes"].as_array().into_iter().flatten();
        let tokens = sources.filter(|volume| volume["projected"].to_string().contains("\"kube-root-ca.crt\"")).count();
        ensure!(tokens == 0, "a pod has a token for its API server: {}", pod["spec"]["volumes"]);
    }
    Ok(())
}

async fn start_pod(managed: &Managed) -> anyhow::Result<()> {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "stand-in" },
        "spec": { "nodeName": "stand-in-2", "terminationGracePeriodSeconds": 0, "containers": [{
            "name": "main", "image": TOOLBOX_IMAGE, "imagePullPolicy": "Never",
            "command": ["sh", "-c", "echo started; exec sleep 1000000"],
        }] },
    });
    wait_for("the pod to be taken", SOON, async || {
        managed.nodes.kubectl(["apply", "-f", "-"]).stdin(pod.to_string()).ok().await
    })
    .await?;
    admin(managed, &["wait", "--for=condition=Ready", "pod/stand-in", "--timeout=100s"]).await.map(drop)
}

async fn nodes(managed: &Managed) -> anyhow::Result<Vec<Value>> {
    let path = format!("/apis/management.cattle.io/v3/namespaces/{}/nodes", managed.id);
    let list: Value = managed.server.get(&path, managed.server.admin()).await?.error_for_status()?.json().await?;
    let mut nodes = list["items"].as_array().context("no list")?.clone();
    nodes.sort_by_key(|node| name(node).to_owned());
    Ok(nodes)
}

fn name(node: &Value) -> &str {
    node["status"]["nodeName"].as_str().unwrap_or_default()
}

fn state(node: &Value) -> &str {
    node["status"]["agent"]["state"].as_str().unwrap_or_default()
}

fn rank(node: &Value) -> Option<i64> {
    node["status"]["agent"]["rank"].as_i64()
}

/// kubectl as the cluster's administrator, not through the server.
async fn admin(managed: &Managed, line: &[&str]) -> anyhow::Result<String> {
    managed.nodes.kubectl(line.iter().copied()).ok().await
}

async fn system(managed: &Managed, line: &[&str]) -> anyhow::Result<String> {
    managed.nodes.kubectl(SYSTEM).args(line.iter().copied()).ok().await
}

/// kubectl through the server.
async fn through(managed: &Managed, line: &[&str]) -> anyhow::Result<String> {
    let client = managed.server.kubectl_in(&managed.id, managed.server.admin(), line.iter().copied()).await?;
    client.ok().await
}
