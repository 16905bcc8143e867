//! Whatever runs for somebody ends when their access does: a watch, an exec, the logs of a pod that says nothing, and a
//! stream whose reader has stopped reading. A revoked token, a disabled or deleted user, a membership that is taken away,
//! and a cluster that is deleted all end all of them, and nobody else's.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test is the point")]

#[path = "streams_end/kubelet.rs"]
mod kubelet;
#[path = "streams_end/wire.rs"]
mod wire;

use std::time::Duration;

use anyhow::{Context as _, ensure};
use cattle_harness::wait_for;
use cattle_tests::{Member, Server, User};
use serde_json::json;

use kubelet::{Kubelet, Live, NOISY, QUIET};
use wire::{Stream, Wire};

/// The bound is five seconds; a test on a loaded machine is patient, and a stream that goes on goes on for ever.
const SOON: Duration = Duration::from_secs(60);

/// What ends somebody's access to a cluster.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    TokenRevoked,
    UserDisabled,
    UserDeleted,
    MembershipRemoved,
    ClusterDeleted,
}

struct World {
    server: Server,
    member: Member,
    kubelet: Kubelet,
    wire: Wire,
}

/// Everything that somebody lets run.
struct Running {
    watch: Stream,
    exec: Stream,
    quiet: Stream,
    noisy: Stream,
}

impl World {
    async fn new() -> anyhow::Result<Self> {
        let server = Server::start().await?;
        let member = Member::join(&server, "prod").await?;
        let kubelet = Kubelet::start().await?;
        let node = json!({
            "apiVersion": "v1", "kind": "Node", "metadata": { "name": "node" },
            "status": {
                "addresses": [{ "type": "InternalIP", "address": "127.0.0.1" }],
                "daemonEndpoints": { "kubeletEndpoint": { "Port": kubelet.port() } },
            },
        });
        let containers = json!([{ "name": QUIET, "image": "x" }, { "name": NOISY, "image": "x" }]);
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "pod", "namespace": "default" },
            "spec": { "nodeName": "node", "containers": containers, "automountServiceAccountToken": false },
        });
        for object in [node, pod] {
            // The namespace's own account is made a moment after the namespace.
            wait_for("the object to be accepted", SOON, async || {
                member.control_plane.kubectl(["apply", "-f", "-"]).stdin(object.to_string()).ok().await
            })
            .await?;
        }
        let wire = Wire::new(server.url(), server.ca_pem())?;
        Ok(Self { server, member, kubelet, wire })
    }

    async fn newcomer(&self, login: &str) -> anyhow::Result<(User, String)> {
        let user = self.server.add_user(login).await?;
        let binding = self.server.add_member(&self.member.id, &user, "cluster-owner").await?;
        wait_for("the role downstream", SOON, async || {
            let answer = self.server.get(&self.member.path("/api/v1/namespaces/default/pods/pod"), &user).await?;
            ensure!(answer.status() == 200, "{}", answer.text().await?);
            Ok(())
        })
        .await?;
        Ok((user, binding))
    }

    /// Four streams that have begun and stand still.
    async fn run(&self, user: &User) -> anyhow::Result<Running> {
        let running = self.kubelet.running();
        let open = async |method: &str, path: &str, headers: &str| {
            let path = self.member.path(path);
            self.wire.open(method, &path, headers, &user.token).await.with_context(|| path.clone())
        };
        let mut watch = open("GET", "/api/v1/namespaces?watch=true", "Connection: close\r\n").await?;
        watch.expect(b"kube-system").await?;
        let pod = "/api/v1/namespaces/default/pods/pod";
        let upgrade = "Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\n";
        let path = format!("{pod}/exec?command=cat&stdin=true&stdout=true&container={QUIET}");
        let mut exec = open("POST", &path, upgrade).await?;
        exec.send(b"is anybody there?").await?;
        exec.expect(b"is anybody there?").await?;
        let mut quiet =
            open("GET", &format!("{pod}/log?follow=true&container={QUIET}"), "Connection: close\r\n").await?;
        quiet.expect(kubelet::LINE).await?;
        let noisy = open("GET", &format!("{pod}/log?follow=true&container={NOISY}"), "").await?;
        wait_for("the kubelet to serve all of it", SOON, async || {
            ensure!(self.kubelet.running() == running.map(|count| count + 1), "{:?}", self.kubelet.running());
            Ok(())
        })
        .await?;
        self.kubelet.stalled().await.context("the reader who has stopped is waited for")?;
        Ok(Running { watch, exec, quiet, noisy })
    }

    async fn end(&self, end: End, user: &User, binding: &str) -> anyhow::Result<()> {
        let (cluster, name) = (&self.member.id, &user.name);
        let management = "/apis/management.cattle.io/v3";
        let token = user.token.split(':').next().unwrap_or_default();
        let path = match end {
            End::TokenRevoked => format!("/apis/ext.cattle.io/v1/tokens/{token}"),
            End::UserDisabled => {
                let disabled = json!({ "enabled": false });
                return self.server.patch(&format!("{management}/users/{name}"), &disabled).await.map(drop);
            }
            End::UserDeleted => format!("{management}/users/{name}"),
            End::MembershipRemoved => {
                format!("{management}/namespaces/{cluster}/clusterroletemplatebindings/{binding}")
            }
            End::ClusterDeleted => format!("{management}/clusters/{cluster}"),
        };
        let admin = &self.server.admin().token;
        let request = self.server.http().delete(format!("{}{path}", self.server.url())).bearer_auth(admin);
        let answer = request.send().await?;
        ensure!(answer.status().is_success(), "{path}: {}", answer.text().await?);
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_ends_with_the_access_it_was_given_for() -> anyhow::Result<()> {
    let world = World::new().await?;
    let (bystander, _) = world.newcomer("bystander").await?;
    let mut others = world.run(&bystander).await?;
    let remaining = world.kubelet.running();
    for end in [End::TokenRevoked, End::UserDisabled, End::UserDeleted, End::MembershipRemoved] {
        let (user, binding) = world.newcomer(&format!("leaver-{end:?}").to_lowercase()).await?;
        let running = world.run(&user).await?;
        world.end(end, &user, &binding).await?;
        all_end(&world, running, remaining).await.with_context(|| format!("{end:?}"))?;
        others.exec.send(b"still here").await?;
        others.exec.expect(b"still here").await.with_context(|| format!("somebody else's exec, {end:?}"))?;
    }
    world.end(End::ClusterDeleted, &bystander, "").await?;
    all_end(&world, others, [0; 3]).await.context("ClusterDeleted")
}

/// At both ends of the way: the kubelet is not left with somebody's streams, and the client is told.
async fn all_end(world: &World, running: Running, remaining: Live) -> anyhow::Result<()> {
    let Running { mut watch, mut exec, mut quiet, mut noisy } = running;
    // Nothing is read of the stalled stream until the other end has seen its end.
    wait_for("the kubelet's streams to end", SOON, async || {
        ensure!(world.kubelet.running() == remaining, "exec, quiet, noisy: {:?} run", world.kubelet.running());
        Ok(())
    })
    .await?;
    for (name, stream) in [("watch", &mut watch), ("exec", &mut exec), ("logs", &mut quiet), ("stalled", &mut noisy)] {
        tokio::time::timeout(SOON, stream.end()).await.with_context(|| format!("{name} goes on"))?;
    }
    Ok(())
}
