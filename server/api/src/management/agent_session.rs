//! A session of one agent, as clusters and nodes show it. Computed when it is read, from the server's own evidence.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One agent's session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentSession {
    /// The agent's pod.
    pub pod: String,
    /// The node that the pod runs on, if the cluster has said it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// The agent's program and version.
    #[serde(default)]
    pub software: String,
    /// When the session was made.
    pub since: Time,
    /// Whether requests take this session, or why not.
    #[schemars(with = "String")]
    pub state: SessionState,
    /// The same for people; empty when it is in use.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Its place in the order in which new streams try the cluster's sessions, from 1. Absent when it takes none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rank: Option<i64>,
    /// Streams that it carries.
    #[serde(default)]
    pub streams: i64,
    /// How long the agent took to answer the last ping, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub round_trip_microseconds: Option<i64>,
    /// The last look at the way through it to the API server. Absent while there is no other session to choose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_probe: Option<LastProbe>,
}

/// What a session is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum SessionState {
    /// New requests go through it.
    InUse,
    /// It is good, and others go first.
    Standby,
    /// It failed or was away, and has to be well for a while before it goes first again.
    Recovering,
    /// It does not reach the API server.
    Unreachable,
    /// It takes no new streams and ends with the last of the old ones.
    Draining,
    /// A state that a newer server wrote.
    #[serde(other)]
    Unknown,
}

/// A look at the way through a session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastProbe {
    /// When.
    pub at: Time,
    /// Whether the API server answered.
    pub passed: bool,
}
