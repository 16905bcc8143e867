//! Any message survives the way to bytes and back.

use cattle_proto::capability::Capabilities;
use cattle_proto::codec::{self, Message};
use cattle_proto::control::{AgentMessage, Facts, GoAway, Heartbeat, ServerCredential, ServerMessage};
use cattle_proto::handshake::{AgentKind, Credential, Hello, HelloReply, Phase, Reject, Welcome};
use cattle_proto::id::{ClusterId, InstanceId, SessionId};
use cattle_proto::stream::{OpenReply, StreamHeader, Target, TraceContext};
use cattle_proto::testing::samples::secret;
use cattle_proto::version::{ProtocolVersion, VersionRange};
use proptest::prelude::*;

proptest! {
    #![proptest_config(cattle_matrix::proptest_config(256))]

    #[test]
    fn hello(
        oldest in 1_u16.., more in 0_u16..9, bits: u64, node: bool, instance: [u8; 16],
        software in "[ -~]{1,64}", cluster in "c-[a-z0-9-]{4,39}[a-z0-9]", token in "[!-~]{1,2000}",
    ) {
        let version = |number: u16| ProtocolVersion::try_from(number).unwrap();
        survives(&Hello {
            versions: VersionRange::new(version(oldest), version(oldest.saturating_add(more))).unwrap(),
            capabilities: Capabilities::from_bits(bits),
            kind: if node { AgentKind::NodeAgent } else { AgentKind::ClusterAgent },
            software: software.parse().unwrap(),
            instance: InstanceId::new(instance),
            credential: Credential::ServiceAccount {
                cluster: cluster.parse::<ClusterId>().unwrap(),
                token: secret(&token),
            },
        });
    }

    #[test]
    fn hello_reply(version in 1_u16.., bits: u64, session: [u8; 16], serving: bool, time: u64, code: u16, wait: u32) {
        survives(&HelloReply::Welcome(Welcome {
            version: ProtocolVersion::try_from(version).unwrap(),
            capabilities: Capabilities::from_bits(bits),
            session: SessionId::new(session),
            phase: if serving { Phase::Serving } else { Phase::Registration },
            server_time: time,
        }));
        survives(&HelloReply::Reject(Reject { code: code.into(), retry_after_seconds: wait }));
    }

    #[test]
    fn stream(trace: [u8; 16], span: [u8; 8], flags: u8, code: u16) {
        let trace = Some(TraceContext { trace, span, flags });
        survives(&StreamHeader { target: Target::KubeApiserver, trace });
        survives(&OpenReply::Refused(code.into()));
    }

    #[test]
    fn control(sequence: u64, streams: u32, at: u64, token in "[!-~]{1,2000}", fact in "[a-z]{0,99}", code: u16) {
        survives(&AgentMessage::Heartbeat(Heartbeat { sequence, streams }));
        survives(&AgentMessage::Facts(Facts::try_from(format!("{{\"fact\":\"{fact}\"}}")).unwrap()));
        survives(&AgentMessage::ServerCredential(ServerCredential { token: secret(&token), expires_at: at }));
        survives(&AgentMessage::Proof { token: secret(&token) });
        survives(&ServerMessage::GoAway(GoAway { reconnect_in_ms: streams, try_for_ms: !streams }));
        survives(&ServerMessage::RegistrationFailed { code: code.into() });
    }
}

fn survives<M: Message + PartialEq>(message: &M) {
    let mut frame = codec::encode_frame(message).unwrap();
    let length = frame.len();
    frame.push(0xff);
    let (read, used) = codec::decode_frame::<M>(&frame).unwrap().unwrap();
    assert!(read == *message && used == length);
    assert!(codec::decode_frame::<M>(&frame[..length - 1]).unwrap().is_none());
}
