use std::net::SocketAddr;
use std::path::PathBuf;

use crate::assets::Assets;
use crate::kubectl::kubeconfig;
use crate::pki::{Authority, write_private};
use crate::process::{Process, Program};
use crate::run::Scope;

use super::{ControlPlaneOptions, LoopbackAddress, READY_DEADLINE};

/// As kubeadm sets it.
pub(super) const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// How each program of a control plane is called.
pub(super) struct Servers<'a> {
    pub(super) options: &'a ControlPlaneOptions,
    pub(super) assets: &'a Assets,
    pub(super) scope: &'a Scope,
}

impl Servers<'_> {
    /// Everything that the CA signs, and the kubeconfigs with it.
    pub(super) fn write_certificates(&self, authority: &Authority, address: &LoopbackAddress) -> anyhow::Result<()> {
        write_private(&self.file("ca.crt"), &authority.pem())?;
        authority.server("kube-apiserver", &self.names(address)?)?.write(self.scope.directory(), "kube-apiserver")?;
        self.write_kubeconfig(authority, "admin", "kubernetes-admin", Some("system:masters"), address)?;
        self.write_kubeconfig(authority, "controllers", "system:kube-controller-manager", None, address)?;
        Ok(())
    }

    /// The certificate of an additional API server; gives an administrator's kubeconfig for it.
    pub(super) fn write_replica(
        &self,
        authority: &Authority,
        name: &str,
        address: &LoopbackAddress,
    ) -> anyhow::Result<PathBuf> {
        authority.server("kube-apiserver", &self.names(address)?)?.write(self.scope.directory(), name)?;
        self.write_kubeconfig(authority, name, "kubernetes-admin", Some("system:masters"), address)
    }

    pub(super) fn etcd(&self, address: &LoopbackAddress) -> Program {
        let (client, peer) = (format!("http://{address}:2379"), format!("http://{address}:2380"));
        Program::new("etcd", self.assets.program("etcd"))
            .arg("--unsafe-no-fsync")
            .arg("--name=etcd")
            .arg(format!("--data-dir={}", self.scope.directory().join("etcd").display()))
            .args([format!("--listen-client-urls={client}"), format!("--advertise-client-urls={client}")])
            .args([format!("--listen-peer-urls={peer}"), format!("--initial-advertise-peer-urls={peer}")])
            .arg(format!("--initial-cluster=etcd={peer}"))
            .arg("--log-level=warn")
    }

    pub(super) fn apiserver(
        &self,
        name: &str,
        address: &LoopbackAddress,
        etcd: SocketAddr,
        signing_keys: &[String],
    ) -> Program {
        let verify =
            signing_keys.iter().map(|key| format!("--service-account-key-file={}", self.path(&format!("{key}.pub"))));
        Program::new(name, self.assets.program("kube-apiserver"))
            .arg(format!("--etcd-servers=http://{etcd}"))
            .args([format!("--bind-address={address}"), format!("--advertise-address={address}")])
            .arg("--secure-port=6443")
            // Nothing in a cluster without nodes could use them, and loopback addresses may not be published.
            .arg("--endpoint-reconciler-type=none")
            .arg(format!("--tls-cert-file={}", self.path(&format!("{name}.crt"))))
            .arg(format!("--tls-private-key-file={}", self.path(&format!("{name}.key"))))
            .arg(format!("--client-ca-file={}", self.path("ca.crt")))
            .arg(format!("--cert-dir={}", self.path("certificates")))
            .arg("--authorization-mode=Node,RBAC")
            .arg(format!("--service-cluster-ip-range={}", self.options.service_range))
            .arg(format!("--service-account-issuer={ISSUER}"))
            .arg(format!("--service-account-signing-key-file={}", self.path(&format!("{}.key", signing_keys[0]))))
            .args(verify)
            .arg("--allow-privileged=true")
            .args(&self.options.apiserver_flags)
    }

    pub(super) fn controllers(&self, address: &LoopbackAddress, signing_key: &str) -> Program {
        Program::new("kube-controller-manager", self.assets.program("kube-controller-manager"))
            .arg(format!("--kubeconfig={}", self.path("controllers.kubeconfig")))
            .arg(format!("--bind-address={address}"))
            .arg("--leader-elect=false")
            .arg("--use-service-account-credentials=true")
            .arg(format!("--cert-dir={}", self.path("certificates")))
            .arg(format!("--root-ca-file={}", self.path("ca.crt")))
            .arg(format!("--service-account-private-key-file={}", self.path(&format!("{signing_key}.key"))))
    }

    fn write_kubeconfig(
        &self,
        authority: &Authority,
        file: &str,
        user: &str,
        group: Option<&str>,
        address: &LoopbackAddress,
    ) -> anyhow::Result<PathBuf> {
        let identity = authority.client(user, group)?;
        let path = self.file(&format!("{file}.kubeconfig"));
        let server = format!("https://{address}:6443");
        write_private(&path, &kubeconfig(&self.options.name, &server, &authority.pem(), &identity))?;
        Ok(path)
    }

    /// What an API server's certificate is good for: what pods call it, and where it listens.
    fn names(&self, address: &LoopbackAddress) -> anyhow::Result<Vec<String>> {
        let mut names: Vec<String> = [
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "kubernetes.default.svc.cluster.local",
            "localhost",
        ]
        .map(str::to_owned)
        .into();
        let (network, _) = self.options.service_range.split_once('/').unwrap_or((&self.options.service_range, ""));
        let network: std::net::Ipv4Addr = network.parse()?;
        names.push(std::net::Ipv4Addr::from(u32::from(network) + 1).to_string());
        names.push(address.to_string());
        names.extend(self.options.extra_names.iter().cloned());
        Ok(names)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.scope.directory().join(name)
    }

    fn path(&self, name: &str) -> String {
        self.file(name).display().to_string()
    }
}

/// Waits for `/readyz`: a port that answers is not enough.
pub(super) async fn wait_ready(
    process: &mut Process,
    authority: &Authority,
    address: &LoopbackAddress,
) -> anyhow::Result<()> {
    let http = http_client(authority)?;
    let url = format!("https://{address}:6443/readyz");
    process
        .wait_until("the API server to be ready", READY_DEADLINE, async || {
            let answer = http.get(&url).send().await?;
            let (status, body) = (answer.status(), answer.text().await?);
            anyhow::ensure!(status.is_success(), "/readyz says {status}: {body}");
            Ok(())
        })
        .await
}

/// An administrator that trusts this CA only.
pub(super) fn http_client(authority: &Authority) -> anyhow::Result<reqwest::Client> {
    let identity = authority.client("kubernetes-admin", Some("system:masters"))?;
    crate::http::client(&authority.pem(), &identity)
}
