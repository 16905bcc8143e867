//! The ways from the load to the target.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use cattle_harness::wait_for;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::process::Command;

use super::load::Line;
use super::part::Part;
use crate::processes::Processes;

const READY_TIME: Duration = Duration::from_secs(30);

/// What carries the bytes between the two ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// One TLS connection for each stream.
    TlsPair,
    /// Rancher's tunnel.
    Remotedialer,
    /// Ours.
    Cattle,
}

impl Kind {
    pub(crate) const ALL: [Self; 3] = [Self::TlsPair, Self::Remotedialer, Self::Cattle];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::TlsPair => "tlspair",
            Self::Remotedialer => "remotedialer",
            Self::Cattle => "Cattle",
        }
    }
}

/// What all ways share: the target, a certificate, and the programs.
pub(super) struct Stage {
    files: tempfile::TempDir,
    target: Part,
    peer: PathBuf,
}

impl Stage {
    pub(super) async fn set(peer: PathBuf) -> anyhow::Result<Self> {
        let files = tempfile::tempdir()?;
        for (name, text) in certificate()? {
            std::fs::write(files.path().join(name), text)?;
        }
        std::fs::write(files.path().join("token"), "token")?;
        let target = Part::start(this_program()?.arg("part").arg("target"), &["target"]).await?;
        Ok(Self { files, target, peer })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }

    fn target(&self) -> String {
        self.target.address("target").to_string()
    }
}

/// A way whose parts run.
pub(super) struct Path {
    pub(super) kind: Kind,
    pub(super) entry: SocketAddr,
    pub(super) processes: Processes,
    _parts: [Part; 2],
}

impl Path {
    /// Starts both ends and waits until a request has gone through.
    pub(super) async fn start(kind: Kind, stage: &Stage) -> anyhow::Result<Self> {
        let (server, agent) = match kind {
            Kind::TlsPair => tlspair(stage).await?,
            Kind::Remotedialer => remotedialer(stage).await?,
            Kind::Cattle => product(stage, &stage.target()).await?,
        };
        Self::ready(kind, server, agent).await
    }

    /// Ours, with an agent that answers by itself and dials nothing.
    pub(super) async fn without_sockets(stage: &Stage) -> anyhow::Result<Self> {
        let (server, agent) = product(stage, "none").await?;
        Self::ready(Kind::Cattle, server, agent).await
    }

    async fn ready(kind: Kind, server: Part, agent: Part) -> anyhow::Result<Self> {
        let entry = server.address("entry");
        let processes = Processes::new(server.process()?, vec![agent.process()?]);
        wait_for(kind.name(), READY_TIME, async || Line::open(entry).await?.ask().await.map(drop)).await?;
        Ok(Self { kind, entry, processes, _parts: [server, agent] })
    }
}

async fn tlspair(stage: &Stage) -> anyhow::Result<(Part, Part)> {
    let mut agent = this_program()?;
    agent.args(["part", "tlspair-agent"]).arg(stage.file("certificate")).arg(stage.file("key")).arg(stage.target());
    let agent = Part::start(&mut agent, &["tls"]).await?;
    let mut server = this_program()?;
    server.args(["part", "tlspair-server"]).arg(stage.file("ca")).arg(agent.address("tls").to_string());
    Ok((Part::start(&mut server, &["entry"]).await?, agent))
}

async fn remotedialer(stage: &Stage) -> anyhow::Result<(Part, Part)> {
    let mut server = Command::new(&stage.peer);
    server.arg("server").arg(stage.file("certificate")).arg(stage.file("key")).arg(stage.target());
    let server = Part::start(&mut server, &["entry", "agents"]).await?;
    let mut agent = Command::new(&stage.peer);
    agent.arg("agent").arg(stage.file("ca")).arg(server.address("agents").to_string());
    Ok((server, Part::start(&mut agent, &[]).await?))
}

async fn product(stage: &Stage, target: &str) -> anyhow::Result<(Part, Part)> {
    let mut server = this_program()?;
    server.args(["part", "server"]).arg(stage.file("certificate")).arg(stage.file("key"));
    let server = Part::start(&mut server, &["entry", "agents"]).await?;
    let mut agent = this_program()?;
    agent.args(["part", "agent"]).arg(server.address("agents").to_string()).arg(stage.file("token")).arg(target);
    // Its only roots.
    agent.env("SSL_CERT_FILE", stage.file("ca")).env_remove("SSL_CERT_DIR");
    Ok((server, Part::start(&mut agent, &[]).await?))
}

fn this_program() -> anyhow::Result<Command> {
    Ok(Command::new(std::env::current_exe().context("this program is not to be found")?))
}

/// Of `localhost`, with its key and its authority: P-256, as the server makes them.
fn certificate() -> anyhow::Result<[(&'static str, String); 3]> {
    let authority_key = KeyPair::generate()?;
    let mut authority = CertificateParams::new(Vec::new())?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = authority.self_signed(&authority_key)?.pem();
    let key = KeyPair::generate()?;
    let leaf = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()])?;
    let leaf = leaf.signed_by(&key, &Issuer::new(authority, authority_key))?;
    Ok([("ca", ca), ("certificate", leaf.pem()), ("key", key.serialize_pem())])
}
