//! A stream to a target in a cluster, over the best route that works.

use std::time::Duration;

use cattle_proto::id::{ClusterId, SessionId};
use cattle_proto::limits;
use cattle_proto::stream::{RefusedCode, StreamHeader};
use cattle_tunnel::{OpenError, TunnelStream};

use crate::health::Evidence;
use crate::metrics::DialOutcome;
use crate::registry::{Link, Registry};

/// Time for one route before the next is tried.
const ROUTE_TIME: Duration = Duration::from_secs(2);
/// Time for the last route, or the only one: giving up sooner helps nobody. The agent's own deadline comes first, so that its
/// refusal, which names the API server, is what is heard.
pub(crate) const LAST_ROUTE_TIME: Duration = limits::DIAL_TIME.saturating_add(Duration::from_secs(1));

/// A stream, and the session that carries it.
#[derive(Debug)]
pub struct Dialed {
    /// The stream: a raw connection to the target.
    pub stream: TunnelStream,
    /// Whose it is, for logs.
    pub session: SessionId,
}

/// Opens a stream over the first route that takes it. Nothing but the header is sent before the agent has answered, so
/// every failure may be tried again on the next route.
pub(crate) async fn dial(registry: &Registry, cluster: &ClusterId, header: StreamHeader) -> Result<Dialed, DialError> {
    let mut last = None;
    let mut routes = registry.routes(cluster).into_iter().peekable();
    while let Some(member) = routes.next() {
        let within = if routes.peek().is_some() { ROUTE_TIME } else { LAST_ROUTE_TIME };
        match member.session.open(header, within).await {
            Ok(stream) => return Ok(Dialed { stream, session: member.id() }),
            Err(error) => {
                tracing::debug!(%cluster, session = %member.id(), %error, "a route did not take the stream");
                let error = DialError::from(error);
                if error.is_the_routes() {
                    registry.observe(cluster, member.id(), Evidence::Failed);
                }
                last = Some(error);
            }
        }
    }
    Err(last.unwrap_or_else(|| match registry.link(cluster) {
        Link::Disconnected { since, .. } => DialError::NotConnected { since },
        // Sessions that all take no streams any more.
        Link::Connected { .. } => DialError::Lost,
    }))
}

/// Why there is no stream. When several routes were tried, what the last one said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DialError {
    /// No agent of the cluster is connected.
    #[error("the cluster is not connected")]
    NotConnected {
        /// When the last session ended; seconds since 1970-01-01 UTC. `None`: there was none since the server started.
        since: Option<u64>,
    },
    /// The agent refused: the target is beyond it.
    #[error("the cluster's agent refused: {code}")]
    Refused {
        /// Why.
        code: RefusedCode,
    },
    /// The agent did not answer in time.
    #[error("the cluster's agent did not answer in time")]
    Timeout,
    /// The session ended while it was tried, or takes no streams.
    #[error("the session to the cluster was lost")]
    Lost,
    /// There are as many streams as there may be.
    #[error("too many streams are open")]
    Busy,
    /// The agent's answer was none.
    #[error("the cluster's agent broke the protocol")]
    Protocol,
}

impl DialError {
    /// Whether the session does not reach its target: the next streams had better take another one. A session that ends, or
    /// is only full, is no evidence about the way behind it.
    const fn is_the_routes(self) -> bool {
        match self {
            Self::Timeout => true,
            Self::Refused { code } => {
                matches!(code, RefusedCode::ConnectionRefused | RefusedCode::DialTimeout | RefusedCode::Unreachable)
            }
            Self::NotConnected { .. } | Self::Lost | Self::Busy | Self::Protocol => false,
        }
    }

    pub(crate) const fn outcome(self) -> DialOutcome {
        match self {
            Self::NotConnected { .. } => DialOutcome::NotConnected,
            Self::Refused { .. } => DialOutcome::Refused,
            Self::Timeout => DialOutcome::Timeout,
            Self::Lost => DialOutcome::Lost,
            Self::Busy => DialOutcome::Busy,
            Self::Protocol => DialOutcome::Protocol,
        }
    }
}

impl From<OpenError> for DialError {
    fn from(error: OpenError) -> Self {
        #[expect(clippy::wildcard_enum_match_arm, reason = "reasons of a newer tunnel are losses of the session")]
        match error {
            OpenError::Refused(code) => Self::Refused { code },
            OpenError::Timeout { .. } => Self::Timeout,
            OpenError::SessionFull | OpenError::ProcessFull => Self::Busy,
            OpenError::Malformed(_) => Self::Protocol,
            _ => Self::Lost,
        }
    }
}
