//! From an upgraded connection to a session: hear the agent out, have it judged, answer.

use std::net::SocketAddr;

use cattle_proto::capability::Capabilities;
use cattle_proto::handshake::{AgentKind, Credential, Hello, Phase, Reject, RejectCode, Welcome};
use cattle_proto::id::{ClusterId, SessionId};
use cattle_proto::version::VersionRange;
use cattle_tunnel::{Greeting, HandshakeError, WebSocket, receive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout_at};
use tracing::Instrument;
use uuid::Uuid;

use crate::authority::{AgentIdentity, RegistrationPermit};
use crate::gateway::{Gateway, Inner};
use crate::registry::unix_now;
use crate::{registration, serve};

/// What the server can do; what an agent can, too, counts.
const CAPABILITIES: Capabilities = Capabilities::KUBE_APISERVER.with(Capabilities::SERVER_CREDENTIAL);

/// Seconds that an agent is asked to stay away when the server is busy, at least, and over how many more it is spread.
const BUSY_WAIT: u32 = 5;
const BUSY_SPREAD: u32 = 10;

/// Where a peer comes from, for logs only.
#[derive(Clone, Copy, Debug, Default)]
pub struct PeerInfo {
    /// Its address, as far as it is known.
    pub address: Option<SocketAddr>,
}

/// A place among the peers that have not been answered yet.
pub(crate) struct HalfOpen {
    inner: std::sync::Arc<Inner>,
    _place: OwnedSemaphorePermit,
}

impl Drop for HalfOpen {
    fn drop(&mut self) {
        self.inner.config.metrics.half_open.dec();
    }
}

/// How an agent was judged.
enum Judgement {
    Serve(AgentIdentity),
    Register(RegistrationPermit),
}

impl Gateway {
    /// Runs a session over `io`, a connection that has just been upgraded, from its handshake to its end. One that comes
    /// when too many peers wait for their answers is told `Busy`.
    ///
    /// # Cancel safety
    /// Dropping the future ends the session at once.
    pub async fn accept<S>(&self, io: S, peer: PeerInfo)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let place = self.half_open();
        self.accept_in(io, peer, place).await;
    }

    pub(crate) async fn accept_in<S>(&self, io: S, peer: PeerInfo, place: Option<HalfOpen>)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let session = SessionId::new(Uuid::new_v4().into_bytes());
        let span = tracing::info_span!("session", %session, cluster = tracing::field::Empty);
        Box::pin(self.accept_as(io, peer, place, session)).instrument(span).await;
    }

    /// A place among the half-open peers, if there is one and the gateway is not stopping.
    pub(crate) fn half_open(&self) -> Option<HalfOpen> {
        if self.is_stopping() {
            return None;
        }
        let place = std::sync::Arc::clone(&self.inner.half_open).try_acquire_owned().ok()?;
        self.inner.config.metrics.half_open.inc();
        Some(HalfOpen { inner: std::sync::Arc::clone(&self.inner), _place: place })
    }

    async fn accept_as<S>(&self, io: S, peer: PeerInfo, place: Option<HalfOpen>, session: SessionId)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let metrics = &self.inner.config.metrics;
        let greeting = match receive(WebSocket::server(io).await).await {
            Ok(greeting) => greeting,
            Err(error) => {
                metrics.handshake("failed");
                tracing::debug!(?peer.address, %error, "no handshake");
                return;
            }
        };
        let cluster = greeting.hello().credential.cluster().clone();
        tracing::Span::current().record("cluster", cluster.as_str());
        let judgement = if place.is_some() {
            self.judge(greeting.hello().clone(), greeting.deadline()).await
        } else {
            Err(RejectCode::Busy)
        };
        let judgement = match judgement {
            Ok(judgement) => judgement,
            Err(code) => return self.reject(greeting, &cluster, peer, code).await,
        };
        let hello = greeting.hello().clone();
        let phase = match &judgement {
            Judgement::Serve(_) => Phase::Serving,
            Judgement::Register(_) => Phase::Registration,
        };
        let Ok(welcome) = welcome(&hello, session, phase) else {
            return self.reject(greeting, &cluster, peer, RejectCode::VersionUnsupported).await;
        };
        let end = match greeting.welcome(welcome, self.inner.config.session()).await {
            Ok(end) => end,
            Err(error) => return self.lost(&error),
        };
        metrics.handshake("welcome");
        drop(place);
        match judgement {
            Judgement::Serve(identity) => serve::run(&self.inner, end, identity, hello).await,
            Judgement::Register(permit) => registration::run(&self.inner, end, permit, hello).await,
        }
    }

    /// Has the agent judged before its handshake's deadline.
    async fn judge(&self, hello: Hello, deadline: Instant) -> Result<Judgement, RejectCode> {
        if VersionRange::SUPPORTED.negotiate(hello.versions).is_err() {
            return Err(RejectCode::VersionUnsupported);
        }
        let authority = &self.inner.authority;
        let judging = async {
            match &hello.credential {
                Credential::ServiceAccount { cluster, token } => {
                    let identity = authority.authenticate(cluster, token).await?;
                    // The token decides; a difference is a mistake that must not pass unseen.
                    if identity.kind != hello.kind || identity.cluster != *cluster {
                        return Err(RejectCode::WrongKind);
                    }
                    Ok(Judgement::Serve(identity))
                }
                Credential::Registration { cluster, registration_token, .. } => {
                    if hello.kind != AgentKind::ClusterAgent {
                        return Err(RejectCode::WrongKind);
                    }
                    authority.begin_registration(cluster, registration_token).await.map(Judgement::Register)
                }
            }
        };
        timeout_at(deadline, judging).await.unwrap_or(Err(RejectCode::Timeout))
    }

    async fn reject<S>(&self, greeting: Greeting<S>, cluster: &ClusterId, peer: PeerInfo, code: RejectCode)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        self.inner.config.metrics.handshake(code.name());
        if code != RejectCode::Busy {
            self.inner.registry.rejected(cluster, code);
        }
        tracing::info!(?peer.address, code = code.name(), "agent refused");
        let retry_after_seconds = if code == RejectCode::Busy { BUSY_WAIT + jitter(BUSY_SPREAD) } else { 0 };
        greeting.reject(Reject { code, retry_after_seconds }).await;
    }

    fn lost(&self, error: &HandshakeError) {
        self.inner.config.metrics.handshake("failed");
        tracing::debug!(%error, "the agent left before its answer");
    }
}

fn welcome(hello: &Hello, session: SessionId, phase: Phase) -> Result<Welcome, RejectCode> {
    let version = VersionRange::SUPPORTED.negotiate(hello.versions).map_err(|_| RejectCode::VersionUnsupported)?;
    Ok(Welcome { version, capabilities: CAPABILITIES, session, phase, server_time: unix_now() })
}

/// A number below `spread`, at random.
pub(crate) fn jitter(spread: u32) -> u32 {
    let [a, b, c, d, ..] = Uuid::new_v4().into_bytes();
    u32::from_be_bytes([a, b, c, d]).checked_rem(spread).unwrap_or(0)
}
