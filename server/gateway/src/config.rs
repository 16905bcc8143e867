//! What the gateway may use.

use std::time::Duration;

use cattle_proto::limits;
use cattle_tunnel::{Budget, KeepaliveTimes, SessionConfig};

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
    pub drain: Duration,
    /// Where numbers go.
    pub metrics: GatewayMetrics,
}

impl Default for GatewayConfig {
    fn default() -> Self {
        Self {
            half_open: 256,
            streams_per_session: limits::STREAMS_PER_SESSION,
            budget: Budget::default(),
            keepalive: KeepaliveTimes::default(),
            reconnect_spread: Duration::from_secs(10),
            drain: Duration::from_secs(600),
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
