//! Both ends of a session over an in-memory pipe, with faults, for tests.
//!
//! Everything runs under `tokio::time::pause`, so a test decides what time it is.

mod wire;

use std::time::Duration;

use cattle_proto::capability::Capabilities;
use cattle_proto::handshake::{AgentKind, Credential, Hello, Phase, Welcome};
use cattle_proto::id::{InstanceId, SessionId};
use cattle_proto::secret::Secret;
use cattle_proto::version::{ProtocolVersion, VersionRange};
use tokio::task::JoinSet;

pub use self::wire::{Fault, FaultyIo, wire};
use crate::{
    AgentControl, AgentEnd, CloseReason, ControlArrival, Incoming, ServerEnd, Session, SessionConfig, SessionHandle,
    WebSocket, connect, receive,
};

/// What the pipe between the ends is like.
#[derive(Clone, Debug)]
pub struct PairOptions {
    /// Bytes that the pipe holds in each direction: the socket buffers.
    pub buffer: usize,
    /// Time a byte takes from end to end.
    pub latency: Duration,
    /// What the session is for.
    pub phase: Phase,
    /// What the agent's end may use.
    pub agent: SessionConfig,
    /// What the server's end may use.
    pub server: SessionConfig,
}

impl Default for PairOptions {
    fn default() -> Self {
        Self {
            buffer: 64 * 1024,
            latency: Duration::ZERO,
            phase: Phase::Serving,
            agent: SessionConfig::default(),
            server: SessionConfig::default(),
        }
    }
}

/// Both ends of one session, their drivers running. Dropping it ends both.
#[derive(Debug)]
pub struct Pair {
    /// The server's session.
    pub server: Session,
    /// The server's control stream, once the agent has sent a message.
    pub server_control: ControlArrival,
    /// The agent's session.
    pub agent: SessionHandle,
    /// The agent's control stream.
    pub agent_control: AgentControl,
    /// The streams that the agent is to accept.
    pub incoming: Incoming,
    /// What the agent was told.
    pub welcome: Welcome,
    /// Breaks the pipe between the ends.
    pub fault: Fault,
    /// The two drivers; each returns why its end's session is over.
    pub drivers: JoinSet<CloseReason>,
}

impl Pair {
    /// A pair over an ordinary pipe.
    pub async fn new() -> Self {
        Self::with(PairOptions::default()).await
    }

    /// A pair over a pipe of one's choice.
    ///
    /// # Panics
    /// When the handshake fails: that is what other tests are for.
    pub async fn with(options: PairOptions) -> Self {
        let (near, far, fault) = wire(options.buffer, options.latency);
        let welcome = welcome(options.phase);
        let serve = async {
            let greeting = receive(WebSocket::server(near).await).await?;
            greeting.welcome(welcome, options.server).await
        };
        let hello = hello();
        let dial = async { connect(WebSocket::client(far).await, &hello, options.agent).await };
        let (server, agent) = tokio::join!(Box::pin(serve), Box::pin(dial));
        #[expect(clippy::expect_used, reason = "a test without a session is over")]
        let (server, agent): (ServerEnd<_>, AgentEnd<_>) =
            (server.expect("the server's handshake"), agent.expect("the agent's handshake"));
        let mut drivers = JoinSet::new();
        drivers.spawn(server.driver.run());
        drivers.spawn(agent.driver.run());
        Self {
            server: server.session,
            server_control: server.control,
            agent: agent.session,
            agent_control: agent.control,
            incoming: agent.incoming,
            welcome: agent.welcome,
            fault,
            drivers,
        }
    }
}

/// A `Hello` of a registered cluster `c-test1`.
///
/// # Panics
/// Never: its names are valid.
#[must_use]
pub fn hello() -> Hello {
    #[expect(clippy::expect_used, reason = "the names are valid")]
    Hello {
        versions: VersionRange::SUPPORTED,
        capabilities: Capabilities::KUBE_APISERVER.with(Capabilities::SERVER_CREDENTIAL),
        kind: AgentKind::ClusterAgent,
        software: "cattle-cluster-agent test".parse().expect("a software name"),
        instance: InstanceId::new([7; 16]),
        credential: Credential::ServiceAccount {
            cluster: "c-test1".parse().expect("a cluster id"),
            token: Secret::new("token".to_owned()),
        },
    }
}

/// A `Welcome` of version 1.
#[must_use]
pub fn welcome(phase: Phase) -> Welcome {
    Welcome {
        version: ProtocolVersion::V1,
        capabilities: Capabilities::KUBE_APISERVER.with(Capabilities::SERVER_CREDENTIAL),
        session: SessionId::new([9; 16]),
        phase,
        server_time: 1_800_000_000,
    }
}
