//! Which Kubernetes distribution a node is of, by its files.

use std::path::Path;

use serde::{Deserialize, Serialize};

/// The distributions whose files are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Distribution {
    /// kubeadm, and what is built on it.
    Kubeadm,
    /// K3s.
    K3s,
    /// RKE2.
    Rke2,
}

/// A role and the file that a node has when it plays it.
type Signs = &'static [(&'static str, &'static str)];

impl Distribution {
    /// All of them. RKE2 and K3s come first: their nodes may have a folder of kubeadm's as well.
    const ALL: [Self; 3] = [Self::Rke2, Self::K3s, Self::Kubeadm];

    /// The one whose kubelet runs on the node with this root.
    #[must_use]
    pub fn find(root: &Path) -> Option<Self> {
        Self::ALL.into_iter().find(|distribution| root.join(distribution.kubeconfig()).exists())
    }

    /// What the node is in its cluster.
    #[must_use]
    pub fn roles(self, root: &Path) -> Vec<String> {
        let signs = self.signs().iter().filter(|(_, file)| root.join(file).exists());
        signs.map(|(role, _)| (*role).to_owned()).collect()
    }

    /// The short name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kubeadm => "kubeadm",
            Self::K3s => "k3s",
            Self::Rke2 => "rke2",
        }
    }

    /// The kubelet's kubeconfig, below the root.
    #[must_use]
    pub const fn kubeconfig(self) -> &'static str {
        match self {
            Self::Kubeadm => "etc/kubernetes/kubelet.conf",
            Self::K3s => "var/lib/rancher/k3s/agent/kubelet.kubeconfig",
            Self::Rke2 => "var/lib/rancher/rke2/agent/kubelet.kubeconfig",
        }
    }

    /// The kubeconfigs of all, in the order of [`Distribution::find`].
    pub fn kubeconfigs() -> impl Iterator<Item = &'static str> {
        Self::ALL.into_iter().map(Self::kubeconfig)
    }

    const fn signs(self) -> Signs {
        match self {
            Self::Kubeadm => &[
                ("control-plane", "etc/kubernetes/manifests/kube-apiserver.yaml"),
                ("etcd", "etc/kubernetes/manifests/etcd.yaml"),
            ],
            Self::K3s => {
                &[("control-plane", "var/lib/rancher/k3s/server/tls"), ("etcd", "var/lib/rancher/k3s/server/db/etcd")]
            }
            Self::Rke2 => &[
                ("control-plane", "var/lib/rancher/rke2/agent/pod-manifests/kube-apiserver.yaml"),
                ("etcd", "var/lib/rancher/rke2/agent/pod-manifests/etcd.yaml"),
            ],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_of_the_distribution_whose_kubelet_it_runs() {
        for (files, found) in [
            (&[][..], None),
            (&["etc/kubernetes/admin.conf"], None),
            (&["etc/kubernetes/kubelet.conf"], Some((Distribution::Kubeadm, &[][..]))),
            (
                &["var/lib/rancher/k3s/agent/kubelet.kubeconfig", "var/lib/rancher/k3s/server/tls/x"],
                Some((Distribution::K3s, &["control-plane"])),
            ),
            (
                &[
                    "etc/kubernetes/kubelet.conf",
                    "var/lib/rancher/rke2/agent/kubelet.kubeconfig",
                    "var/lib/rancher/rke2/agent/pod-manifests/kube-apiserver.yaml",
                    "var/lib/rancher/rke2/agent/pod-manifests/etcd.yaml",
                ],
                Some((Distribution::Rke2, &["control-plane", "etcd"])),
            ),
        ] {
            let root = tempfile::tempdir().unwrap();
            for file in files {
                let file = root.path().join(file);
                std::fs::create_dir_all(file.parent().unwrap()).unwrap();
                std::fs::write(file, "").unwrap();
            }
            let distribution = Distribution::find(root.path());
            let roles = distribution.map(|distribution| distribution.roles(root.path())).unwrap_or_default();
            assert_eq!(distribution, found.map(|(distribution, _)| distribution), "{files:?}");
            assert_eq!(roles, found.map(|(_, roles)| roles).unwrap_or_default(), "{files:?}");
        }
    }
}
