//! Config → App: every part is made, every socket bound; then it runs until it is told to stop.
//!
//! Order of stopping: no new connections and no controllers; agents are told to go and spread their return; watches end, each
//! between two events; what else runs may finish for the [drain time](crate::drain); what is left is closed; every task is
//! joined.

mod stop;

use std::{convert::Infallible, net::SocketAddr, sync::Arc};

use cattle_apiserver::{ApiServer, Hooks};
use cattle_audit::{AuditError, Denials, FileSink, FileSinkConfig};
use cattle_auth::{Access, AccessWatcher, Authenticator, Login, Passwords, Revocations};
use cattle_controllers::{ClusterControllers, Context, nodes::HostBook, registration::Registrations, unit::UnitTask};
use cattle_gateway::{Gateway, GatewayConfig, Sessions};
use cattle_proxy::{Dependencies, Limits, Metrics, Proxy};
use cattle_runtime::Runtime;
use cattle_store::{SqliteStore, Store, Typed, sqlite::OpenError};
use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{
    adapters::{
        agents::{AgentTrust, Agents},
        audit::{ApiAudit, AuditNumbers},
        computed::Computed,
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
    drain::DrainTimes,
    import::Import,
    installation::{BootstrapPassword, InstallError, Installation, Renewal, Settings, checksum, renewal},
    listen::{ListenMetrics, Listener},
    router::Router,
    server_url::ServerUrl,
    sign_in::{SignInAudit, SignIns},
};
use stop::{WATCHES_END, settled, time_is_up};

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
    drain: DrainTimes,
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
    /// Certificates that are made now would be out of date as soon as the clock is right.
    #[error("the clock says {now}, which is in the past: set it, then start the server")]
    Clock {
        /// What the clock says.
        now: Timestamp,
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
    /// Opens the data directory, binds the listener and makes every part. Nothing is served yet. `descriptors` is how many files
    /// and connections the process may have open.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn build(config: &Config, descriptors: u64, runtime: &mut Runtime) -> Result<Self, StartError> {
        check_clock(Timestamp::now())?;
        let store = SqliteStore::open(&config.data_dir)
            .map_err(|source| StartError::Open { path: config.data_dir.clone(), source })?;
        let server_id = store.server_id().to_string();
        let writer = writes("the store's writer", store.writer_ended());
        let store: Arc<dyn Store> = Arc::new(store);
        runtime.tasks().last("store", writer);
        let bind = |source| StartError::Bind { address: config.listen, source };
        let tcp = TcpListener::bind(config.listen).await.map_err(bind)?;
        let address = tcp.local_addr().map_err(bind)?;
        let passwords = Passwords::new();
        let installation = Installation::prepare(config, address, &store, server_id, &passwords).await?;
        let arrivals = ListenMetrics::default();
        arrivals.register(runtime.registry());
        let certificate = Arc::clone(&installation.certificate) as _;
        let limits = config.limits.within(descriptors);
        let listener = Listener::new(tcp, certificate, limits, arrivals).map_err(bind)?;
        let audit = FileSink::open(&FileSinkConfig::new(config.data_dir.join("audit.log")))?;
        runtime.tasks().last("audit", writes("the audit log's writer", audit.writer_ended()));
        let audit: Arc<dyn cattle_audit::AuditSink> = Arc::new(audit);
        let certificates = Certificates::new(Arc::clone(&installation.certificate), &installation.ca_certs);
        runtime.registry().register_collector(Box::new(certificates));
        let drain = DrainTimes::new(Settings::new(Arc::clone(&store)));
        let parts = Parts::new(&store, &installation, audit, drain, runtime);
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

    /// How long a stop may take.
    #[must_use]
    pub fn drain_times(&self) -> DrainTimes {
        self.drain.clone()
    }

    /// Hands every part to the process's tasks; they run until its shutdown.
    pub fn start(self, runtime: &mut Runtime) {
        let shutdown = runtime.shutdown();
        let access_ready = runtime.readiness().component("access");
        let clusters_ready = runtime.readiness().component("clusters");
        let (usable, ageing) = (self.certificates.clone(), self.certificates.clone());
        runtime.readiness().component("certificate").release_with(move || usable.usable(Timestamp::now()));
        runtime.readiness().warn_with("certificate", move || ageing.warning(Timestamp::now()));
        let Self {
            listener, router, store, controllers, access_watcher, access, directory, revocations, drain, ..
        } = self;
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
        let stopping = shutdown.drain_token().child_token();
        tasks.essential("controllers", async move {
            controllers.run(stopping).await;
            Ok::<_, Infallible>(())
        });
        let (stopping, time) = (shutdown.clone(), drain.clone());
        tasks.essential("gateway", async move {
            stopping.draining().await;
            // After the proxy has ended what is left, so that it is the proxy that ends it.
            gateway.shutdown(time.of_stop().await + WATCHES_END).await;
            Ok::<_, Infallible>(())
        });
        tasks.essential("listener", async move {
            let served = async {
                listener.serve(router, shutdown.drain_token()).await;
                settled(&proxy).await;
            };
            tokio::select! { () = served => {}, () = time_is_up(&shutdown, &proxy, &drain) => {} }
            proxy.shutdown().await;
            Ok::<_, Infallible>(())
        });
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
    drain: DrainTimes,
    draining: CancellationToken,
}

impl Parts {
    fn new(
        store: &Arc<dyn Store>,
        installation: &Installation,
        audit: Arc<dyn cattle_audit::AuditSink>,
        drain: DrainTimes,
        runtime: &mut Runtime,
    ) -> Self {
        let (draining, registry) = (runtime.shutdown().drain_token(), runtime.registry());
        let server_id = installation.server_id.clone();
        let trust = Arc::new(AgentTrust { server_id: server_id.clone() });
        let matches = cattle_apiserver::registration_token_matches;
        let registrations = Arc::new(Registrations::new(Arc::clone(store), trust, matches, Arc::clone(&audit)));
        let rebinding = Rebinding::new(Arc::clone(store));
        let agents = Agents::new(Arc::clone(store), Arc::clone(&registrations), Arc::clone(&rebinding), server_id);
        let hosts = HostBook::default();
        let credentials = Credentials::new(hosts.clone());
        let config = GatewayConfig { drain: Arc::new(drain.clone()), ..GatewayConfig::default() };
        config.metrics.register(registry.sub_registry_with_prefix("cattle_gateway"));
        let gateway = Gateway::new(config, Arc::new(agents), Arc::clone(&credentials) as _);
        registry.sub_registry_with_prefix("cattle_gateway").register_collector(Box::new(Sessions::new(&gateway)));
        let access = Access::new();
        let directory = Directory::new(access.clone());
        let late = Downstream::late(gateway.clone(), credentials, rebinding);
        let (own, clusters) = (Arc::clone(store), Arc::clone(&late) as _);
        let context = Context { store: own, clusters, hosts, audit: Arc::clone(&audit) };
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
        Self {
            access,
            authenticator,
            registrations,
            gateway,
            directory,
            proxy,
            controllers,
            audit,
            denials,
            sign_ins,
            drain,
            draining,
        }
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
                decorate: Arc::new(Computed::new(Arc::clone(&controllers), gateway.clone())),
                version: API_VERSION.to_owned(),
            },
        );
        let certificates = Certificates::new(Arc::clone(&certificate), &ca_certs);
        let renewal = renewal(config.tls.clone(), url.clone(), Arc::clone(&store), certificate, ca_certs.clone());
        let clusters = Typed::new(Arc::clone(&store));
        let import = Import::new(registrations, clusters, settings, url.to_string(), server_id, ca_certs.clone());
        let router = Router {
            revocations: revocations.clone(),
            draining: self.draining,
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
            drain: self.drain,
        }
    }
}

/// Machines without a battery start in 1970, and an authority that is made then has ended in 1980.
fn check_clock(now: Timestamp) -> Result<(), StartError> {
    // The year of the first release.
    let earliest = Timestamp::constant(1_767_225_600, 0);
    if now < earliest { Err(StartError::Clock { now }) } else { Ok(()) }
}

/// A thread outside of the runtime panicked.
#[derive(Debug, thiserror::Error)]
#[error("{0} has ended: nothing could be changed any more")]
struct WriterEnded(&'static str);

/// A server that can only read looks healthy and is not: without the threads that write it ends, and is started again.
async fn writes(what: &'static str, ended: impl Future<Output = ()>) -> Result<(), WriterEnded> {
    ended.await;
    Err(WriterEnded(what))
}

/// A task that serves the others to the end.
async fn never(task: impl Future<Output = ()>) -> Result<(), Infallible> {
    task.await;
    std::future::pending().await
}

#[cfg(test)]
mod tests;
