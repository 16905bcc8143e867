use std::net::Ipv4Addr;

use serde_json::{Value, json};

use crate::assets::KUBERNETES_VERSION;

use super::NodesOptions;

const SOCKET: &str = "unix:///run/containerd/containerd.sock";
const API: &str = "kubeadm.k8s.io/v1beta4";

/// What `kubeadm init --config` reads.
pub(super) fn init(options: &NodesOptions, name: &str, address: Ipv4Addr, token: &str) -> String {
    let argument = |name: &str, value: &str| json!({ "name": name, "value": value });
    let mut names = options.extra_names.clone();
    names.push("localhost".to_owned());
    let mut registration = registration(name, address);
    if options.workers == 0 {
        // Where there is no other node, pods run beside the control plane.
        registration["taints"] = json!([]);
    }
    documents(&[
        json!({
            "apiVersion": API,
            "kind": "InitConfiguration",
            "localAPIEndpoint": { "advertiseAddress": address, "bindPort": 6443 },
            "nodeRegistration": registration,
            "bootstrapTokens": [{ "token": token, "ttl": "1h0m0s" }],
            "patches": { "directory": "/etc/kubernetes/patches" },
        }),
        json!({
            "apiVersion": API,
            "kind": "ClusterConfiguration",
            "clusterName": options.name,
            "kubernetesVersion": KUBERNETES_VERSION,
            "encryptionAlgorithm": "ECDSA-P256",
            "networking": { "podSubnet": options.pod_range, "serviceSubnet": options.service_range },
            "apiServer": { "certSANs": names },
            "controllerManager": { "extraArgs": [
                // The nodes' pod ranges are laid out before there is a cluster.
                argument("allocate-node-cidrs", "false"),
                argument("flex-volume-plugin-dir", "/var/lib/kubelet/volumeplugins"),
            ] },
            "etcd": { "local": { "extraArgs": [argument("unsafe-no-fsync", "true")] } },
        }),
        kubelet_config(),
    ])
}

/// What `kubeadm join --config` reads.
pub(super) fn join(name: &str, address: Ipv4Addr, token: &str) -> String {
    documents(&[json!({
        "apiVersion": API,
        "kind": "JoinConfiguration",
        "nodeRegistration": registration(name, address),
        "discovery": {
            "file": { "kubeConfigPath": "/run/node/discovery.conf" },
            "tlsBootstrapToken": token,
        },
        "patches": { "directory": "/etc/kubernetes/patches" },
    })])
}

/// A kubeconfig that names the API server and its CA, and nobody.
pub(super) fn discovery(address: Ipv4Addr, ca_pem: &str) -> String {
    let ca = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, ca_pem);
    let cluster = json!({ "server": format!("https://{address}:6443"), "certificate-authority-data": ca });
    json!({ "apiVersion": "v1", "kind": "Config", "clusters": [{ "name": "", "cluster": cluster }] }).to_string()
}

/// The part of the kubelet's configuration that is the node's own: the one in the cluster is shared by all.
pub(super) fn kubelet_patch(cgroup: &str) -> String {
    json!({ "cgroupRoot": format!("/{cgroup}") }).to_string()
}

fn registration(name: &str, address: Ipv4Addr) -> Value {
    json!({
        "name": name,
        "criSocket": SOCKET,
        "imagePullPolicy": "IfNotPresent",
        "kubeletExtraArgs": [{ "name": "node-ip", "value": address }],
    })
}

fn kubelet_config() -> Value {
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "cgroupDriver": "cgroupfs",
        "failSwapOn": false,
        "failCgroupV1": false,
        "oomScoreAdj": 0,
        "localStorageCapacityIsolation": true,
        "volumePluginDir": "/var/lib/kubelet/volumeplugins",
        "resolvConf": "/etc/resolv.conf",
        // A machine with a full disk or little memory is not this cluster's fault.
        "evictionHard": { "memory.available": "0%", "nodefs.available": "0%", "imagefs.available": "0%", "nodefs.inodesFree": "0%" },
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "nodeStatusUpdateFrequency": "4s",
        "shutdownGracePeriod": "0s",
    })
}

/// JSON is YAML.
fn documents(values: &[Value]) -> String {
    values.iter().map(|value| format!("---\n{value}\n")).collect()
}
