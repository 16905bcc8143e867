//! A downstream cluster: a control plane, and an agent process in the place of its pods.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, ensure};
use cattle_harness::{ControlPlane, ControlPlaneOptions, Process, Program, binary, wait_for};
use serde_json::{Value, json};

use crate::server::{Server, User};

const READY: Duration = Duration::from_secs(90);

/// A Kubernetes that is registered at a server.
pub struct Member {
    /// The cluster's id at the server.
    pub id: String,
    /// The Kubernetes itself.
    pub control_plane: ControlPlane,
    /// The agent.
    pub agent: Agent,
}

/// A cluster agent process, with the tokens that a kubelet would give its pod.
pub struct Agent {
    program: Program,
    process: Process,
    admin_url: String,
}

impl Member {
    /// Makes a cluster's record, applies its import manifest with kubectl, runs an agent, and waits until the cluster is
    /// `Ready`.
    ///
    /// # Errors
    /// When something does not get ready; the message has the ends of the logs.
    pub async fn join(server: &Server, name: &str) -> anyhow::Result<Self> {
        let control_plane =
            ControlPlane::start(ControlPlaneOptions { name: name.to_owned(), ..Default::default() }).await?;
        Self::join_with(server, name, control_plane).await
    }

    /// The same, with a control plane of the caller's making.
    ///
    /// # Errors
    /// As [`Member::join`].
    pub async fn join_with(server: &Server, name: &str, control_plane: ControlPlane) -> anyhow::Result<Self> {
        let id = server.add_cluster(name).await?;
        let token = server.add_registration_token(&id).await?;
        let manifest = server.manifest(&id, &token).await?;
        control_plane.kubectl(["apply", "-f", "-"]).stdin(manifest).ok().await?;
        let agent = Agent::start(&control_plane, server, &id, &token).await?;
        let member = Self { id, control_plane, agent };
        member.wait_ready(server).await?;
        Ok(member)
    }

    /// Waits until the server says that users reach the cluster.
    ///
    /// # Errors
    /// With the cluster's conditions and the end of the agent's log when they do not.
    pub async fn wait_ready(&self, server: &Server) -> anyhow::Result<()> {
        let ready = wait_for("the cluster to be Ready", READY, async || {
            let cluster = self.record(server).await?;
            let ready = condition(&cluster, "Ready").is_some_and(|condition| condition["status"] == "True");
            ensure!(ready, "{}", cluster["status"]["conditions"]);
            Ok(())
        });
        ready.await.with_context(|| format!("the agent says:\n{}", self.agent.process.log_tail()))
    }

    /// The cluster's record as the administrator sees it.
    ///
    /// # Errors
    /// When the server does not answer with it.
    pub async fn record(&self, server: &Server) -> anyhow::Result<Value> {
        let path = format!("/apis/management.cattle.io/v3/clusters/{}", self.id);
        Ok(server.get(&path, server.admin()).await?.error_for_status()?.json().await?)
    }

    /// Path of the cluster's API at the server.
    #[must_use]
    pub fn path(&self, rest: &str) -> String {
        format!("/k8s/clusters/{}{rest}", self.id)
    }

    /// Runs kubectl through the server and gives its standard output.
    ///
    /// # Errors
    /// When it ends with another status than 0.
    pub async fn kubectl<A: Into<std::ffi::OsString>>(
        &self,
        server: &Server,
        user: &User,
        arguments: impl IntoIterator<Item = A>,
    ) -> anyhow::Result<String> {
        server.kubectl_in(&self.id, user, arguments).await?.ok().await
    }
}

/// A condition of a cluster's record.
#[must_use]
pub fn condition<'a>(cluster: &'a Value, kind: &str) -> Option<&'a Value> {
    cluster["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind)
}

impl Agent {
    /// Runs an agent as the manifest's Deployment would: the same binary, the same environment, and tokens of one of its
    /// pods, which stay `Pending` on a cluster without nodes.
    ///
    /// # Errors
    /// When the pod or its tokens cannot be had.
    pub async fn start(
        control_plane: &ControlPlane,
        server: &Server,
        cluster: &str,
        registration_token: &str,
    ) -> anyhow::Result<Self> {
        let directory = control_plane.scope().directory().join(format!("agent-{cluster}"));
        std::fs::create_dir_all(&directory)?;
        let pod = wait_for("a pod of the agent", READY, async || {
            let pods = control_plane.kubectl(["get", "pods", "-n", "cattle-system", "-l", "app=cattle-cluster-agent"]);
            let pods = pods.json().await?;
            let pod = pods["items"].as_array().and_then(|items| items.first()).context("no pod yet")?;
            Ok(pod["metadata"].clone())
        })
        .await?;
        let container = deployment_container(control_plane).await?;
        let variable = |name: &str| environment(&container, name);
        let audience = format!("cattle:{cluster}:{}", variable("CATTLE_SERVER_ID").context("no server id")?);
        let write = |name: &str, text: &str| -> anyhow::Result<PathBuf> {
            let path = directory.join(name);
            std::fs::write(&path, text)?;
            Ok(path)
        };
        let token = write("token", &pod_token(control_plane, &pod, Some(&audience)).await?)?;
        let own = write("kubernetes-token", &pod_token(control_plane, &pod, None).await?)?;
        let registration = write("registration-token", registration_token)?;
        let ca = write("ca.crt", &control_plane.ca_pem())?;
        let mut program = Program::new(&format!("cluster-agent-{cluster}"), binary("cattle-cluster-agent")?)
            .env("CATTLE_SERVER", server.url())
            .env("CATTLE_CLUSTER_ID", cluster)
            .env("CATTLE_SERVER_ID", variable("CATTLE_SERVER_ID").context("no server id")?)
            .env("CATTLE_TOKEN_FILE", token)
            .env("CATTLE_REGISTRATION_TOKEN_FILE", registration)
            .env("CATTLE_SERVICE_ACCOUNT_TOKEN_FILE", own)
            .env("CATTLE_KUBERNETES_CA_FILE", ca)
            .env("CATTLE_KUBERNETES_ADDRESS", format!("{}:6443", control_plane.address()))
            .env("CATTLE_LOG_LEVEL", "info,cattle=debug");
        if let Some(checksum) = variable("CATTLE_CA_CHECKSUM") {
            program = program.env("CATTLE_CA_CHECKSUM", checksum);
        }
        let process = program.start(control_plane.scope())?;
        Ok(Self { program, process, admin_url: String::new() })
    }

    /// The process, for faults.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Starts it again; the process must have ended.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_again(&mut self, control_plane: &ControlPlane) -> anyhow::Result<()> {
        self.process = self.program.start(control_plane.scope())?;
        Ok(())
    }

    /// `http://127.0.0.1:port` of its admin listener, once it has logged it.
    #[must_use]
    pub fn admin_url(&self) -> &str {
        &self.admin_url
    }
}

/// A token of the agent's service account that is bound to the pod, as a kubelet would request it.
async fn pod_token(control_plane: &ControlPlane, pod: &Value, audience: Option<&str>) -> anyhow::Result<String> {
    let reference = json!({ "kind": "Pod", "apiVersion": "v1", "name": pod["name"], "uid": pod["uid"] });
    let mut spec = json!({ "expirationSeconds": 3600, "boundObjectRef": reference });
    if let Some(audience) = audience {
        spec["audiences"] = json!([audience]);
    }
    let request = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec });
    let path = "/api/v1/namespaces/cattle-system/serviceaccounts/cattle-cluster-agent/token";
    let answer = control_plane.kubectl(["create", "--raw", path, "-f", "-"]).stdin(request.to_string()).ok().await?;
    let answer: Value = serde_json::from_str(&answer)?;
    answer["status"]["token"].as_str().map(str::to_owned).context("no token")
}

async fn deployment_container(control_plane: &ControlPlane) -> anyhow::Result<Value> {
    let deployment = ["get", "deployment", "-n", "cattle-system", "cattle-cluster-agent"];
    let deployment = control_plane.kubectl(deployment).json().await?;
    Ok(deployment["spec"]["template"]["spec"]["containers"][0].clone())
}

fn environment(container: &Value, name: &str) -> Option<String> {
    let variable = container["env"].as_array()?.iter().find(|variable| variable["name"] == name)?;
    variable["value"].as_str().map(str::to_owned)
}
