use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::Context as _;
use serde_json::json;

use super::images::PAUSE_IMAGE;

/// Of the machine's `/etc`, what programs in a node need; a node never sees the rest.
const FROM_THE_MACHINE: [&str; 13] = [
    "passwd",
    "group",
    "nsswitch.conf",
    "os-release",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "alternatives",
    "ssl",
    "protocols",
    "services",
    "host.conf",
    "localtime",
];

/// Where distributions put the plugins that connect pods.
const CNI_DIRECTORIES: [&str; 2] = ["/usr/lib/cni", "/opt/cni/bin"];

/// The directory of the CNI plugins, if they are installed.
pub(super) fn cni_directory() -> Option<&'static str> {
    CNI_DIRECTORIES
        .into_iter()
        .find(|path| Path::new(path).join("bridge").is_file() && Path::new(path).join("ptp").is_file())
}

/// A node's own `/etc` and `/var`.
pub(super) fn write(
    directory: &Path,
    name: &str,
    address: Ipv4Addr,
    upstream_dns: Ipv4Addr,
    pod_range: &str,
) -> anyhow::Result<()> {
    for path in ["etc/cni/net.d", "etc/containerd", "etc/kubernetes/patches", "bin"] {
        fs::create_dir_all(directory.join(path))?;
    }
    for path in ["lib/kubelet", "lib/containerd", "lib/etcd", "lib/cni", "log", "tmp"] {
        fs::create_dir_all(directory.join("var").join(path))?;
    }
    std::os::unix::fs::symlink("/run", directory.join("var/run"))?;
    std::os::unix::fs::symlink("/run/assets/kubelet", directory.join("bin/kubelet"))?;
    let etc = directory.join("etc");
    for file in FROM_THE_MACHINE {
        copy(&Path::new("/etc").join(file), &etc.join(file)).with_context(|| format!("cannot copy /etc/{file}"))?;
    }
    fs::write(etc.join("hostname"), format!("{name}\n"))?;
    fs::write(etc.join("hosts"), format!("127.0.0.1 localhost\n{address} {name}\n"))?;
    // Nobody answers there. It must not be the cluster's own DNS, which would ask itself.
    fs::write(etc.join("resolv.conf"), format!("nameserver {upstream_dns}\noptions timeout:1 attempts:1\n"))?;
    let cni = cni_directory().context("the CNI plugins are not installed")?;
    fs::write(etc.join("containerd/config.toml"), containerd_config(cni))?;
    fs::write(etc.join("cni/net.d/10-cattle.conflist"), cni_config(pod_range))?;
    fs::write(etc.join("kubernetes/kube-proxy.yaml"), kube_proxy_config(name))?;
    Ok(())
}

fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    let Ok(found) = fs::symlink_metadata(from) else { return Ok(()) };
    if found.is_dir() {
        fs::create_dir_all(to)?;
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            // Private keys of the machine stay where they are.
            if entry.file_name() != "private" {
                copy(&entry.path(), &to.join(entry.file_name()))?;
            }
        }
    } else if found.is_symlink() {
        std::os::unix::fs::symlink(fs::read_link(from)?, to)?;
    } else if found.is_file() {
        fs::copy(from, to)?;
    }
    Ok(())
}

fn containerd_config(cni: &str) -> String {
    // restrict_oom_score_adj: where root lacks CAP_SYS_RESOURCE every sandbox would fail without it.
    format!(
        r#"version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  restrict_oom_score_adj = true
  disable_apparmor = true
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "{cni}"
  conf_dir = "/etc/cni/net.d"
[plugins."io.containerd.grpc.v1.cri".registry]
  config_path = "/etc/containerd/certs.d"
"#
    )
}

/// `ptp`, not `bridge`: every packet between pods of a node is routed, so Services work without a kernel module that
/// filters bridges. Addresses are handed out from the tmpfs of this boot: a power cut frees them.
fn cni_config(pod_range: &str) -> String {
    json!({
        "cniVersion": "0.4.0",
        "name": "cattle",
        "plugins": [
            {
                "type": "ptp",
                "ipMasq": true,
                "ipam": {
                    "type": "host-local",
                    "dataDir": "/run/cni-addresses",
                    "ranges": [[{ "subnet": pod_range }]],
                    "routes": [{ "dst": "0.0.0.0/0" }],
                },
            },
            { "type": "portmap", "capabilities": { "portMappings": true } },
        ],
    })
    .to_string()
}

fn kube_proxy_config(name: &str) -> String {
    json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "hostnameOverride": name,
        "clientConnection": { "kubeconfig": "/etc/kubernetes/kube-proxy.conf" },
        // Settings of the whole machine, which a node leaves alone.
        "conntrack": { "maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s" },
    })
    .to_string()
}
