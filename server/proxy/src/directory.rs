//! What the proxy needs to know and is told by others. The server's composition root implements these traits.

use cattle_api::Secret;
use cattle_auth::UserInfo;
use cattle_proto::id::ClusterId;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use tokio::io::{AsyncRead, AsyncWrite};

/// A byte stream to an API server. What travels on it is TLS of ours.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Io for T {}

/// Opens byte streams to the API servers of downstream clusters.
pub trait ClusterDialer: Send + Sync + 'static {
    /// A fresh stream to the cluster's own API server over the best route. The implementation tries its routes in turn: while
    /// it dials, nothing has been sent.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives the stream up.
    fn dial<'a>(&'a self, cluster: &'a ClusterId) -> BoxFuture<'a, Result<Box<dyn Io>, DialError>>;
}

/// Why no stream to the API server could be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DialError {
    /// No agent of the cluster is connected.
    #[error("no agent of the cluster is connected")]
    NotConnected {
        /// Since when, if one ever was.
        since: Option<Timestamp>,
    },
    /// An agent is connected and cannot reach its API server.
    #[error("the agent cannot reach its API server")]
    ApiServerUnreachable,
    /// No route opened a stream in time.
    #[error("no route opened a stream in time")]
    TimedOut,
    /// The sessions of the cluster carry as many streams as they may.
    #[error("the sessions of the cluster are at their limit of streams")]
    Busy,
    /// The session ended while the stream was opened.
    #[error("the session ended while the stream was opened")]
    Broken,
}

/// What makes the connection to one cluster's API server trustworthy. If any of it changes, warm connections are given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiServer {
    /// The cluster's CA certificates, the only roots that count.
    pub ca_pem: String,
    /// Grows when an administrator binds the cluster to another CA.
    pub ca_generation: u64,
    /// The name that the certificate must bear, e.g. `kubernetes.default.svc`; never an address that was dialled.
    pub server_name: String,
}

/// Which clusters exist, and who may enter them.
pub trait ClusterDirectory: Send + Sync + 'static {
    /// The cluster's API server; `None` if there is no such cluster or it is not bound yet.
    fn lookup(&self, cluster: &ClusterId) -> Option<ApiServer>;

    /// Whether the user may enter the cluster at all. Must be false as soon as the user's token, the user, or the membership is
    /// gone: the proxy asks *after* it has registered the request in [`Streams`](crate::Streams), so that a revocation which
    /// first changes this answer and then closes streams misses nobody.
    fn may_enter(&self, user: &UserInfo, cluster: &ClusterId) -> bool;

    /// Whether the user is told how long each part of a request took: administrators are.
    fn may_see_times(&self, user: &UserInfo) -> bool;
}

/// The service accounts through which users are impersonated: one per user and cluster, which can do nothing else.
pub trait Impersonators: Send + Sync + 'static {
    /// The token of the user's impersonator in this cluster. Creates the four objects first if they are not there.
    fn token<'a>(
        &'a self,
        cluster: &'a ClusterId,
        user: &'a UserInfo,
    ) -> BoxFuture<'a, Result<Secret, ImpersonatorError>>;

    /// Whether the server wrote this impersonator's objects within the last ten seconds, so that an API server's cache may
    /// not know them yet.
    fn recently_written(&self, cluster: &ClusterId, user: &UserInfo) -> bool;

    /// Called when the API server refused the impersonator itself. Looks at the objects and writes again what is missing.
    fn diagnose<'a>(&'a self, cluster: &'a ClusterId, user: &'a UserInfo, refused: Refused)
    -> BoxFuture<'a, Diagnosis>;
}

/// What the API server refused of an impersonator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Its token: the Secret was removed by hand, or the key that signed it is gone.
    Token,
    /// Its right to impersonate.
    Right,
}

/// What [`Impersonators::diagnose`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Diagnosis {
    /// Something was missing or changed and has been written again: the request may be repeated for a while.
    Rewritten,
    /// Everything is as it should be.
    Intact,
    /// Something is missing and cannot be written. The sentence says which object and why, e.g. `ClusterRole
    /// cattle-impersonation-u-abcde is missing: the server may not create it`.
    Missing(String),
}

/// Why there is no impersonator token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImpersonatorError {
    /// Nobody writes objects in this cluster at the moment: it is away, has just connected, or is being removed. Whoever asks
    /// looks for the reason on the way to its API server.
    #[error("nobody writes impersonators in this cluster at the moment")]
    Away,
    /// An object is missing; the sentence says which and why.
    #[error("{0}")]
    Missing(String),
    /// It was not ready in time.
    #[error("the impersonator's objects were not ready in time")]
    TimedOut,
}
