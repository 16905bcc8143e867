//! The first two frames of a session: [`Hello`] from the agent, [`HelloReply`] from the server.

use serde::{Deserialize, Serialize};

use crate::capability::Capabilities;
use crate::code::codes;
use crate::codec::{Message, sealed};
use crate::id::{CaPem, ClusterId, InstanceId, KubeSystemUid, ServerName, SessionId, Software};
use crate::limits;
use crate::secret::{self, Secret};
use crate::version::{ProtocolVersion, VersionRange};

/// What an agent says first. It proves nothing but by its [`Credential`]; everything else is for negotiation and logs.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Versions that the agent speaks.
    pub versions: VersionRange,
    /// What the agent can do.
    pub capabilities: Capabilities,
    /// What the agent says it is. The server believes the credential's claims and refuses a difference.
    pub kind: AgentKind,
    /// Software and version, for people.
    pub software: Software,
    /// The process that speaks. A newer session of the same instance replaces the older one.
    pub instance: InstanceId,
    /// The proof.
    pub credential: Credential,
}

impl sealed::Sealed for Hello {}
impl Message for Hello {
    const LIMIT: usize = limits::HANDSHAKE_FRAME;
    const NAME: &'static str = "Hello";
}

/// What kind of agent it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum AgentKind {
    /// A pod of the Deployment `cattle-cluster-agent`.
    ClusterAgent,
    /// A pod of the DaemonSet of node agents.
    NodeAgent,
}

/// How an agent proves who it is. It has no `Debug`: it holds tokens.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Credential {
    /// A registered cluster: the pod's own projected token, audience `cattle:<cluster id>:<server id>`.
    ServiceAccount {
        /// The cluster whose keys shall verify the token.
        cluster: ClusterId,
        /// The projected token (a JWT).
        #[serde(with = "secret::wire")]
        token: Secret,
    },
    /// A cluster that is to be bound (or bound again): a registration token and the claim of an identity.
    Registration {
        /// The cluster that the registration token is for.
        cluster: ClusterId,
        /// The registration token, in the clear; the server holds its hash.
        #[serde(with = "secret::wire")]
        registration_token: Secret,
        /// Who the cluster says it is. The server verifies it through the session before it believes it.
        claim: ClusterClaim,
        /// The pod's own projected token, as in `ServiceAccount`.
        #[serde(with = "secret::wire")]
        token: Secret,
    },
}

impl Credential {
    /// The cluster that the credential is for.
    #[must_use]
    pub const fn cluster(&self) -> &ClusterId {
        match self {
            Self::ServiceAccount { cluster, .. } | Self::Registration { cluster, .. } => cluster,
        }
    }
}

/// The identity that a cluster claims when it registers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterClaim {
    /// UID of the namespace `kube-system`.
    pub kube_system_uid: KubeSystemUid,
    /// The CA that signs the API server's certificate.
    pub ca_pem: CaPem,
    /// The name that certificate bears.
    pub server_name: ServerName,
}

/// The server's answer. After `Reject` it closes the session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HelloReply {
    /// The agent is believed; the multiplexer starts.
    Welcome(Welcome),
    /// It is not.
    Reject(Reject),
}

impl sealed::Sealed for HelloReply {}
impl Message for HelloReply {
    const LIMIT: usize = limits::HANDSHAKE_FRAME;
    const NAME: &'static str = "HelloReply";
}

/// What holds for this session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The version both speak; one of the agent's range.
    pub version: ProtocolVersion,
    /// The server's capabilities. What both have counts.
    pub capabilities: Capabilities,
    /// The name of this session in logs.
    pub session: SessionId,
    /// What the session is for.
    pub phase: Phase,
    /// The server's clock, seconds since 1970-01-01 UTC. An agent logs a difference of more than
    /// [`limits::CLOCK_LEEWAY`].
    pub server_time: u64,
}

/// What a session is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Phase {
    /// To bind the cluster's record; ends with `Registered` or `RegistrationFailed`.
    Registration,
    /// To carry traffic.
    Serving,
}

/// Why there is no session, and when to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reject {
    /// The reason.
    pub code: RejectCode,
    /// Seconds to wait at least before the next attempt; 0 leaves it to the agent's back-off.
    pub retry_after_seconds: u32,
}

codes! {
    /// Why the server refuses an agent, or a registration. No reason is final: an agent stays at capped back-off.
    RejectCode {
        /// The token is no valid JWT, its signature is wrong, or its algorithm is not allowed.
        Unauthenticated = 1, "the token is not valid";
        /// No key of the cluster has the token's key id: keys were rotated, or the token is another cluster's.
        UnknownSigningKey = 2, "the token is signed by a key that the server does not know for this cluster";
        /// The token's `exp` is over.
        TokenExpired = 3, "the token has expired";
        /// The token's audience is another server or cluster.
        WrongAudience = 4, "the token was made for another server or cluster";
        /// The token's `nbf` or `iat` is in the future: one clock is wrong.
        ClockSkew = 5, "the clocks of cluster and server differ";
        /// The cluster exists and was never bound.
        NotRegistered = 6, "the cluster is not registered yet";
        /// The server has no record of the cluster: it was deleted, or never was one of this server's. The two are one
        /// answer, so that nobody learns which clusters there have been. (7 is not used.)
        ClusterDeleted = 8, "this server does not know the cluster: it was deleted, or the agent belongs to another server";
        /// There is no such registration token for this cluster.
        RegistrationTokenUnknown = 9, "the registration token is not valid for this cluster";
        /// The registration token is over.
        RegistrationTokenExpired = 10, "the registration token has expired";
        /// The record is bound to another `kube-system` UID or CA.
        IdentityMismatch = 11, "the cluster record is bound to another cluster";
        /// No version in common.
        VersionUnsupported = 12, "no protocol version in common";
        /// Too many sessions or handshakes at once.
        Busy = 13, "the server is busy";
        /// The frame cannot be decoded, or breaks a limit.
        Malformed = 14, "the message is malformed";
        /// The server failed; its log says why.
        Internal = 15, "the server failed";
        /// The token's `sub` is not the agent's service account.
        WrongSubject = 16, "the token belongs to another service account";
        /// The token's `iss` is not the cluster's issuer.
        WrongIssuer = 17, "the token was issued by another cluster";
        /// The agent's kind is not what its token says, or not one that may do this.
        WrongKind = 18, "the agent is not of the kind that its token says";
        /// During registration the API server could not be reached through the session.
        ApiServerUnreachable = 19, "the API server did not answer through the agent";
        /// During registration TLS with the API server could not be verified against the claim.
        ApiServerUntrusted = 20, "the API server's certificate does not fit the claimed CA and name";
        /// During registration the API server refused the server's credential.
        CredentialRefused = 21, "the API server refused the server's credential";
        /// During registration the API server's own identity was not the claimed one.
        ClaimMismatch = 22, "the API server is not the cluster that was claimed";
        /// It took longer than it may.
        Timeout = 23, "it took too long";
        /// The registration token is older than the cluster's binding, and the cluster's keys or name are others now.
        RegistrationTokenSpent = 24, "the registration token was made before the cluster was bound: a fresh one is needed";
    }
}

#[cfg(test)]
mod tests {
    use super::RejectCode;

    #[test]
    fn codes_are_unique_and_survive_the_way_back() {
        let mut seen = std::collections::HashSet::new();
        for code in RejectCode::ALL {
            assert!(seen.insert(code.code()), "{code:?} twice");
            assert_eq!(RejectCode::from(code.code()), *code);
        }
        assert_eq!(RejectCode::from(9999), RejectCode::Unknown(9999));
    }
}
