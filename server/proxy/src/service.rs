//! The order of steps, and nothing else.

use std::sync::Arc;

use bytes::Bytes;
use cattle_api::Secret;
use cattle_audit::{Actor, Asked, AuditId, AuditSink, Denials, Event, RequestInfo};
use cattle_auth::UserInfo;
use cattle_proto::id::ClusterId;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use http::{Method, Request, Response, StatusCode, request, response as response_head};
use http_body::Body;
use hyper::upgrade::OnUpgrade;
use parking_lot::Mutex;
use tokio::task::JoinSet;
use tracing::Instrument;

use crate::attempt::{Answered, Attempts};
use crate::body::ProxyBody;
use crate::directory::{ClusterDialer, ClusterDirectory, Impersonators};
use crate::error::ProxyError;
use crate::event::Events;
use crate::headers::{ClientHeaders, UpgradeProtocol};
use crate::impersonate::ImpersonationHeaders;
use crate::limits::{Limiter, Limits};
use crate::metrics::Metrics;
use crate::path::Route;
use crate::request_body::ClientBody;
use crate::response;
use crate::running::{Audited, ClientAddress, Running};
use crate::streams::{Ending, Epoch, Selector, Streams};
use crate::timing::{SERVER_TIMING, Timing};
use crate::upgrade::splice;
use crate::upstream::{ApiServerError, BoxError, Upstream};
use crate::upstreams::Upstreams;

/// Bytes of an answer that a connection takes whether or not somebody reads: it is over before it could stand still.
const SMALL_ANSWER: u64 = 16 * 1024;

const AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");

/// What the proxy stands on.
pub struct Dependencies {
    /// Opens streams to API servers.
    pub dialer: Arc<dyn ClusterDialer>,
    /// Knows clusters and who may enter them.
    pub directory: Arc<dyn ClusterDirectory>,
    /// Has a token for each user and cluster.
    pub impersonators: Arc<dyn Impersonators>,
    /// Takes audit events.
    pub audit: Arc<dyn AuditSink>,
    /// Takes those of denied requests.
    pub denials: Arc<Denials>,
    /// How much may run.
    pub limits: Limits,
    /// Counters; register them where the server's metrics are served.
    pub metrics: Metrics,
}

/// The users' authentication proxy.
pub struct Proxy {
    directory: Arc<dyn ClusterDirectory>,
    pub(crate) impersonators: Arc<dyn Impersonators>,
    audit: Arc<dyn AuditSink>,
    denials: Arc<Denials>,
    limiter: Arc<Limiter>,
    pub(crate) metrics: Metrics,
    streams: Streams,
    upstreams: Upstreams,
    /// Owns every upgraded connection, and what ends answers that nobody reads.
    spliced: Mutex<JoinSet<()>>,
}

/// A request as it came in.
struct Arrived {
    id: AuditId,
    user: UserInfo,
    asked: Asked,
    timing: Timing,
}

/// A request that has passed every check.
pub(crate) struct Admitted {
    pub(crate) cluster: ClusterId,
    pub(crate) user: UserInfo,
    pub(crate) method: Method,
    pub(crate) target: PathAndQuery,
    /// What the client may say.
    pub(crate) headers: HeaderMap,
    pub(crate) identity: ImpersonationHeaders,
    pub(crate) upgrade: Option<UpgradeProtocol>,
    pub(crate) expects_continue: bool,
    pub(crate) long_running: bool,
    watch: bool,
    server_name: String,
}

impl Proxy {
    /// A proxy that has not connected to anything yet.
    #[must_use]
    pub fn new(dependencies: Dependencies) -> Self {
        let Dependencies { dialer, directory, impersonators, audit, denials, limits, metrics } = dependencies;
        Self {
            directory,
            impersonators,
            audit,
            denials,
            limiter: Limiter::new(limits),
            upstreams: Upstreams::new(dialer, metrics.clone()),
            metrics,
            streams: Streams::default(),
            spliced: Mutex::default(),
        }
    }

    /// Answers a request for `/k8s/clusters/<id>/…` of an authenticated user. The URI must be as the client sent it. Never fails: what
    /// goes wrong is an answer.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future, or the body of the answer, ends the request at the API server.
    pub async fn serve<B>(&self, request: Request<B>, user: UserInfo) -> Response<ProxyBody>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let id = AuditId::new();
        // Session and stream are filled in by the dialer, when the request opens a connection of its own.
        let span = tracing::info_span!(
            "proxy",
            request = %id,
            user = user.name(),
            cluster = tracing::field::Empty,
            session = tracing::field::Empty,
            stream = tracing::field::Empty
        );
        let address = request.extensions().get().map(|ClientAddress(address)| *address);
        let asked = Arrived { id, user, asked: Asked::of(&request, address), timing: Timing::begin() };
        let answered = Box::pin(self.answer(request, &asked)).instrument(span.clone()).await;
        let mut response = answered.unwrap_or_else(|error| {
            if error.is_denial() {
                self.denied(&asked, error.status());
            }
            self.metrics.failed(error.source_side().as_str());
            let cause = std::error::Error::source(&error);
            span.in_scope(|| tracing::debug!(%error, ?cause, "request not answered by an API server"));
            error.into_response()
        });
        self.metrics.answered(response.status());
        if let Ok(id) = HeaderValue::from_str(&id.to_string()) {
            response.headers_mut().insert(AUDIT_ID, id);
        }
        if let Some(times) = asked.timing.header().filter(|_| self.directory.may_see_times(&asked.user)) {
            response.headers_mut().append(SERVER_TIMING, times);
        }
        response
    }

    /// What runs, for whoever revokes.
    #[must_use]
    pub fn streams(&self) -> &Streams {
        &self.streams
    }

    /// The client of a cluster's API server that requests of users go through, for probes through the users' path.
    /// It carries no credential. `None` if there is no such cluster.
    ///
    /// # Errors
    ///
    /// [`ApiServerError`] if what is recorded cannot be used.
    pub fn upstream(&self, cluster: &ClusterId) -> Result<Option<Upstream>, ApiServerError> {
        self.directory.lookup(cluster).map(|trust| self.upstreams.of(cluster, trust)).transpose()
    }

    /// To be called when a session of the cluster begins to drain, or a better route is there: warm connections are closed, and
    /// those in use when their request is done, so that the next requests take today's best route and nothing idle holds
    /// the old session open.
    pub fn renew_connections(&self, cluster: &ClusterId) {
        self.upstreams.renew(cluster);
    }

    /// Drops everything that belongs to a deleted cluster: warm connections and running requests.
    pub fn forget(&self, cluster: &ClusterId) {
        self.upstreams.forget(cluster);
        self.streams.close(&Selector::Cluster(cluster.clone()));
    }

    /// Ends all requests and waits for the tasks of upgraded connections.
    pub async fn shutdown(&self) {
        self.streams.close(&Selector::All);
        self.upstreams.clear();
        let mut spliced = std::mem::take(&mut *self.spliced.lock());
        while spliced.join_next().await.is_some() {}
    }

    async fn answer<B>(&self, request: Request<B>, arrived: &Arrived) -> Result<Response<ProxyBody>, ProxyError>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let (mut head, body) = request.into_parts();
        let body = ClientBody::new(body);
        let user = &arrived.user;
        // Parse. (Authentication is done: `user` is the proof.)
        let route = self.route(&head)?;
        tracing::Span::current().record("cluster", route.cluster.as_str());
        // Authorize. Registered first: a revocation changes the directory before it closes what is registered.
        let stream = self.streams.open(user, &route.cluster);
        if head.extensions.get::<Epoch>().is_some_and(|before| *before != self.streams.epoch()) {
            return Err(ProxyError::Overtaken);
        }
        let upstream = self.authorize(user, &route.cluster)?;
        let running_permit = self.limiter.acquire(user.name(), &route.cluster)?;
        let mut running = Running::new(stream, running_permit, self.metrics.clone());
        // Strip, refuse, strip; then our own identity, made from nothing but the user.
        let client = ClientHeaders::of(&head)?;
        if client.upgrade.is_some() && !body.is_empty() {
            return Err(ProxyError::UpgradeBody);
        }
        let identity = ImpersonationHeaders::of(user)?;
        // Audit before anything happens.
        let info = arrived.asked.info(route.upstream.path(), route.upstream.query());
        // Who switches protocols gets a session, whatever the path says.
        if info.must_be_audited() || client.upgrade.is_some() {
            self.record(&info, arrived, &route.cluster, &mut running).await?;
        } else if !self.audit.available() {
            self.metrics.read_unaudited();
        }
        let on_upgrade = client.upgrade.and_then(|_| head.extensions.remove::<OnUpgrade>());
        let mut headers = client.forwarded;
        headers.insert(AUDIT_ID, HeaderValue::from_str(&arrived.id.to_string()).map_err(|_| ProxyError::IdentityLost)?);
        let admitted = Admitted {
            long_running: info.is_long_running(route.upstream.query()),
            watch: info.verb() == "watch",
            cluster: route.cluster,
            user: user.clone(),
            method: head.method,
            target: route.upstream,
            headers,
            identity,
            upgrade: client.upgrade.filter(|_| on_upgrade.is_some()),
            expects_continue: client.expects_continue,
            server_name: upstream.trust().server_name.clone(),
        };
        // Forward.
        let ending = running.ending(admitted.watch);
        let answered = tokio::select! {
            biased;
            ending = ending => {
                running.end(ending);
                return Err(match ending {
                    Ending::Revoked => ProxyError::Revoked,
                    Ending::Draining => ProxyError::Stopping,
                });
            }
            answered = Attempts::new(self, &upstream, &admitted, &body, &arrived.timing).run() => answered?,
        };
        self.finish(answered, &admitted, arrived, on_upgrade, running)
    }

    fn route(&self, head: &request::Parts) -> Result<Route, ProxyError> {
        if head.method == Method::CONNECT {
            return Err(ProxyError::Connect);
        }
        let target = head.uri.path_and_query().map_or("", PathAndQuery::as_str);
        Ok(Route::parse(target)?)
    }

    /// A cluster that does not exist and one that this user may not enter are told apart by nothing.
    fn authorize(&self, user: &UserInfo, cluster: &ClusterId) -> Result<Upstream, ProxyError> {
        let no_such = || ProxyError::NoSuchCluster(cluster.clone());
        let in_scope = user.cluster_scope().is_none_or(|scope| scope == cluster.as_str());
        if !in_scope || !self.directory.may_enter(user, cluster) {
            return Err(no_such());
        }
        let trust = self.directory.lookup(cluster).ok_or_else(no_such)?;
        self.upstreams.of(cluster, trust).map_err(|error| ProxyError::ApiServer(cluster.clone(), error))
    }

    async fn record(
        &self,
        info: &RequestInfo,
        arrived: &Arrived,
        cluster: &ClusterId,
        running: &mut Running,
    ) -> Result<(), ProxyError> {
        let event = arrived.event(info, cluster);
        self.audit.record(&event).await.map_err(ProxyError::Audit)?;
        running.audit(Audited::new(Arc::clone(&self.audit), event));
        Ok(())
    }

    /// A request that nothing announced was denied, here or downstream.
    fn denied(&self, arrived: &Arrived, code: StatusCode) {
        let Ok(route) = Route::parse(arrived.asked.target()) else { return };
        let info = arrived.asked.info(route.upstream.path(), route.upstream.query());
        let event = arrived.event(&info, &route.cluster).completed(code.as_u16());
        self.denials.of_user(arrived.user.name(), event.annotate("authorization.k8s.io/decision", "forbid"));
    }

    fn finish(
        &self,
        answered: Answered,
        admitted: &Admitted,
        arrived: &Arrived,
        on_upgrade: Option<OnUpgrade>,
        mut running: Running,
    ) -> Result<Response<ProxyBody>, ProxyError> {
        let refused = |what| ProxyError::Answer(admitted.cluster.clone(), what);
        match answered {
            Answered::Switched(head, server) => {
                let client = on_upgrade.ok_or_else(|| refused("switched protocols unasked"))?;
                let protocol = admitted.upgrade.ok_or_else(|| refused("switched protocols unasked"))?;
                let headers = response::switched(head.headers(), protocol).map_err(refused)?;
                running.answered(StatusCode::SWITCHING_PROTOCOLS);
                self.metrics.upgraded();
                self.run(splice(client, server, running, admitted.watch));
                Ok(with(StatusCode::SWITCHING_PROTOCOLS, headers, ProxyBody::empty()))
            }
            Answered::Ordinary(response, read) => {
                let (head, body) = response.into_parts();
                let headers =
                    response::forwarded(&head.headers, &admitted.cluster, &admitted.server_name).map_err(refused)?;
                if matches!(head.status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) && !running.is_audited() {
                    self.denied(arrived, head.status);
                }
                running.answered(head.status);
                let events = events_of(&head).filter(|_| admitted.watch);
                let fits = body.size_hint().exact().is_some_and(|bytes| bytes <= SMALL_ANSWER);
                let (body, straggler) = ProxyBody::streamed(read, body, running, events);
                if !fits {
                    self.run(straggler.end());
                }
                Ok(with(head.status, headers, if admitted.upgrade.is_some() { body.ending_soon() } else { body }))
            }
        }
    }

    /// Owns a task that goes on after its request was answered.
    fn run(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut spliced = self.spliced.lock();
        while spliced.try_join_next().is_some() {}
        spliced.spawn(task.in_current_span());
    }
}

impl Arrived {
    fn event(&self, info: &RequestInfo, cluster: &ClusterId) -> Event {
        let actor = Actor::named(self.user.name()).with(self.user.groups(), self.user.extra());
        let event = self.asked.event(self.id, actor, info);
        event.annotate("cattle.io/cluster", cluster.as_str()).annotate("cattle.io/token", self.user.token().as_str())
    }
}

impl Admitted {
    /// The head that goes downstream, with the impersonator's token. Checked as if somebody else had made it.
    pub(crate) fn outgoing(&self, token: &Secret) -> Result<Request<()>, ProxyError> {
        let mut request = Request::new(());
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.target.clone().into();
        let headers = request.headers_mut();
        headers.clone_from(&self.headers);
        let mut bearer = b"Bearer ".to_vec();
        bearer.extend_from_slice(token.expose());
        let mut bearer = HeaderValue::from_bytes(&bearer).map_err(|_| ProxyError::IdentityLost)?;
        bearer.set_sensitive(true);
        headers.insert(header::AUTHORIZATION, bearer);
        self.identity.write_to(headers);
        if let Some(protocol) = self.upgrade {
            headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
            headers.insert(header::UPGRADE, protocol.token());
        }
        let whole = self.identity.is_all_of(headers) && !token.is_empty();
        whole.then_some(request).ok_or(ProxyError::IdentityLost)
    }
}

fn with(status: StatusCode, headers: HeaderMap, body: ProxyBody) -> Response<ProxyBody> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// The framing of an answer to a watch. An error instead of a watch is one whole text.
fn events_of(head: &response_head::Parts) -> Option<Events> {
    let kind = head.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    kind.filter(|_| head.status == StatusCode::OK).and_then(Events::of)
}
