//! A cluster's own Node object, in the server's words: pure.

use std::collections::BTreeMap;

use cattle_api::management::node::{
    Host, InternalNodeStatus, KubeletCondition, NodeAddress, NodeInfo, NodeSpec, NodeStatus, NodeTaint,
};
use k8s_openapi::api::core::v1::{Node, NodeStatus as KubernetesStatus};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::ResourceExt as _;

/// Label of a role, before its name.
const ROLE: &str = "node-role.kubernetes.io/";
/// Most entries of any list or map that are kept of what a cluster says.
const ENTRIES: usize = 256;
/// Most characters of a text.
const TEXT: usize = 1024;

/// What the server keeps of a node. `host` is what its agent has said.
pub(super) fn describe(node: &Node, host: Option<Host>) -> (NodeSpec, NodeStatus) {
    let name = node.name_any();
    let has = |role: &str| node.labels().contains_key(&format!("{ROLE}{role}"));
    let (control_plane, etcd) = (is_control_plane(has), has("etcd"));
    let spec = NodeSpec {
        imported: true,
        requested_hostname: name.clone(),
        control_plane,
        etcd,
        worker: has("worker") || !(control_plane || etcd),
    };
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_ref()).into_iter().flatten().take(ENTRIES);
    let taints = taints.map(|taint| NodeTaint {
        key: taint.key.clone(),
        value: cut(taint.value.as_deref()),
        effect: taint.effect.clone(),
    });
    let unschedulable = node.spec.as_ref().and_then(|spec| spec.unschedulable).unwrap_or_default();
    let labels = node.labels().iter().take(ENTRIES).map(|(key, value)| (key.clone(), value.clone()));
    let status = NodeStatus {
        node_name: name,
        internal_node_status: Some(internal(node.status.as_ref(), unschedulable)),
        node_labels: labels.collect(),
        node_taints: taints.collect(),
        host,
        ..NodeStatus::default()
    };
    (spec, status)
}

/// Whether a node of these roles runs the control plane. `master` is its older name.
pub(super) fn is_control_plane(has: impl Fn(&str) -> bool) -> bool {
    has("control-plane") || has("controlplane") || has("master")
}

fn internal(status: Option<&KubernetesStatus>, unschedulable: bool) -> InternalNodeStatus {
    let Some(status) = status else { return InternalNodeStatus { unschedulable, ..InternalNodeStatus::default() } };
    let addresses = status.addresses.iter().flatten().take(ENTRIES);
    let conditions = status.conditions.iter().flatten().take(ENTRIES);
    InternalNodeStatus {
        addresses: addresses
            .map(|one| NodeAddress { kind: one.type_.clone(), address: cut(Some(&one.address)) })
            .collect(),
        capacity: quantities(status.capacity.as_ref()),
        allocatable: quantities(status.allocatable.as_ref()),
        node_info: status.node_info.as_ref().map(|info| NodeInfo {
            kubelet_version: cut(Some(&info.kubelet_version)),
            container_runtime_version: cut(Some(&info.container_runtime_version)),
            kernel_version: cut(Some(&info.kernel_version)),
            os_image: cut(Some(&info.os_image)),
            operating_system: cut(Some(&info.operating_system)),
            architecture: cut(Some(&info.architecture)),
        }),
        // Without the time of the last heartbeat, which is no news.
        conditions: conditions
            .map(|one| KubeletCondition {
                kind: one.type_.clone(),
                status: one.status.clone(),
                reason: cut(one.reason.as_deref()),
                message: cut(one.message.as_deref()),
                last_transition_time: one.last_transition_time.clone(),
            })
            .collect(),
        unschedulable,
    }
}

fn quantities(map: Option<&BTreeMap<String, Quantity>>) -> BTreeMap<String, String> {
    map.into_iter().flatten().take(ENTRIES).map(|(key, value)| (key.clone(), cut(Some(&value.0)))).collect()
}

fn cut(text: Option<&str>) -> String {
    text.unwrap_or_default().chars().take(TEXT).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node(labels: serde_json::Value, heartbeat: &str) -> Node {
        serde_json::from_value(json!({
            "metadata": { "name": "node-1", "labels": labels },
            "spec": { "unschedulable": true, "taints": [{ "key": "a", "effect": "NoSchedule" }] },
            "status": {
                "addresses": [{ "type": "InternalIP", "address": "10.0.0.1" }],
                "capacity": { "cpu": "4", "memory": "8Gi" },
                "allocatable": { "cpu": "3900m" },
                "nodeInfo": { "kubeletVersion": "v1.34.1", "containerRuntimeVersion": "containerd://2.1.4",
                    "kernelVersion": "6.12", "osImage": "Debian", "operatingSystem": "linux", "architecture": "amd64",
                    "machineID": "m", "systemUUID": "s", "bootID": "b", "kubeProxyVersion": "" },
                "conditions": [{ "type": "Ready", "status": "True", "reason": "KubeletReady",
                    "lastHeartbeatTime": heartbeat, "lastTransitionTime": "2026-01-01T00:00:00Z" }],
            },
        }))
        .unwrap()
    }

    #[test]
    fn a_heartbeat_is_no_news() {
        let at = |heartbeat| describe(&node(json!({}), heartbeat), None);
        assert_eq!(at("2026-01-02T00:00:00Z"), at("2026-01-02T00:05:00Z"));
        let (_, status) = at("2026-01-02T00:00:00Z");
        let internal = status.internal_node_status.unwrap();
        assert_eq!(internal.node_info.unwrap().kubelet_version, "v1.34.1");
        assert_eq!((internal.capacity["cpu"].as_str(), internal.unschedulable), ("4", true));
        assert_eq!((status.node_taints[0].key.as_str(), internal.conditions[0].kind.as_str()), ("a", "Ready"));
    }

    #[test]
    fn roles_are_what_the_labels_say() {
        let roles = |labels: serde_json::Value| {
            let (spec, _) = describe(&node(labels, "2026-01-02T00:00:00Z"), None);
            (spec.control_plane, spec.etcd, spec.worker)
        };
        assert_eq!(roles(json!({})), (false, false, true));
        assert_eq!(roles(json!({ "node-role.kubernetes.io/control-plane": "" })), (true, false, false));
        assert_eq!(roles(json!({ "node-role.kubernetes.io/master": "true" })), (true, false, false));
        let all = json!({ "node-role.kubernetes.io/control-plane": "true", "node-role.kubernetes.io/etcd": "true",
            "node-role.kubernetes.io/worker": "true" });
        assert_eq!(roles(all), (true, true, true));
    }

    #[test]
    fn what_a_cluster_says_has_a_bound() {
        let labels: serde_json::Map<_, _> = (0..1000).map(|at| (format!("l{at}"), json!("x"))).collect();
        let mut node = node(labels.into(), "2026-01-02T00:00:00Z");
        node.status.as_mut().unwrap().node_info.as_mut().unwrap().os_image = "x".repeat(100_000);
        let (_, status) = describe(&node, None);
        assert_eq!(status.node_labels.len(), ENTRIES);
        assert_eq!(status.internal_node_status.unwrap().node_info.unwrap().os_image.len(), TEXT);
    }
}
