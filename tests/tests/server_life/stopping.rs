//! SIGTERM with everything that people leave open.

use std::time::Duration;

use anyhow::{Context, ensure};
use cattle_harness::wait_for;
use cattle_tests::{LogNode, Member, Server};
use futures_util::{Stream, StreamExt as _};
use nix::sys::signal::Signal;
use serde_json::json;

const SOON: Duration = Duration::from_secs(60);
const SETTINGS: &str = "/apis/management.cattle.io/v3/settings";
const OWN_WATCH: &str = "/apis/management.cattle.io/v3/settings?watch=true&resourceVersion=0";
const PROXIED_WATCH: &str = "/api/v1/namespaces?watch=true&resourceVersion=0";

type Body = std::pin::Pin<Box<dyn Stream<Item = reqwest::Result<bytes::Bytes>> + Send>>;

#[tokio::test]
async fn a_stop_ends_watches_at_once_and_waits_for_what_has_an_end() -> anyhow::Result<()> {
    let mut server = Server::start().await?;
    let member = Member::join(&server, "prod").await?;
    let node = LogNode::join(&member.control_plane).await?;
    with_default_settings(&mut server, &member, &node).await?;

    server.start_again().await?;
    member.wait_ready(&server).await?;
    node.begin();
    the_time_is_what_it_is_at_the_stop(&mut server, &member).await?;

    server.start_again().await?;
    member.wait_ready(&server).await?;
    set(&server, "3600").await?;
    a_second_signal_ends_it(&mut server, &member).await
}

async fn with_default_settings(server: &mut Server, member: &Member, node: &LogNode) -> anyhow::Result<()> {
    // Both protocols: HTTP/2 is what the fixture's client speaks.
    let root = reqwest::Certificate::from_pem(server.ca_pem().as_bytes())?;
    let http1 = reqwest::Client::builder().http1_only().tls_certs_only([root]).build()?;
    let get = async |http: &reqwest::Client, path: String| -> anyhow::Result<Body> {
        let url = format!("{}{path}", server.url());
        let answer = http.get(url).bearer_auth(&server.admin().token).send().await?.error_for_status()?;
        let body: Body = Box::pin(answer.bytes_stream());
        Ok(body)
    };
    let mut watches = Vec::new();
    for http in [server.http(), &http1] {
        for path in [OWN_WATCH.to_owned(), member.path(PROXIED_WATCH)] {
            let mut watch = get(http, path.clone()).await?;
            watch.next().await.with_context(|| format!("{path} is silent"))??;
            watches.push((path, watch));
        }
    }
    let mut logs = Vec::new();
    for http in [server.http(), &http1] {
        let mut log = get(http, member.path(LogNode::LOG)).await?;
        let begun = log.next().await.context("the log is silent")??;
        logs.push((begun.to_vec(), log));
    }

    server.process().signal(Signal::SIGTERM)?;
    for (path, watch) in &mut watches {
        let last = tokio::time::timeout(SOON, rest(watch)).await.with_context(|| format!("{path} goes on"))?;
        let last = last.with_context(|| format!("{path} was cut off"))?;
        ensure!(last.is_empty() || last.ends_with(b"\n"), "{path} ends within an event");
    }
    let ready = reqwest::get(format!("{}/readyz", server.admin_url())).await?;
    ensure!(ready.status() == 503, "it wants work while it stops: {}", ready.status());
    ensure!(ready.text().await?.contains("draining"), "it does not say why");
    let refused = reqwest::Client::builder().tls_danger_accept_invalid_certs(true).build()?;
    ensure!(refused.get(format!("{}/ping", server.url())).send().await.is_err(), "it accepts connections");
    wait_for("the agent to be told", SOON, async || {
        ensure!(member.agent.log().contains("the server asks to reconnect"), "it was not");
        Ok(())
    })
    .await?;
    wait_for("an operator to be told", SOON, async || {
        let log = server.process().log();
        ensure!(log.contains("waiting for what runs") && log.contains("running=2 seconds=60"), "not yet");
        Ok(())
    })
    .await?;
    ensure!(server.process().is_running(), "it did not wait for the logs: {}", server.process().log_tail());

    node.end();
    for (mut log, mut stream) in logs {
        log.extend(tokio::time::timeout(SOON, rest(&mut stream)).await.context("the log does not end")??);
        ensure!(LogNode::is_whole(&log), "{}", String::from_utf8_lossy(&log));
    }
    let status = server.process().wait(SOON).await?;
    ensure!(status.code() == Some(0), "it ended with {status}: {}", server.process().log_tail());
    let log = server.process().log();
    ensure!(!log.contains("the time is over"), "it did not end by itself: {}", server.process().log_tail());
    Ok(())
}

async fn the_time_is_what_it_is_at_the_stop(server: &mut Server, member: &Member) -> anyhow::Result<()> {
    let log = server.get(&member.path(LogNode::LOG), server.admin()).await?.error_for_status()?;
    let mut log: Body = Box::pin(log.bytes_stream());
    log.next().await.context("the log is silent")??;
    set(server, "1").await?;
    // The other of the two signals.
    server.process().signal(Signal::SIGINT)?;
    let status = server.process().wait(SOON).await?;
    ensure!(status.code() == Some(0), "it ended with {status}: {}", server.process().log_tail());
    ensure!(server.process().log().contains("the time is over"), "it ended otherwise: {}", server.process().log_tail());
    ensure!(rest(&mut log).await.is_err(), "a log that was cut off looks whole");
    Ok(())
}

async fn a_second_signal_ends_it(server: &mut Server, member: &Member) -> anyhow::Result<()> {
    let log = server.get(&member.path(LogNode::LOG), server.admin()).await?.error_for_status()?;
    let mut log: Body = Box::pin(log.bytes_stream());
    log.next().await.context("the log is silent")??;
    server.process().signal(Signal::SIGTERM)?;
    wait_for("it to wait", SOON, async || {
        ensure!(server.process().log().contains("seconds=3600"), "not yet");
        Ok(())
    })
    .await?;
    server.process().signal(Signal::SIGTERM)?;
    let status = server.process().wait(SOON).await?;
    ensure!(status.code() == Some(1), "it ended with {status}: {}", server.process().log_tail());
    ensure!(server.process().log().contains("aborted by a second signal"), "{}", server.process().log_tail());
    Ok(())
}

async fn set(server: &Server, seconds: &str) -> anyhow::Result<()> {
    server.patch(&format!("{SETTINGS}/server-drain-seconds"), &json!({ "value": seconds })).await.map(drop)
}

/// What is left of a body, to its proper end.
async fn rest(body: &mut Body) -> anyhow::Result<Vec<u8>> {
    let mut rest = Vec::new();
    while let Some(chunk) = body.next().await {
        rest.extend_from_slice(&chunk?);
    }
    Ok(rest)
}
