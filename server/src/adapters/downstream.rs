//! Clients of downstream API servers for the controllers, over the proxy's own connections: the probe takes the users' path.

use std::{
    collections::BTreeSet,
    sync::{Arc, OnceLock, Weak},
    task::{Context, Poll},
};

use axum::body::Body;
use cattle_controllers::{
    AskError, Bearer, Clusters, Link, ProbeError, ServerCredential, clusters::BoxFuture, health::PROBE_TIMEOUT,
};
use cattle_gateway::Gateway;
use cattle_proto::id::{ClusterId, NodeName};
use cattle_proxy::{Proxy, Upstream, UpstreamBody, UpstreamError};
use cattle_runtime::ErrorChain as _;
use http::{Request, Response, StatusCode, header::AUTHORIZATION};
use tokio::sync::watch;
use tower::{Service, ServiceExt};

use super::{credentials::Credentials, dialer::time, rebinding::Rebinding};

/// The way into the clusters. The proxy needs the controllers' impersonators, so it is made after them and
/// [meets](Self::meet) this one last.
pub struct Downstream {
    gateway: Gateway,
    proxy: OnceLock<Weak<Proxy>>,
    credentials: Arc<Credentials>,
    rebinding: Arc<Rebinding>,
}

impl Downstream {
    /// Over this gateway; no cluster is reached before the proxy is there.
    #[must_use]
    pub fn late(gateway: Gateway, credentials: Arc<Credentials>, rebinding: Arc<Rebinding>) -> Arc<Self> {
        Arc::new(Self { gateway, proxy: OnceLock::new(), credentials, rebinding })
    }

    /// The proxy whose connections are used from now on. Only the first one counts.
    pub fn meet(&self, proxy: &Arc<Proxy>) {
        let _ = self.proxy.set(Arc::downgrade(proxy));
    }

    /// The cluster's connections, those of its users; `None` for one that is not bound.
    pub(super) fn upstream(&self, cluster: &ClusterId) -> Option<Upstream> {
        match self.proxy.get()?.upgrade()?.upstream(cluster) {
            Ok(upstream) => upstream,
            Err(error) => {
                tracing::warn!(%cluster, error = &error as &dyn std::error::Error, "what is recorded of the API server cannot be used");
                None
            }
        }
    }
}

impl Clusters for Downstream {
    fn client(&self, cluster: &ClusterId, bearer: &Bearer) -> Option<kube::Client> {
        Some(client(self.upstream(cluster)?, bearer.clone()))
    }

    fn probe<'a>(&'a self, cluster: &'a ClusterId, bearer: &'a Bearer) -> BoxFuture<'a, Result<(), ProbeError>> {
        Box::pin(async move {
            let missing = || ProbeError::Unreachable("the cluster is not registered".to_owned());
            let service = Authorized { upstream: self.upstream(cluster).ok_or_else(missing)?, bearer: bearer.clone() };
            let request = Request::get("/readyz").body(Body::empty());
            let request = request.map_err(|error| ProbeError::Unreachable(error.to_string()))?;
            match tokio::time::timeout(PROBE_TIMEOUT, service.oneshot(request)).await {
                Err(_) => Err(ProbeError::Unreachable("no answer in time".to_owned())),
                Ok(Err(error)) => {
                    let error = probe_error(&error);
                    if matches!(error, ProbeError::Certificate(_)) && self.rebinding.mismatched(cluster).await {
                        tracing::info!(%cluster, "the CA changed with consent: the agents have to register again");
                        self.gateway.registry().forget(cluster);
                    }
                    Err(error)
                }
                Ok(Ok(response)) => judge(response.status()),
            }
        })
    }

    fn link(&self, cluster: &ClusterId) -> Link {
        match self.gateway.registry().link(cluster) {
            cattle_gateway::Link::Connected { since, .. } => {
                Link { connected: true, since: time(since), refused: None }
            }
            cattle_gateway::Link::Disconnected { since, last_reject, .. } => {
                Link { connected: false, since: since.and_then(time), refused: last_reject.map(|last| last.code) }
            }
        }
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.gateway.registry().changes()
    }

    fn control_plane_nodes(&self, cluster: &ClusterId, names: BTreeSet<String>) {
        self.gateway.registry().set_control_plane(cluster, names);
    }

    fn place_agent(&self, cluster: &ClusterId, pod_uid: &str, node: &NodeName) {
        self.gateway.registry().place(cluster, pod_uid, node);
    }

    fn request_credential<'a>(&'a self, cluster: &'a ClusterId) -> BoxFuture<'a, Result<ServerCredential, AskError>> {
        Box::pin(self.credentials.ask(&self.gateway, cluster))
    }
}

/// A client that sends the bearer as it is at the time of each request.
#[must_use]
pub fn client(upstream: Upstream, bearer: Bearer) -> kube::Client {
    kube::Client::new(Authorized { upstream, bearer }, "default")
}

#[derive(Clone)]
struct Authorized {
    upstream: Upstream,
    bearer: Bearer,
}

impl<B> Service<Request<B>> for Authorized
where
    Upstream: Service<Request<B>, Response = Response<UpstreamBody>, Error = UpstreamError>,
{
    type Response = Response<UpstreamBody>;
    type Error = UpstreamError;
    type Future = <Upstream as Service<Request<B>>>::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), UpstreamError>> {
        self.upstream.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        // Without a token the API server answers 401, which says what is missing better than an error of ours.
        if let Some(value) = self.bearer.authorization() {
            request.headers_mut().insert(AUTHORIZATION, value);
        }
        self.upstream.call(request)
    }
}

fn judge(status: StatusCode) -> Result<(), ProbeError> {
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(ProbeError::Unauthorized),
        status if status.is_success() => Ok(()),
        status => Err(ProbeError::NotReady { status: status.as_u16() }),
    }
}

fn probe_error(error: &UpstreamError) -> ProbeError {
    let text = error.chain().to_string();
    if matches!(error, UpstreamError::Certificate(_)) {
        ProbeError::Certificate(text)
    } else {
        ProbeError::Unreachable(text)
    }
}
