//! What the controllers need of the rest of the server: the way into a cluster.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use cattle_proto::handshake::RejectCode;
use cattle_proto::id::{ClusterId, NodeName};
use http::HeaderValue;
use jiff::Timestamp;
use tokio::sync::watch;

use crate::credential::ServerCredential;

/// A boxed future that may borrow for `'a`.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The way into the clusters. The server implements it over its gateway and its proxy.
pub trait Clusters: Send + Sync + 'static {
    /// A client for the cluster's API server that takes the users' path (stream, then TLS verified against the cluster's
    /// registered CA and name) and sends `bearer` as it is at the time of each request. It needs no further layers.
    ///
    /// `None` when the record is not bound to a cluster.
    fn client(&self, cluster: &ClusterId, bearer: &Bearer) -> Option<kube::Client>;

    /// One `GET /readyz` on the users' path. Ends within [`PROBE_TIMEOUT`](crate::health::PROBE_TIMEOUT).
    fn probe<'a>(&'a self, cluster: &'a ClusterId, bearer: &'a Bearer) -> BoxFuture<'a, Result<(), ProbeError>>;

    /// Whether an agent of the cluster has a session now.
    fn link(&self, cluster: &ClusterId) -> Link;

    /// Wakes whenever any cluster's link has changed. The number means nothing.
    fn changes(&self) -> watch::Receiver<u64>;

    /// Which nodes of the cluster run its control plane: their agents stand in first.
    fn control_plane_nodes(&self, cluster: &ClusterId, names: BTreeSet<String>);

    /// On which node the pod of an agent runs whose token does not say it.
    fn place_agent(&self, cluster: &ClusterId, pod_uid: &str, node: &NodeName);

    /// Asks a connected agent for a fresh token of the server's account in the cluster.
    fn request_credential<'a>(&'a self, cluster: &'a ClusterId) -> BoxFuture<'a, Result<ServerCredential, AskError>>;
}

/// Whether an agent is connected, and since when that is so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Link {
    /// At least one session is live.
    pub connected: bool,
    /// When `connected` last changed; `None` when this process has never seen a session.
    pub since: Option<Timestamp>,
    /// Why the last agent that knocked since then was not let in.
    pub refused: Option<RejectCode>,
}

/// Why a probe failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProbeError {
    /// The API server answered with something else than success.
    #[error("the API server answered {status} to /readyz")]
    NotReady {
        /// HTTP status.
        status: u16,
    },
    /// The API server refused the server's credential.
    #[error("the API server refused the server's credential")]
    Unauthorized,
    /// No stream could be opened, or the API server did not answer in time.
    #[error("the API server cannot be reached through the agent: {0}")]
    Unreachable(String),
    /// TLS failed: another certificate than the registered CA and name allow.
    #[error("the API server's certificate does not fit the registered CA and name: {0}")]
    Certificate(String),
}

/// Why an agent gave no credential.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AskError {
    /// No session, or it ended while waiting.
    #[error("no agent is connected")]
    NotConnected,
    /// The agent did not answer in time.
    #[error("the agent did not answer in time")]
    Timeout,
    /// The agent could not get a token.
    #[error("the agent could not get a token for the server's account")]
    Refused,
}

/// The server's bearer token for one cluster, shared by every client of that cluster: a renewed token is used from the
/// next request on, with no client built anew.
#[derive(Clone)]
pub struct Bearer(Arc<watch::Sender<Option<ServerCredential>>>);

impl Default for Bearer {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(None)))
    }
}

impl Bearer {
    /// `Authorization` for the next request; `None` when there is no token. Marked sensitive.
    #[must_use]
    pub fn authorization(&self) -> Option<HeaderValue> {
        let held = self.0.borrow();
        let token = held.as_ref()?.token.expose_str()?;
        let mut value = HeaderValue::try_from(format!("Bearer {token}")).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    /// A bearer with this token, for a client of one attempt to register.
    #[must_use]
    pub fn fixed(credential: ServerCredential) -> Self {
        let bearer = Self::default();
        bearer.replace(Some(credential));
        bearer
    }

    pub(crate) fn replace(&self, credential: Option<ServerCredential>) {
        self.0.send_replace(credential);
    }

    /// Resolves when there is a token.
    pub(crate) async fn held(&self) {
        // The sender is `self`: it cannot be gone.
        let _ = self.0.subscribe().wait_for(Option::is_some).await;
    }

    /// Resolves when the token was taken away.
    pub(crate) async fn lost(&self) {
        let _ = self.0.subscribe().wait_for(Option::is_none).await;
    }

    /// When it was made and when it ends.
    pub(crate) fn lifetime(&self) -> Option<(Timestamp, Timestamp)> {
        self.0.borrow().as_ref().map(|credential| (credential.issued_at, credential.expires_at))
    }
}

#[cfg(test)]
mod tests {
    use cattle_api::Secret;

    use super::*;

    #[test]
    fn a_renewed_token_is_used_by_the_next_request() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let token = |text: &str| ServerCredential::new(Secret::from(text.to_owned()), at(0), at(60));
        let bearer = Bearer::fixed(token("one"));
        let held_by_a_client = bearer.clone();
        bearer.replace(Some(token("two")));
        let header = held_by_a_client.authorization().unwrap();
        assert_eq!(header, "Bearer two");
        assert!(header.is_sensitive());
        bearer.replace(None);
        assert_eq!(held_by_a_client.authorization(), None);
    }
}
