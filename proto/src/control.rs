//! The control stream: the first stream of a session, opened by the agent; frames both ways until the session ends.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::code::codes;
use crate::codec::{Message, sealed};
use crate::handshake::RejectCode;
use crate::limits;
use crate::secret::{self, Secret};

/// What an agent says on the control stream. It has no `Debug`: it may hold tokens.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum AgentMessage {
    /// The agent's own state, every [`limits::HEARTBEAT_INTERVAL`]. The first one, right after the stream opens, is what
    /// makes the stream exist at the other end.
    Heartbeat(Heartbeat),
    /// What the agent knows about its cluster or node, when it changes.
    Facts(Facts),
    /// A credential of ServiceAccount `cattle-system/cattle` for the server: during registration unasked, later as the
    /// answer to `CredentialRequest`.
    ServerCredential(ServerCredential),
    /// The agent could not get that credential.
    ServerCredentialFailed(CredentialFailure),
    /// A new projected token of the agent's own pod: the session's proof is as long valid as its last token.
    Proof {
        /// The projected token (a JWT).
        #[serde(with = "secret::wire")]
        token: Secret,
    },
    /// The agent is about to stop: open no more streams. Running ones go on until they end or the session does.
    Leaving,
}

impl sealed::Sealed for AgentMessage {}
impl Message for AgentMessage {
    const LIMIT: usize = limits::CONTROL_FRAME;
    const NAME: &'static str = "AgentMessage";
}

impl AgentMessage {
    /// The message's name for logs and metrics.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Heartbeat(_) => "Heartbeat",
            Self::Facts(_) => "Facts",
            Self::ServerCredential(_) => "ServerCredential",
            Self::ServerCredentialFailed(_) => "ServerCredentialFailed",
            Self::Proof { .. } => "Proof",
            Self::Leaving => "Leaving",
        }
    }
}

/// State of an agent's process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Counts up by one in each session, from 0.
    pub sequence: u64,
    /// Streams that the agent serves at the moment.
    pub streams: u32,
}

/// A JSON object of at most [`limits::FACTS`] bytes. Its fields grow with capabilities; unknown ones are ignored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Facts(String);

impl Default for Facts {
    /// Nothing to tell.
    fn default() -> Self {
        Self("{}".to_owned())
    }
}

impl Facts {
    /// The facts as JSON.
    ///
    /// # Errors
    /// When they do not serialize to an object, or to a larger one than is allowed.
    pub fn new<T: Serialize>(facts: &T) -> Result<Self, InvalidFacts> {
        serde_json::to_string(facts).map_err(|_| InvalidFacts).and_then(Self::try_from)
    }

    /// The JSON text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Reads the facts that `T` knows.
    ///
    /// # Errors
    /// When a field that `T` knows has another type.
    pub fn read<'de, T: Deserialize<'de>>(&'de self) -> Result<T, InvalidFacts> {
        serde_json::from_str(&self.0).map_err(|_| InvalidFacts)
    }
}

impl TryFrom<String> for Facts {
    type Error = InvalidFacts;

    fn try_from(json: String) -> Result<Self, InvalidFacts> {
        let object = json.len() <= limits::FACTS
            && json.trim_start().starts_with('{')
            && serde_json::from_str::<serde::de::IgnoredAny>(&json).is_ok();
        if object { Ok(Self(json)) } else { Err(InvalidFacts) }
    }
}

impl From<Facts> for String {
    fn from(facts: Facts) -> Self {
        facts.0
    }
}

/// The text is no JSON object, or too large, or a field has another type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not valid facts")]
pub struct InvalidFacts;

/// A token of ServiceAccount `cattle-system/cattle`, by TokenRequest. It has no `Debug`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerCredential {
    /// The token, for the API server's own audience.
    #[serde(with = "secret::wire")]
    pub token: Secret,
    /// `status.expirationTimestamp` of the TokenRequest, seconds since 1970-01-01 UTC.
    pub expires_at: u64,
}

/// Why there is no server credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CredentialFailure {
    /// The reason.
    pub code: CredentialFailureCode,
}

codes! {
    /// Why an agent could not get the server's credential.
    CredentialFailureCode {
        /// The API server did not answer.
        Unreachable = 1, "the agent cannot reach its API server";
        /// The API server answered 401 or 403: a role is missing.
        Forbidden = 2, "the agent may not request tokens for the server's service account";
        /// The API server answered 404: the service account is missing.
        ServiceAccountMissing = 3, "the server's service account does not exist";
        /// The agent failed; its log says why.
        Internal = 4, "the agent failed";
    }
}

/// What the server says on the control stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ServerMessage {
    /// This session ends: the agent makes a new one and keeps this one until its streams are done.
    GoAway(GoAway),
    /// The server has no valid credential; the agent answers with `ServerCredential` or `ServerCredentialFailed`.
    CredentialRequest,
    /// The cluster's record is bound. A `GoAway` follows.
    Registered,
    /// It is not, and the session ends.
    RegistrationFailed {
        /// The reason.
        code: RejectCode,
    },
}

impl sealed::Sealed for ServerMessage {}
impl Message for ServerMessage {
    const LIMIT: usize = limits::CONTROL_FRAME;
    const NAME: &'static str = "ServerMessage";
}

impl ServerMessage {
    /// The message's name for logs and metrics.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::GoAway(_) => "GoAway",
            Self::CredentialRequest => "CredentialRequest",
            Self::Registered => "Registered",
            Self::RegistrationFailed { .. } => "RegistrationFailed",
        }
    }
}

/// When to come back, and how long the old session may last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GoAway {
    /// Milliseconds to wait before the new session; the server draws it at random, so that its agents do not come at once.
    pub reconnect_in_ms: u32,
    /// Milliseconds after which the server resets the streams that are left. The agent tries that long for a new session
    /// before it falls back to its ordinary back-off.
    pub try_for_ms: u32,
}

impl GoAway {
    /// From durations; more than 49 days are cut to that.
    #[must_use]
    pub fn new(reconnect_in: Duration, try_for: Duration) -> Self {
        let ms = |d: Duration| u32::try_from(d.as_millis()).unwrap_or(u32::MAX);
        Self { reconnect_in_ms: ms(reconnect_in), try_for_ms: ms(try_for) }
    }

    /// Time to wait before the new session.
    #[must_use]
    pub const fn reconnect_in(self) -> Duration {
        Duration::from_millis(self.reconnect_in_ms as u64)
    }

    /// Time after which the old session's streams are reset.
    #[must_use]
    pub const fn try_for(self) -> Duration {
        Duration::from_millis(self.try_for_ms as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_an_object() {
        assert!(Facts::try_from(r#"{"a": 1}"#.to_owned()).is_ok());
        for bad in ["", "[]", "1", "{", "{}{}", r#"{"a":}"#] {
            assert_eq!(Facts::try_from(bad.to_owned()), Err(InvalidFacts), "{bad}");
        }
        assert_eq!(Facts::try_from(format!("{{\"a\":\"{}\"}}", "x".repeat(limits::FACTS))), Err(InvalidFacts));
    }

    #[test]
    fn unknown_facts_are_ignored() {
        #[derive(Deserialize)]
        struct Known {
            version: String,
        }
        let facts = Facts::try_from(r#"{"version":"1.34","new":[1,2]}"#.to_owned()).unwrap();
        assert_eq!(facts.read::<Known>().unwrap().version, "1.34");
    }
}
