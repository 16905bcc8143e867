//! The first frame of every stream that the server opens, and the agent's answer to it.

use serde::{Deserialize, Serialize};

use crate::code::codes;
use crate::codec::{Message, sealed};
use crate::limits;

/// First frame of a stream: what the server wants at its other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamHeader {
    /// What to connect the stream to.
    pub target: Target,
    /// The request that the stream is for, so that the logs of both ends can be joined.
    pub trace: Option<TraceContext>,
}

impl StreamHeader {
    /// A header without a trace.
    #[must_use]
    pub const fn to(target: Target) -> Self {
        Self { target, trace: None }
    }
}

impl sealed::Sealed for StreamHeader {}
impl Message for StreamHeader {
    const LIMIT: usize = limits::STREAM_FRAME;
    const NAME: &'static str = "StreamHeader";
}

/// What a stream can be connected to: a closed list, never a host and a port from the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Target {
    /// The API server of the agent's own cluster, at the address that the agent's own environment says.
    KubeApiserver,
}

impl Target {
    /// Every target of this build.
    pub const ALL: &'static [Self] = &[Self::KubeApiserver];

    /// The target's name for logs and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::KubeApiserver => "kube-apiserver",
        }
    }
}

/// W3C Trace Context of a request: the fields of `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceContext {
    /// Trace id.
    pub trace: [u8; 16],
    /// Id of the span that opened the stream.
    pub span: [u8; 8],
    /// Trace flags.
    pub flags: u8,
}

/// The agent's answer, at once after it has dialled. After `Refused` it closes the stream; after `Opened` all bytes belong
/// to the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OpenReply {
    /// The target is connected.
    Opened,
    /// It is not; nothing was sent to it.
    Refused(RefusedCode),
}

impl sealed::Sealed for OpenReply {}
impl Message for OpenReply {
    const LIMIT: usize = limits::STREAM_FRAME;
    const NAME: &'static str = "OpenReply";
}

codes! {
    /// Why an agent refuses a stream. Nothing of the request was sent, so another route may be tried.
    RefusedCode {
        /// The agent has no such target.
        UnknownTarget = 1, "the agent does not know the target";
        /// The target refused the connection.
        ConnectionRefused = 2, "the target refused the connection";
        /// The dial took longer than it may ([`DIAL_TIME`](crate::limits::DIAL_TIME)).
        DialTimeout = 3, "the target did not answer in time";
        /// There is no way to the target (network or name).
        Unreachable = 4, "the target cannot be reached";
        /// The agent has as many streams as it may.
        Busy = 5, "the agent is busy";
        /// The agent is ending its session.
        Draining = 6, "the agent is ending its session";
        /// The header cannot be decoded, or breaks a limit.
        Malformed = 7, "the stream header is malformed";
        /// The agent failed; its log says why.
        Internal = 8, "the agent failed";
    }
}

#[cfg(test)]
mod tests {
    use super::RefusedCode;

    #[test]
    fn codes_are_unique_and_survive_the_way_back() {
        let mut seen = std::collections::HashSet::new();
        for code in RefusedCode::ALL {
            assert!(seen.insert(code.code()), "{code:?} twice");
            assert_eq!(RefusedCode::from(code.code()), *code);
        }
        assert_eq!(RefusedCode::from(0), RefusedCode::Unknown(0));
    }
}
