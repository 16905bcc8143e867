//! Node agents stand in for the cluster agent, and give the work back.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test is the point")]

use std::time::Duration;

use anyhow::{Context as _, ensure};
use cattle_harness::wait_for;
use cattle_tests::{Member, NodeAgent, Server};
use serde_json::json;

/// A session is noticed, a route is left, a cluster agent has been well for half a minute.
const NOTICED: Duration = Duration::from_secs(90);

#[tokio::test]
async fn a_node_agent_carries_users_while_the_cluster_agent_is_away() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let mut member = Member::join(&server, "takeover").await?;
    let mut node = NodeAgent::start(&member.control_plane, &server, &member.id, "node-1").await?;
    sessions(&server, 2).await.with_context(|| format!("the node agent says:\n{}", node.log()))?;
    get(&server, &member).await?;
    ensure!(!node.log().contains("stream ended"), "the cluster agent is the first choice");

    // Whatever is sent once it is gone finds another way. A request that was on its way then may be cut; there is none.
    member.agent.process().kill().await?;
    for number in 0..20 {
        create(&server, &member, &format!("during-{number}")).await?;
    }
    ensure!(listed(&server, &member, "during-").await? == 20, "every change was made once");
    let streams = member.kubectl(&server, server.admin(), ["get", "namespace", "default", "-o", "name"]).await?;
    ensure!(streams.contains("namespace/default"), "{streams}");

    // It comes back, has to be well for a while, and gets the work.
    member.agent.start_again(&member.control_plane)?;
    sessions(&server, 2).await?;
    wait_for("the cluster agent to carry requests again", NOTICED, async || {
        node.process().pause()?;
        let answered = tokio::time::timeout(Duration::from_secs(1), get(&server, &member)).await;
        node.process().resume()?;
        answered.context("requests still take the node agent")?
    })
    .await?;
    node.process().kill().await?;
    get(&server, &member).await
}

/// Waits until the server has so many sessions.
async fn sessions(server: &Server, wanted: usize) -> anyhow::Result<()> {
    wait_for("the sessions", NOTICED, async || {
        let metrics = reqwest::get(format!("{}/metrics", server.admin_url())).await?.text().await?;
        let line = metrics.lines().find(|line| line.contains("sessions ") && !line.starts_with('#'));
        ensure!(line.is_some_and(|line| line.ends_with(&format!(" {wanted}"))), "{line:?}");
        Ok(())
    })
    .await
}

async fn get(server: &Server, member: &Member) -> anyhow::Result<()> {
    let answer = server.get(&member.path("/api/v1/namespaces/default"), server.admin()).await?;
    ensure!(answer.status() == 200, "{}: {}", answer.status(), answer.text().await?);
    Ok(())
}

async fn create(server: &Server, member: &Member, name: &str) -> anyhow::Result<()> {
    let object = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name } });
    let url = format!("{}{}", server.url(), member.path("/api/v1/namespaces/default/configmaps"));
    let answer = server.http().post(url).bearer_auth(&server.admin().token).json(&object).send().await?;
    ensure!(answer.status() == 201, "{name}: {}: {}", answer.status(), answer.text().await?);
    Ok(())
}

async fn listed(server: &Server, member: &Member, prefix: &str) -> anyhow::Result<usize> {
    let answer = server.get(&member.path("/api/v1/namespaces/default/configmaps"), server.admin()).await?;
    let list: serde_json::Value = answer.error_for_status()?.json().await?;
    let items = list["items"].as_array().context("no items")?;
    Ok(items.iter().filter(|item| item["metadata"]["name"].as_str().is_some_and(|n| n.starts_with(prefix))).count())
}
