//! The agent's process, put together.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cattle_agent::connect::Deadlines;
use cattle_agent::{ConnectConfig, Dialer, Identity, LinkWatch, Options, Relay, Role, Supervisor};
use cattle_proto::capability::Capabilities;
use cattle_proto::control::Facts;
use cattle_proto::id::{InvalidName, Software};
use cattle_runtime::{Runtime, Shutdown, StartError, TaskError};
use cattle_tunnel::SessionConfig;
use tokio::sync::watch;

use crate::args::Config;
use crate::host;

const NAME: &str = env!("CARGO_PKG_NAME");
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// What the supervisor gets beyond its own drain to join its tasks. Together below the 30 s of a pod.
const GRACE_SLACK: Duration = Duration::from_secs(3);

/// A built agent: its admin listener is bound, nothing is connected yet.
#[derive(Debug)]
pub struct App {
    runtime: Runtime,
    admin: SocketAddr,
    link: LinkWatch,
    grace: Duration,
}

impl App {
    /// Builds the agent. It takes over the process's termination signals.
    pub async fn build(config: Config) -> Result<Self, BuildError> {
        let mut runtime = Runtime::new(NAME, VERSION)?;
        let Config { admin_listen, connect, api_servers, node } = config;
        let shown: Vec<_> = api_servers.iter().map(ToString::to_string).collect();
        tracing::info!(
            server = %connect.server,
            cluster = %connect.cluster,
            api_servers = shown.join(", "),
            version = VERSION,
            "node agent"
        );
        let options = Options::default();
        options.metrics.register(runtime.registry());
        let session = SessionConfig::default();
        session.metrics.register(runtime.registry().sub_registry_with_prefix("cattle_tunnel"));
        let grace = options.drain + GRACE_SLACK;

        let relay = Arc::new(Relay::new(api_servers));
        let (telling, facts) = watch::channel(host::look(Path::new("/"), &node).unwrap_or_default());
        let identity = identity(&connect, facts)?;
        let dialer = dialer(connect, session);
        let (supervisor, link) = Supervisor::new(dialer, identity, relay, runtime.shutdown(), options);
        let (ready, alive) = (link.clone(), link.clone());
        runtime.readiness().component("session").release_with(move || ready.ready());
        runtime.liveness().check("loop", move || alive.alive());
        let admin = runtime.serve_admin(admin_listen).await?;
        tracing::info!(%admin, "admin listener");
        runtime.tasks().essential("supervisor", supervisor.run());
        let stopping = runtime.shutdown();
        runtime.tasks().finite("host", async move {
            tokio::select! { () = host::follow(node, telling) => {}, () = stopping.draining() => {} }
            Ok::<_, Infallible>(())
        });
        Ok(Self { runtime, admin, link, grace })
    }

    /// Where the admin listener listens.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin
    }

    /// The state of the connection.
    pub fn link(&self) -> LinkWatch {
        self.link.clone()
    }

    /// Ends the agent as a signal does.
    pub fn shutdown(&self) -> Shutdown {
        self.runtime.shutdown()
    }

    /// Runs until a signal or a failure.
    pub async fn run(self) -> Result<(), TaskError> {
        self.runtime.run(std::future::ready(self.grace)).await
    }
}

/// The agent's identity at the server.
pub(crate) fn identity(connect: &ConnectConfig, facts: watch::Receiver<Facts>) -> Result<Identity, BuildError> {
    let software: Software = format!("{NAME} {VERSION}").parse().map_err(BuildError::Software)?;
    let (cluster, token) = (connect.cluster.clone(), connect.token.clone());
    Ok(Identity::new(Role::NodeAgent { facts }, software, Capabilities::KUBE_APISERVER, cluster, token))
}

/// The way to the server.
pub(crate) fn dialer(connect: ConnectConfig, session: SessionConfig) -> Dialer {
    let ConnectConfig { server, trust, proxy, .. } = connect;
    Dialer::new(server, trust, proxy, Deadlines::default(), session)
}

/// The agent cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// No signals.
    #[error(transparent)]
    Signals(#[from] StartError),
    /// The admin address is taken.
    #[error(transparent)]
    Admin(#[from] cattle_runtime::admin::BindError),
    /// The package's own name and version break the protocol's rule.
    #[error("the agent's name and version cannot be sent")]
    Software(#[source] InvalidName),
}
