use std::ffi::OsString;
use std::fs;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;

use crate::assets::Assets;
use crate::kubectl::Output;
use crate::process::{Process, Program, tail};
use crate::run::Scope;
use crate::wait::wait_for;

use super::commands::{PATH, output, run};
use super::network::Port;
use super::{cgroup, kubeadm};

const INIT: &str = include_str!("init.sh");
const START_DEADLINE: Duration = Duration::from_secs(60);
/// Importing and kubeadm on a machine that has other work.
const COMMAND_DEADLINE: Duration = Duration::from_secs(300);
const FAULT_TABLE: &str = "cattle-fault";

/// A node: a process tree with its own network, mount, UTS, IPC and PID namespace, `/etc`, `/var` and `/run`.
#[derive(Debug)]
pub struct Node {
    name: String,
    directory: PathBuf,
    assets: PathBuf,
    port: Port,
    /// `None` while the power is off.
    tree: Option<Process>,
    /// The first process inside, as this machine counts.
    init: Option<u32>,
    program: Program,
    disk: Option<u64>,
}

impl Node {
    pub(super) async fn start(
        scope: &Scope,
        assets: &Assets,
        name: &str,
        number: u8,
        port: Port,
        disk: Option<u64>,
    ) -> anyhow::Result<Self> {
        let directory = scope.directory().join(format!("node-{number}"));
        let cgroup = port.namespace.clone();
        cgroup::create(scope, &cgroup)?;
        let patch = directory.join("etc/kubernetes/patches/kubeletconfiguration+merge.json");
        fs::write(patch, kubeadm::kubelet_patch(&cgroup))?;
        let program = Program::new(&format!("node-{number}"), "/usr/bin/nsenter")
            .clean_environment()
            .arg(format!("--net=/run/netns/{}", port.namespace))
            // `ip netns exec` would mount a new /sys and hide the cgroups.
            .args(["unshare", "--mount", "--uts", "--ipc", "--pid", "--fork", "--mount-proc", "--kill-child"])
            .args(["/bin/sh", "-c", INIT, "init", name])
            .arg(&directory)
            .arg(assets.directory().canonicalize()?);
        let assets = assets.directory().to_owned();
        let mut node = Self { name: name.to_owned(), directory, assets, port, tree: None, init: None, program, disk };
        node.boot(scope).await?;
        Ok(node)
    }

    /// Its name in Kubernetes.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its address, which this machine reaches, too.
    pub fn address(&self) -> Ipv4Addr {
        self.port.address
    }

    /// A file of the node, as this machine sees it: `file("/etc/kubernetes/admin.conf")`. Only `/etc` and `/var` are its own.
    ///
    /// # Panics
    /// When the path is not absolute.
    pub fn file(&self, path: &str) -> PathBuf {
        self.directory.join(path.strip_prefix('/').expect("a path of the node starts at its root"))
    }

    /// Runs a program in the node and gives its standard output.
    ///
    /// # Errors
    /// When the power is off, or the program ends with another status than 0: with all that it printed.
    pub async fn run<A: Into<OsString>>(&self, arguments: impl IntoIterator<Item = A>) -> anyhow::Result<String> {
        let line = self.enter(arguments)?;
        run("nsenter", line, COMMAND_DEADLINE).await.with_context(|| format!("on node {}", self.name))
    }

    /// Runs a program in the node, whatever its exit status.
    ///
    /// # Errors
    /// When the power is off or the program does not end.
    pub async fn output<A: Into<OsString>>(&self, arguments: impl IntoIterator<Item = A>) -> anyhow::Result<Output> {
        output("nsenter", self.enter(arguments)?, COMMAND_DEADLINE).await
    }

    /// Makes the images of an archive known to the node's containerd; nothing is ever pulled.
    ///
    /// # Errors
    /// When the archive cannot be read or imported.
    pub async fn import(&self, archive: &Path) -> anyhow::Result<()> {
        let inside = tempfile::Builder::new().prefix("import-").suffix(".tar").tempfile_in(&self.directory)?;
        let path = inside.into_temp_path();
        tokio::fs::copy(archive, &path).await.with_context(|| format!("cannot read {}", archive.display()))?;
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let file = format!("/run/node/{file}");
        self.run(["ctr", "--namespace", "k8s.io", "images", "import", &file]).await.map(drop)
    }

    /// Where the node finds the registry that image names call `registry`: `http://ADDRESS:PORT`. Without this a node
    /// pulls nothing, since nothing outside of its network can be reached.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn set_registry(&self, registry: &str, url: &str) -> anyhow::Result<()> {
        let directory = self.file("/etc/containerd/certs.d").join(registry);
        fs::create_dir_all(&directory)?;
        let hosts = format!("server = \"{url}\"\n[host.\"{url}\"]\n  capabilities = [\"pull\", \"resolve\"]\n");
        Ok(fs::write(directory.join("hosts.toml"), hosts)?)
    }

    /// The power goes: every process is gone at once and nothing more leaves the network port. Files stay.
    ///
    /// # Errors
    /// When the kernel does not do it.
    pub async fn power_cut(&mut self) -> anyhow::Result<()> {
        let Some(mut tree) = self.tree.take() else { return Ok(()) };
        self.port.down().await?;
        tree.kill().await?;
        let init = self.init.take().context("the node had no first process")?;
        wait_for("the node's processes to be gone", Duration::from_secs(30), async || {
            anyhow::ensure!(!Path::new(&format!("/proc/{init}")).exists(), "process {init} is still there");
            Ok(())
        })
        .await
    }

    /// The power comes back; the node boots with the files that it had.
    ///
    /// # Errors
    /// When containerd does not come up.
    pub async fn power_on(&mut self, scope: &Scope) -> anyhow::Result<()> {
        if self.tree.is_some() {
            return Ok(());
        }
        self.in_network(&["nft", "flush", "ruleset"]).await?;
        self.port.up().await?;
        self.boot(scope).await
    }

    /// Cuts the node off from every other machine, both ways and silently: no packet, no reset. Loopback and the pods
    /// of the node still reach each other.
    ///
    /// # Errors
    /// When the rules cannot be set.
    pub async fn partition(&self) -> anyhow::Result<()> {
        let rules = format!(
            "table inet {FAULT_TABLE} {{
               chain in {{ type filter hook prerouting priority -500; iifname \"eth0\" drop; }}
               chain out {{ type filter hook postrouting priority 500; oifname \"eth0\" drop; }}
             }}"
        );
        self.in_network(&["nft", &rules]).await.map(drop)
    }

    /// Ends [`Node::partition`].
    ///
    /// # Errors
    /// When there is none.
    pub async fn heal(&self) -> anyhow::Result<()> {
        self.in_network(&["nft", "delete", "table", "inet", FAULT_TABLE]).await.map(drop)
    }

    /// Fills the node's `/var` to the last byte. Needs [`super::NodesOptions::disk_bytes`].
    ///
    /// # Errors
    /// When the node shares this machine's disk.
    pub fn full_disk(&self) -> anyhow::Result<()> {
        anyhow::ensure!(self.disk.is_some(), "node {} has no disk of its own: set NodesOptions::disk_bytes", self.name);
        let mut filler = fs::File::create(self.file("/var/filler"))?;
        let mut block = vec![0; 1024 * 1024];
        while !block.is_empty() {
            match filler.write_all(&block) {
                Ok(()) => {}
                Err(error) if error.kind() == std::io::ErrorKind::StorageFull => block.truncate(block.len() / 2),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Ends [`Node::full_disk`].
    ///
    /// # Errors
    /// When it was not full.
    pub fn free_disk(&self) -> anyhow::Result<()> {
        Ok(fs::remove_file(self.file("/var/filler"))?)
    }

    /// The end of what its services have written, for an error message.
    pub fn logs(&self) -> String {
        let mut text = String::new();
        for name in ["containerd", "kubelet", "kube-proxy"] {
            let log = fs::read(self.file(&format!("/var/log/{name}.log"))).unwrap_or_default();
            text += &format!("--- {name} of node {}\n{}\n", self.name, tail(&String::from_utf8_lossy(&log)));
        }
        text
    }

    /// Gives the processes up: they go on until the scope is swept.
    pub(super) fn detach(mut self) {
        if let Some(tree) = self.tree.take() {
            tree.detach();
        }
    }

    async fn boot(&mut self, scope: &Scope) -> anyhow::Result<()> {
        let mut tree = self.program.start(scope)?;
        let outside = tree.id();
        let init = tree.wait_until("the node's first process", START_DEADLINE, async || child_of(outside)).await?;
        self.init = Some(init);
        self.tree = Some(tree);
        let up = wait_for("containerd", START_DEADLINE, async || {
            self.run(["ctr", "--namespace", "k8s.io", "plugins", "list"]).await.map(drop)
        });
        up.await.with_context(|| self.logs())
    }

    fn enter<A: Into<OsString>>(&self, arguments: impl IntoIterator<Item = A>) -> anyhow::Result<Vec<OsString>> {
        let init = self.init.with_context(|| format!("node {} has no power", self.name))?;
        let mut line: Vec<OsString> = ["--target".to_owned(), init.to_string()].map(Into::into).into();
        line.extend(["--mount", "--uts", "--ipc", "--net", "--pid", "--wd=/", "--", "env"].map(Into::into));
        line.push(format!("PATH=/run/assets:{PATH}").into());
        line.extend(arguments.into_iter().map(Into::into));
        Ok(line)
    }

    /// Runs a program of this machine in the node's network only: works without power.
    async fn in_network(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let mut line = vec![format!("--net=/run/netns/{}", self.port.namespace)];
        line.extend(arguments.iter().map(|&argument| argument.to_owned()));
        run("nsenter", line, START_DEADLINE).await
    }

    /// Where the node finds Kubernetes' programs.
    pub fn assets(&self) -> &Path {
        &self.assets
    }
}

/// The child of `unshare`, which is the node's PID 1.
fn child_of(parent: u32) -> anyhow::Result<u32> {
    let wanted = format!("PPid:\t{parent}");
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let Ok(status) = fs::read_to_string(entry.path().join("status")) else { continue };
        if status.lines().any(|line| line == wanted) {
            return Ok(pid);
        }
    }
    anyhow::bail!("process {parent} has no child yet")
}
