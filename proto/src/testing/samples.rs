//! One message of every kind, with values that use every width of integer.
#![expect(
    clippy::unwrap_used,
    missing_docs,
    reason = "samples are valid, and each function is named for what it gives"
)]

use std::time::Duration;

use crate::capability::Capabilities;
use crate::control::{
    AgentMessage, CredentialFailure, CredentialFailureCode, Facts, GoAway, Heartbeat, ServerCredential, ServerMessage,
};
use crate::handshake::{AgentKind, ClusterClaim, Credential, Hello, HelloReply, Phase, Reject, RejectCode, Welcome};
use crate::id::{ClusterId, InstanceId, SessionId};
use crate::secret::Secret;
use crate::stream::{OpenReply, RefusedCode, StreamHeader, Target, TraceContext};
use crate::version::{ProtocolVersion, VersionRange};

/// A name for each message, which is also its file's.
pub type Named<M> = Vec<(&'static str, M)>;

pub fn hellos() -> Named<Hello> {
    let hello = |kind, credential| Hello {
        versions: VersionRange::SUPPORTED,
        capabilities: Capabilities::KUBE_APISERVER.with(Capabilities::SERVER_CREDENTIAL),
        kind,
        software: "cattle-cluster-agent 0.1.0".parse().unwrap(),
        instance: InstanceId::new(*b"0123456789abcdef"),
        credential,
    };
    let cluster: ClusterId = "c-abcde".parse().unwrap();
    let service_account =
        Credential::ServiceAccount { cluster: cluster.clone(), token: secret("header.claims.signature") };
    let registration = Credential::Registration {
        cluster,
        registration_token: secret("registration-token"),
        claim: ClusterClaim {
            kube_system_uid: "8c6a9f0e-57a7-4a2e-9b3e-1d2c3b4a5f60".parse().unwrap(),
            ca_pem: "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".parse().unwrap(),
            server_name: "kubernetes.default.svc".parse().unwrap(),
        },
        token: secret("header.claims.signature"),
    };
    vec![
        ("hello-service-account", hello(AgentKind::ClusterAgent, service_account.clone())),
        ("hello-node-agent", hello(AgentKind::NodeAgent, service_account)),
        ("hello-registration", hello(AgentKind::ClusterAgent, registration)),
    ]
}

pub fn hello_replies() -> Named<HelloReply> {
    let welcome = |phase| {
        HelloReply::Welcome(Welcome {
            version: ProtocolVersion::V1,
            capabilities: Capabilities::from_bits(u64::MAX),
            session: SessionId::new([0xab; 16]),
            phase,
            server_time: 1_800_000_000,
        })
    };
    let reject = |code, retry_after_seconds| HelloReply::Reject(Reject { code, retry_after_seconds });
    vec![
        ("welcome-serving", welcome(Phase::Serving)),
        ("welcome-registration", welcome(Phase::Registration)),
        ("reject-not-registered", reject(RejectCode::NotRegistered, 0)),
        ("reject-unknown-code", reject(RejectCode::Unknown(60_000), 86_400)),
    ]
}

pub fn stream_headers() -> Named<StreamHeader> {
    let trace = TraceContext { trace: [0x11; 16], span: [0x22; 8], flags: 1 };
    vec![
        ("stream-header", StreamHeader::to(Target::KubeApiserver)),
        ("stream-header-traced", StreamHeader { target: Target::KubeApiserver, trace: Some(trace) }),
    ]
}

pub fn open_replies() -> Named<OpenReply> {
    vec![
        ("opened", OpenReply::Opened),
        ("refused-dial-timeout", OpenReply::Refused(RefusedCode::DialTimeout)),
        ("refused-unknown-code", OpenReply::Refused(RefusedCode::Unknown(999))),
    ]
}

pub fn agent_messages() -> Named<AgentMessage> {
    let facts = Facts::try_from(r#"{"kubernetes":"v1.34.1","nodes":3}"#.to_owned()).unwrap();
    let credential = ServerCredential { token: secret("header.claims.signature"), expires_at: 1_800_086_400 };
    let failure = CredentialFailure { code: CredentialFailureCode::Forbidden };
    vec![
        ("heartbeat", AgentMessage::Heartbeat(Heartbeat { sequence: 70_000, streams: 300 })),
        ("facts", AgentMessage::Facts(facts)),
        ("server-credential", AgentMessage::ServerCredential(credential)),
        ("server-credential-failed", AgentMessage::ServerCredentialFailed(failure)),
        ("proof", AgentMessage::Proof { token: secret("header.claims.signature") }),
        ("leaving", AgentMessage::Leaving),
    ]
}

pub fn server_messages() -> Named<ServerMessage> {
    let goaway = GoAway::new(Duration::from_millis(2500), Duration::from_secs(600));
    vec![
        ("goaway", ServerMessage::GoAway(goaway)),
        ("credential-request", ServerMessage::CredentialRequest),
        ("registered", ServerMessage::Registered),
        ("registration-failed", ServerMessage::RegistrationFailed { code: RejectCode::IdentityMismatch }),
    ]
}

pub fn secret(text: &str) -> Secret {
    Secret::new(text.to_owned())
}
