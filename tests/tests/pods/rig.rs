//! One cluster with pods behind one server, which all tests of this process share.

use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context as _, anyhow, ensure};
use cattle_harness::{Assets, Client, Nodes, Output, wait_for};
use cattle_tests::{Launch, Managed, Server, User, Ways};
use futures_util::future::try_join_all;
use serde_json::Value;
use tokio::runtime::Runtime;

/// The kubectl that speaks WebSocket and the one that speaks SPDY.
pub(crate) const PROGRAMS: [&str; 2] = ["kubectl", "kubectl-1.20"];
/// The node that runs the tests' pods; the other one has the control plane.
pub(crate) const WORKER: &str = "pods-2";
/// For one condition on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(120);
const LOGIN: &str = "owner";

/// A registered cluster, and an owner of it by both ways.
pub(crate) struct Rig {
    pub(crate) nodes: Nodes,
    pub(crate) server: Server,
    /// The cluster's id at the server.
    pub(crate) cluster: String,
    pub(crate) user: User,
    ways: Ways,
    assets: Assets,
}

struct Shared {
    runtime: Runtime,
    rig: Rig,
}

/// Runs a test on the shared cluster, which the first one starts. The harness removes it when this process ends.
pub(crate) fn with_rig(test: impl AsyncFnOnce(&'static Rig) -> anyhow::Result<()>) -> anyhow::Result<()> {
    static SHARED: OnceLock<Result<Shared, String>> = OnceLock::new();
    if let Some(reason) = Nodes::unavailable() {
        println!("skipped: {reason}");
        return Ok(());
    }
    let shared = SHARED.get_or_init(|| Shared::start().map_err(|error| format!("{error:#}")));
    let shared = shared.as_ref().map_err(|error| anyhow!("there is no cluster: {error}"))?;
    shared.runtime.block_on(Box::pin(test(&shared.rig)))
}

impl Shared {
    fn start() -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let rig = runtime.block_on(Box::pin(Rig::start()))?;
        Ok(Self { runtime, rig })
    }
}

impl Rig {
    async fn start() -> anyhow::Result<Self> {
        let assets = Assets::ready().await?;
        let Managed { nodes, server, id: cluster } = Managed::start("pods", 1, Launch::default()).await?;
        let user = server.add_user(LOGIN).await?;
        server.add_member(&cluster, &user, "cluster-owner").await?;
        let administrator = nodes.kubectl(["config", "view", "--raw"]).json().await?;
        let ways = Ways::write(nodes.directory(), &server, &cluster, (&user, LOGIN), &administrator)?;
        let rig = Self { nodes, server, cluster, user, ways, assets };
        rig.warm_up().await?;
        Ok(rig)
    }

    /// Until the role is there by both ways. Discovery is cached from then on: its warnings are not compared.
    async fn warm_up(&self) -> anyhow::Result<()> {
        wait_for("the role downstream", SOON, async || {
            for program in PROGRAMS {
                for (_, way) in self.ways.both() {
                    self.client(program, way, "default", &["get", "nodes"]).ok().await?;
                }
            }
            Ok(())
        })
        .await?;
        let all =
            PROGRAMS.iter().flat_map(|program| self.clients(program, "default", &["api-resources", "-o", "name"]));
        let all: Vec<_> = all.collect();
        try_join_all(all.iter().map(Client::ok)).await.map(drop)
    }

    /// A path of the cluster's API at the server.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}/k8s/clusters/{}{path}", self.server.url(), self.cluster)
    }

    /// A namespace for one test, in which pods can be made.
    pub(crate) async fn namespace(&self, name: &str) -> anyhow::Result<()> {
        self.nodes.kubectl(["create", "namespace", name]).ok().await?;
        wait_for("the namespace's service account", SOON, async || {
            self.admin(name, &["get", "serviceaccount", "default"]).await
        })
        .await
        .map(drop)
    }

    /// Makes objects, as the cluster's administrator.
    pub(crate) async fn apply(&self, namespace: &str, objects: &[Value]) -> anyhow::Result<()> {
        let text: String = objects.iter().map(|object| format!("---\n{object}\n")).collect();
        let apply = self.nodes.kubectl(["--namespace", namespace, "apply", "-f", "-"]).stdin(text);
        apply.ok().await.map(drop)
    }

    /// Waits for the condition of a pod, or for what `--for` can say otherwise.
    pub(crate) async fn wait(&self, namespace: &str, condition: &str, what: &[&str]) -> anyhow::Result<()> {
        let condition = format!("--for={condition}");
        let mut line = vec!["wait", condition.as_str(), "--timeout=110s"];
        line.extend(what);
        let waited = self.admin(namespace, &line).await;
        match waited {
            Ok(_) => Ok(()),
            Err(error) => {
                let pods = self.admin(namespace, &["get", "pods,events", "-o", "wide"]).await.unwrap_or_default();
                Err(error.context(pods))
            }
        }
    }

    /// kubectl as the cluster's administrator.
    pub(crate) async fn admin(&self, namespace: &str, line: &[&str]) -> anyhow::Result<String> {
        self.nodes.kubectl(["--namespace", namespace]).args(line.iter().copied()).ok().await
    }

    /// The same line through the server and direct.
    pub(crate) fn clients(&self, program: &str, namespace: &str, line: &[&str]) -> [Client; 2] {
        self.ways.both().map(|(_, way)| self.client(program, way, namespace, line))
    }

    fn client(&self, program: &str, way: &Path, namespace: &str, line: &[&str]) -> Client {
        let client = Client::new(self.assets.program(program), way).direct();
        client.args(["--namespace", namespace]).args(line.iter().copied())
    }

    /// Runs a line by both ways at the same time: what it prints and how it ends must be equal, and the exit code as
    /// expected, so that nothing passes by failing twice. Answers with what came through the server.
    pub(crate) async fn same(
        &self,
        program: &str,
        namespace: &str,
        line: &[&str],
        stdin: Option<&[u8]>,
        exit: i32,
    ) -> anyhow::Result<Output> {
        let clients = self.clients(program, namespace, line);
        let [through, direct] = clients.map(|client| match stdin {
            Some(bytes) => client.stdin(bytes),
            None => client,
        });
        let (through, direct) = tokio::join!(through.output(), direct.output());
        let (through, direct) = (through?, direct?);
        compare(&through, &direct, exit).with_context(|| format!("{program} {}", line.join(" ")))?;
        Ok(through)
    }
}

/// Fails when two outputs differ, or did not end as expected.
pub(crate) fn compare(through: &Output, direct: &Output, exit: i32) -> anyhow::Result<()> {
    let same = through.stdout == direct.stdout
        && masked(&through.error()) == masked(&direct.error())
        && through.status.code() == direct.status.code();
    ensure!(same, "the ways differ:\n{}", Ways::shown(through, direct));
    ensure!(direct.status.code() == Some(exit), "not {exit}:\n{}", Ways::shown(through, direct));
    Ok(())
}

/// Numbers that containerd makes up for each exec: 64 hexadecimal digits.
pub(crate) fn masked(text: &str) -> String {
    const DIGITS: usize = 64;
    let is_id = |bytes: &[u8]| bytes.iter().all(u8::is_ascii_hexdigit);
    let mut masked = text.to_owned();
    while let Some(at) = masked.as_bytes().windows(DIGITS).position(is_id) {
        masked.replace_range(at..at + DIGITS, "<id>");
    }
    masked
}
