//! Why a session ended.

use std::io;

/// Why a session is no more. A lost session is never repaired: the agent makes a new one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CloseReason {
    /// This end closed it.
    #[error("this end closed the session")]
    Closed,
    /// The peer closed it, or its connection ended.
    #[error("the peer closed the session")]
    PeerClosed,
    /// Nothing was heard for too long.
    #[error("the peer was silent for too long")]
    Silent,
    /// The peer took nothing of what was queued for it for too long, or makes this end answer without reading.
    #[error("the peer does not take what is sent to it")]
    Stalled,
    /// The peer broke the protocol.
    #[error("the peer broke the protocol: {0}")]
    Protocol(&'static str),
    /// The connection failed.
    #[error("the connection failed: {0}")]
    Io(io::ErrorKind),
    /// The task that owned the session was dropped.
    #[error("the session's task ended")]
    Aborted,
}

impl CloseReason {
    /// The reason's name for metrics and logs.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::PeerClosed => "peer_closed",
            Self::Silent => "silent",
            Self::Stalled => "stalled",
            Self::Protocol(_) => "protocol",
            Self::Io(_) => "io",
            Self::Aborted => "aborted",
        }
    }

    /// The reason behind an error of the connection.
    pub(crate) fn from_io(error: &io::Error) -> Self {
        #[expect(clippy::wildcard_enum_match_arm, reason = "the kinds are open; the kind itself is the reason")]
        match error.kind() {
            // A killed peer sends no close frame and no close_notify: an ordinary end.
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::NotConnected => Self::PeerClosed,
            io::ErrorKind::TimedOut => Self::Stalled,
            io::ErrorKind::InvalidData => Self::Protocol("malformed WebSocket or multiplexer frame"),
            other => Self::Io(other),
        }
    }
}
