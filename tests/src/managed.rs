//! A kubeadm cluster that knows the server by nothing but its import manifest, as somebody's own.

use std::net::TcpListener;
use std::time::Duration;

use anyhow::ensure;
use cattle_harness::{Nodes, NodesOptions, Run, wait_for, write_agent_images};
use cattle_images::Compression;
use serde_json::Value;

use crate::member::condition;
use crate::server::{Launch, Server};

/// For agents of a fresh image to be started and connected on a slow machine.
const READY: Duration = Duration::from_secs(300);

/// Nodes and the server that manages them.
pub struct Managed {
    /// The cluster.
    pub nodes: Nodes,
    /// The server.
    pub server: Server,
    /// The cluster's id at the server.
    pub id: String,
}

impl Managed {
    /// Starts nodes and a server that they reach, applies the manifest, and waits until the cluster is Ready and all agents
    /// run. `launch` needs no address and no URL.
    ///
    /// # Errors
    /// When something does not start; with the pods, their events and their logs.
    pub async fn start(name: &str, workers: u8, launch: Launch) -> anyhow::Result<Self> {
        let directory = Run::of_this_process()?.scope("images")?;
        let images = write_agent_images(directory.directory(), None, Compression::None)?;
        let options = NodesOptions { name: name.to_owned(), workers, images, ..NodesOptions::default() };
        let nodes = Nodes::start(options).await?;
        // Free a moment ago; whoever takes it meanwhile makes the server say so and end.
        let listen = TcpListener::bind((nodes.host_address(), 0))?.local_addr()?.to_string();
        let mut flags = launch.flags.clone();
        flags.extend(["--url".to_owned(), format!("https://{listen}")]);
        let server = Server::start_with(Launch { listen: Some(listen), flags, ..launch }).await?;
        let id = server.add_cluster(name).await?;
        let manifest = server.manifest(&id, &server.add_registration_token(&id).await?).await?;
        nodes.kubectl(["apply", "-f", "-"]).stdin(manifest).ok().await?;
        let managed = Self { nodes, server, id };
        match managed.wait_ready().await {
            Ok(()) => Ok(managed),
            Err(error) => Err(error.context(managed.agents().await)),
        }
    }

    /// A path of the cluster's API, through the server.
    #[must_use]
    pub fn path(&self, rest: &str) -> String {
        format!("/k8s/clusters/{}{rest}", self.id)
    }

    /// The cluster as the server shows it.
    ///
    /// # Errors
    /// When it does not.
    pub async fn record(&self) -> anyhow::Result<Value> {
        let path = format!("/apis/management.cattle.io/v3/clusters/{}", self.id);
        Ok(self.server.get(&path, self.server.admin()).await?.error_for_status()?.json().await?)
    }

    /// Waits until the cluster is Ready and every agent runs: a session that begins in the middle of a test moves new
    /// requests to another way.
    ///
    /// # Errors
    /// When they do not in time.
    pub async fn wait_ready(&self) -> anyhow::Result<()> {
        wait_for("the cluster to be Ready", READY, async || {
            let record = self.record().await?;
            let ready = condition(&record, "Ready").is_some_and(|condition| condition["status"] == "True");
            ensure!(ready, "{}", record["status"]["conditions"]);
            Ok(())
        })
        .await?;
        for what in ["deployment/cattle-cluster-agent", "daemonset/cattle-node-agent"] {
            self.nodes.kubectl(["-n", "cattle-system", "rollout", "status", what, "--timeout=200s"]).ok().await?;
        }
        Ok(())
    }

    /// The agents' pods, events and logs, to be read by people.
    async fn agents(&self) -> String {
        let mut all = String::new();
        for line in [
            &["get", "pods,events", "-o", "wide"][..],
            &["logs", "-l", "app=cattle-cluster-agent"],
            &["logs", "-l", "app=cattle-node-agent", "--all-containers"],
        ] {
            let line = ["-n", "cattle-system"].iter().chain(line).copied();
            all += &self.nodes.kubectl(line).ok().await.unwrap_or_default();
        }
        all
    }
}
