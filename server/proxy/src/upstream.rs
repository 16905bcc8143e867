//! Connections to one cluster's API server.
//!
//! # HTTP/1.1, and why
//!
//! Every request has a connection for itself while it runs; between requests connections wait in a small pool. HTTP/2
//! would multiplex the requests of many users on one TCP-like stream, and with it one user's unread watch would share a
//! flow-control window with everybody else's `get`; each running answer would need a budget of its own to keep that
//! harmless. With HTTP/1.1
//!
//! - a slow reader holds back exactly its own stream through the tunnel, whose window is its bound;
//! - a client that goes away ends exactly its own request: the connection is dropped;
//! - an upgrade is the same thing with another driver.
//!
//! The price is a TLS handshake where no warm connection is left, which long watches pay once in their life.
//!
//! # One upstream, one trust
//!
//! An [`Upstream`] belongs to one (cluster, CA generation): its own dialer target, its own pool, its own TLS configuration with
//! its own session cache. Nothing is keyed by authority: all API servers have the same. The certificate must
//! bear the recorded name, whatever was dialled.
//!
//! # Retries
//!
//! A request of which no byte was sent is sent again: hyper hands it back when a pooled connection turns out to be closed.
//! One whose bytes have left is sent again once, on a new connection, if a warm connection ended before it answered and the
//! request changes nothing: a GET, HEAD or OPTIONS without a body (RFC 9110 §9.2.2). Closing an idle connection races with the
//! next request on it, and nobody should see that. A change is never repeated: whether it was made is not known
//! ([`UpstreamError::Unknown`]).
//!
//! # Deadlines
//!
//! Only the *head* of an answer has one. An API server ends an ordinary request after 60 s by itself (`--request-timeout`) and
//! says so with a `Status` that is better than ours, so ours comes later: 90 s, which leaves room for its own waiting in queues and
//! for the way there and back. A client that asks for longer (`?timeout=`, `?timeoutSeconds=`) gets that and 30 s more.
//! Watches, followed logs, sessions and proxied services wait for somebody else's program: 10 minutes. Bodies have no
//! deadline, however slow: a watch, a log or a large list runs for as long as both sides want.

mod body;
mod connection;
mod pool;
mod tls;

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use cattle_proto::id::ClusterId;
use futures_util::future::BoxFuture;
use http::header::{self, HeaderValue};
use http::{Method, Request, Response, Uri, Version};
use http_body::Body;
use http_body_util::BodyExt;
use hyper::upgrade::Upgraded;
use parking_lot::Mutex;
use rustls_pki_types::ServerName;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::directory::{ApiServer, ClusterDialer, DialError};
use crate::metrics::Metrics;

pub use body::UpstreamBody;
pub(crate) use body::{BoxError, RequestBody};
use connection::Lease;
use pool::Pool;
pub use tls::ApiServerError;

/// Opening a stream, over all routes that the dialer tries.
const DIAL_DEADLINE: Duration = Duration::from_secs(15);
/// TLS handshake through the tunnel.
const TLS_DEADLINE: Duration = Duration::from_secs(10);
/// The head of an answer to an ordinary request; see the [module](self).
pub(crate) const ANSWER_DEADLINE: Duration = Duration::from_secs(90);
/// How often connections that idle too long are looked for.
const SWEEP: Duration = Duration::from_secs(10);

/// A client of one cluster's API server, through the cluster's dialer. Cheap to clone; clones share the pool.
///
/// As a [`tower::Service`] it takes requests whose URI is a path; whatever authority stands there is replaced by the verified
/// server name. It adds no credential, and waits 90 s for the head of an answer. Dropping the last clone closes all connections.
#[derive(Clone)]
pub struct Upstream {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    cluster: ClusterId,
    trust: ApiServer,
    name: ServerName<'static>,
    host: HeaderValue,
    tls: TlsConnector,
    dialer: Arc<dyn ClusterDialer>,
    pool: Arc<Pool>,
    metrics: Metrics,
    /// Owns the driver of every connection: with the last use of the upstream they all end.
    tasks: Mutex<JoinSet<()>>,
}

/// Why an API server gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// No stream to it could be opened.
    #[error("cannot open a stream to the API server")]
    Dial(#[source] DialError),
    /// It is not the one that was registered.
    #[error("the API server's certificate is refused")]
    Certificate(#[source] rustls::Error),
    /// The handshake failed otherwise.
    #[error("the TLS handshake with the API server failed")]
    Tls(#[source] std::io::Error),
    /// The connection broke, or what came is no HTTP.
    #[error("no HTTP answer from the API server")]
    Http(#[source] hyper::Error),
    /// The same, after a request that may have changed something was sent.
    #[error("no HTTP answer from the API server to a change that was sent")]
    Unknown(#[source] hyper::Error),
    /// A step took too long.
    #[error("the API server took too long: {0:?}")]
    TimedOut(Hop),
}

/// The step that took too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hop {
    /// Opening a stream.
    Dial,
    /// The TLS handshake.
    Tls,
    /// The head of the answer.
    Answer,
}

/// How an API server answers a request to switch protocols.
pub(crate) enum Switch {
    /// `101`: from here on the bytes are the client's.
    Switched(Response<()>, Upgraded),
    /// An ordinary answer.
    Refused(Response<UpstreamBody>),
}

impl Upstream {
    /// A client that trusts what the directory says about the API server, and nothing else. Connects on first use.
    ///
    /// # Errors
    ///
    /// [`ApiServerError`] if the CA or the name cannot be used.
    pub fn new(
        cluster: ClusterId,
        trust: ApiServer,
        dialer: Arc<dyn ClusterDialer>,
        metrics: Metrics,
    ) -> Result<Self, ApiServerError> {
        let (config, name) = tls::client_config(&trust)?;
        let host = HeaderValue::from_str(&trust.server_name).map_err(|_| ApiServerError::Name)?;
        let tls = TlsConnector::from(Arc::new(config));
        let tasks = Mutex::new(JoinSet::new());
        let inner = Inner { cluster, trust, name, host, tls, dialer, pool: Arc::new(Pool::new()), metrics, tasks };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// A client with the same trust over another dialer, with connections of its own.
    #[must_use]
    pub fn over(&self, dialer: Arc<dyn ClusterDialer>) -> Self {
        let Inner { cluster, trust, name, host, tls, metrics, .. } = &*self.inner;
        let inner = Inner {
            cluster: cluster.clone(),
            trust: trust.clone(),
            name: name.clone(),
            host: host.clone(),
            tls: tls.clone(),
            dialer,
            pool: Arc::new(Pool::new()),
            metrics: metrics.clone(),
            tasks: Mutex::new(JoinSet::new()),
        };
        Self { inner: Arc::new(inner) }
    }

    /// What this upstream trusts.
    pub(crate) fn trust(&self) -> &ApiServer {
        &self.inner.trust
    }

    /// Gives up warm connections and keeps no more of them; what runs may finish.
    pub(crate) fn retire(&self) {
        self.inner.pool.close();
    }

    /// Closes warm connections, and those in use when they are done: the next ones are dialled anew, over the best route
    /// of that time.
    pub(crate) fn renew(&self) {
        self.inner.pool.renew();
    }

    /// Makes sure that a warm connection waits, and so finds out why the API server cannot be used, if it cannot.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives the connection up.
    pub(crate) async fn warm(&self) -> Result<(), UpstreamError> {
        if !self.inner.pool.is_warm() {
            self.connect(connection::Kind::Pooled).await?.give_back();
        }
        Ok(())
    }

    /// Sends a request on a warm connection, or on a new one.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future or the body of the answer closes the connection, and so ends the request at the API server.
    pub(crate) async fn send(
        &self,
        mut request: Request<RequestBody>,
    ) -> Result<Response<UpstreamBody>, UpstreamError> {
        self.prepare(&mut request);
        let (mut repeat, changes) = (repeatable(&request), !is_safe(request.method()));
        let mut repeated = false;
        loop {
            let warm = if repeated { None } else { self.inner.pool.take() };
            let reused = warm.is_some();
            let mut lease = match warm {
                Some(lease) => {
                    self.inner.metrics.reuse();
                    lease
                }
                None => self.connect(connection::Kind::Pooled).await?,
            };
            let mut error = match lease.sender().try_send_request(request).await {
                Ok(response) => return Ok(response.map(|body| UpstreamBody::new(body, lease, Arc::clone(&self.inner)))),
                Err(error) => error,
            };
            let broke = reused && !error.error().is_parse();
            request = match (error.take_message(), repeat.take_if(|_| broke)) {
                (Some(unsent), again) if reused => {
                    repeat = again;
                    unsent
                }
                (None, Some(again)) => {
                    self.inner.metrics.repeat();
                    repeated = true;
                    again
                }
                (None, None) if changes => return Err(UpstreamError::Unknown(error.into_error())),
                _ => return Err(UpstreamError::Http(error.into_error())),
            };
        }
    }

    /// Sends a request to switch protocols on a connection of its own, which never comes back.
    ///
    /// # Cancel safety
    ///
    /// As [`send`](Self::send).
    pub(crate) async fn switch(&self, mut request: Request<RequestBody>) -> Result<Switch, UpstreamError> {
        self.prepare(&mut request);
        let mut lease = self.connect(connection::Kind::Upgradable).await?;
        let mut response = lease.sender().send_request(request).await.map_err(UpstreamError::Http)?;
        if response.status() != http::StatusCode::SWITCHING_PROTOCOLS {
            return Ok(Switch::Refused(response.map(|body| UpstreamBody::new(body, lease, Arc::clone(&self.inner)))));
        }
        let upgraded = hyper::upgrade::on(&mut response).await.map_err(UpstreamError::Http)?;
        Ok(Switch::Switched(response.map(drop), upgraded))
    }

    /// HTTP/1.1 in origin form, to the verified name.
    fn prepare(&self, request: &mut Request<RequestBody>) {
        let path = request.uri().path_and_query().cloned();
        *request.uri_mut() = path.map_or_else(Uri::default, Uri::from);
        *request.version_mut() = Version::HTTP_11;
        request.headers_mut().insert(header::HOST, self.inner.host.clone());
    }

    async fn connect(&self, kind: connection::Kind) -> Result<Lease, UpstreamError> {
        let inner = &self.inner;
        let generation = inner.pool.generation();
        let dialed = timeout(DIAL_DEADLINE, inner.dialer.dial(&inner.cluster)).await;
        let io = dialed.map_err(|_| UpstreamError::TimedOut(Hop::Dial))?.map_err(UpstreamError::Dial)?;
        let shaken = timeout(TLS_DEADLINE, inner.tls.connect(inner.name.clone(), io)).await;
        let io = shaken.map_err(|_| UpstreamError::TimedOut(Hop::Tls))?.map_err(tls::handshake_error)?;
        let (lease, driver) =
            connection::open(io, kind, generation, Arc::clone(&inner.pool)).await.map_err(UpstreamError::Http)?;
        let counted = inner.metrics.open_connection();
        let mut tasks = inner.tasks.lock();
        if tasks.is_empty() {
            tasks.spawn(sweep(Arc::clone(&inner.pool)));
        }
        while tasks.try_join_next().is_some() {}
        tasks.spawn(async move {
            driver.await;
            drop(counted);
        });
        drop(tasks);
        Ok(lease)
    }
}

impl<B> tower::Service<Request<B>> for Upstream
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<UpstreamBody>;
    type Error = UpstreamError;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), UpstreamError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let upstream = self.clone();
        let request = request.map(|body| body.map_err(Into::into).boxed_unsync());
        Box::pin(async move {
            let answered = timeout(ANSWER_DEADLINE, upstream.send(request)).await;
            answered.unwrap_or(Err(UpstreamError::TimedOut(Hop::Answer)))
        })
    }
}

/// The request once more, if nothing is lost by sending it twice.
fn repeatable(request: &Request<RequestBody>) -> Option<Request<RequestBody>> {
    if !is_safe(request.method()) || !request.body().is_end_stream() {
        return None;
    }
    let mut again = Request::new(http_body_util::Empty::new().map_err(|never| match never {}).boxed_unsync());
    *again.method_mut() = request.method().clone();
    *again.uri_mut() = request.uri().clone();
    *again.headers_mut() = request.headers().clone();
    Some(again)
}

/// Methods that change nothing (RFC 9110 §9.2.1), as Kubernetes uses them.
fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// Runs as long as its upstream.
async fn sweep(pool: Arc<Pool>) {
    let mut ticks = tokio::time::interval(SWEEP);
    loop {
        ticks.tick().await;
        pool.evict();
    }
}
