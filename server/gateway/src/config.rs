//! What the gateway may use.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use cattle_proto::limits;
use cattle_tunnel::{Budget, KeepaliveTimes, SessionConfig};
use futures_util::future::{BoxFuture, ready};

use crate::metrics::GatewayMetrics;

/// Limits of the gateway.
#[derive(Clone, Debug)]
pub struct GatewayConfig {
    /// Peers that may be between their upgrade and their answer at once.
    pub half_open: usize,
    /// Streams of one session.
    pub streams_per_session: usize,
    /// Streams of all sessions.
    pub budget: Budget,
    /// Times of the keepalive.
    pub keepalive: KeepaliveTimes,
    /// Over how long the agents' returns are spread when the server stops.
    pub reconnect_spread: Duration,
    /// How long the streams of a superseded or leaving session may go on.
    pub drain: Arc<dyn DrainTime>,
    /// Where numbers go.
    pub metrics: GatewayMetrics,
}

/// How long streams may go on in a session that takes no new ones. Asked each time, since it is an operator's to change.
pub trait DrainTime: Debug + Send + Sync + 'static {
    /// The time from now on. Answers soon: a session waits for it.
    fn drain_time(&self) -> BoxFuture<'_, Duration>;
}

/// Always the same.
impl DrainTime for Duration {
    fn drain_time(&self) -> BoxFuture<'_, Duration> {
        Box::pin(ready(*self))
    }
}

impl Default for GatewayConfig {
    fn default() -> Self {
        Self {
            half_open: 256,
            streams_per_session: limits::STREAMS_PER_SESSION,
            budget: Budget::default(),
            keepalive: KeepaliveTimes::default(),
            reconnect_spread: Duration::from_secs(10),
            drain: Arc::new(Duration::from_secs(600)),
            metrics: GatewayMetrics::default(),
        }
    }
}

impl GatewayConfig {
    pub(crate) fn session(&self) -> SessionConfig {
        SessionConfig {
            streams: self.streams_per_session,
            budget: self.budget.clone(),
            keepalive: self.keepalive,
            metrics: self.metrics.tunnel.clone(),
        }
    }
}
