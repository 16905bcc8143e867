//! One attempt to get a session, in stages. Each stage has its own deadline and its own error, which names what failed
//! and what an operator should do about it.
//!
//! | stage | what | deadline |
//! |---|---|---|
//! | [`Stage::Dns`] | name of the server, or of the proxy before it | [`Deadlines::dns`] |
//! | [`Stage::Tcp`] | connection to it | [`Deadlines::tcp`] |
//! | [`Stage::Proxy`] | `CONNECT` through the proxy, if there is one | [`Deadlines::proxy`] |
//! | [`Stage::Trust`] | once per process: the roots; with a checksum fetched over a connection of its own | [`Deadlines::trust`] |
//! | [`Stage::Tls`] | the server proves itself | [`Deadlines::tls`] |
//! | [`Stage::Upgrade`] | HTTP to WebSocket | [`Deadlines::upgrade`] |
//! | [`Stage::Identity`] | the agent's tokens are read, its claim is made | 20 s |
//! | [`Stage::Version`] | the subprotocol and the protocol's version, where the two ends have none in common | those of the two around it |
//! | [`Stage::Authentication`] | `Hello`, and the server's answer | [`HANDSHAKE_TIME`](cattle_proto::limits::HANDSHAKE_TIME) |
//!
//! Nothing secret is read before the server has proved itself, let alone sent. (The proxy's own password goes to the
//! proxy.)

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use cattle_proto::handshake::{Credential, Reject, RejectCode};
use cattle_proto::secret::Secret;
use cattle_proto::version::CONNECT_PATH;
use cattle_trust::Recorder;
use cattle_tunnel::{AgentEnd, HandshakeError, SessionConfig, UpgradeError, WebSocket};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use crate::credential::CredentialKind;
use crate::identity::{Identity, IdentityError};
use crate::proxy::ProxySettings;
use crate::server_url::ServerUrl;
use crate::trust::{self, Trust, TrustError};

mod advice;
mod http_proxy;
mod reach;
mod tls;

pub use http_proxy::{ProxyCause, ProxyError};
pub use reach::{DnsCause, DnsError, Peer, TcpCause, TcpError};
pub use tls::{AlertText, TlsCause, TlsError};

/// The connection under a session.
pub type Transport = TlsStream<TcpStream>;

/// A step of an attempt, in order.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Stage {
    /// Name to addresses.
    Dns,
    /// TCP connection.
    Tcp,
    /// `CONNECT` through an HTTP proxy.
    Proxy,
    /// What the server's certificate is checked against.
    Trust,
    /// TLS, verified.
    Tls,
    /// WebSocket.
    Upgrade,
    /// The agent's own tokens and claim.
    Identity,
    /// The protocol, which both ends have to speak.
    Version,
    /// The server's answer to the tokens.
    Authentication,
}

impl Stage {
    /// The stage's name for logs, metrics and people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Tcp => "tcp",
            Self::Proxy => "proxy",
            Self::Trust => "trust",
            Self::Tls => "tls",
            Self::Upgrade => "upgrade",
            Self::Identity => "identity",
            Self::Version => "version",
            Self::Authentication => "authentication",
        }
    }
}

/// Hears about each stage that an attempt has passed.
pub trait Observer: Send {
    /// `stage` is done; `detail` says with what result, for people.
    fn passed(&mut self, stage: Stage, detail: String);
}

/// Passed stages at level DEBUG.
#[derive(Clone, Copy, Debug)]
pub struct Logged;

impl Observer for Logged {
    fn passed(&mut self, stage: Stage, detail: String) {
        tracing::debug!(stage = stage.name(), detail, "stage passed");
    }
}

/// How long each stage may take.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    /// Looking up a name.
    pub dns: Duration,
    /// Connecting, all addresses together.
    pub tcp: Duration,
    /// The proxy's answer.
    pub proxy: Duration,
    /// Fetching the CA certificates over a connection that is there.
    pub trust: Duration,
    /// The TLS handshake.
    pub tls: Duration,
    /// The answer to the upgrade.
    pub upgrade: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        let ten = Duration::from_secs(10);
        // A resolver asks its servers in turn, 5 s each.
        Self {
            dns: Duration::from_secs(15),
            tcp: ten,
            proxy: Duration::from_secs(20),
            trust: ten,
            tls: ten,
            upgrade: ten,
        }
    }
}

/// A new session.
pub struct Connected {
    /// The agent's end of it. The session lives while the driver runs.
    pub end: AgentEnd<Transport>,
    /// The token that the server was shown.
    pub(crate) token: Secret,
}

/// Makes sessions with one server.
#[derive(Debug)]
pub struct Dialer {
    server: ServerUrl,
    trust: Trust,
    proxy: ProxySettings,
    deadlines: Deadlines,
    session: SessionConfig,
    /// The verified TLS client, once the roots are known. A failure is not kept.
    tls: OnceCell<VerifiedTls>,
}

#[derive(Clone, Debug)]
struct VerifiedTls {
    config: Arc<ClientConfig>,
    recorder: Arc<Recorder>,
}

impl Dialer {
    /// A dialer for `server`; nothing is connected yet.
    pub fn new(
        server: ServerUrl,
        trust: Trust,
        proxy: ProxySettings,
        deadlines: Deadlines,
        session: SessionConfig,
    ) -> Self {
        Self { server, trust, proxy, deadlines, session, tls: OnceCell::new() }
    }

    /// The server that is dialled.
    pub fn server(&self) -> &ServerUrl {
        &self.server
    }

    /// One attempt through all stages. The session lives while the driver in the answer runs.
    ///
    /// # Cancel safety
    /// Cancel safe: dropping it closes what was opened. Only the roots, once verified, are kept.
    pub async fn connect(
        &self,
        identity: &Identity,
        kind: CredentialKind,
        observer: &mut dyn Observer,
    ) -> Result<Connected, ConnectError> {
        let stream = Box::pin(self.trusted_stream(observer)).await?;
        let uri = self.server.websocket(CONNECT_PATH);
        let socket = match timeout(self.deadlines.upgrade, Box::pin(WebSocket::upgrade(stream, &uri))).await {
            Ok(socket) => socket.map_err(ConnectError::Upgrade)?,
            Err(_) => return Err(ConnectError::UpgradeTimeout(self.deadlines.upgrade)),
        };
        observer.passed(Stage::Upgrade, format!("WebSocket at {CONNECT_PATH}"));
        let hello = Box::pin(identity.hello(kind)).await.map_err(ConnectError::Identity)?;
        observer.passed(Stage::Identity, format!("{kind:?} credential for cluster {}", hello.credential.cluster()));
        let connecting = Box::pin(cattle_tunnel::connect(socket, &hello, self.session.clone()));
        let end = connecting.await.map_err(ConnectError::Handshake)?;
        let detail = format!(
            "session {} in protocol version {}, {:?}",
            end.welcome.session, end.welcome.version, end.welcome.phase
        );
        observer.passed(Stage::Authentication, detail);
        let (Credential::ServiceAccount { token, .. } | Credential::Registration { token, .. }) = hello.credential;
        Ok(Connected { end, token })
    }

    /// The stages up to a TLS connection with a server that has proved itself.
    async fn trusted_stream(&self, observer: &mut dyn Observer) -> Result<Transport, ConnectError> {
        let VerifiedTls { config, recorder } = self.verified_tls(observer).await?;
        let tcp = self.reach(observer).await?;
        let name = self.server.tls_name();
        let stream = tls::handshake(tcp, config, name, Some(&recorder), self.deadlines.tls).await?;
        observer.passed(Stage::Tls, tls_detail(&stream));
        Ok(stream)
    }

    async fn verified_tls(&self, observer: &mut dyn Observer) -> Result<VerifiedTls, ConnectError> {
        let verified = self.tls.get_or_try_init(|| async {
            let (config, recorder) = trust::client_config(self.roots(observer).await?)?;
            Ok::<_, ConnectError>(VerifiedTls { config: Arc::new(config), recorder })
        });
        verified.await.cloned()
    }

    async fn roots(&self, observer: &mut dyn Observer) -> Result<RootCertStore, ConnectError> {
        let (roots, detail) = match self.trust {
            Trust::System => (trust::system_roots()?, "roots of the system".to_owned()),
            Trust::Checksum(checksum) => {
                let tcp = self.reach(observer).await?;
                let config = Arc::new(trust::first_contact()?);
                let stream = tls::handshake(tcp, config, self.server.tls_name(), None, self.deadlines.tls).await?;
                let (authority, within) = (self.server.authority(), self.deadlines.trust);
                let roots = trust::fetch_ca_certificates(stream, &authority, checksum, within).await?;
                (roots, format!("CA certificates with checksum {checksum}"))
            }
        };
        observer.passed(Stage::Trust, format!("{} {detail}", roots.len()));
        Ok(roots)
    }

    /// A TCP connection that ends at the server, directly or through the proxy.
    async fn reach(&self, observer: &mut dyn Observer) -> Result<TcpStream, ConnectError> {
        let proxy = self.proxy.proxy_for(&self.server);
        let (peer, host, port) = match proxy {
            Some(proxy) => (Peer::Proxy, proxy.host(), proxy.port()),
            None => (Peer::Server, self.server.host(), self.server.port()),
        };
        let addresses = reach::resolve(peer, host, port, self.deadlines.dns).await?;
        observer.passed(Stage::Dns, format!("{peer} {host}: {}", reach::Addresses(&addresses)));
        let mut stream = reach::connect(peer, &addresses, self.deadlines.tcp).await?;
        let connected = stream.peer_addr().map_or_else(|_| String::new(), |address: SocketAddr| address.to_string());
        observer.passed(Stage::Tcp, format!("{peer} {connected}"));
        if let Some(proxy) = proxy {
            http_proxy::connect(&mut stream, proxy, &self.server.authority(), self.deadlines.proxy).await?;
            observer.passed(Stage::Proxy, format!("{} through {proxy}", self.server.authority()));
        }
        Ok(stream)
    }
}

fn tls_detail(stream: &Transport) -> String {
    let (_, connection) = stream.get_ref();
    let version = connection.protocol_version().and_then(|version| version.as_str()).unwrap_or("TLS");
    let leaf = connection.peer_certificates().and_then(|chain| chain.first()).and_then(tls::Presented::read);
    leaf.map_or_else(|| version.to_owned(), |leaf| format!("{version}, {leaf}"))
}

/// Why an attempt gave no session.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// A name has no addresses.
    #[error(transparent)]
    Dns(#[from] DnsError),
    /// No TCP connection.
    #[error(transparent)]
    Tcp(#[from] TcpError),
    /// The proxy does not connect.
    #[error(transparent)]
    Proxy(#[from] ProxyError),
    /// There is nothing to check the server against.
    #[error("the server cannot be trusted")]
    Trust(#[from] TrustError),
    /// The server does not prove itself.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The server does not upgrade.
    #[error("no WebSocket")]
    Upgrade(#[source] UpgradeError),
    /// The server does not answer the upgrade.
    #[error("no answer to the WebSocket upgrade within {}s", .0.as_secs_f64())]
    UpgradeTimeout(Duration),
    /// The agent cannot say who it is.
    #[error(transparent)]
    Identity(IdentityError),
    /// The server does not let the agent in.
    #[error("no session")]
    Handshake(#[source] HandshakeError),
}

impl ConnectError {
    /// The stage that failed.
    pub fn stage(&self) -> Stage {
        match self {
            Self::Dns(_) => Stage::Dns,
            Self::Tcp(_) => Stage::Tcp,
            Self::Proxy(_) => Stage::Proxy,
            Self::Trust(_) => Stage::Trust,
            Self::Tls(_) => Stage::Tls,
            Self::Upgrade(UpgradeError::Version { .. }) | Self::Handshake(HandshakeError::Version) => Stage::Version,
            Self::Upgrade(_) | Self::UpgradeTimeout(_) => Stage::Upgrade,
            Self::Identity(_) => Stage::Identity,
            Self::Handshake(HandshakeError::Rejected(reject)) if reject.code == RejectCode::VersionUnsupported => {
                Stage::Version
            }
            Self::Handshake(_) => Stage::Authentication,
        }
    }

    /// The server's refusal, if it was one.
    pub fn reject_code(&self) -> Option<RejectCode> {
        self.reject().map(|reject| reject.code)
    }

    /// The least wait before the next attempt, if the server named one.
    pub fn retry_after(&self) -> Option<Duration> {
        let seconds = if let Self::Upgrade(UpgradeError::Status { retry_after, .. }) = self {
            *retry_after
        } else {
            self.reject().map(|reject| reject.retry_after_seconds)
        };
        seconds.filter(|seconds| *seconds > 0).map(|seconds| Duration::from_secs(seconds.into()))
    }

    fn reject(&self) -> Option<&Reject> {
        if let Self::Handshake(HandshakeError::Rejected(reject)) = self { Some(reject) } else { None }
    }
}
