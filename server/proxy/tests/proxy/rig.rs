//! A proxy between a plain listener and any number of fakes.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use cattle_api::Secret;
use cattle_audit::{Denials, MemorySink};
use cattle_auth::UserInfo;
use cattle_proto::id::ClusterId;
use cattle_proxy::{
    ApiServer, ClientAddress, ClusterDialer, ClusterDirectory, Dependencies, Diagnosis, DialError, ImpersonatorError,
    Impersonators, Io, Limits, Metrics, Proxy, Refused, Selector,
};
use futures_util::future::BoxFuture;
use http::{Request, Response, StatusCode};
use http_body_util::{Either, Empty};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::fake::{Fake, Handler, NAME};

/// The cluster of most tests.
pub(crate) const CLUSTER: &str = "c-aaaaa";

/// How long the token of `u-short` is good for.
const SHORT: Duration = Duration::from_secs(2);

/// What the proxy asks, with knobs.
#[derive(Default)]
pub(crate) struct World {
    pub(crate) clusters: Mutex<HashMap<ClusterId, (SocketAddr, ApiServer)>>,
    pub(crate) dial_error: Mutex<Option<DialError>>,
    pub(crate) token_error: Mutex<Option<ImpersonatorError>>,
    /// No token ever comes, and no error.
    pub(crate) token_pending: AtomicBool,
    pub(crate) recently_written: AtomicBool,
    pub(crate) diagnosis: Mutex<Option<Diagnosis>>,
    pub(crate) diagnosed: AtomicUsize,
    /// Users that may enter nothing.
    pub(crate) strangers: Mutex<Vec<String>>,
}

impl ClusterDialer for World {
    fn dial<'a>(&'a self, cluster: &'a ClusterId) -> BoxFuture<'a, Result<Box<dyn Io>, DialError>> {
        Box::pin(async move {
            if let Some(error) = *self.dial_error.lock() {
                return Err(error);
            }
            let (address, _) =
                self.clusters.lock().get(cluster).cloned().ok_or(DialError::NotConnected { since: None })?;
            let io = TcpStream::connect(address).await.map_err(|_| DialError::ApiServerUnreachable)?;
            Ok(Box::new(io) as Box<dyn Io>)
        })
    }
}

impl ClusterDirectory for World {
    fn lookup(&self, cluster: &ClusterId) -> Option<ApiServer> {
        self.clusters.lock().get(cluster).map(|(_, server)| server.clone())
    }

    fn may_enter(&self, user: &UserInfo, _: &ClusterId) -> bool {
        !self.strangers.lock().iter().any(|name| name == user.name())
    }

    fn may_see_times(&self, _: &UserInfo) -> bool {
        false
    }
}

impl Impersonators for World {
    fn token<'a>(
        &'a self,
        cluster: &'a ClusterId,
        user: &'a UserInfo,
    ) -> BoxFuture<'a, Result<Secret, ImpersonatorError>> {
        let token = format!("token-of-{}-in-{cluster}", user.name());
        let error = self.token_error.lock().clone();
        let pending = self.token_pending.load(Ordering::SeqCst);
        Box::pin(async move {
            if pending {
                std::future::pending::<()>().await;
            }
            error.map_or_else(|| Ok(Secret::from(token)), Err)
        })
    }

    fn recently_written(&self, _: &ClusterId, _: &UserInfo) -> bool {
        self.recently_written.load(Ordering::SeqCst)
    }

    fn diagnose<'a>(&'a self, _: &'a ClusterId, _: &'a UserInfo, _: Refused) -> BoxFuture<'a, Diagnosis> {
        self.diagnosed.fetch_add(1, Ordering::SeqCst);
        let diagnosis = self.diagnosis.lock().clone().unwrap_or(Diagnosis::Intact);
        Box::pin(async move { diagnosis })
    }
}

/// Everything of one test. Dropping it ends all of it.
pub(crate) struct Rig {
    pub(crate) address: SocketAddr,
    pub(crate) proxy: Arc<Proxy>,
    pub(crate) world: Arc<World>,
    pub(crate) audit: Arc<MemorySink>,
    pub(crate) metrics: Metrics,
    pub(crate) fake: Fake,
    _tasks: JoinSet<()>,
}

impl Rig {
    /// One cluster, [`CLUSTER`], whose API server answers like this.
    pub(crate) async fn start(handler: Handler) -> Self {
        Self::limited(handler, Limits::default()).await
    }

    pub(crate) async fn limited(handler: Handler, limits: Limits) -> Self {
        let fake = Fake::start(handler).await;
        let world = Arc::new(World::default());
        let audit = Arc::new(MemorySink::default());
        let metrics = Metrics::default();
        let proxy = Arc::new(Proxy::new(Dependencies {
            dialer: world.clone(),
            directory: world.clone(),
            impersonators: world.clone(),
            audit: audit.clone(),
            denials: Denials::new(audit.clone()),
            limits,
            metrics: metrics.clone(),
        }));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(listen(listener, Arc::clone(&proxy)));
        let rig = Self { address, proxy, world, audit, metrics, fake, _tasks: tasks };
        rig.add(CLUSTER, &rig.fake, 1);
        rig
    }

    /// A cluster with this API server.
    pub(crate) fn add(&self, cluster: &str, fake: &Fake, ca_generation: u64) {
        let server = ApiServer { ca_pem: fake.ca_pem.clone(), ca_generation, server_name: NAME.to_owned() };
        self.world.clusters.lock().insert(cluster.parse().unwrap(), (fake.address, server));
    }

    pub(crate) async fn connect(&self) -> Client {
        Client { io: TcpStream::connect(self.address).await.unwrap(), buffer: Vec::new() }
    }

    /// One request on a connection of its own: method and path below the cluster, more header lines, body.
    pub(crate) async fn request(&self, line: &str, headers: &str, body: &str) -> Answer {
        let mut client = self.connect().await;
        client.request(line, headers, body).await;
        client.answer().await.expect("no answer")
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.request(&format!("GET {path}"), "", "").await
    }
}

/// Authenticates by `Authorization: Bearer <user>` and hands over to the proxy.
async fn listen(listener: TcpListener, proxy: Arc<Proxy>) {
    let mut tasks = JoinSet::new();
    while let Ok((io, peer)) = listener.accept().await {
        let proxy = Arc::clone(&proxy);
        tasks.spawn(async move {
            let service = service_fn(move |mut request: Request<Incoming>| {
                let proxy = Arc::clone(&proxy);
                async move {
                    let Some(user) = authenticated(&request) else {
                        let mut response = Response::new(Either::Right(Empty::new()));
                        *response.status_mut() = StatusCode::UNAUTHORIZED;
                        return Ok::<_, Infallible>(response);
                    };
                    if user.name() == "u-late" {
                        // Revoked while it was on its way from authentication to the proxy.
                        request.extensions_mut().insert(proxy.streams().epoch());
                        proxy.streams().close(&Selector::User("u-late".to_owned()));
                    }
                    request.extensions_mut().insert(ClientAddress(peer.ip()));
                    Ok(proxy.serve(request, user).await.map(Either::Left))
                }
            });
            let mut builder = auto::Builder::new(TokioExecutor::new());
            builder.http1().max_buf_size(64 * 1024);
            builder.http2().max_send_buf_size(64 * 1024);
            drop(builder.serve_connection_with_upgrades(TokioIo::new(io), service).await);
        });
    }
}

fn authenticated(request: &Request<Incoming>) -> Option<UserInfo> {
    let mut values = request.headers().get_all("authorization").iter();
    let name = values.next()?.to_str().ok()?.strip_prefix("Bearer ")?;
    let user = name.starts_with("u-").then(|| UserInfo::for_test(name, "login"))?;
    if name == "u-scoped" {
        return Some(user.with_cluster_scope("c-bbbbb"));
    }
    // A token that is about to end, for a user with such a name.
    Some(if name == "u-short" { user.with_expiry((SystemTime::now() + SHORT).try_into().ok()?) } else { user })
}

/// A client that writes bytes by hand.
pub(crate) struct Client {
    pub(crate) io: TcpStream,
    pub(crate) buffer: Vec<u8>,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// The first cause in the details of a `Status`.
    pub(crate) fn cause(&self) -> Option<String> {
        let status: serde_json::Value = serde_json::from_str(&self.body).expect(&self.body);
        status["details"]["causes"][0]["reason"].as_str().map(str::to_owned)
    }

    pub(crate) fn message(&self) -> String {
        let status: serde_json::Value = serde_json::from_str(&self.body).expect(&self.body);
        assert_eq!((&status["kind"], &status["apiVersion"]), (&"Status".into(), &"v1".into()));
        assert_eq!(status["code"], self.status);
        status["message"].as_str().unwrap().to_owned()
    }
}

impl Client {
    pub(crate) async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.io.write_all(bytes.as_ref()).await.unwrap();
    }

    /// A request of `u-alice` in [`CLUSTER`].
    pub(crate) async fn request(&mut self, line: &str, headers: &str, body: &str) {
        let (method, path) = line.split_once(' ').unwrap();
        let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
        let head =
            format!("{method} /k8s/clusters/{CLUSTER}{path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer u-alice\r\n");
        self.write(format!("{head}{length}{headers}\r\n{body}")).await;
    }

    /// The next answer, or `None` if the proxy closed instead.
    pub(crate) async fn answer(&mut self) -> Option<Answer> {
        let head = self.head().await?;
        let status: u16 = head.split(' ').nth(1)?.parse().ok()?;
        let mut answer = Answer { status, head, body: String::new() };
        if status == 101 || (100..200).contains(&status) || status == 204 || status == 304 {
            return Some(answer);
        }
        let mut body = Vec::new();
        if let Some(length) = answer.header("content-length") {
            let length: usize = length.parse().unwrap();
            while self.buffer.len() < length && self.fill().await {}
            let length = length.min(self.buffer.len());
            body = self.buffer.drain(..length).collect();
        } else if answer.header("transfer-encoding") == Some("chunked") {
            while let Some(chunk) = self.chunk().await {
                body.extend(chunk);
            }
        } else {
            while self.fill().await {}
            body.append(&mut self.buffer);
        }
        answer.body = String::from_utf8_lossy(&body).into_owned();
        Some(answer)
    }

    pub(crate) async fn head(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                return String::from_utf8(self.buffer.drain(..end + 4).collect()).ok();
            }
            if !self.fill().await {
                return None;
            }
        }
    }

    /// The next chunk of a chunked body; `None` after the last one, and after a body that breaks off.
    pub(crate) async fn chunk(&mut self) -> Option<Vec<u8>> {
        let size = loop {
            if let Some(end) = self.buffer.windows(2).position(|window| window == b"\r\n") {
                let line: Vec<u8> = self.buffer.drain(..end + 2).collect();
                break usize::from_str_radix(std::str::from_utf8(&line).ok()?.trim(), 16).ok()?;
            }
            if !self.fill().await {
                return None;
            }
        };
        while self.buffer.len() < size + 2 {
            if !self.fill().await {
                return None;
            }
        }
        let chunk: Vec<u8> = self.buffer.drain(..size).collect();
        self.buffer.drain(..2);
        (size > 0).then_some(chunk)
    }

    pub(crate) async fn fill(&mut self) -> bool {
        let mut chunk = vec![0; 16 * 1024];
        let read = self.io.read(&mut chunk).await.unwrap_or(0);
        self.buffer.extend_from_slice(&chunk[..read]);
        read > 0
    }
}

/// Waits for a condition; panics if it does not come.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waited = tokio::time::timeout(Duration::from_secs(20), async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    assert!(waited.await.is_ok(), "not in time: {what}");
}

/// Runs something with a deadline.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    let result = tokio::time::timeout(Duration::from_secs(30), future).await;
    result.unwrap_or_else(|_| panic!("not in time: {what}"))
}
