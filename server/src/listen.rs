//! The server's one public listener: TCP, TLS, HTTP/1.1 and HTTP/2.
//!
//! The accept loop does nothing but accept: every connection is a task of its own (owned by the loop's [`JoinSet`]),
//! so a peer that never finishes its TLS handshake costs one permit for ten seconds and nobody waits for
//! it.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use axum::body::Body;
use http::{Request, Response};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{
        conn::auto,
        graceful::{GracefulShutdown, Watcher},
    },
};
use rustls::server::ResolvesServerCert;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

/// Connections served at once; the next ones wait in the kernel's queue.
const CONNECTIONS: usize = 16_384;
/// A peer has this long for its TLS handshake.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);
/// A peer has this long to send a request's header.
const HEADER_DEADLINE: Duration = Duration::from_secs(20);
/// The accept loop rests this long when the process is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// HTTP/2 requests at once on one connection.
const STREAMS_PER_CONNECTION: u32 = 250;

/// Answers one request; the router implements it.
pub trait Answer: Send + Sync + 'static {
    /// Answers `request`, which came from `peer`.
    fn answer(&self, request: Request<Incoming>, peer: SocketAddr) -> impl Future<Output = Response<Body>> + Send;
}

/// A bound listener that does not accept yet, so its address is known before anything is served.
pub struct Listener {
    tcp: TcpListener,
    tls: TlsAcceptor,
    address: SocketAddr,
}

impl Listener {
    /// Prepares TLS on a bound socket, with whatever `certificate` presents at the time of each handshake.
    ///
    /// # Errors
    /// When the socket has no address, or the cryptography provider lacks the protocol versions.
    pub fn new(tcp: TcpListener, certificate: Arc<dyn ResolvesServerCert>) -> io::Result<Self> {
        let address = tcp.local_addr()?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_no_client_auth()
            .with_cert_resolver(certificate);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self { tcp, tls: TlsAcceptor::from(Arc::new(config)), address })
    }

    /// Where the listener is bound.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown`, then lets running requests finish for at most `grace`.
    ///
    /// Connections that an HTTP upgrade took over are their owner's (the gateway's or the proxy's), not this one's.
    pub async fn serve<A: Answer>(self, answer: Arc<A>, shutdown: CancellationToken, grace: Duration) {
        let permits = Arc::new(Semaphore::new(CONNECTIONS));
        let graceful = GracefulShutdown::new();
        let mut connections = JoinSet::new();
        loop {
            while connections.try_join_next().is_some() {}
            let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { break };
            let accepted = tokio::select! {
                () = shutdown.cancelled() => break,
                accepted = self.tcp.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let connection = Connection { stream, peer, permit, tls: self.tls.clone() };
                    connections.spawn(connection.serve(Arc::clone(&answer), graceful.watcher()));
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(self.tcp);
        let drained = async {
            graceful.shutdown().await;
            while connections.join_next().await.is_some() {}
        };
        if timeout(grace, drained).await.is_err() {
            tracing::info!("requests were still running at the end of the grace period and were ended");
        }
    }
}

struct Connection {
    stream: TcpStream,
    peer: SocketAddr,
    permit: OwnedSemaphorePermit,
    tls: TlsAcceptor,
}

impl Connection {
    async fn serve<A: Answer>(self, answer: Arc<A>, graceful: Watcher) {
        let Self { stream, peer, permit, tls } = self;
        stream.set_nodelay(true).ok();
        let stream = match timeout(HANDSHAKE_DEADLINE, tls.accept(stream)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return tracing::debug!(%peer, %error, "TLS handshake failed"),
            Err(_) => return tracing::debug!(%peer, "TLS handshake timed out"),
        };
        let service = service_fn(move |request| {
            let answer = Arc::clone(&answer);
            async move { Ok::<_, Infallible>(answer.answer(request, peer).await) }
        });
        let builder = protocol();
        let serving = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).into_owned();
        let watched = graceful.watch(serving);
        if let Err(error) = watched.await {
            tracing::debug!(%peer, error = %error, "connection ended");
        }
        drop(permit);
    }
}

fn protocol() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_DEADLINE)
        .max_buf_size(64 * 1024)
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_PER_CONNECTION)
        .max_header_list_size(64 * 1024)
        .keep_alive_interval(Some(Duration::from_secs(30)))
        .keep_alive_timeout(Duration::from_secs(20));
    builder
}
