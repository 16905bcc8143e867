//! Who an agent says it is.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use cattle_proto::capability::Capabilities;
use cattle_proto::control::{CredentialFailureCode, Facts, ServerCredential};
use cattle_proto::handshake::{AgentKind, ClusterClaim, Credential, Hello};
use cattle_proto::id::{ClusterId, InstanceId, Software};
use cattle_proto::version::VersionRange;
use tokio::sync::watch;

use crate::credential::{CredentialKind, TokenFile, TokenFileError};
use crate::{BoxError, BoxFuture, random};

/// Time to find out the cluster's identity for a claim.
const CLAIM_TIME: Duration = Duration::from_secs(20);

/// What an agent knows about the cluster around it. The agent's own crate answers with its cluster's API server.
pub trait Cluster: Send + Sync + 'static {
    /// The identity to claim when the cluster registers.
    fn claim(&self) -> BoxFuture<'_, Result<ClusterClaim, BoxError>>;

    /// A fresh token of the server's own service account in the cluster.
    fn server_credential(&self) -> BoxFuture<'_, Result<ServerCredential, ServerCredentialError>>;
}

/// The server's credential could not be had: the code is for the server, the source for the agent's own log.
#[derive(Debug, thiserror::Error)]
#[error("{code}")]
pub struct ServerCredentialError {
    /// What the server is told.
    pub code: CredentialFailureCode,
    /// What happened.
    pub source: BoxError,
}

/// What an agent is to its cluster, with all that only such an agent has.
#[derive(Clone)]
pub enum Role {
    /// Speaks for the cluster: it registers it, and gets the server's credential.
    ClusterAgent {
        /// The registration token; the file may be absent.
        registration_token: TokenFile,
        /// The cluster around the agent.
        cluster: Arc<dyn Cluster>,
    },
    /// Speaks for its node only: it has no Kubernetes right, and so nothing to ask an API server for.
    NodeAgent {
        /// What it tells of its host.
        facts: watch::Receiver<Facts>,
    },
}

impl Role {
    /// What the agent tells of its host; a cluster agent has none.
    pub(crate) fn facts(&self) -> Option<watch::Receiver<Facts>> {
        match self {
            Self::ClusterAgent { .. } => None,
            Self::NodeAgent { facts } => Some(facts.clone()),
        }
    }

    /// As the server is told it.
    #[must_use]
    pub fn kind(&self) -> AgentKind {
        match self {
            Self::ClusterAgent { .. } => AgentKind::ClusterAgent,
            Self::NodeAgent { .. } => AgentKind::NodeAgent,
        }
    }
}

/// An agent's identity, from which each attempt makes its `Hello`.
#[derive(Clone)]
pub struct Identity {
    role: Role,
    software: Software,
    instance: InstanceId,
    capabilities: Capabilities,
    cluster_id: ClusterId,
    token: TokenFile,
}

impl Identity {
    /// The identity of this process, which gets a new instance id.
    pub fn new(
        role: Role,
        software: Software,
        capabilities: Capabilities,
        cluster_id: ClusterId,
        token: TokenFile,
    ) -> Self {
        let instance = random::instance();
        Self { role, software, instance, capabilities, cluster_id, token }
    }

    /// What the agent is to its cluster.
    pub fn role(&self) -> &Role {
        &self.role
    }

    /// The agent's projected token.
    pub fn token(&self) -> &TokenFile {
        &self.token
    }

    /// The id of this process.
    pub fn instance(&self) -> InstanceId {
        self.instance
    }

    /// Whether there is a registration token at the moment.
    pub async fn holds_registration_token(&self) -> bool {
        match &self.role {
            Role::ClusterAgent { registration_token, .. } => registration_token.read().await.is_ok(),
            Role::NodeAgent { .. } => false,
        }
    }

    /// The first message of an attempt. The files are read now, so that a rotated token is never shown stale.
    pub async fn hello(&self, kind: CredentialKind) -> Result<Hello, IdentityError> {
        let (cluster, token) = (self.cluster_id.clone(), self.token.read().await.map_err(IdentityError::Token)?);
        let credential = match (kind, &self.role) {
            (CredentialKind::Registration, Role::ClusterAgent { registration_token, cluster: around }) => {
                Credential::Registration {
                    cluster,
                    registration_token: registration_token.read().await.map_err(IdentityError::RegistrationToken)?,
                    claim: claim(around.as_ref()).await?,
                    token,
                }
            }
            // A node agent waits until a cluster agent has registered the cluster.
            (CredentialKind::ServiceAccount, _) | (CredentialKind::Registration, Role::NodeAgent { .. }) => {
                Credential::ServiceAccount { cluster, token }
            }
        };
        Ok(Hello {
            versions: VersionRange::SUPPORTED,
            capabilities: self.capabilities,
            kind: self.role.kind(),
            software: self.software.clone(),
            instance: self.instance,
            credential,
        })
    }
}

async fn claim(cluster: &dyn Cluster) -> Result<ClusterClaim, IdentityError> {
    match tokio::time::timeout(CLAIM_TIME, cluster.claim()).await {
        Ok(claim) => claim.map_err(IdentityError::Claim),
        Err(_) => Err(IdentityError::ClaimTimeout),
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("kind", &self.role.kind())
            .field("cluster", &self.cluster_id)
            .field("instance", &self.instance)
            .finish_non_exhaustive()
    }
}

/// An agent cannot say who it is.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// No projected token.
    #[error("the agent has no token of its own")]
    Token(#[source] TokenFileError),
    /// No registration token.
    #[error("the agent has no registration token")]
    RegistrationToken(#[source] TokenFileError),
    /// The cluster's identity cannot be found out.
    #[error("the agent cannot find out its cluster's identity")]
    Claim(#[source] BoxError),
    /// The cluster's API server did not answer in time.
    #[error("the agent's API server did not tell the cluster's identity within {}s", CLAIM_TIME.as_secs())]
    ClaimTimeout,
}

impl IdentityError {
    /// The error's name for metrics and scripts.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Token(_) => "no_token",
            Self::RegistrationToken(_) => "no_registration_token",
            Self::Claim(_) => "no_claim",
            Self::ClaimTimeout => "claim_timeout",
        }
    }

    /// What an operator should do.
    pub fn next_step(&self) -> &'static str {
        match self {
            Self::Token(_) => {
                "Mount a projected service-account token with the server's audience (CATTLE_TOKEN_FILE) readable by the \
                 agent's user; applying the import manifest again restores it."
            }
            Self::RegistrationToken(_) => "Apply a fresh import manifest: it holds a new registration token.",
            Self::Claim(_) | Self::ClaimTimeout => {
                "Check that the agent reaches its own API server and may read the namespace kube-system."
            }
        }
    }
}
