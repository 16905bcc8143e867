//! Both ends of the tunnel, as server and agents have them. What is not the tunnel is left out: users and their proxy, the
//! judging of tokens, Kubernetes.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cattle_agent::address::Address;
use cattle_agent::connect::Deadlines;
use cattle_agent::credential::TokenFile;
use cattle_agent::proxy::ProxySettings;
use cattle_agent::trust::Trust;
use cattle_agent::{BoxFuture, Dialer, Handler, Identity, Options, Relay, Role, Supervisor};
use cattle_gateway::{
    AgentAuthority, AgentIdentity, Gateway, GatewayConfig, Registration, RegistrationPermit, SessionEvents,
};
use cattle_proto::capability::Capabilities;
use cattle_proto::control::{CredentialFailure, Facts, ServerCredential};
use cattle_proto::handshake::{AgentKind, RejectCode};
use cattle_proto::id::ClusterId;
use cattle_proto::secret::Secret;
use cattle_runtime::{Shutdown, descriptors, socket};
use cattle_tunnel::{PendingStream, SessionConfig, splice};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::target::{ANSWER, REQUEST};

const CLUSTER: &str = "c-bench";
/// Longer than any run.
const PROVED_FOR: Duration = Duration::from_secs(24 * 3600);

/// The server's end: the gateway, and a stream of it for each connection to `entry`.
pub(super) async fn server(agents: TcpListener, entry: TcpListener, tls: Arc<ServerConfig>) -> anyhow::Result<()> {
    descriptors::raise()?;
    let gateway = Gateway::new(GatewayConfig::default(), Arc::new(Everybody), Arc::new(Silence));
    tokio::try_join!(sessions(agents, tls, &gateway), streams(entry, &gateway)).map(|_: ((), ())| ())
}

/// The agent's end: it stays connected and relays to the target, or answers by itself.
pub(super) async fn agent(server: SocketAddr, token: PathBuf, target: Option<SocketAddr>) -> anyhow::Result<()> {
    descriptors::raise()?;
    let handler: Arc<dyn Handler> = match target {
        Some(target) => Arc::new(Relay::new(vec![Address::new(&target.ip().to_string(), target.port())?])),
        None => Arc::new(Echo),
    };
    let (_facts, facts) = watch::channel(Facts::default());
    let identity = Identity::new(
        Role::NodeAgent { facts },
        "bench 1".parse()?,
        Capabilities::KUBE_APISERVER,
        CLUSTER.parse()?,
        TokenFile::new(token),
    );
    let (url, session) = (format!("https://{server}").parse()?, SessionConfig::default());
    let dialer = Dialer::new(url, Trust::System, ProxySettings::default(), Deadlines::default(), session);
    let (supervisor, _link) = Supervisor::new(dialer, identity, handler, Shutdown::new(), Options::default());
    supervisor.run().await?;
    Ok(())
}

async fn sessions(agents: TcpListener, tls: Arc<ServerConfig>, gateway: &Gateway) -> anyhow::Result<()> {
    let tls = TlsAcceptor::from(tls);
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let (stream, peer) = agents.accept().await?;
        let (tls, gateway) = (tls.clone(), gateway.clone());
        connections.spawn(async move {
            socket::be_prompt(&stream)?;
            let stream = tls.accept(stream).await?;
            let service = service_fn(|request| {
                let response = gateway.upgrade(request, Some(peer));
                async move { Ok::<_, Infallible>(response) }
            });
            let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            connection.with_upgrades().await?;
            anyhow::Ok(())
        });
    }
}

async fn streams(entry: TcpListener, gateway: &Gateway) -> anyhow::Result<()> {
    let cluster: ClusterId = CLUSTER.parse()?;
    let mut streams = JoinSet::new();
    loop {
        while streams.try_join_next().is_some() {}
        let (mut near, _) = entry.accept().await?;
        let (cluster, gateway) = (cluster.clone(), gateway.clone());
        streams.spawn(async move {
            near.set_nodelay(true)?;
            let mut far = gateway.dial(&cluster).await?.stream;
            splice(&mut near, &mut far, None).await?;
            anyhow::Ok(())
        });
    }
}

/// Answers small requests without a connection to anything, for what a stream itself costs.
struct Echo;

impl Handler for Echo {
    fn handle(self: Arc<Self>, stream: PendingStream) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let Ok(mut stream) = stream.accept().await else { return };
            let mut kind = [0];
            let mut request = [0; REQUEST];
            if stream.read_exact(&mut kind).await.is_err() {
                return;
            }
            while stream.read_exact(&mut request).await.is_ok() {
                if stream.write_all(&[0; ANSWER]).await.is_err() || stream.flush().await.is_err() {
                    return;
                }
            }
        })
    }
}

/// Believes every agent.
struct Everybody;

impl AgentAuthority for Everybody {
    fn authenticate<'a>(
        &'a self,
        cluster: &'a ClusterId,
        _: &'a Secret,
    ) -> BoxFuture<'a, Result<AgentIdentity, RejectCode>> {
        Box::pin(async move {
            let expires_at = jiff::Timestamp::now().as_second().unsigned_abs() + PROVED_FOR.as_secs();
            let pod = "bench".parse().map_err(|_| RejectCode::Internal)?;
            let (cluster, kind, pod_uid) = (cluster.clone(), AgentKind::NodeAgent, String::new());
            Ok(AgentIdentity { cluster, kind, pod, pod_uid, node: None, expires_at })
        })
    }

    fn begin_registration<'a>(
        &'a self,
        _: &'a ClusterId,
        _: &'a Secret,
    ) -> BoxFuture<'a, Result<RegistrationPermit, RejectCode>> {
        Box::pin(async { Err(RejectCode::RegistrationTokenUnknown) })
    }

    fn complete_registration(&self, _: Registration) -> BoxFuture<'_, Result<(), RejectCode>> {
        Box::pin(async { Err(RejectCode::RegistrationTokenUnknown) })
    }
}

/// Hears nothing.
struct Silence;

impl SessionEvents for Silence {
    fn server_credential<'a>(&'a self, _: &'a ClusterId, _: ServerCredential) -> BoxFuture<'a, ()> {
        Box::pin(async {})
    }

    fn server_credential_failed<'a>(&'a self, _: &'a ClusterId, _: CredentialFailure) -> BoxFuture<'a, ()> {
        Box::pin(async {})
    }

    fn facts<'a>(&'a self, _: &'a AgentIdentity, _: Facts) -> BoxFuture<'a, ()> {
        Box::pin(async {})
    }
}
