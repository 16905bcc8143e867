//! Who decides whether an agent is believed. The gateway owns the question; the server's composition answers it.

use cattle_proto::control::{CredentialFailure, Facts, ServerCredential};
use cattle_proto::handshake::{AgentKind, ClusterClaim, RejectCode};
use cattle_proto::id::{ClusterId, NodeName, PodName};
use cattle_proto::secret::Secret;
use cattle_proto::stream::{StreamHeader, Target};
use cattle_tunnel::{OpenError, Session, TunnelStream};
use futures_util::future::BoxFuture;

use crate::dial::LAST_ROUTE_TIME;

/// Decides about agents. Each method has the rest of the handshake's time, or of the registration's.
pub trait AgentAuthority: Send + Sync + 'static {
    /// Verifies the projected token of an agent of a registered cluster, as [`token::verify`](crate::token::verify) does.
    ///
    /// `NotRegistered` and `ClusterDeleted` are answers about the cluster; the others are about the token.
    fn authenticate<'a>(
        &'a self,
        cluster: &'a ClusterId,
        token: &'a Secret,
    ) -> BoxFuture<'a, Result<AgentIdentity, RejectCode>>;

    /// Whether a registration token may be used for this cluster now.
    fn begin_registration<'a>(
        &'a self,
        cluster: &'a ClusterId,
        registration_token: &'a Secret,
    ) -> BoxFuture<'a, Result<RegistrationPermit, RejectCode>>;

    /// Verifies the claim through the session and binds the cluster's record, or says why not.
    fn complete_registration(&self, registration: Registration) -> BoxFuture<'_, Result<(), RejectCode>>;
}

/// Who an agent is, from verified claims only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentIdentity {
    /// Its cluster.
    pub cluster: ClusterId,
    /// What it is.
    pub kind: AgentKind,
    /// Its pod.
    pub pod: PodName,
    /// That pod's UID.
    pub pod_uid: String,
    /// Its node, when the token says it, as it does from Kubernetes 1.32 on. Else it is found out later
    /// ([`Registry::place`](crate::Registry::place)).
    pub node: Option<NodeName>,
    /// When the proof ends: seconds since 1970-01-01 UTC.
    pub expires_at: u64,
}

/// Leave to bind one cluster, with one token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistrationPermit {
    /// The cluster.
    pub cluster: ClusterId,
    /// When the token was made: seconds since 1970-01-01 UTC. One that is older than the binding may change nothing.
    pub token_made_at: u64,
}

/// All that a registration needs. It has no `Debug`: it holds tokens.
pub struct Registration {
    /// The leave given at the start.
    pub permit: RegistrationPermit,
    /// Who the cluster says it is.
    pub claim: ClusterClaim,
    /// The server's credential for the cluster's API server.
    pub credential: ServerCredential,
    /// The agent's projected token, to be verified with the keys that the API server gives.
    pub agent_token: Secret,
    /// The way to the API server.
    pub dialer: SessionDialer,
}

/// Opens streams to the API server through one session: the one that is being registered.
#[derive(Clone, Debug)]
pub struct SessionDialer {
    session: Session,
}

impl SessionDialer {
    pub(crate) fn new(session: Session) -> Self {
        Self { session }
    }

    /// A raw connection to the API server; TLS is the caller's.
    ///
    /// # Errors
    /// When the agent does not connect it in time.
    pub async fn dial(&self) -> Result<TunnelStream, OpenError> {
        self.session.open(StreamHeader::to(Target::KubeApiserver), LAST_ROUTE_TIME).await
    }
}

/// Hears what agents say. Links and their changes are in the [`Registry`](crate::Registry).
pub trait SessionEvents: Send + Sync + 'static {
    /// The agent has sent a credential for its API server, as the answer to
    /// [`Gateway::request_credential`](crate::Gateway::request_credential).
    fn server_credential<'a>(&'a self, cluster: &'a ClusterId, credential: ServerCredential) -> BoxFuture<'a, ()>;

    /// The agent could not get one.
    fn server_credential_failed<'a>(&'a self, cluster: &'a ClusterId, failure: CredentialFailure) -> BoxFuture<'a, ()>;

    /// The agent's facts have changed.
    fn facts<'a>(&'a self, identity: &'a AgentIdentity, facts: Facts) -> BoxFuture<'a, ()>;
}
