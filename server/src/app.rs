//! Config → App: every part is made, every socket bound; then it runs until it is told to stop.
//!
//! Order of stopping: no new connections and no controllers; agents are told to go and spread their return; what runs may
//! finish for the drain time; what is left is closed; every task is joined.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use cattle_api::management::setting::known;
use cattle_apiserver::{ApiServer, Hooks};
use cattle_audit::{AuditError, Denials, FileSink, FileSinkConfig};
use cattle_auth::{Access, AccessWatcher, Authenticator, Login, Passwords, Revocations};
use cattle_controllers::{ClusterControllers, Context, registration::Registrations, unit::UnitTask};
use cattle_gateway::{Gateway, GatewayConfig};
use cattle_proxy::{Dependencies, Limits, Metrics, Proxy};
use cattle_runtime::{Runtime, shutdown::Shutdown};
use cattle_store::{SqliteStore, Store, Typed, sqlite::OpenError};
use jiff::Timestamp;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{
    adapters::{
        agents::{AgentTrust, Agents},
        audit::{ApiAudit, AuditNumbers},
        computed::ClusterConditions,
        credentials::Credentials,
        dialer::GatewayDialer,
        directory::Directory,
        downstream::Downstream,
        impersonators::ControllersImpersonators,
        rebinding::Rebinding,
        session_probes::SessionProbes,
    },
    certificates::Certificates,
    config::Config,
    import::Import,
    installation::{BootstrapPassword, InstallError, Installation, Renewal, Settings, checksum, renewal},
    listen::{ListenMetrics, Listener},
    router::Router,
    server_url::ServerUrl,
    sign_in::{SignInAudit, SignIns},
};

/// What the server's own API calls itself. kubectl compares the first part with its own version and warns of a skew; the
/// semantics are those of that Kubernetes.
const API_VERSION: &str = concat!("v1.33.0+cattle", env!("CARGO_PKG_VERSION"));

/// The server, bound and ready to run.
pub struct App {
    listener: Listener,
    router: Arc<Router>,
    url: ServerUrl,
    store: Arc<dyn Store>,
    controllers: Arc<ClusterControllers>,
    access_watcher: AccessWatcher,
    access: Access,
    directory: Arc<Directory>,
    revocations: Revocations,
    renewal: Renewal,
    certificates: Certificates,
    bootstrap_password: BootstrapPassword,
    settings: Settings,
}

/// Why the server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory cannot be used.
    #[error("the data directory {path} cannot be used")]
    Open {
        /// Which.
        path: std::path::PathBuf,
        /// Why.
        #[source]
        source: OpenError,
    },
    /// The address cannot be bound.
    #[error("cannot listen on {address}")]
    Bind {
        /// Which.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The installation is not usable.
    #[error("the installation cannot be prepared")]
    Install(#[from] InstallError),
    /// The audit log cannot be opened.
    #[error("no audit log, so nothing could be changed")]
    Audit(#[from] AuditError),
}

impl App {
    /// Opens the data directory, binds the listener and makes every part. Nothing is served yet.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn build(config: &Config, registry: &mut Registry) -> Result<Self, StartError> {
        let store = SqliteStore::open(&config.data_dir)
            .map_err(|source| StartError::Open { path: config.data_dir.clone(), source })?;
        let server_id = store.server_id().to_string();
        let store: Arc<dyn Store> = Arc::new(store);
        let bind = |source| StartError::Bind { address: config.listen, source };
        let tcp = TcpListener::bind(config.listen).await.map_err(bind)?;
        let address = tcp.local_addr().map_err(bind)?;
        let passwords = Passwords::new();
        let installation = Installation::prepare(config, address, &store, server_id, &passwords).await?;
        let arrivals = ListenMetrics::default();
        arrivals.register(registry);
        let certificate = Arc::clone(&installation.certificate) as _;
        let listener = Listener::new(tcp, certificate, config.limits, arrivals).map_err(bind)?;
        let audit: Arc<dyn cattle_audit::AuditSink> =
            Arc::new(FileSink::open(&FileSinkConfig::new(config.data_dir.join("audit.log")))?);
        let certificates = Certificates::new(Arc::clone(&installation.certificate), &installation.ca_certs);
        registry.register_collector(Box::new(certificates));
        let parts = Parts::new(&store, &installation, audit, registry);
        Ok(parts.assemble(config, store, installation, listener, passwords))
    }

    /// Where the server listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.listener.address()
    }

    /// What users and agents reach.
    #[must_use]
    pub fn url(&self) -> &ServerUrl {
        &self.url
    }

    /// SHA-256 of the CA that agents and users pin; `None` when the certificate chains to public roots.
    #[must_use]
    pub fn ca_checksum(&self) -> Option<String> {
        checksum(&self.router.ca_certs)
    }

    /// Hands every part to the process's tasks; they run until its shutdown.
    pub async fn start(self, runtime: &mut Runtime) {
        let drain = self.drain_time().await;
        let shutdown = runtime.shutdown();
        let stop = stop_token(&shutdown, runtime);
        let access_ready = runtime.readiness().component("access");
        let clusters_ready = runtime.readiness().component("clusters");
        let (usable, ageing) = (self.certificates.clone(), self.certificates.clone());
        runtime.readiness().component("certificate").release_with(move || usable.usable(Timestamp::now()));
        runtime.readiness().warn_with("certificate", move || ageing.warning(Timestamp::now()));
        let Self { listener, router, store, controllers, access_watcher, access, directory, revocations, .. } = self;
        let (gateway, proxy) = (router.gateway.clone(), Arc::clone(&router.proxy));
        access_ready
            .release_with(move || if access.is_synced() { Ok(()) } else { Err("not in step with the store".into()) });

        let tasks = runtime.tasks();
        tasks.last("access", never(access_watcher.run()));
        let (followed, forgetting) = (Arc::clone(&store), (gateway.clone(), Arc::clone(&proxy)));
        tasks.last("directory", async move {
            let gone = |cluster: &_| {
                forgetting.0.registry().forget(cluster);
                forgetting.1.forget(cluster);
            };
            directory.run(followed, gone, move || clusters_ready.release()).await;
            std::future::pending::<Result<(), Infallible>>().await
        });
        let denials = Arc::clone(&router.denials);
        tasks.last("denials", never(async move { denials.run().await }));
        let streams = proxy.streams().clone();
        tasks.last("revocations", never(crate::revocation::close_streams(revocations, streams)));
        tasks.last("reroute", never(crate::reroute::renew_connections(gateway.clone(), Arc::clone(&proxy))));
        tasks.last("certificate", never(self.renewal.run()));
        let watched = Arc::clone(&store);
        let bootstrap = self.bootstrap_password;
        let until = shutdown.clone();
        tasks.finite("bootstrap-password", async move {
            tokio::select! { () = bootstrap.remove_when_changed(&*watched) => {}, () = until.draining() => {} }
            Ok::<_, Infallible>(())
        });
        let stopping = stop.clone();
        tasks.essential("controllers", async move {
            controllers.run(stopping).await;
            Ok::<_, Infallible>(())
        });
        tasks.essential("gateway", async move {
            shutdown.draining().await;
            gateway.shutdown(drain).await;
            Ok::<_, Infallible>(())
        });
        tasks.essential("listener", async move {
            listener.serve(router, stop, drain).await;
            settle(&proxy, drain).await;
            proxy.shutdown().await;
            Ok::<_, Infallible>(())
        });
    }

    /// How long streams may go on after a stop.
    pub async fn drain_time(&self) -> Duration {
        let minutes = self.settings.value(known::AGENT_DRAIN_MINUTES).await.ok();
        let minutes = minutes.and_then(|text| text.parse::<u64>().ok()).unwrap_or(10);
        Duration::from_secs(minutes * 60)
    }
}

/// The parts that know each other, in the order in which they can be made.
struct Parts {
    access: Access,
    authenticator: Arc<Authenticator>,
    registrations: Arc<Registrations>,
    gateway: Gateway,
    directory: Arc<Directory>,
    proxy: Arc<Proxy>,
    controllers: Arc<ClusterControllers>,
    audit: Arc<dyn cattle_audit::AuditSink>,
    denials: Arc<Denials>,
    sign_ins: SignIns,
}

impl Parts {
    fn new(
        store: &Arc<dyn Store>,
        installation: &Installation,
        audit: Arc<dyn cattle_audit::AuditSink>,
        registry: &mut Registry,
    ) -> Self {
        let server_id = installation.server_id.clone();
        let trust = Arc::new(AgentTrust { server_id: server_id.clone() });
        let matches = cattle_apiserver::registration_token_matches;
        let registrations = Arc::new(Registrations::new(Arc::clone(store), trust, matches, Arc::clone(&audit)));
        let rebinding = Rebinding::new(Arc::clone(store));
        let agents = Agents::new(Arc::clone(store), Arc::clone(&registrations), Arc::clone(&rebinding), server_id);
        let credentials = Credentials::new();
        let config = GatewayConfig::default();
        config.metrics.register(registry.sub_registry_with_prefix("cattle_gateway"));
        let gateway = Gateway::new(config, Arc::new(agents), Arc::clone(&credentials) as _);
        let access = Access::new();
        let directory = Directory::new(access.clone());
        let late = Downstream::late(gateway.clone(), credentials, rebinding);
        let context = Context { store: Arc::clone(store), clusters: Arc::clone(&late) as _, audit: Arc::clone(&audit) };
        let probes: Arc<dyn UnitTask> = Arc::new(SessionProbes::new(gateway.clone(), Arc::clone(&late)));
        let controllers = Arc::new(ClusterControllers::new(context, vec![probes]));
        let sign_ins = SignIns::default();
        sign_ins.register(registry);
        let denials = Denials::new(Arc::clone(&audit));
        let sink = Arc::downgrade(&audit);
        registry.register_collector(Box::new(AuditNumbers { sink, denials: Arc::downgrade(&denials) }));
        let metrics = Metrics::default();
        metrics.register(registry);
        let proxy = Arc::new(Proxy::new(Dependencies {
            dialer: Arc::new(GatewayDialer(gateway.clone())),
            directory: Arc::clone(&directory) as _,
            impersonators: Arc::new(ControllersImpersonators(controllers.impersonators())),
            audit: Arc::clone(&audit),
            denials: Arc::clone(&denials),
            limits: Limits::default(),
            metrics,
        }));
        late.meet(&proxy);
        let authenticator = Arc::new(Authenticator::new(Arc::clone(store)));
        Self { access, authenticator, registrations, gateway, directory, proxy, controllers, audit, denials, sign_ins }
    }

    fn assemble(
        self,
        config: &Config,
        store: Arc<dyn Store>,
        installation: Installation,
        listener: Listener,
        passwords: Passwords,
    ) -> App {
        let Self { access, authenticator, registrations, gateway, directory, proxy, controllers, audit, .. } = self;
        let (denials, sign_ins) = (self.denials, self.sign_ins);
        let Installation { server_id, url, ca_certs, certificate, bootstrap_password } = installation;
        let settings = Settings::new(Arc::clone(&store));
        let login = Login::new(Arc::clone(&store), access.clone(), Arc::clone(&authenticator), passwords.clone());
        let revocations = Revocations::new(access.clone(), Arc::clone(&authenticator));
        let api = ApiServer::new(
            Arc::clone(&store),
            Hooks {
                authorizer: Arc::new(access.clone()),
                audit: Arc::new(ApiAudit(Arc::clone(&audit))),
                passwords,
                decorate: Arc::new(ClusterConditions::new(Arc::clone(&controllers), gateway.clone())),
                version: API_VERSION.to_owned(),
            },
        );
        let certificates = Certificates::new(Arc::clone(&certificate), &ca_certs);
        let renewal = renewal(config.tls.clone(), url.clone(), Arc::clone(&store), certificate, ca_certs.clone());
        let import = Import::new(
            registrations,
            Typed::new(Arc::clone(&store)),
            settings.clone(),
            url.to_string(),
            server_id,
            ca_certs.clone(),
        );
        let router = Router {
            revocations: revocations.clone(),
            login: cattle_auth::routes(Arc::new(login)),
            sign_in_audit: SignInAudit::new(audit, Arc::clone(&denials), sign_ins),
            denials,
            import,
            ca_certs,
            authenticator,
            api,
            proxy,
            gateway,
        };
        App {
            listener,
            router: Arc::new(router),
            access_watcher: AccessWatcher::new(Arc::clone(&store), access.clone(), revocations.clone()),
            access,
            directory,
            controllers,
            revocations,
            renewal,
            certificates,
            url,
            store,
            bootstrap_password,
            settings,
        }
    }
}

/// Waits until nothing runs through the proxy, or the time is over.
async fn settle(proxy: &Proxy, grace: Duration) {
    let empty = async {
        while !proxy.streams().is_empty() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    // Whether it was empty does not matter: what is left is closed next.
    let _ = tokio::time::timeout(grace, empty).await;
}

/// Cancelled when the process begins to drain.
fn stop_token(shutdown: &Shutdown, runtime: &mut Runtime) -> CancellationToken {
    let stop = CancellationToken::new();
    let (cancel, shutdown) = (stop.clone(), shutdown.clone());
    runtime.tasks().finite("stop", async move {
        shutdown.draining().await;
        cancel.cancel();
        Ok::<_, Infallible>(())
    });
    stop
}

/// A task that serves the others to the end.
async fn never(task: impl Future<Output = ()>) -> Result<(), Infallible> {
    task.await;
    std::future::pending().await
}

#[cfg(test)]
mod tests;
