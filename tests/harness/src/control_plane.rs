//! Clusters without nodes, as plain processes on a loopback address of their own.

mod address;
mod servers;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;

use crate::assets::Assets;
use crate::kubectl::{Client, kubeconfig};
use crate::pki::{Authority, write_private, write_signing_key};
use crate::process::Process;
use crate::run::{Run, Scope};
use crate::wait::wait_for;

pub use address::LoopbackAddress;
use servers::Servers;

const READY_DEADLINE: Duration = Duration::from_secs(120);
const STOP_GRACE: Duration = Duration::from_secs(20);

/// How a [`ControlPlane`] is to be. Two with equal options differ in their keys and their loopback address only.
#[derive(Clone, Debug)]
pub struct ControlPlaneOptions {
    /// The name in the kubeconfig and of the certificates.
    pub name: String,
    /// Addresses of Services.
    pub service_range: String,
    /// Further names and addresses in the API server's certificate.
    pub extra_names: Vec<String>,
    /// Further flags for every API server.
    pub apiserver_flags: Vec<String>,
    /// Whether controllers run: service accounts and their Secrets' tokens, garbage collection, ends of namespaces.
    pub controllers: bool,
}

/// etcd, an API server and the controller manager. Needs no root; answers in seconds; has no nodes, so pods stay
/// `Pending`. RBAC is on. Dropped, it is gone with its data.
pub struct ControlPlane {
    options: ControlPlaneOptions,
    assets: Assets,
    address: LoopbackAddress,
    authority: Authority,
    etcd: Process,
    apiserver: Process,
    controllers: Option<Process>,
    /// Names of the service-account signing keys: the first signs, all verify.
    signing_keys: Vec<String>,
    rotations: u32,
    /// How many API servers beyond the first there have been.
    replicas: u32,
    scope: Scope,
}

/// Another API server on the same etcd; see [`ControlPlane::second_apiserver`]. Dropped, it ends.
pub struct ApiServer {
    url: String,
    kubeconfig: PathBuf,
    process: Process,
    _address: LoopbackAddress,
}

impl Default for ControlPlaneOptions {
    fn default() -> Self {
        Self {
            name: "test".to_owned(),
            service_range: "10.96.0.0/16".to_owned(),
            extra_names: Vec::new(),
            apiserver_flags: Vec::new(),
            controllers: true,
        }
    }
}

impl ControlPlane {
    /// Starts one and waits until it serves and its controllers work.
    ///
    /// # Errors
    /// When Kubernetes cannot be compiled, or a process does not get ready: the message has the end of its log.
    pub async fn start(options: ControlPlaneOptions) -> anyhow::Result<Self> {
        let assets = Assets::ready().await?;
        let scope = Run::of_this_process()?.scope("control-plane")?;
        let address = LoopbackAddress::claim()?;
        let authority = Authority::new(&format!("{}-ca", options.name))?;
        let servers = Servers { options: &options, assets: &assets, scope: &scope };
        servers.write_certificates(&authority, &address)?;
        write_signing_key(scope.directory(), "sa-0")?;
        let signing_keys = vec!["sa-0".to_owned()];

        let mut etcd = servers.etcd(&address).start(&scope)?;
        etcd.wait_until("etcd to be healthy", READY_DEADLINE, async || {
            let answer = reqwest::get(format!("http://{address}:2379/health")).await?.error_for_status()?;
            anyhow::ensure!(answer.text().await?.contains("true"), "etcd says that it is not healthy");
            Ok(())
        })
        .await?;
        let apiserver =
            servers.apiserver("kube-apiserver", &address, etcd_at(&address), &signing_keys).start(&scope)?;
        let mut cluster = Self {
            options,
            assets,
            address,
            authority,
            etcd,
            apiserver,
            controllers: None,
            signing_keys,
            rotations: 0,
            replicas: 0,
            scope,
        };
        cluster.wait_ready().await?;
        if cluster.options.controllers {
            cluster.start_controllers().await?;
        }
        Ok(cluster)
    }

    /// `https://127.x.y.z:6443`.
    pub fn url(&self) -> String {
        format!("https://{}:6443", self.address)
    }

    /// The loopback address.
    pub fn address(&self) -> std::net::Ipv4Addr {
        self.address.ip()
    }

    /// Where etcd serves its clients, without TLS.
    pub fn etcd_address(&self) -> SocketAddr {
        etcd_at(&self.address)
    }

    /// The CA of the API server's certificate.
    pub fn ca_pem(&self) -> String {
        self.authority.pem()
    }

    /// The `iss` of its service accounts' tokens.
    pub fn issuer(&self) -> &'static str {
        servers::ISSUER
    }

    /// A kubeconfig of `system:masters`.
    pub fn kubeconfig(&self) -> PathBuf {
        self.scope.directory().join("admin.kubeconfig")
    }

    /// A directory of this cluster's for a test's own files; gone with it.
    pub fn directory(&self) -> &Path {
        self.scope.directory()
    }

    /// Where processes that belong to this cluster are started: they end with it at the latest.
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// kubectl as administrator.
    pub fn kubectl<A: Into<std::ffi::OsString>>(&self, arguments: impl IntoIterator<Item = A>) -> Client {
        Client::new(self.assets.program("kubectl"), &self.kubeconfig()).direct().args(arguments)
    }

    /// A kubeconfig for this user, in this group, by client certificate.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn kubeconfig_for(&self, user: &str, group: Option<&str>) -> anyhow::Result<PathBuf> {
        let identity = self.authority.client(user, group)?;
        let file: String = user.chars().map(|char| if char.is_ascii_alphanumeric() { char } else { '-' }).collect();
        let path = self.scope.directory().join(format!("{file}.kubeconfig"));
        write_private(&path, &kubeconfig(&self.options.name, &self.url(), &self.ca_pem(), &identity))?;
        Ok(path)
    }

    /// An HTTP client as administrator that trusts this cluster only.
    ///
    /// # Errors
    /// When the certificate cannot be made.
    pub fn http(&self) -> anyhow::Result<reqwest::Client> {
        servers::http_client(&self.authority)
    }

    /// The first API server's process, to pause, resume or look at.
    pub fn apiserver(&mut self) -> &mut Process {
        &mut self.apiserver
    }

    /// etcd's process.
    pub fn etcd(&mut self) -> &mut Process {
        &mut self.etcd
    }

    /// The controller manager's process, if it was wanted.
    pub fn controllers(&mut self) -> Option<&mut Process> {
        self.controllers.as_mut()
    }

    /// SIGKILL for the API server.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn kill_apiserver(&mut self) -> anyhow::Result<()> {
        self.apiserver.kill().await.map(drop)
    }

    /// Starts the API server again after [`ControlPlane::kill_apiserver`] and waits until it serves.
    ///
    /// # Errors
    /// When it does not.
    pub async fn start_apiserver(&mut self) -> anyhow::Result<()> {
        let servers = Servers { options: &self.options, assets: &self.assets, scope: &self.scope };
        let program = servers.apiserver("kube-apiserver", &self.address, self.etcd_address(), &self.signing_keys);
        self.apiserver = program.start(&self.scope)?;
        self.wait_ready().await
    }

    /// Ends the API server and starts it again.
    ///
    /// # Errors
    /// When it does not get ready.
    pub async fn restart_apiserver(&mut self) -> anyhow::Result<()> {
        self.kill_apiserver().await?;
        self.start_apiserver().await
    }

    /// A new key signs service-account tokens from now on. Tokens of the old keys stay good if `keep_old`. Restarts the
    /// API server and the controllers.
    ///
    /// # Errors
    /// When they do not get ready again.
    pub async fn rotate_service_account_keys(&mut self, keep_old: bool) -> anyhow::Result<()> {
        self.rotations += 1;
        let name = format!("sa-{}", self.rotations);
        write_signing_key(self.scope.directory(), &name)?;
        if !keep_old {
            self.signing_keys.clear();
        }
        self.signing_keys.insert(0, name);
        self.restart().await
    }

    /// A new CA and new certificates, as after a rebuilt PKI: nobody who pinned the old CA can connect. Data, UIDs and
    /// service-account keys stay. Kubeconfigs made before are dead; [`ControlPlane::kubeconfig`] is rewritten.
    ///
    /// # Errors
    /// When the cluster does not get ready again.
    pub async fn rotate_ca(&mut self) -> anyhow::Result<()> {
        self.authority = Authority::new(&format!("{}-ca", self.options.name))?;
        let servers = Servers { options: &self.options, assets: &self.assets, scope: &self.scope };
        servers.write_certificates(&self.authority, &self.address)?;
        self.restart().await
    }

    /// One more API server for the same data, with caches of its own: what one has seen, the other may not have yet.
    ///
    /// # Errors
    /// When it does not get ready.
    pub async fn second_apiserver(&mut self) -> anyhow::Result<ApiServer> {
        self.second_apiserver_behind(self.etcd_address()).await
    }

    /// The same, which reaches etcd by way of something at `etcd`.
    ///
    /// # Errors
    /// When it does not get ready.
    pub async fn second_apiserver_behind(&mut self, etcd: SocketAddr) -> anyhow::Result<ApiServer> {
        self.replicas += 1;
        let name = format!("kube-apiserver-{}", self.replicas);
        let address = LoopbackAddress::claim()?;
        let servers = Servers { options: &self.options, assets: &self.assets, scope: &self.scope };
        let path = servers.write_replica(&self.authority, &name, &address)?;
        let mut process = servers.apiserver(&name, &address, etcd, &self.signing_keys).start(&self.scope)?;
        servers::wait_ready(&mut process, &self.authority, &address).await?;
        Ok(ApiServer { url: format!("https://{address}:6443"), kubeconfig: path, process, _address: address })
    }

    async fn restart(&mut self) -> anyhow::Result<()> {
        if let Some(mut controllers) = self.controllers.take() {
            controllers.kill().await?;
        }
        self.restart_apiserver().await?;
        if self.options.controllers {
            self.start_controllers().await?;
        }
        Ok(())
    }

    async fn wait_ready(&mut self) -> anyhow::Result<()> {
        servers::wait_ready(&mut self.apiserver, &self.authority, &self.address).await
    }

    /// Ready means that they have done something: every namespace has its CA and its service account.
    async fn start_controllers(&mut self) -> anyhow::Result<()> {
        let servers = Servers { options: &self.options, assets: &self.assets, scope: &self.scope };
        let mut process = servers.controllers(&self.address, &self.signing_keys[0]).start(&self.scope)?;
        let (http, base) = (self.http()?, format!("{}/api/v1/namespaces/kube-system", self.url()));
        let ca = self.ca_pem();
        process
            .wait_until("the controllers to work", READY_DEADLINE, async || {
                http.get(format!("{base}/serviceaccounts/default")).send().await?.error_for_status()?;
                let map = http.get(format!("{base}/configmaps/kube-root-ca.crt")).send().await?.error_for_status()?;
                let map: serde_json::Value = map.json().await?;
                anyhow::ensure!(map["data"]["ca.crt"].as_str() == Some(&ca), "kube-root-ca.crt has another CA");
                Ok(())
            })
            .await?;
        self.controllers = Some(process);
        Ok(())
    }

    /// Ends it in order and waits, as an orderly shutdown would: dropping is faster and as thorough.
    ///
    /// # Errors
    /// When a process had to be killed.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        if let Some(controllers) = &mut self.controllers {
            controllers.stop(STOP_GRACE).await?;
        }
        self.apiserver.stop(STOP_GRACE).await?;
        self.etcd.stop(STOP_GRACE).await?;
        Ok(())
    }
}

fn etcd_at(address: &LoopbackAddress) -> SocketAddr {
    (address.ip(), 2379).into()
}

impl ApiServer {
    /// `https://127.x.y.z:6443`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Of `system:masters`, for this API server.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Its process, to pause or to kill.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

impl ControlPlane {
    /// Waits until a service account has what a pod would get, and requests a token for it.
    ///
    /// # Errors
    /// When the account does not appear within half a minute.
    pub async fn service_account_token(&self, namespace: &str, name: &str, audience: &str) -> anyhow::Result<String> {
        let request = ["create", "token", name, "--namespace", namespace, "--audience", audience, "--duration", "1h"];
        let token =
            wait_for("a service-account token", Duration::from_secs(30), async || self.kubectl(request).ok().await);
        Ok(token.await.context("no token")?.trim().to_owned())
    }
}
