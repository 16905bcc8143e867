//! Whole clusters: kubeadm, kubelets, containerd, pods and Services, each node in namespaces of its own.

mod cgroup;
mod commands;
mod files;
mod images;
mod kubeadm;
mod network;
mod node;

use std::ffi::OsString;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;

use crate::assets::Assets;
use crate::kubectl::Client;
use crate::run::{Run, Scope, private_directory};
use crate::wait::wait_for;

pub(crate) use commands::ip;
pub use images::TOOLBOX_IMAGE;
use network::Network;
pub use node::Node;

const READY_DEADLINE: Duration = Duration::from_secs(300);
const PROGRAMS: [&str; 9] = ["containerd", "runc", "ctr", "nft", "iptables", "conntrack", "ip", "nsenter", "unshare"];

/// How [`Nodes`] are to be.
#[derive(Clone, Debug)]
pub struct NodesOptions {
    /// The cluster's name; nodes are called `NAME-1`, `NAME-2`, …
    pub name: String,
    /// Nodes beside the one with the control plane, which runs pods of its own only if there are none.
    pub workers: u8,
    /// Addresses of pods: a /16, of which node N has the Nth /24.
    pub pod_range: String,
    /// Addresses of Services.
    pub service_range: String,
    /// Further names and addresses in the API server's certificate.
    pub extra_names: Vec<String>,
    /// Image archives that every node gets.
    pub images: Vec<PathBuf>,
    /// Gives each node's `/var` a disk of its own (in memory) of this size, which [`Node::full_disk`] can fill. A node
    /// with its images needs 1 GB.
    pub disk_bytes: Option<u64>,
}

/// A kubeadm cluster: the first node has the control plane. Dropped, it is gone: processes, namespaces, interfaces,
/// cgroups, mounts and files.
#[derive(Debug)]
pub struct Nodes {
    options: NodesOptions,
    assets: Assets,
    network: Network,
    nodes: Vec<Node>,
    scope: Scope,
}

impl Default for NodesOptions {
    fn default() -> Self {
        Self {
            name: "node".to_owned(),
            workers: 1,
            pod_range: "10.244.0.0/16".to_owned(),
            service_range: "10.96.0.0/16".to_owned(),
            extra_names: Vec::new(),
            images: Vec::new(),
            disk_bytes: None,
        }
    }
}

impl Nodes {
    /// Why there can be no nodes, if so: tests print it and skip.
    pub fn unavailable() -> Option<String> {
        if !nix::unistd::geteuid().is_root() {
            return Some("nodes need root: network namespaces, mounts and cgroups".to_owned());
        }
        let missing: Vec<_> = PROGRAMS.into_iter().filter(|name| !installed(name)).collect();
        if !missing.is_empty() {
            return Some(format!("nodes need {}: run `make packages`", missing.join(", ")));
        }
        files::cni_directory().is_none().then(|| "nodes need the CNI plugins: run `make packages`".to_owned())
    }

    /// Starts a cluster that lives as long as the value, and waits until nodes and DNS are ready.
    ///
    /// # Errors
    /// With the ends of the nodes' logs when something does not get there.
    pub async fn start(options: NodesOptions) -> anyhow::Result<Self> {
        Self::start_in(Run::of_this_process()?, options).await
    }

    /// As [`Nodes::start`] in a run of the caller's, such as a persistent one.
    ///
    /// # Errors
    /// As [`Nodes::start`].
    pub async fn start_in(run: &Run, options: NodesOptions) -> anyhow::Result<Self> {
        if let Some(reason) = Self::unavailable() {
            anyhow::bail!(reason);
        }
        let assets = Assets::ready().await?;
        let mut scope = run.scope("nodes")?;
        scope.set_keep(false);
        let network = Network::create(&scope).await?;
        let mut cluster = Self { options, assets, network, nodes: Vec::new(), scope };
        if let Err(error) = cluster.bring_up().await {
            let logs: String = cluster.nodes.iter().map(Node::logs).collect();
            return Err(error.context(format!("the cluster did not come up\n{logs}")));
        }
        Ok(cluster)
    }

    /// Where a listener of this machine is reached from the nodes and their pods. Bind to this address.
    pub fn host_address(&self) -> Ipv4Addr {
        self.network.host_address()
    }

    /// `https://ADDRESS:6443` of the first node, which this machine reaches, too.
    pub fn url(&self) -> String {
        format!("https://{}:6443", self.nodes[0].address())
    }

    /// The administrator's kubeconfig; usable on this machine.
    pub fn kubeconfig(&self) -> PathBuf {
        self.scope.directory().join("admin.kubeconfig")
    }

    /// kubectl as administrator.
    pub fn kubectl<A: Into<OsString>>(&self, arguments: impl IntoIterator<Item = A>) -> Client {
        Client::new(self.assets.program("kubectl"), &self.kubeconfig()).direct().args(arguments)
    }

    /// All nodes; the first has the control plane.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// A node to do something to; 0 has the control plane.
    ///
    /// # Panics
    /// When there are not so many.
    pub fn node(&mut self, index: usize) -> &mut Node {
        &mut self.nodes[index]
    }

    /// The power of a node goes; see [`Node::power_cut`].
    ///
    /// # Errors
    /// As there.
    pub async fn power_cut(&mut self, index: usize) -> anyhow::Result<()> {
        self.nodes[index].power_cut().await
    }

    /// The power of a node comes back.
    ///
    /// # Errors
    /// When it does not boot.
    pub async fn power_on(&mut self, index: usize) -> anyhow::Result<()> {
        self.nodes[index].power_on(&self.scope).await
    }

    /// Gives an image archive to every node.
    ///
    /// # Errors
    /// When a node cannot import it.
    pub async fn import_image(&self, archive: &Path) -> anyhow::Result<()> {
        for node in &self.nodes {
            node.import(archive).await?;
        }
        Ok(())
    }

    /// A directory of this cluster's for a test's own files; gone with it.
    pub fn directory(&self) -> &Path {
        self.scope.directory()
    }

    /// Where processes that belong to this cluster are started: they end with it at the latest.
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// Waits until every node is `Ready` and the deployments of kube-system are available.
    ///
    /// # Errors
    /// At the deadline: with what is not ready.
    pub async fn wait_ready(&self) -> anyhow::Result<()> {
        wait_for("nodes and DNS to be ready", READY_DEADLINE, async || {
            let nodes = self.kubectl(["get", "nodes"]).json().await?;
            let ready = nodes["items"]
                .as_array()
                .map_or(0, |all| all.iter().filter(|node| has_condition(node, "Ready")).count());
            anyhow::ensure!(ready == self.nodes.len(), "{ready} of {} nodes are ready", self.nodes.len());
            let dns = self.kubectl(["get", "deployment", "coredns", "--namespace", "kube-system"]).json().await?;
            anyhow::ensure!(has_condition(&dns, "Available"), "CoreDNS is not available: {}", dns["status"]);
            Ok(())
        })
        .await
    }

    /// The cluster goes on after this process: for the demo. Only a sweep of its run ends it.
    pub fn leave_running(mut self) {
        self.scope.set_keep(true);
        for node in self.nodes.drain(..) {
            node.detach();
        }
    }

    async fn bring_up(&mut self) -> anyhow::Result<()> {
        let archive = self.scope.directory().join("kubernetes-images.tar");
        let (assets, output) = (self.assets.clone(), archive.clone());
        let list = self.image_list().await?;
        tokio::task::spawn_blocking(move || images::write_kubernetes_images(&assets, &list, &output)).await??;
        for number in 1..=self.options.workers + 1 {
            self.start_node(number, &archive).await?;
        }
        fs::remove_file(&archive)?;
        let token = bootstrap_token();
        self.init_control_plane(&token).await?;
        for index in 1..self.nodes.len() {
            self.join(index, &token).await?;
        }
        self.wait_ready().await
    }

    async fn image_list(&self) -> anyhow::Result<String> {
        let version = format!("--kubernetes-version={}", crate::assets::KUBERNETES_VERSION);
        let kubeadm = self.assets.program("kubeadm");
        commands::run(&kubeadm.display().to_string(), ["config", "images", "list", &version], Duration::from_secs(60))
            .await
    }

    async fn start_node(&mut self, number: u8, archive: &Path) -> anyhow::Result<()> {
        let name = format!("{}-{number}", self.options.name);
        let ranges = self.pod_ranges()?;
        let port = self.network.connect(&self.scope, number, &ranges).await?;
        let directory = self.scope.directory().join(format!("node-{number}"));
        private_directory(&directory)?;
        let var = directory.join("var");
        fs::create_dir(&var)?;
        if let Some(bytes) = self.options.disk_bytes {
            self.scope.record("mount", &number.to_string(), &var.display().to_string())?;
            let options = format!("size={bytes},mode=755");
            let line: [OsString; 6] =
                ["-t".into(), "tmpfs".into(), "-o".into(), options.into(), "tmpfs".into(), var.into_os_string()];
            commands::run("mount", line, Duration::from_secs(10)).await?;
        }
        let range = &ranges[usize::from(number) - 1];
        files::write(&directory, &name, port.address, self.network.host_address(), range)?;
        let disk = self.options.disk_bytes;
        let node = Node::start(&self.scope, &self.assets, &name, number, port, disk).await?;
        node.import(archive).await?;
        for image in &self.options.images {
            node.import(image).await?;
        }
        self.nodes.push(node);
        Ok(())
    }

    async fn init_control_plane(&self, token: &str) -> anyhow::Result<()> {
        let node = &self.nodes[0];
        let config = kubeadm::init(&self.options, node.name(), node.address(), token);
        fs::write(node.file("/kubeadm.yaml"), config)?;
        node.run([
            "kubeadm",
            "init",
            "--config=/run/node/kubeadm.yaml",
            "--skip-phases=addon/kube-proxy",
            "--ignore-preflight-errors=all",
        ])
        .await?;
        let admin = fs::read_to_string(node.file("/etc/kubernetes/admin.conf"))?;
        crate::pki::write_private(&self.kubeconfig(), &admin)?;
        self.start_kube_proxy(node).await
    }

    async fn join(&self, index: usize, token: &str) -> anyhow::Result<()> {
        let (first, node) = (&self.nodes[0], &self.nodes[index]);
        let ca = fs::read_to_string(first.file("/etc/kubernetes/pki/ca.crt"))?;
        fs::write(node.file("/discovery.conf"), kubeadm::discovery(first.address(), &ca))?;
        fs::write(node.file("/kubeadm.yaml"), kubeadm::join(node.name(), node.address(), token))?;
        node.run(["kubeadm", "join", "--config=/run/node/kubeadm.yaml", "--ignore-preflight-errors=all"]).await?;
        self.start_kube_proxy(node).await
    }

    /// Gives a node the credential of kube-proxy, for which its service manager waits. `system:kube-proxy` is bound to
    /// its role from the start of every cluster.
    async fn start_kube_proxy(&self, node: &Node) -> anyhow::Result<()> {
        let first = &self.nodes[0];
        let config = first
            .run([
                "kubeadm",
                "kubeconfig",
                "user",
                "--client-name=system:kube-proxy",
                "--config=/run/node/kubeadm.yaml",
            ])
            .await?;
        crate::pki::write_private(&node.file("/etc/kubernetes/kube-proxy.conf"), &config)
    }

    fn pod_ranges(&self) -> anyhow::Result<Vec<String>> {
        let (network, _) = self.options.pod_range.split_once('/').context("the pod range has no prefix length")?;
        let [a, b, ..] = network.parse::<Ipv4Addr>()?.octets();
        Ok((0..=self.options.workers).map(|number| format!("{a}.{b}.{number}.0/24")).collect())
    }
}

/// Whether an object's condition of this type is `True`.
pub(crate) fn has_condition(object: &Value, kind: &str) -> bool {
    object["status"]["conditions"]
        .as_array()
        .is_some_and(|all| all.iter().any(|condition| condition["type"] == kind && condition["status"] == "True"))
}

fn installed(program: &str) -> bool {
    commands::PATH.split(':').any(|folder| Path::new(folder).join(program).is_file())
}

/// `[a-z0-9]{6}.[a-z0-9]{16}`, good for an hour.
fn bootstrap_token() -> String {
    use std::hash::{BuildHasher as _, RandomState};
    let bits = format!("{:016x}{:016x}", RandomState::new().hash_one(1), RandomState::new().hash_one(2));
    format!("{}.{}", &bits[..6], &bits[6..22])
}
