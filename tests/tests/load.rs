//! Much at once, and readers that do not read.

#![expect(clippy::print_stdout, reason = "what was measured is part of a test's output")]

use std::{sync::Arc, time::Duration};

use anyhow::{Context, ensure};
use bytes::Bytes;
use cattle_harness::{ControlPlane, wait_for};
use cattle_tests::{Member, Memory, Relay, Server, changes};
use futures_util::{Stream, StreamExt as _};
use serde_json::{Value, json};
use tokio::task::JoinSet;

const MIB: u64 = 1024 * 1024;
const SOON: Duration = Duration::from_secs(60);
const LONG: Duration = Duration::from_secs(300);
/// What the server may take for a request, however large its answer is.
const GROWTH: u64 = 32 * MIB;
const EVENTS: usize = 40;

/// A list of these many objects, each with these many bytes.
const OBJECTS: usize = 20_000;
const BYTES: usize = 8 * 1024;
const TOTAL: u64 = (OBJECTS * BYTES) as u64;
const WATCHES: usize = 500;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_held_back_and_nobody_waits_for_a_slow_reader() -> anyhow::Result<()> {
    let mut server = Server::start().await?;
    let mut member = Member::join(&server, "large").await?;
    // What the API server has sent is what came through here.
    let relay = Relay::start((member.control_plane.address(), 6443).into()).await?;
    member.agent.set_env("CATTLE_KUBERNETES_ADDRESS", relay.address().to_string());
    member.agent.restart(&member.control_plane).await?;
    wait_for("kubectl to work", SOON, async || {
        member.kubectl(&server, server.admin(), ["get", "namespace", "default"]).await
    })
    .await?;
    seed(&member.control_plane).await?;

    a_large_answer_passes_through(&mut server, &member, &relay).await?;
    a_stalled_reader_costs_its_own_window(&mut server, &member, &relay).await?;
    watches_do_not_wait_for_each_other(&mut server, &member).await
}

/// Writes the objects directly, many at once.
async fn seed(control_plane: &ControlPlane) -> anyhow::Result<()> {
    let http = control_plane.http()?;
    let base = control_plane.url();
    let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "large" } });
    http.post(format!("{base}/api/v1/namespaces")).json(&namespace).send().await?.error_for_status()?;
    let data = Arc::new("x".repeat(BYTES));
    let mut writers = JoinSet::new();
    for writer in 0..16 {
        let (http, base, data, objects) = (http.clone(), base.clone(), Arc::clone(&data), OBJECTS);
        writers.spawn(async move {
            for number in (writer..objects).step_by(16) {
                let object = json!({
                    "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": format!("large-{number:05}") },
                    "data": { "x": &*data },
                });
                let url = format!("{base}/api/v1/namespaces/large/configmaps");
                // An answer that is not read to its end resets its stream, and too many of those end the connection.
                http.post(url).json(&object).send().await?.error_for_status()?.bytes().await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(written) = writers.join_next().await {
        written?.context("the objects cannot be written")?;
    }
    Ok(())
}

async fn a_large_answer_passes_through(server: &mut Server, member: &Member, relay: &Relay) -> anyhow::Result<()> {
    let memory = Memory::watch(server.process().id())?;
    let before = relay.received();
    let mut body = configmaps(server, member).await?;
    let first = body.next().await.context("the answer is empty")??;
    let sent = relay.received() - before;
    ensure!(sent < TOTAL, "the API server had sent all of it ({sent} bytes) before the first byte arrived");
    let (mut read, mut items) = (first.len() as u64, count(&first));
    let mut carry = first;
    let all = async {
        while let Some(chunk) = body.next().await {
            let chunk = chunk?;
            read += chunk.len() as u64;
            // A name may be cut between two chunks.
            let edge = [&carry[carry.len().saturating_sub(EDGE)..], &chunk[..chunk.len().min(EDGE)]].concat();
            let doubled = count(&carry[carry.len().saturating_sub(EDGE)..]) + count(&chunk[..chunk.len().min(EDGE)]);
            items += count(&chunk) + count(&edge).saturating_sub(doubled);
            carry = chunk;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(LONG, all).await.context("the answer does not end")??;
    ensure!(read > TOTAL, "{read} bytes of more than {TOTAL}");
    ensure!(items == OBJECTS, "{items} objects instead of {OBJECTS}");
    let grown = memory.grown()?;
    println!("a fast reader of {read} bytes: the server grew by {} KiB", grown / 1024);
    ensure!(grown < GROWTH, "the server grew by {grown} bytes for a fast reader");
    Ok(())
}

async fn a_stalled_reader_costs_its_own_window(
    server: &mut Server,
    member: &Member,
    relay: &Relay,
) -> anyhow::Result<()> {
    let memory = Memory::watch(server.process().id())?;
    let before = relay.received();
    // A client of its own: nobody else reads from its connection.
    let mut body = Box::pin(configmaps_of(&client(server)?, server, member).await?);
    body.next().await.context("the answer is empty")??;
    let mut last = 0;
    let sent = wait_for("the API server to be held up", SOON, async || {
        let now = relay.received() - before;
        let (known, grown) = (last, now - last);
        last = now;
        ensure!(known > 0 && grown == 0, "{grown} bytes more");
        tokio::time::sleep(Duration::from_secs(1)).await;
        let still = relay.received() - before;
        // Probes and the controllers' watches pass by here as well.
        ensure!(still - now < 64 * 1024, "{} bytes more", still - now);
        Ok(still)
    })
    .await?;
    let grown = memory.grown()?;
    println!("a stalled reader: {sent} bytes were sent, the server grew by {} KiB", grown / 1024);
    ensure!(sent < TOTAL, "all of it is somewhere on the way: {sent} bytes");
    ensure!(grown < GROWTH, "the server grew by {grown} bytes for a stalled reader");
    // Others do not notice.
    for _ in 0..20 {
        let names = member.path("/api/v1/namespaces/default");
        let answer = tokio::time::timeout(SOON, server.get(&names, server.admin())).await.context("others wait")??;
        ensure!(answer.status() == 200, "{}", answer.status());
    }
    let rest = async {
        let mut read = 0;
        while let Some(chunk) = body.next().await {
            read += chunk?.len() as u64;
        }
        anyhow::Ok(read)
    };
    let read = tokio::time::timeout(LONG, rest).await.context("the reader never gets the rest")??;
    ensure!(read > TOTAL - MIB, "the rest has {read} bytes only");
    Ok(())
}

async fn watches_do_not_wait_for_each_other(server: &mut Server, member: &Member) -> anyhow::Result<()> {
    let admin = server.admin().token.clone();
    let base = format!("{}{}", server.url(), member.path("/api/v1/namespaces"));
    let url = format!("{base}/default/configmaps");
    let map =
        json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "watched" }, "data": { "n": "0" } });
    let made = server.http().post(&url).bearer_auth(&admin).json(&map).send().await?.error_for_status()?;
    let made: Value = made.json().await?;
    let version = made["metadata"]["resourceVersion"].as_str().context("no version")?;

    // This one gets every object and reads nothing.
    let stalled = client(server)?.get(format!("{base}/large/configmaps?watch=true&resourceVersion=0"));
    let stalled = stalled.bearer_auth(&admin).send().await?.error_for_status()?;

    let memory = Memory::watch(server.process().id())?;
    let mut watches = JoinSet::new();
    let mut clients = Vec::new();
    for _ in 0..WATCHES.div_ceil(100) {
        clients.push(client(server)?);
    }
    for number in 0..WATCHES {
        let query = format!("watch=true&resourceVersion={version}&fieldSelector=metadata.name%3Dwatched");
        let request = clients[number / 100].get(format!("{url}?{query}")).bearer_auth(&admin);
        let answer = request.send().await?.error_for_status().with_context(|| format!("watch {number}"))?;
        watches.spawn(changes(answer.bytes_stream(), EVENTS));
    }
    for number in 1..=EVENTS {
        let patch = json!({ "data": { "n": number.to_string() } }).to_string();
        let request = server.http().patch(format!("{url}/watched")).bearer_auth(&admin);
        let request = request.header("content-type", "application/merge-patch+json").body(patch);
        request.send().await?.error_for_status()?.bytes().await?;
    }
    let wanted: Vec<_> = (1..=EVENTS).map(|number| number.to_string()).collect();
    let all = async {
        while let Some(seen) = watches.join_next().await {
            let seen = seen??;
            ensure!(seen == wanted, "a watch saw {seen:?}");
        }
        Ok(())
    };
    tokio::time::timeout(LONG, all).await.context("watches wait for a reader that does not read")??;
    let grown = memory.grown()?;
    println!("{} watches: the server grew by {} KiB", WATCHES, grown / 1024);
    drop(stalled);
    Ok(())
}

fn client(server: &Server) -> anyhow::Result<reqwest::Client> {
    let root = reqwest::Certificate::from_pem(server.ca_pem().as_bytes())?;
    Ok(reqwest::Client::builder().tls_certs_only([root]).build()?)
}

async fn configmaps(
    server: &Server,
    member: &Member,
) -> anyhow::Result<impl Stream<Item = reqwest::Result<Bytes>> + use<>> {
    configmaps_of(&client(server)?, server, member).await
}

async fn configmaps_of(
    client: &reqwest::Client,
    server: &Server,
    member: &Member,
) -> anyhow::Result<impl Stream<Item = reqwest::Result<Bytes>> + use<>> {
    let url = format!("{}{}", server.url(), member.path("/api/v1/namespaces/large/configmaps"));
    let answer = client.get(url).bearer_auth(&server.admin().token).send().await?.error_for_status()?;
    Ok(answer.bytes_stream())
}

const NAME: &[u8] = b"\"name\":\"large-";
const EDGE: usize = NAME.len() - 1;

fn count(bytes: &[u8]) -> usize {
    bytes.windows(NAME.len()).filter(|window| *window == NAME).count()
}
