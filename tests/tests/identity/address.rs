//! Two clusters whose API servers are dialled at one address.

#![allow(clippy::print_stdout, reason = "what could not be shown is said")]

use std::net::SocketAddr;

use anyhow::{Context as _, ensure};
use cattle_harness::{Seclusion, wait_for};
use cattle_tests::{Member, Relay, Server, condition};
use tokio::net::TcpListener;

use super::SOON;

/// Both agents dial one address, which is the first API server to one of them and the second to the other: the second
/// agent runs in a network of its own. Needs root; without it the addresses differ, and nothing else does.
pub(crate) async fn one_address(
    server: &Server,
    first: &mut Member,
    second: &mut Member,
) -> anyhow::Result<Vec<Relay>> {
    if !Seclusion::is_possible() {
        println!("NOT SHOWN: clusters of one address, which needs root");
        return Ok(Vec::new());
    }
    let at = |member: &Member| SocketAddr::from((member.control_plane.address(), 6443));
    let network = Seclusion::create(second.control_plane.scope()).await?;
    let inside = |address: SocketAddr| {
        let listener = network.listen(address)?;
        listener.set_nonblocking(true)?;
        anyhow::Ok(TcpListener::from_std(listener)?)
    };
    let outside = Relay::start(at(first)).await?;
    let address = outside.address();
    let public: SocketAddr = server.url().trim_start_matches("https://").parse().context("the server's address")?;
    let relays = vec![Relay::on(inside(address)?, at(second))?, Relay::on(inside(public)?, public)?, outside];
    second.agent.seclude(network.clone());
    for member in [first, second] {
        member.agent.set_env("CATTLE_KUBERNETES_ADDRESS", address.to_string());
        member.agent.process().kill().await?;
        wait_for("the server to see the agent go", SOON, async || {
            let record = member.record(server).await?;
            let connected = condition(&record, "Connected").context("no condition")?;
            ensure!(connected["status"] == "False", "{connected}");
            Ok(())
        })
        .await?;
        member.agent.start_again(&member.control_plane)?;
        member.wait_ready(server).await?;
    }
    Ok(relays)
}
