//! Conditions of objects: closed types and reasons, and the merge that keeps transition times.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a condition is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ConditionType {
    /// The cluster record is bound to a cluster's identity.
    Registered,
    /// At least one agent has a live session. Rancher has it under the same name.
    Connected,
    /// Requests of users reach the cluster's API server: the probe through their path passes.
    Ready,
    /// The server's own credential for the cluster is valid.
    Authenticated,
    /// A certificate that this object depends on ends soon.
    CertificateExpiring,
    /// The object is being removed, and what was made for it as well.
    Removed,
    /// A type that a newer server wrote.
    #[serde(other)]
    Unknown,
}

/// Whether the condition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// It cannot be said now, for example of a cluster that is away.
    Unknown,
}

impl From<bool> for ConditionStatus {
    fn from(holds: bool) -> Self {
        if holds { Self::True } else { Self::False }
    }
}

/// Why a condition has its status. Programs may act on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Reason {
    /// Bound to an identity.
    Registered,
    /// No agent has presented a registration token yet.
    WaitingForRegistration,
    /// The last attempt to register was refused; `status.registration.lastRefusal` says why.
    RegistrationRefused,
    /// An agent has a live session.
    AgentConnected,
    /// No agent has a live session. Rancher's reason for the same state.
    Disconnected,
    /// No agent was ever connected.
    NeverConnected,
    /// The probe through the users' path passes.
    ProbeSucceeded,
    /// The API server answers, but not with "ready".
    ApiServerNotReady,
    /// Agents are connected, but the API server cannot be reached through any of them.
    ApiServerUnreachable,
    /// TLS to the API server fails: its certificate does not fit the registered CA and name.
    CertificateMismatch,
    /// The first probe has not ended yet.
    ProbePending,
    /// The server holds a valid credential for the cluster.
    CredentialValid,
    /// The server holds no valid credential, or the cluster refuses it.
    CredentialInvalid,
    /// The certificate is good for long enough.
    CertificateValid,
    /// The certificate ends soon and renews itself or must be replaced.
    CertificateExpiring,
    /// The certificate has ended.
    CertificateExpired,
    /// Removal is going on.
    Removing,
    /// Removal waits for the cluster to be connected.
    RemovalWaitsForCluster,
    /// The cluster has this node.
    NodeRegistered,
    /// The node agent has said who it is, and the cluster has not been asked yet.
    NodeUnconfirmed,
    /// The kubelet says that it is ready.
    KubeletReady,
    /// The kubelet says that it is not.
    KubeletNotReady,
    /// The cluster has not heard from the kubelet.
    NodeStatusUnknown,
    /// A reason that a newer server wrote.
    #[serde(other)]
    Unknown,
}

/// One condition, in the shape that `kubectl wait --for=condition=…` and Rancher's clients read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// What it is about.
    #[serde(rename = "type")]
    #[schemars(with = "String")]
    pub kind: ConditionType,
    /// Whether it holds.
    pub status: ConditionStatus,
    /// Why.
    #[schemars(with = "String")]
    pub reason: Reason,
    /// The same for people: one sentence with the next step.
    #[serde(default)]
    pub message: String,
    /// When `status` last changed.
    pub last_transition_time: Time,
}

impl Condition {
    /// A condition as observed at `now`; [`merge`] corrects the transition time.
    #[must_use]
    pub fn new(
        kind: ConditionType,
        status: impl Into<ConditionStatus>,
        reason: Reason,
        message: impl Into<String>,
        now: Time,
    ) -> Self {
        Self { kind, status: status.into(), reason, message: message.into(), last_transition_time: now }
    }
}

/// Puts `observed` into `conditions`, replacing the one of the same type.
///
/// The transition time of the old condition stays as long as its status does. Answers whether anything but the time
/// changed, so that a caller need not write what is the same.
pub fn merge(conditions: &mut Vec<Condition>, mut observed: Condition) -> bool {
    let Some(current) = conditions.iter_mut().find(|condition| condition.kind == observed.kind) else {
        conditions.push(observed);
        return true;
    };
    if current.status == observed.status {
        observed.last_transition_time = current.last_transition_time.clone();
    }
    let changed = *current != observed;
    *current = observed;
    changed
}

/// The condition of a type.
#[must_use]
pub fn find(conditions: &[Condition], kind: ConditionType) -> Option<&Condition> {
    conditions.iter().find(|condition| condition.kind == kind)
}

/// Whether the condition of a type is there and holds.
#[must_use]
pub fn is_true(conditions: &[Condition], kind: ConditionType) -> bool {
    find(conditions, kind).is_some_and(|condition| condition.status == ConditionStatus::True)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Time {
        Time(jiff::Timestamp::from_second(second).expect("in range"))
    }

    fn ready(status: bool, reason: Reason, second: i64) -> Condition {
        Condition::new(ConditionType::Ready, status, reason, "", at(second))
    }

    #[test]
    fn the_transition_time_stays_while_the_status_does() {
        let mut conditions = vec![ready(false, Reason::ProbePending, 1)];
        assert!(merge(&mut conditions, ready(false, Reason::ApiServerUnreachable, 2)));
        assert_eq!(conditions, [ready(false, Reason::ApiServerUnreachable, 1)]);
        assert!(!merge(&mut conditions, ready(false, Reason::ApiServerUnreachable, 3)));
        assert!(merge(&mut conditions, ready(true, Reason::ProbeSucceeded, 4)));
        assert_eq!(conditions, [ready(true, Reason::ProbeSucceeded, 4)]);
    }

    #[test]
    fn other_types_are_left_alone() {
        let connected = Condition::new(ConditionType::Connected, true, Reason::AgentConnected, "", at(1));
        let mut conditions = vec![connected.clone()];
        assert!(merge(&mut conditions, ready(true, Reason::ProbeSucceeded, 2)));
        assert_eq!(conditions, [connected, ready(true, Reason::ProbeSucceeded, 2)]);
        assert!(is_true(&conditions, ConditionType::Ready));
        assert!(!is_true(&conditions, ConditionType::Registered));
    }

    #[test]
    fn a_type_of_a_newer_server_is_read() {
        let json = r#"{"type":"Shiny","status":"True","reason":"Because","lastTransitionTime":"2026-01-01T00:00:00Z"}"#;
        let condition: Condition = serde_json::from_str(json).expect("readable");
        assert_eq!((condition.kind, condition.reason), (ConditionType::Unknown, Reason::Unknown));
    }
}
