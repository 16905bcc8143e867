//! kubectl on a registered cluster, through the server.

use anyhow::ensure;
use cattle_tests::{Member, Server};

#[tokio::test]
async fn an_administrator_works_in_a_cluster_through_the_tunnel() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let member = Member::join(&server, "prod").await?;
    let admin = server.admin().clone();
    let namespaces = member.kubectl(&server, &admin, ["get", "namespaces", "-o", "name"]).await?;
    ensure!(namespaces.contains("namespace/cattle-system"), "{namespaces}");
    let made = member.kubectl(&server, &admin, ["create", "configmap", "one", "--from-literal=a=b"]).await?;
    assert_eq!(made, "configmap/one created\n");
    let direct = member.control_plane.kubectl(["get", "configmap", "one", "-o", "jsonpath={.data.a}"]).ok().await?;
    assert_eq!(direct, "b");

    // Administrators are told where the time went, and nobody else.
    let path = format!("/k8s/clusters/{}/version", member.id);
    let user = server.add_user("ann").await?;
    server.add_member(&member.id, &user, "cluster-owner").await?;
    for (who, told) in [(&admin, true), (&user, false)] {
        let answer = server.get(&path, who).await?;
        ensure!(answer.status() == 200, "{}", answer.status());
        let times = answer.headers().get("server-timing").map(|times| times.to_str()).transpose()?;
        let all = ["server;dur=", "impersonator;dur=", "cluster;dur="];
        ensure!(times.is_some_and(|times| all.iter().all(|part| times.contains(part))) == told, "{times:?}");
        ensure!(times.is_some() == told, "{times:?}");
    }
    Ok(())
}
