//! The server and a registered cluster, as much of one as this user may have.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use base64::Engine as _;
use cattle_harness::{Client, Nodes, TOOLBOX_IMAGE, wait_for};
use cattle_tests::{Launch, Managed, Member, Server};
use serde_json::{Value, json};

use crate::processes::Processes;
use crate::standby::Standby;
use crate::way::Way;

/// As it is run; the tests' own default writes every request down.
const LOG_LEVEL: &str = "info";
pub(crate) const NAMESPACE: &str = "bench";
/// The account of whoever asks directly; it may do everything, such as being somebody else.
const DIRECT: &str = "direct";
const POD: &str = "bench";

/// Everything that runs.
pub(crate) struct Cluster {
    server: Server,
    id: String,
    kubernetes: Kubernetes,
}

enum Kubernetes {
    /// A control plane and an agent, as plain processes.
    Processes { member: Box<Member>, reason: String },
    /// A node with pods; the agents are those of the import manifest.
    Nodes(Box<Nodes>),
}

impl Cluster {
    /// With nodes where that is possible.
    pub(crate) async fn start(no_nodes: bool) -> anyhow::Result<Self> {
        let unavailable = if no_nodes { Some("nodes were not wanted".to_owned()) } else { Nodes::unavailable() };
        match unavailable {
            Some(reason) => Box::pin(Self::of_processes(reason)).await,
            None => Box::pin(Self::of_nodes()).await,
        }
    }

    async fn of_processes(reason: String) -> anyhow::Result<Self> {
        let launch = Launch { log_level: Some(LOG_LEVEL.to_owned()), ..Launch::default() };
        let server = Server::start_with(launch).await?;
        let mut member = Member::join(&server, "bench").await?;
        member.agent.set_env("CATTLE_LOG_LEVEL", LOG_LEVEL);
        member.agent.restart(&member.control_plane).await?;
        member.wait_ready(&server).await?;
        let id = member.id.clone();
        Ok(Self { server, id, kubernetes: Kubernetes::Processes { member: Box::new(member), reason } })
    }

    async fn of_nodes() -> anyhow::Result<Self> {
        let launch = Launch { log_level: Some(LOG_LEVEL.to_owned()), ..Launch::default() };
        let Managed { nodes, server, id } = Managed::start("bench", 0, launch).await?;
        Ok(Self { server, id, kubernetes: Kubernetes::Nodes(Box::new(nodes)) })
    }

    /// Why there are no pods, if there are none.
    pub(crate) fn without_pods(&self) -> Option<&str> {
        match &self.kubernetes {
            Kubernetes::Processes { reason, .. } => Some(reason),
            Kubernetes::Nodes(_) => None,
        }
    }

    /// What carries the requests.
    pub(crate) fn processes(&mut self) -> anyhow::Result<Processes> {
        let agents = match &mut self.kubernetes {
            Kubernetes::Processes { member, .. } => vec![member.agent.process().id()],
            Kubernetes::Nodes(_) => agents_in_pods(&self.id)?,
        };
        ensure!(!agents.is_empty(), "no agent runs");
        Ok(Processes::new(self.server.process().id(), agents))
    }

    /// What node agents cost; none where there are none.
    pub(crate) async fn standby(&self) -> anyhow::Result<Option<Standby>> {
        let Kubernetes::Nodes(_) = &self.kubernetes else { return Ok(None) };
        Standby::watch(&agents_in_pods(&self.id)?, &format!("{}/metrics", self.server.admin_url())).await
    }

    /// kubectl as the cluster's administrator, not through the server.
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> Client {
        let arguments = arguments.iter().copied();
        match &self.kubernetes {
            Kubernetes::Processes { member, .. } => member.control_plane.kubectl(arguments),
            Kubernetes::Nodes(nodes) => nodes.kubectl(arguments),
        }
    }

    /// Makes namespace and account of the measurement; gives both ways, which are the same user to the API server.
    pub(crate) async fn ways(&self) -> anyhow::Result<(Way, Way)> {
        let account = format!("--serviceaccount={NAMESPACE}:{DIRECT}");
        self.kubectl(&["create", "namespace", NAMESPACE]).ok().await?;
        self.kubectl(&["create", "serviceaccount", DIRECT, "--namespace", NAMESPACE]).ok().await?;
        let binding = ["create", "clusterrolebinding", DIRECT, "--clusterrole=cluster-admin", &account];
        self.kubectl(&binding).ok().await?;
        let through = self.through()?;
        let review = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview" });
        let review = through.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", &review).await?;
        Ok((self.direct(&review["status"]["userInfo"]).await?, through))
    }

    fn through(&self) -> anyhow::Result<Way> {
        let admin = self.server.admin();
        let path = format!("/k8s/clusters/{}", self.id);
        let headers = vec![("Authorization".to_owned(), format!("Bearer {}", admin.token))];
        let kubeconfig = self.server.kubeconfig(admin, &path)?;
        Way::new(&format!("{}{path}", self.server.url()), self.server.ca_pem(), headers, kubeconfig)
    }

    /// As the server does it: an account's token, and the user's identity in headers.
    async fn direct(&self, user: &Value) -> anyhow::Result<Way> {
        let token = ["create", "token", DIRECT, "--namespace", NAMESPACE, "--duration", "12h"];
        let token = self.kubectl(&token).ok().await?.trim().to_owned();
        let text = |value: &Value| value.as_str().map(str::to_owned).context("no text");
        let name = text(&user["username"])?;
        let mut headers = vec![
            ("Authorization".to_owned(), format!("Bearer {token}")),
            ("Impersonate-User".to_owned(), name.clone()),
        ];
        for group in user["groups"].as_array().into_iter().flatten() {
            headers.push(("Impersonate-Group".to_owned(), text(group)?));
        }
        for (key, values) in user["extra"].as_object().into_iter().flatten() {
            for value in values.as_array().into_iter().flatten() {
                headers.push((format!("Impersonate-Extra-{key}"), text(value)?));
            }
        }
        let config: Value = self.kubectl(&["config", "view", "--raw", "--minify"]).json().await?;
        let cluster = &config["clusters"][0]["cluster"];
        let ca = text(&cluster["certificate-authority-data"])?;
        let ca = String::from_utf8(base64::engine::general_purpose::STANDARD.decode(ca)?)?;
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{ "name": "c", "cluster": cluster }],
            "users": [{ "name": "u", "user": {
                "token": token, "as": name, "as-groups": user["groups"], "as-user-extra": user["extra"],
            } }],
            "contexts": [{ "name": "c", "context": { "cluster": "c", "user": "u" } }],
        });
        let kubeconfig = self.server.scope().directory().join("direct.kubeconfig");
        fs::write(&kubeconfig, config.to_string())?;
        Way::new(&text(&cluster["server"])?, &ca, headers, kubeconfig)
    }

    /// Starts a pod that waits; gives its path.
    pub(crate) async fn pod(&self) -> anyhow::Result<String> {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": { "name": POD, "namespace": NAMESPACE },
            "spec": { "terminationGracePeriodSeconds": 0, "containers": [{
                "name": "main", "image": TOOLBOX_IMAGE, "imagePullPolicy": "IfNotPresent",
                "command": ["sleep", "1000000"],
            }] },
        });
        let apply = self.kubectl(&["apply", "-f", "-"]).stdin(pod.to_string());
        // A namespace's service account comes a moment after it.
        wait_for("the pod to be accepted", Duration::from_secs(30), async || apply.ok().await).await?;
        let ready = ["wait", "--for=condition=Ready", "pod", POD, "--namespace", NAMESPACE, "--timeout=100s"];
        self.kubectl(&ready).ok().await?;
        Ok(format!("/api/v1/namespaces/{NAMESPACE}/pods/{POD}"))
    }

    /// `FILE` in the pod, as `kubectl cp` calls it.
    pub(crate) fn in_pod(file: &str) -> String {
        format!("{NAMESPACE}/{POD}:{file}")
    }

    /// For files of the measurement; gone with the server.
    pub(crate) fn directory(&self) -> PathBuf {
        self.server.scope().directory().to_owned()
    }
}

/// The agents of a cluster in whatever container: this machine sees every process of its nodes.
fn agents_in_pods(cluster: &str) -> anyhow::Result<Vec<u32>> {
    let variable = format!("CATTLE_CLUSTER_ID={cluster}\0");
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let Some(process) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let Ok(environment) = fs::read(entry.path().join("environ")) else { continue };
        if environment.windows(variable.len()).any(|window| window == variable.as_bytes()) {
            found.push(process);
        }
    }
    Ok(found)
}
