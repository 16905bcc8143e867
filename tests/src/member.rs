//! A downstream cluster: a control plane, and an agent process in the place of its pods.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, ensure};
use cattle_harness::{
    Client, ControlPlane, ControlPlaneOptions, Output, Process, Program, Seclusion, binary, wait_for,
};
use serde_json::{Value, json};

use crate::server::{Server, User};

const READY: Duration = Duration::from_secs(90);

/// Files of an agent's pod.
const TOKEN: &str = "token";
const KUBERNETES_TOKEN: &str = "kubernetes-token";
const REGISTRATION_TOKEN: &str = "registration-token";
const CA: &str = "ca.crt";

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
    name: String,
    environment: Vec<(String, OsString)>,
    directory: PathBuf,
    pod: Value,
    audience: String,
    network: Option<Seclusion>,
    process: Process,
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
    pub async fn kubectl<A: Into<OsString>>(
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
        Self::start_replica(control_plane, server, cluster, registration_token, 0).await
    }

    /// The same for another of the Deployment's pods: 0 or 1.
    ///
    /// # Errors
    /// As [`Agent::start`].
    pub async fn start_replica(
        control_plane: &ControlPlane,
        server: &Server,
        cluster: &str,
        registration_token: &str,
        replica: usize,
    ) -> anyhow::Result<Self> {
        let name = format!("cluster-agent-{cluster}-{replica}");
        let directory = control_plane.scope().directory().join(&name);
        std::fs::create_dir_all(&directory)?;
        let pod = wait_for("a pod of the agent", READY, async || {
            let pods = control_plane.kubectl(["get", "pods", "-n", "cattle-system", "-l", "app=cattle-cluster-agent"]);
            let pods = pods.json().await?;
            let pod = pods["items"].as_array().and_then(|items| items.get(replica)).context("no pod yet")?;
            Ok(pod["metadata"].clone())
        })
        .await?;
        let container = deployment_container(control_plane).await?;
        let variable = |name: &str| environment(&container, name);
        let server_id = variable("CATTLE_SERVER_ID").context("no server id")?;
        let file = |name: &str| directory.join(name).into_os_string();
        let mut variables: Vec<(&str, OsString)> = vec![
            ("CATTLE_SERVER", server.url().into()),
            ("CATTLE_CLUSTER_ID", cluster.into()),
            ("CATTLE_SERVER_ID", server_id.as_str().into()),
            ("CATTLE_TOKEN_FILE", file(TOKEN)),
            ("CATTLE_REGISTRATION_TOKEN_FILE", file(REGISTRATION_TOKEN)),
            ("CATTLE_SERVICE_ACCOUNT_TOKEN_FILE", file(KUBERNETES_TOKEN)),
            ("CATTLE_KUBERNETES_CA_FILE", file(CA)),
            ("CATTLE_KUBERNETES_ADDRESS", format!("{}:6443", control_plane.address()).into()),
            ("CATTLE_LOG_LEVEL", "info,cattle=debug".into()),
        ];
        variables.extend(variable("CATTLE_CA_CHECKSUM").map(|sum| ("CATTLE_CA_CHECKSUM", sum.into())));
        let environment: Vec<_> = variables.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let audience = format!("cattle:{cluster}:{server_id}");
        write_files(control_plane, &directory, &pod, &audience).await?;
        std::fs::write(directory.join(REGISTRATION_TOKEN), registration_token)?;
        let process = program(&name, &environment, None)?.start(control_plane.scope())?;
        Ok(Self { name, environment, directory, pod, audience, network: None, process })
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
        let program = program(&self.name, &self.environment, self.network.as_ref())?;
        self.process = program.start(control_plane.scope())?;
        Ok(())
    }

    /// Kills it and starts it again.
    ///
    /// # Errors
    /// When it does not end or cannot be started.
    pub async fn restart(&mut self, control_plane: &ControlPlane) -> anyhow::Result<()> {
        self.process.kill().await?;
        self.start_again(control_plane)
    }

    /// Changes its environment, from its next start on.
    pub fn set_env(&mut self, name: &str, value: impl Into<OsString>) {
        self.environment.retain(|(known, _)| known != name);
        self.environment.push((name.to_owned(), value.into()));
    }

    /// Puts it into a network of its own, from its next start on.
    pub fn seclude(&mut self, network: Seclusion) {
        self.network = Some(network);
    }

    /// Replaces its tokens and its cluster's CA by new ones, as a kubelet does.
    ///
    /// # Errors
    /// When the pod is gone or its tokens cannot be had.
    pub async fn refresh_files(&self, control_plane: &ControlPlane) -> anyhow::Result<()> {
        write_files(control_plane, &self.directory, &self.pod, &self.audience).await
    }

    /// A token of its pod for some audience.
    ///
    /// # Errors
    /// When the pod is gone.
    pub async fn pod_token(&self, control_plane: &ControlPlane, audience: &str) -> anyhow::Result<String> {
        pod_token(control_plane, Account::ClusterAgent, &self.pod, Some(audience)).await
    }

    /// The projected token that it shows the server.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn token(&self) -> anyhow::Result<String> {
        Ok(std::fs::read_to_string(self.directory.join(TOKEN))?)
    }

    /// The token that it shows its API server.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn kubernetes_token(&self) -> anyhow::Result<String> {
        Ok(std::fs::read_to_string(self.directory.join(KUBERNETES_TOKEN))?)
    }

    /// Replaces the projected token that it shows the server.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn set_token(&self, token: &str) -> anyhow::Result<()> {
        Ok(std::fs::write(self.directory.join(TOKEN), token)?)
    }

    /// Replaces the registration token.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn set_registration_token(&self, token: &str) -> anyhow::Result<()> {
        Ok(std::fs::write(self.directory.join(REGISTRATION_TOKEN), token)?)
    }

    /// `cattle-cluster-agent doctor` in this agent's place, with a part of its environment replaced.
    ///
    /// # Errors
    /// When it cannot be started or does not end.
    pub async fn doctor(&self, replaced: &[(&str, &str)]) -> anyhow::Result<Output> {
        let mut client = Client::new(binary("cattle-cluster-agent")?, &self.directory.join(TOKEN)).args(["doctor"]);
        for (name, value) in &self.environment {
            client = client.env(name, value);
        }
        for (name, value) in replaced {
            client = client.env(name, value);
        }
        client.output().await
    }
}

fn program(name: &str, environment: &[(String, OsString)], network: Option<&Seclusion>) -> anyhow::Result<Program> {
    let program = Program::new(name, binary("cattle-cluster-agent")?);
    let program = environment.iter().fold(program, |program, (name, value)| program.env(name, value));
    Ok(match network {
        Some(network) => network.enter(program),
        None => program,
    })
}

async fn write_files(
    control_plane: &ControlPlane,
    directory: &Path,
    pod: &Value,
    audience: &str,
) -> anyhow::Result<()> {
    std::fs::write(directory.join(TOKEN), pod_token(control_plane, Account::ClusterAgent, pod, Some(audience)).await?)?;
    std::fs::write(
        directory.join(KUBERNETES_TOKEN),
        pod_token(control_plane, Account::ClusterAgent, pod, None).await?,
    )?;
    Ok(std::fs::write(directory.join(CA), control_plane.ca_pem())?)
}

/// The service accounts of agents.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Account {
    ClusterAgent,
    NodeAgent,
}

impl Account {
    const fn name(self) -> &'static str {
        match self {
            Self::ClusterAgent => "cattle-cluster-agent",
            Self::NodeAgent => "cattle-node-agent",
        }
    }
}

/// A token of an agent's service account that is bound to the pod, as a kubelet would request it.
pub(crate) async fn pod_token(
    control_plane: &ControlPlane,
    account: Account,
    pod: &Value,
    audience: Option<&str>,
) -> anyhow::Result<String> {
    let reference = json!({ "kind": "Pod", "apiVersion": "v1", "name": pod["name"], "uid": pod["uid"] });
    let mut spec = json!({ "expirationSeconds": 3600, "boundObjectRef": reference });
    if let Some(audience) = audience {
        spec["audiences"] = json!([audience]);
    }
    let request = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec });
    let path = format!("/api/v1/namespaces/cattle-system/serviceaccounts/{}/token", account.name());
    let answer = control_plane.kubectl(["create", "--raw", &path, "-f", "-"]).stdin(request.to_string()).ok().await?;
    let answer: Value = serde_json::from_str(&answer)?;
    answer["status"]["token"].as_str().map(str::to_owned).context("no token")
}

async fn deployment_container(control_plane: &ControlPlane) -> anyhow::Result<Value> {
    let deployment = ["get", "deployment", "-n", "cattle-system", "cattle-cluster-agent"];
    let deployment = control_plane.kubectl(deployment).json().await?;
    Ok(deployment["spec"]["template"]["spec"]["containers"][0].clone())
}

pub(crate) fn environment(container: &Value, name: &str) -> Option<String> {
    let variable = container["env"].as_array()?.iter().find(|variable| variable["name"] == name)?;
    variable["value"].as_str().map(str::to_owned)
}
