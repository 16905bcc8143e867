//! What each failure is called, and what an operator should do about it.

use cattle_proto::handshake::RejectCode;
use cattle_tunnel::{HandshakeError, UpgradeError};

use crate::connect::ConnectError;

impl ConnectError {
    /// The error's name for metrics and scripts: a closed set.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Dns(error) => error.code(),
            Self::Tcp(error) => error.code(),
            Self::Proxy(error) => error.code(),
            Self::Trust(error) => error.code(),
            Self::Tls(error) => error.code(),
            Self::Upgrade(error) => upgrade_code(error),
            Self::UpgradeTimeout(_) => "upgrade_timeout",
            Self::Identity(error) => error.code(),
            Self::Handshake(error) => handshake_code(error),
        }
    }

    /// What an operator should do, in a sentence.
    pub fn next_step(&self) -> &'static str {
        match self {
            Self::Dns(error) => error.next_step(),
            Self::Tcp(error) => error.next_step(),
            Self::Proxy(error) => error.next_step(),
            Self::Trust(error) => error.next_step(),
            Self::Tls(error) => error.next_step(),
            Self::Upgrade(error) => upgrade_step(error),
            Self::UpgradeTimeout(_) => {
                "Check the server's health and that a load balancer before it passes WebSockets."
            }
            Self::Identity(error) => error.next_step(),
            Self::Handshake(error) => handshake_step(error),
        }
    }
}

const VERSION_STEP: &str = "Upgrade the agent to the server's version: apply a fresh import manifest.";

#[expect(clippy::wildcard_enum_match_arm, reason = "the tunnel's errors may grow; the rest shares a name")]
fn upgrade_code(error: &UpgradeError) -> &'static str {
    match error {
        UpgradeError::Status { status: 401, .. } => "upgrade_unauthorized",
        UpgradeError::Status { status: 403, .. } => "upgrade_forbidden",
        UpgradeError::Status { status: 404, .. } => "upgrade_not_found",
        UpgradeError::Status { status: 503, .. } => "upgrade_unavailable",
        UpgradeError::Status { .. } => "upgrade_status",
        UpgradeError::Version { .. } => "upgrade_version",
        UpgradeError::Protocol => "upgrade_protocol",
        UpgradeError::Io(_) => "upgrade_failed",
        _ => "upgrade_other",
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the tunnel's errors may grow; the rest shares a sentence")]
fn upgrade_step(error: &UpgradeError) -> &'static str {
    match error {
        UpgradeError::Status { status: 401 | 403, .. } => {
            "The server itself asks for no login here: something before it does (an authenticating load balancer, a \
             firewall). Let /v3/connect pass."
        }
        UpgradeError::Status { status: 404, .. } => {
            "Check that CATTLE_SERVER is the management server itself and that a load balancer before it passes \
             /v3/connect."
        }
        UpgradeError::Status { status: 502..=504, .. } => {
            "The server is starting, busy or away; the agent tries again by itself."
        }
        UpgradeError::Status { status: 200 | 400 | 426, .. } | UpgradeError::Protocol => {
            "Something before the server removes the WebSocket upgrade: let it pass Upgrade and Connection headers."
        }
        UpgradeError::Version { .. } => VERSION_STEP,
        UpgradeError::Io(_) => {
            "A load balancer or firewall cuts WebSockets: allow them, with an idle limit above 15 s."
        }
        _ => "Check the server's log for this request.",
    }
}

fn handshake_code(error: &HandshakeError) -> &'static str {
    match error {
        HandshakeError::Timeout => "handshake_timeout",
        HandshakeError::Rejected(reject) => reject_code(reject.code),
        HandshakeError::Malformed(_) => "handshake_malformed",
        HandshakeError::Version => "handshake_version",
        HandshakeError::Io(_) => "handshake_failed",
        HandshakeError::Closed(_) => "handshake_closed",
        _ => "handshake_other",
    }
}

/// Refusals share the protocol's own names.
fn reject_code(code: RejectCode) -> &'static str {
    code.name()
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the tunnel's errors may grow; the rest shares a sentence")]
fn handshake_step(error: &HandshakeError) -> &'static str {
    match error {
        HandshakeError::Rejected(reject) => reject_step(reject.code),
        HandshakeError::Version => VERSION_STEP,
        _ => "Check the server's health and its log; the agent tries again by itself.",
    }
}

fn reject_step(code: RejectCode) -> &'static str {
    match code {
        RejectCode::NotRegistered | RejectCode::UnknownSigningKey | RejectCode::RegistrationTokenUnknown => {
            "Apply a fresh import manifest: it holds a new registration token."
        }
        RejectCode::RegistrationTokenExpired => {
            "The registration token was not used in time: apply a fresh import manifest."
        }
        RejectCode::Unauthenticated | RejectCode::WrongSubject | RejectCode::WrongKind => {
            "Run the agent as its own service account, as the import manifest does, and apply a fresh manifest if the \
             cluster was rebuilt."
        }
        RejectCode::TokenExpired | RejectCode::ClockSkew => {
            "Compare the clocks of the cluster's nodes and of the server; they may differ by a minute at most."
        }
        RejectCode::WrongAudience => {
            "The manifest is one of another server or cluster: apply the manifest of this cluster."
        }
        RejectCode::WrongIssuer | RejectCode::IdentityMismatch => {
            "The record belongs to another cluster: create a new one for this cluster, or rebind it if its CA was \
             replaced."
        }
        RejectCode::ClusterDeleted => {
            "Check CATTLE_SERVER and CATTLE_CLUSTER_ID. If the cluster was deleted at this server, remove the agent \
             (kubectl delete namespace cattle-system) or create the cluster again and apply its manifest."
        }
        RejectCode::RegistrationTokenSpent => {
            "The cluster's keys or its API server's name changed after it was registered: apply a fresh import manifest \
             (cattle cluster manifest)."
        }
        RejectCode::VersionUnsupported => VERSION_STEP,
        RejectCode::ApiServerUnreachable | RejectCode::ApiServerUntrusted | RejectCode::CredentialRefused => {
            "Check the agent's address of its API server, the cluster's CA, and that the import manifest was applied as \
             a whole."
        }
        RejectCode::ClaimMismatch => "Check that the agent talks to the API server of its own cluster.",
        RejectCode::Busy | RejectCode::Timeout | RejectCode::Internal | RejectCode::Malformed => {
            "The server's log says more; the agent tries again by itself."
        }
        RejectCode::Unknown(_) | _ => "Upgrade the agent to the server's version: it does not know this reason.",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_has_its_own_advice() {
        let fallback = reject_step(RejectCode::Unknown(u16::MAX));
        for code in RejectCode::ALL {
            assert_ne!(reject_step(*code), fallback, "{code:?}");
        }
    }
}
