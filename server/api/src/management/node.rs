//! `Node`: a machine of a downstream cluster. Its namespace is the cluster's name.
//!
//! The server makes and removes these objects. What they say comes from two sides: the cluster's own Node object, and the node
//! agent on the machine, which is still there when the cluster is not well.

use std::collections::BTreeMap;

use aws_lc_rs::digest::{SHA256, digest};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::agent_session::AgentSession;
use crate::condition::Condition;
use crate::field::FieldErrors;
use crate::resource::{self, Kind, Resource};

/// What the node is in its cluster.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "management.cattle.io",
    version = "v3",
    kind = "Node",
    doc = "A machine of a downstream cluster.",
    namespaced,
    derive = "PartialEq",
    derive = "Default",
    status = "NodeStatus",
    category = "cattle",
    printcolumn(name = "Node", type_ = "string", json_path = ".status.nodeName"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(
        name = "Connected",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Connected\")].status"
    ),
    printcolumn(name = "Version", type_ = "string", json_path = ".status.internalNodeStatus.nodeInfo.kubeletVersion"),
    printcolumn(name = "OS", type_ = "string", priority = 1, json_path = ".status.host.operatingSystem"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
pub struct NodeSpec {
    /// Whether the cluster was made elsewhere; true for all clusters so far.
    #[serde(default)]
    pub imported: bool,
    /// The node's name in its cluster.
    #[serde(default)]
    pub requested_hostname: String,
    /// Whether it runs the control plane.
    #[serde(default)]
    pub control_plane: bool,
    /// Whether it is a member of etcd.
    #[serde(default)]
    pub etcd: bool,
    /// Whether it is there for the users' pods.
    #[serde(default)]
    pub worker: bool,
}

/// What is known of the node. `agent` and `conditions` are computed when the object is read; the rest is stored when it changes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeStatus {
    /// The node's name in its cluster.
    #[serde(default)]
    pub node_name: String,
    /// What the cluster's own Node object says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub internal_node_status: Option<InternalNodeStatus>,
    /// Its labels in the cluster.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_labels: BTreeMap<String, String>,
    /// Its taints in the cluster.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub node_taints: Vec<NodeTaint>,
    /// What the node agent says of the machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<Host>,
    /// The node agent's session. Computed on read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentSession>,
    /// `Registered`, `Connected` and `Ready`. Computed on read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// The status of the cluster's own Node object, without what changes with each heartbeat.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InternalNodeStatus {
    /// Its addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<NodeAddress>,
    /// All that the machine has, as Kubernetes quantities.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub capacity: BTreeMap<String, String>,
    /// What of it pods may have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub allocatable: BTreeMap<String, String>,
    /// The kubelet's words about itself and its host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_info: Option<NodeInfo>,
    /// The kubelet's conditions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<KubeletCondition>,
    /// Whether the scheduler gives it no pods.
    #[serde(default)]
    pub unschedulable: bool,
}

/// An address of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NodeAddress {
    /// `InternalIP`, `ExternalIP`, `Hostname` and so on.
    #[serde(rename = "type")]
    pub kind: String,
    /// The address.
    pub address: String,
}

/// What a kubelet says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeInfo {
    /// Such as `v1.34.1`.
    pub kubelet_version: String,
    /// Such as `containerd://2.1.4`.
    pub container_runtime_version: String,
    /// The kernel's release.
    pub kernel_version: String,
    /// Such as `Debian GNU/Linux 13 (trixie)`.
    pub os_image: String,
    /// `linux` or `windows`.
    pub operating_system: String,
    /// Such as `amd64`.
    pub architecture: String,
}

/// A condition of a kubelet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KubeletCondition {
    /// `Ready`, `MemoryPressure`, `DiskPressure`, `PIDPressure` and so on.
    #[serde(rename = "type")]
    pub kind: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// One word.
    #[serde(default)]
    pub reason: String,
    /// A sentence.
    #[serde(default)]
    pub message: String,
    /// When the status last changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_transition_time: Option<Time>,
}

/// A taint of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NodeTaint {
    /// Its key.
    pub key: String,
    /// Its value.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub value: String,
    /// `NoSchedule`, `PreferNoSchedule` or `NoExecute`.
    pub effect: String,
}

/// A machine, as the node agent on it sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Host {
    /// The operating system's name and version, such as `Debian GNU/Linux 13 (trixie)`.
    pub operating_system: String,
    /// The kernel's release.
    pub kernel: String,
    /// Such as `x86_64`.
    pub architecture: String,
    /// How many processors.
    pub cpus: i64,
    /// The processors' name.
    pub cpu_model: String,
    /// Memory in bytes.
    pub memory_bytes: i64,
    /// Its disks.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub disks: Vec<Disk>,
    /// The Kubernetes distribution whose files are there: `kubeadm`, `k3s`, `rke2` or empty.
    pub distribution: String,
    /// What runs there by those files: `control-plane`, `etcd`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
}

/// A disk of a host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Disk {
    /// The kernel's name, such as `nvme0n1`.
    pub name: String,
    /// Its size in bytes.
    pub bytes: i64,
    /// Whether it turns.
    pub rotational: bool,
}

/// The name of the object of a node: the same for the same node, whatever characters its name has.
#[must_use]
pub fn object_name(node: &str) -> String {
    let hash = digest(&SHA256, node.as_bytes());
    format!("m-{}", hash.as_ref().iter().take(6).map(|byte| format!("{byte:02x}")).collect::<String>())
}

impl Kind for Node {
    fn resource() -> &'static Resource {
        &resource::NODE
    }

    fn validate(&self, old: Option<&Self>, errors: &mut FieldErrors) {
        errors.required("spec.requestedHostname", &self.spec.requested_hostname);
        if let Some(old) = old {
            let (before, now) = (&old.spec.requested_hostname, &self.spec.requested_hostname);
            errors.unchanged("spec.requestedHostname", before, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names;

    #[test]
    fn a_node_has_one_object_with_a_valid_name() {
        let name = object_name("ip-10-0-0-1.eu-west-1.compute.internal");
        assert!(names::is_label(&name), "{name}");
        assert_eq!(name, object_name("ip-10-0-0-1.eu-west-1.compute.internal"));
        assert_ne!(name, object_name("ip-10-0-0-2.eu-west-1.compute.internal"));
    }
}
