//! Many watches and `logs -f` of one cluster at the same time, and one reader that does not read.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use cattle_tests::changes;
use futures_util::{Stream, StreamExt as _};
use reqwest::{Certificate, Client, Response};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::object::pod;
use crate::rig::{PROGRAMS, Rig, with_rig};

const NAMESPACE: &str = "readers";
const LONG: Duration = Duration::from_secs(300);
const EVENTS: usize = 40;
/// Requests on one connection of a client.
const PER_CONNECTION: usize = 50;
/// Of those who follow logs, every so manieth follows the large one.
const LARGE_EVERY: usize = 10;
/// What all other programs may have of this machine's inotify instances, of which each `logs -f` takes one.
const OTHER_INSTANCES: usize = 80;

/// 8 MB: below the size at which a kubelet begins another file, and more than may be on the way.
const LARGE: Log = Log { name: "large", lines: 8_000, width: 1_000 };
/// Written while everybody follows.
const TALK: Log = Log { name: "talk", lines: 400, width: 100 };

/// How much is tried: a slice in every run, all of it when asked for.
struct Size {
    logs: usize,
    watches: usize,
}

/// What a pod writes.
struct Log {
    name: &'static str,
    lines: usize,
    width: usize,
}

impl Size {
    fn of_this_run() -> Self {
        if std::env::var_os("CATTLE_LONG").is_some() {
            Self { logs: 200, watches: 500 }
        } else {
            Self { logs: 40, watches: 50 }
        }
    }
}

impl Log {
    /// Begins with a line; goes on when told to, and ends when told to.
    fn pod(&self) -> Value {
        let Self { name, lines, width } = self;
        let wait = |file: &str| format!("until [ -e /tmp/{file} ]; do sleep 0.1; done");
        let script = format!(
            "x=$(printf '%{width}s' '' | sed 's/ /x/g'); echo begin; {}; \
             for i in $(seq 1 {lines}); do echo $i $x; done; : >/tmp/written; {}",
            wait("go"),
            wait("end")
        );
        pod(name, &script)
    }

    fn text(&self) -> Vec<u8> {
        let x = "x".repeat(self.width);
        let lines = (1..=self.lines).map(|number| format!("{number} {x}\n"));
        std::iter::once("begin\n".to_owned()).chain(lines).collect::<String>().into_bytes()
    }

    async fn tell(&self, rig: &Rig, what: &str) -> anyhow::Result<()> {
        let script = format!(": >/tmp/{what}");
        rig.admin(NAMESPACE, &["exec", self.name, "--", "sh", "-c", &script]).await.map(drop)
    }

    async fn written(&self, rig: &Rig) -> anyhow::Result<()> {
        let script = "until [ -e /tmp/written ]; do sleep 0.1; done";
        rig.admin(NAMESPACE, &["exec", self.name, "--", "sh", "-c", script]).await.map(drop)
    }
}

#[test]
fn nobody_waits_for_a_reader_that_does_not_read() -> anyhow::Result<()> {
    with_rig(async |rig| {
        let size = Size::of_this_run();
        enough_inotify_instances(size.logs)?;
        rig.namespace(NAMESPACE).await?;
        rig.apply(NAMESPACE, &[LARGE.pod(), TALK.pod()]).await?;
        rig.wait(NAMESPACE, "condition=Ready", &["pod/large", "pod/talk"]).await?;

        let large = Arc::new(LARGE.text());
        let mut stalled = Box::pin(follow(rig, &client(rig)?, &LARGE).await?.bytes_stream());
        let first = timeout(LONG, stalled.next()).await?.context("the log is empty")??;
        let mut readers = readers(rig, &size, &large).await?;
        let mut watches = watches(rig, size.watches).await?;
        LARGE.tell(rig, "go").await?;
        LARGE.written(rig).await?;
        TALK.tell(rig, "go").await?;
        patch(rig).await?;
        let watched = all(&mut watches).await.context("watches wait for a reader that does not read")?;
        ensure!(watched == size.watches, "{watched} watches");
        others(rig).await.context("while a reader does not read")?;
        // Everybody has everything; their ends come when the containers end.
        TALK.written(rig).await?;
        for log in [&LARGE, &TALK] {
            log.tell(rig, "end").await?;
        }
        let read = all(&mut readers).await.context("readers wait for one that does not read")?;
        ensure!(read == size.logs - 1, "{read} readers");

        // And that one, as soon as it reads, has lost nothing.
        let rest = timeout(LONG, whole(stalled, &large, first.len())).await.context("the rest does not come")?;
        ensure!(large.starts_with(&first), "it began with something else");
        rest.context("the reader that did not read")
    })
}

/// A kubelet needs one for each reader that has come to the end of a log.
fn enough_inotify_instances(readers: usize) -> anyhow::Result<()> {
    let file = "/proc/sys/fs/inotify/max_user_instances";
    let limit: usize = std::fs::read_to_string(file)?.trim().parse()?;
    let needed = readers + OTHER_INSTANCES;
    ensure!(limit >= needed, "this machine allows {limit} of {needed}: sysctl fs.inotify.max_user_instances={needed}");
    Ok(())
}

/// All but the one that does not read; each compares what it reads.
async fn readers(rig: &Rig, size: &Size, large: &Arc<Vec<u8>>) -> anyhow::Result<JoinSet<anyhow::Result<()>>> {
    let talk = Arc::new(TALK.text());
    let mut readers = JoinSet::new();
    let mut shared = client(rig)?;
    for number in 1..size.logs {
        if number % PER_CONNECTION == 0 {
            shared = client(rig)?;
        }
        let (log, text) = if number % LARGE_EVERY == 0 { (&LARGE, large) } else { (&TALK, &talk) };
        let body = follow(rig, &shared, log).await.with_context(|| format!("reader {number}"))?.bytes_stream();
        let text = Arc::clone(text);
        readers.spawn(async move { whole(Box::pin(body), &text, 0).await.with_context(|| format!("reader {number}")) });
    }
    Ok(readers)
}

async fn watches(rig: &Rig, count: usize) -> anyhow::Result<JoinSet<anyhow::Result<()>>> {
    let url = rig.url(&format!("/api/v1/namespaces/{NAMESPACE}/configmaps"));
    let map =
        json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "watched" }, "data": { "n": "0" } });
    let made = client(rig)?.post(&url).bearer_auth(&rig.user.token).json(&map).send().await?.error_for_status()?;
    let made: Value = made.json().await?;
    let version = made["metadata"]["resourceVersion"].as_str().context("no version")?;
    let url = format!("{url}?watch=true&resourceVersion={version}&fieldSelector=metadata.name%3Dwatched");
    let wanted: Arc<Vec<_>> = Arc::new((1..=EVENTS).map(|number| number.to_string()).collect());
    let mut watches = JoinSet::new();
    let mut shared = client(rig)?;
    for number in 0..count {
        if number % PER_CONNECTION == 0 {
            shared = client(rig)?;
        }
        let answer = shared.get(&url).bearer_auth(&rig.user.token).send().await?.error_for_status();
        let body = answer.with_context(|| format!("watch {number}"))?.bytes_stream();
        let wanted = Arc::clone(&wanted);
        watches.spawn(async move {
            let seen = changes(Box::pin(body), EVENTS).await?;
            ensure!(seen == *wanted, "watch {number} saw {seen:?}");
            Ok(())
        });
    }
    Ok(watches)
}

async fn patch(rig: &Rig) -> anyhow::Result<()> {
    let (client, url) = (client(rig)?, rig.url(&format!("/api/v1/namespaces/{NAMESPACE}/configmaps/watched")));
    for number in 1..=EVENTS {
        let patch = json!({ "data": { "n": number.to_string() } }).to_string();
        let request = client.patch(&url).bearer_auth(&rig.user.token);
        let request = request.header("content-type", "application/merge-patch+json").body(patch);
        timeout(LONG, request.send()).await.context("changes wait")??.error_for_status()?.bytes().await?;
    }
    Ok(())
}

/// Other requests, of the same user and of another one, give what they give direct.
async fn others(rig: &Rig) -> anyhow::Result<()> {
    for program in PROGRAMS {
        for line in [
            "get configmap watched -o yaml",
            "logs large --tail=3",
            "get pods -o name",
            "exec talk -- sh -c echo",
            "get nope",
        ] {
            let words: Vec<&str> = line.split(' ').collect();
            rig.same(program, NAMESPACE, &words, None, i32::from(line == "get nope")).await?;
        }
    }
    let client = client(rig)?;
    for _ in 0..20 {
        let request = client.get(rig.url("/api/v1/namespaces/default")).bearer_auth(&rig.server.admin().token);
        timeout(LONG, request.send()).await.context("the administrator waits")??.error_for_status()?;
    }
    Ok(())
}

async fn all(tasks: &mut JoinSet<anyhow::Result<()>>) -> anyhow::Result<usize> {
    let mut ended = 0;
    let join = async {
        while let Some(task) = tasks.join_next().await {
            task??;
            ended += 1;
        }
        anyhow::Ok(())
    };
    timeout(LONG, join).await.context("they do not end")??;
    Ok(ended)
}

async fn follow(rig: &Rig, client: &Client, log: &Log) -> anyhow::Result<Response> {
    let url = rig.url(&format!("/api/v1/namespaces/{NAMESPACE}/pods/{}/log?follow=true", log.name));
    let answer = timeout(LONG, client.get(url).bearer_auth(&rig.user.token).send()).await.context("no answer")??;
    Ok(answer.error_for_status()?)
}

/// Reads to the end: it must be exactly this text, from this byte on.
async fn whole(
    mut body: impl Stream<Item = reqwest::Result<Bytes>> + Unpin,
    text: &[u8],
    from: usize,
) -> anyhow::Result<()> {
    let mut read = from;
    while let Some(chunk) = body.next().await {
        let chunk = chunk?;
        let end = read + chunk.len();
        ensure!(text.get(read..end) == Some(&chunk[..]), "other bytes between {read} and {end}: {chunk:?}");
        read = end;
    }
    ensure!(read == text.len(), "{read} bytes of {}", text.len());
    Ok(())
}

/// A client with connections of its own.
fn client(rig: &Rig) -> anyhow::Result<Client> {
    let root = Certificate::from_pem(rig.server.ca_pem().as_bytes())?;
    Ok(Client::builder().tls_certs_only([root]).no_proxy().build()?)
}
