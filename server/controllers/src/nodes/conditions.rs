//! The conditions of a node, computed when somebody reads them.

use cattle_api::condition::{Condition, ConditionStatus, ConditionType, Reason};
use cattle_api::management::{AgentSession, Node};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::clusters::Link;

/// `Registered`, `Connected` and `Ready`. `agent` is the session of the agent on the node, `link` is the cluster's, and
/// `started` is when this server began to look.
#[must_use]
pub fn conditions(node: &Node, agent: Option<&AgentSession>, link: Link, started: Timestamp) -> Vec<Condition> {
    let made = node.metadata.creation_timestamp.clone().unwrap_or(Time(started));
    let kubelet = node.status.as_ref().and_then(|status| status.internal_node_status.as_ref());
    let registered = match kubelet {
        Some(_) => Condition::new(ConditionType::Registered, true, Reason::NodeRegistered, "", made),
        None => {
            let message = "the node's agent is known, and the cluster's API server has not confirmed the node yet";
            Condition::new(ConditionType::Registered, false, Reason::NodeUnconfirmed, message, made)
        }
    };
    let connected = match agent {
        Some(agent) => Condition::new(ConditionType::Connected, true, Reason::AgentConnected, "", agent.since.clone()),
        None => {
            let message =
                "no agent of this node has a session: kubectl -n cattle-system get pods -l app=cattle-node-agent";
            Condition::new(ConditionType::Connected, false, Reason::Disconnected, message, Time(started))
        }
    };
    let ready = kubelet.and_then(|status| status.conditions.iter().find(|condition| condition.kind == "Ready"));
    let ready = match ready {
        _ if !link.connected => {
            let since = Time(link.since.unwrap_or(started));
            let message = "no agent of the cluster has a session";
            Condition::new(ConditionType::Ready, ConditionStatus::Unknown, Reason::Disconnected, message, since)
        }
        Some(ready) => {
            let (status, reason) = match ready.status.as_str() {
                "True" => (ConditionStatus::True, Reason::KubeletReady),
                "False" => (ConditionStatus::False, Reason::KubeletNotReady),
                _ => (ConditionStatus::Unknown, Reason::NodeStatusUnknown),
            };
            let since = ready.last_transition_time.clone().unwrap_or(Time(started));
            let message = if status == ConditionStatus::True { "" } else { &ready.message };
            Condition::new(ConditionType::Ready, status, reason, message, since)
        }
        None => {
            let message = "the cluster has not said anything of the kubelet yet";
            let since = Time(started);
            Condition::new(ConditionType::Ready, ConditionStatus::Unknown, Reason::NodeStatusUnknown, message, since)
        }
    };
    vec![registered, connected, ready]
}

#[cfg(test)]
mod tests {
    use cattle_api::management::node::{InternalNodeStatus, KubeletCondition};
    use cattle_api::management::{NodeSpec, NodeStatus, SessionState};

    use super::*;

    fn node(ready: Option<&str>) -> Node {
        let internal = ready.map(|status| InternalNodeStatus {
            conditions: vec![KubeletCondition {
                kind: "Ready".into(),
                status: status.into(),
                reason: "x".into(),
                message: "why".into(),
                last_transition_time: None,
            }],
            ..InternalNodeStatus::default()
        });
        let mut node = Node::new("m-1", NodeSpec::default());
        node.status = Some(NodeStatus { internal_node_status: internal, ..NodeStatus::default() });
        node
    }

    #[test]
    fn each_condition_is_of_its_own_side() {
        let session = AgentSession {
            pod: "cattle-node-agent-x".into(),
            node: Some("node-1".into()),
            software: String::new(),
            since: Time(Timestamp::UNIX_EPOCH),
            state: SessionState::Standby,
            message: String::new(),
            rank: None,
            streams: 0,
            round_trip_microseconds: None,
            last_probe: None,
        };
        let (up, down) = (Link { connected: true, ..Link::default() }, Link::default());
        for (ready, agent, link, wanted) in [
            (Some("True"), Some(&session), up, "True True True"),
            (Some("False"), Some(&session), up, "True True False"),
            (Some("Unknown"), None, up, "True False Unknown"),
            (Some("True"), None, down, "True False Unknown"),
            (None, Some(&session), up, "False True Unknown"),
        ] {
            let conditions = conditions(&node(ready), agent, link, Timestamp::UNIX_EPOCH);
            let shown: Vec<_> = conditions.iter().map(|condition| format!("{:?}", condition.status)).collect();
            assert_eq!(shown.join(" "), wanted, "{ready:?}");
        }
    }
}
