//! The machines of a cluster, as the server's own API shows them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test is the point")]

use std::time::Duration;

use anyhow::{Context as _, ensure};
use cattle_harness::wait_for;
use cattle_tests::{Member, NodeAgent, Server, condition};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(60);
const CONTROL_PLANE: &str = "node-role.kubernetes.io/control-plane=";

#[tokio::test]
async fn nodes_are_what_the_cluster_and_their_agents_say() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let mut member = Member::join(&server, "nodes").await?;
    let worker = NodeAgent::start(&member.control_plane, &server, &member.id, "worker").await?;
    let first = NodeAgent::start(&member.control_plane, &server, &member.id, "first").await?;
    let label = async |node: &str, label: &str| {
        member.control_plane.kubectl(["label", "node", node, label]).ok().await.map(drop)
    };
    label("first", CONTROL_PLANE).await?;

    // Both sides are there: the cluster's word for it, and the agent's for its machine.
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    for agent in [&worker, &first] {
        let known = wait_for("the node to be known", SOON, async || {
            let node = node(&server, &member, agent.node()).await?;
            ensure!(holds(&node, "Registered") && holds(&node, "Connected"), "{node:#}");
            ensure!(node["status"]["host"]["kernel"] == kernel.trim(), "{node:#}");
            ensure!(node["spec"]["controlPlane"] == (agent.node() == "first"), "{node:#}");
            ensure!(node["status"]["agent"]["roundTripMicroseconds"].is_u64(), "{node:#}");
            Ok(node)
        });
        let known = known.await.with_context(|| format!("the agent says:\n{}", agent.log()))?;
        ensure!(known["status"]["agent"]["state"] == "Standby" && known["spec"]["imported"] == true, "{known:#}");
        ensure!(known["status"]["host"]["cpus"].as_u64() > Some(0), "{known:#}");
    }
    let cluster = member.record(&server).await?;
    let agents = cluster["status"]["agents"].as_array().context("no sessions")?.clone();
    ensure!(agents.len() == 1 && agents[0]["state"] == "InUse" && agents[0]["rank"] == 1, "{agents:?}");

    // They are the server's to make.
    for change in [&["delete", "nodes.management.cattle.io", "--all"][..], &["create", "-f", "-"]] {
        let line = change.iter().copied().chain(["-n", &member.id]);
        let object = node(&server, &member, "first").await?.to_string();
        let refused = server.kubectl(server.admin(), line).await?.stdin(object).output().await?;
        ensure!(!refused.status.success() && refused.error().contains("MethodNotAllowed"), "{}", refused.error());
    }

    // Without a cluster agent, the node agent that is nearest to the API server goes first.
    member.agent.process().kill().await?;
    wait_for("a node agent to be in use", SOON, async || {
        let (first, worker) = (node(&server, &member, "first").await?, node(&server, &member, "worker").await?);
        ensure!(first["status"]["agent"]["state"] == "InUse" && first["status"]["agent"]["rank"] == 1, "{first:#}");
        ensure!(worker["status"]["agent"]["state"] == "Standby", "{worker:#}");
        Ok(())
    })
    .await?;

    // A node that the cluster has no more is none.
    member.control_plane.kubectl(["delete", "node", "worker"]).ok().await?;
    wait_for("the node to be gone", SOON, async || {
        let left = nodes(&server, &member).await?;
        ensure!(left.len() == 1 && left[0]["status"]["nodeName"] == "first", "{left:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_agent_whose_token_does_not_say_its_node_is_found_by_its_pod() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let mut member = Member::join(&server, "older").await?;
    let agent = NodeAgent::start_on_older_kubernetes(&member.control_plane, &server, &member.id, "old").await?;
    member.control_plane.kubectl(["label", "node", "old", CONTROL_PLANE]).ok().await?;
    let known = wait_for("the agent to be placed", SOON, async || {
        let node = node(&server, &member, "old").await?;
        ensure!(node["status"]["host"]["cpus"].as_u64() > Some(0), "{node:#}");
        ensure!(holds(&node, "Connected") && node["status"]["agent"]["node"] == "old", "{node:#}");
        Ok(())
    });
    known.await.with_context(|| format!("the agent says:\n{}", agent.log()))?;

    // It is as good as one whose token says it.
    member.agent.process().kill().await?;
    wait_for("the node agent to be in use", SOON, async || {
        let node = node(&server, &member, "old").await?;
        ensure!(node["status"]["agent"]["state"] == "InUse" && node["status"]["agent"]["rank"] == 1, "{node:#}");
        Ok(())
    })
    .await
}

async fn nodes(server: &Server, member: &Member) -> anyhow::Result<Vec<Value>> {
    let line = ["get", "nodes.management.cattle.io", "-n", &member.id, "-o", "json"];
    let list: Value = server.kubectl(server.admin(), line).await?.json().await?;
    Ok(list["items"].as_array().context("no list")?.clone())
}

async fn node(server: &Server, member: &Member, name: &str) -> anyhow::Result<Value> {
    let nodes = nodes(server, member).await?;
    nodes.into_iter().find(|node| node["status"]["nodeName"] == name).with_context(|| format!("no node {name}"))
}

fn holds(node: &Value, kind: &str) -> bool {
    condition(node, kind).is_some_and(|condition| condition["status"] == "True")
}
