//! A node agent process, in the place of a pod of the DaemonSet: a cluster of plain processes has no nodes.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use cattle_harness::{ControlPlane, Process, Program, binary, wait_for};
use serde_json::{Value, json};

use crate::forge::{claims, resign};
use crate::member::{Account, environment, pod_token};
use crate::server::Server;

const SOON: Duration = Duration::from_secs(60);
const TOKEN: &str = "token";

/// A node agent, with the token that a kubelet would give its pod.
pub struct NodeAgent {
    node: String,
    program: Program,
    process: Process,
}

impl NodeAgent {
    /// Makes a Node and a pod of the DaemonSet on it, and runs the agent as the manifest says, with that pod's token.
    ///
    /// # Errors
    /// When the API server takes them not, or the agent cannot be started.
    pub async fn start(
        control_plane: &ControlPlane,
        server: &Server,
        cluster: &str,
        node: &str,
    ) -> anyhow::Result<Self> {
        Self::start_with(control_plane, server, cluster, node, Ok).await
    }

    /// The same, with a token as Kubernetes made them before 1.32: it does not say the pod's node.
    ///
    /// # Errors
    /// As with [`NodeAgent::start`].
    pub async fn start_on_older_kubernetes(
        control_plane: &ControlPlane,
        server: &Server,
        cluster: &str,
        node: &str,
    ) -> anyhow::Result<Self> {
        let key = control_plane.directory().join("sa-0.key");
        let without_node = |token: String| {
            let mut claims = claims(&token)?;
            let said = claims["kubernetes.io"].as_object_mut().and_then(|claims| claims.remove("node"));
            said.context("this Kubernetes does not say the node either")?;
            resign(&token, &claims, &key)
        };
        Self::start_with(control_plane, server, cluster, node, without_node).await
    }

    async fn start_with(
        control_plane: &ControlPlane,
        server: &Server,
        cluster: &str,
        node: &str,
        signed: impl FnOnce(String) -> anyhow::Result<String>,
    ) -> anyhow::Result<Self> {
        let name = format!("node-agent-{cluster}-{node}");
        let directory: PathBuf = control_plane.scope().directory().join(&name);
        std::fs::create_dir_all(&directory)?;
        let daemon_set = ["get", "daemonset", "-n", "cattle-system", "cattle-node-agent"];
        let daemon_set = control_plane.kubectl(daemon_set).json().await?;
        let container = &daemon_set["spec"]["template"]["spec"]["containers"][0];
        let server_id = environment(container, "CATTLE_SERVER_ID").context("no server id")?;
        let pod = pod(control_plane, node).await?;
        let audience = format!("cattle:{cluster}:{server_id}");
        let token = pod_token(control_plane, Account::NodeAgent, &pod, Some(&audience)).await?;
        std::fs::write(directory.join(TOKEN), signed(token)?)?;

        let mut variables = vec![
            ("CATTLE_SERVER", server.url().to_owned()),
            ("CATTLE_CLUSTER_ID", cluster.to_owned()),
            ("CATTLE_SERVER_ID", server_id),
            ("CATTLE_TOKEN_FILE", directory.join(TOKEN).display().to_string()),
            ("CATTLE_LOCAL_API_SERVER", format!("{}:6443", control_plane.address())),
            ("CATTLE_ADMIN_LISTEN", "127.0.0.1:0".to_owned()),
            ("CATTLE_LOG_LEVEL", "info,cattle=debug".to_owned()),
        ];
        variables.extend(environment(container, "CATTLE_CA_CHECKSUM").map(|sum| ("CATTLE_CA_CHECKSUM", sum)));
        let program = Program::new(&name, binary("cattle-node-agent")?).arg("run");
        let program = variables.into_iter().fold(program, |program, (name, value)| program.env(name, value));
        let process = program.start(control_plane.scope())?;
        Ok(Self { node: node.to_owned(), program, process })
    }

    /// Its node's name.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.node
    }

    /// The process, for faults.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// All that it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Starts it again; the process must have ended.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_again(&mut self, control_plane: &ControlPlane) -> anyhow::Result<()> {
        self.process = self.program.start(control_plane.scope())?;
        Ok(())
    }
}

/// A pod like the DaemonSet's; no kubelet ever runs it.
async fn pod(control_plane: &ControlPlane, node: &str) -> anyhow::Result<Value> {
    let apply = async |object: Value| control_plane.kubectl(["apply", "-f", "-"]).stdin(object.to_string()).ok().await;
    apply(json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": node } })).await?;
    let name = format!("cattle-node-agent-{node}");
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name, "namespace": "cattle-system" },
        "spec": {
            "nodeName": node, "serviceAccountName": "cattle-node-agent", "automountServiceAccountToken": false,
            "tolerations": [{ "operator": "Exists" }],
            "containers": [{ "name": "node-agent", "image": "none" }],
        },
    });
    wait_for("the pod to be taken", SOON, async || apply(pod.clone()).await).await?;
    let made = control_plane.kubectl(["get", "pod", "-n", "cattle-system", &name]).json().await?;
    Ok(made["metadata"].clone())
}
