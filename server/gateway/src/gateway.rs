//! The gateway itself: what the rest of the server holds of it.

use std::sync::Arc;
use std::time::Duration;

use cattle_proto::id::ClusterId;
use cattle_proto::stream::{StreamHeader, Target};
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::authority::{AgentAuthority, SessionEvents};
use crate::config::GatewayConfig;
use crate::dial::{DialError, Dialed, dial};
use crate::metrics::DialOutcome;
use crate::registry::Registry;

/// The server end of all sessions. Clones are the same gateway.
#[derive(Clone)]
pub struct Gateway {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) config: GatewayConfig,
    pub(crate) authority: Arc<dyn AgentAuthority>,
    pub(crate) events: Arc<dyn SessionEvents>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) half_open: Arc<Semaphore>,
    /// Every session's task; joined by `shutdown`.
    pub(crate) tasks: TaskTracker,
    /// Set once, when the server stops: how long streams may go on.
    pub(crate) stopping: watch::Sender<Option<Duration>>,
}

impl Gateway {
    /// A gateway without sessions.
    #[must_use]
    pub fn new(config: GatewayConfig, authority: Arc<dyn AgentAuthority>, events: Arc<dyn SessionEvents>) -> Self {
        let half_open = Arc::new(Semaphore::new(config.half_open));
        let registry = Registry::new(config.metrics.sessions_failing.clone());
        Self {
            inner: Arc::new(Inner {
                config,
                authority,
                events,
                registry,
                half_open,
                tasks: TaskTracker::new(),
                stopping: watch::Sender::new(None),
            }),
        }
    }

    /// Who is connected.
    #[must_use]
    pub fn registry(&self) -> &Arc<Registry> {
        &self.inner.registry
    }

    /// Opens a stream to a cluster's API server over the best route that takes it.
    ///
    /// # Errors
    /// See [`DialError`]. Nothing of the request was sent.
    ///
    /// # Cancel safety
    /// Cancel safe: a stream that is under way is reset.
    pub async fn dial(&self, cluster: &ClusterId) -> Result<Dialed, DialError> {
        self.dial_with(cluster, StreamHeader::to(Target::KubeApiserver)).await
    }

    /// As [`Gateway::dial`], with a header of one's own: another target, or a trace.
    ///
    /// # Errors
    /// As there.
    pub async fn dial_with(&self, cluster: &ClusterId, header: StreamHeader) -> Result<Dialed, DialError> {
        let begun = Instant::now();
        let dialed = dial(&self.inner.registry, cluster, header).await;
        let outcome = dialed.as_ref().map_or_else(|error| error.outcome(), |_| DialOutcome::Opened);
        self.inner.config.metrics.dialed(outcome, begun.elapsed());
        self.inner.registry.dialed(cluster, outcome, begun.elapsed());
        dialed
    }

    /// Asks a cluster agent for a credential of the server. The answer comes through [`SessionEvents`]. Returns whether
    /// there is an agent that was asked.
    #[must_use]
    pub fn request_credential(&self, cluster: &ClusterId) -> bool {
        self.inner.registry.request_credential(cluster)
    }

    /// Whether the gateway takes no new sessions.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.inner.stopping.borrow().is_some()
    }

    /// Stops: takes no new sessions, tells every agent to go, lets streams go on for `grace`, closes what is left, and
    /// returns when every session has ended.
    ///
    /// # Cancel safety
    /// Cancel safe: sessions go on ending.
    pub async fn shutdown(&self, grace: Duration) {
        self.inner.stopping.send_if_modified(|stopping| stopping.is_none() && stopping.replace(grace).is_none());
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gateway").field("registry", &self.inner.registry).finish_non_exhaustive()
    }
}
