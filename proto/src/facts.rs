//! What agents tell about themselves in [`Facts`](crate::control::Facts): the bodies, which grow field by field.

use serde::{Deserialize, Serialize};

/// A machine, as the node agent on it sees it. Every field may be missing: an older agent does not know it, or this host does
/// not say it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HostFacts {
    /// `PRETTY_NAME` of os-release(5), such as `Debian GNU/Linux 13 (trixie)`.
    pub operating_system: String,
    /// The kernel's release.
    pub kernel: String,
    /// The machine's architecture, as the kernel says it: `x86_64`, `aarch64`.
    pub architecture: String,
    /// Processors.
    pub cpus: u32,
    /// Their name.
    pub cpu_model: String,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Disks: whole devices, no partitions and nothing made of them.
    pub disks: Vec<DiskFacts>,
    /// The Kubernetes distribution whose files are there: `kubeadm`, `k3s`, `rke2` or empty.
    pub distribution: String,
    /// What runs there by those files: `control-plane`, `etcd`.
    pub roles: Vec<String>,
}

/// A disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DiskFacts {
    /// The kernel's name, such as `nvme0n1`.
    pub name: String,
    /// Size in bytes.
    pub bytes: u64,
    /// Whether it turns.
    pub rotational: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Facts;

    #[test]
    fn what_is_not_known_is_left_out_and_what_is_new_ignored() {
        let facts = Facts::try_from(r#"{"cpus":4,"disks":[{"name":"sda","new":1}],"gpus":[]}"#.to_owned()).unwrap();
        let host: HostFacts = facts.read().unwrap();
        assert_eq!((host.cpus, host.disks[0].name.as_str(), host.kernel.as_str()), (4, "sda", ""));
    }
}
