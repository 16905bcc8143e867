//! The server's one public listener: TCP, TLS, HTTP/1.1 and HTTP/2.
//!
//! The accept loop does nothing but accept: every connection is a task of its own (owned by the loop's [`JoinSet`]),
//! so a peer that never finishes its TLS handshake costs one permit for ten seconds and nobody waits for
//! it. How many permits one address gets, stands in [`limits`].

mod limits;

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

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
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;

use limits::{Admitted, Doors, Refusal};
pub use limits::{Limits, ListenMetrics};

/// A peer has this long for its TLS handshake.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);
/// A peer has this long for its handshake and the whole header of its first request, whatever the protocol.
const FIRST_REQUEST_DEADLINE: Duration = Duration::from_secs(30);
/// An HTTP/1.1 peer has this long to send the header of a request, and for the pause before it.
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
    doors: Arc<Doors>,
    deadlines: Deadlines,
}

#[derive(Clone, Copy)]
struct Deadlines {
    handshake: Duration,
    first_request: Duration,
}

impl Listener {
    /// Prepares TLS on a bound socket, with whatever `certificate` presents at the time of each handshake.
    ///
    /// # Errors
    /// When the socket has no address, or the cryptography provider lacks the protocol versions.
    pub fn new(
        tcp: TcpListener,
        certificate: Arc<dyn ResolvesServerCert>,
        limits: Limits,
        metrics: ListenMetrics,
    ) -> io::Result<Self> {
        let address = tcp.local_addr()?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_no_client_auth()
            .with_cert_resolver(certificate);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let deadlines = Deadlines { handshake: HANDSHAKE_DEADLINE, first_request: FIRST_REQUEST_DEADLINE };
        let doors = Doors::new(limits, metrics);
        Ok(Self { tcp, tls: TlsAcceptor::from(Arc::new(config)), address, doors, deadlines })
    }

    /// Where the listener is bound.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown`, then lets running requests finish for at most `grace`.
    ///
    /// Connections that an HTTP upgrade took over are their owner's (the gateway's or the proxy's), not this one's: they count
    /// towards no limit here.
    pub async fn serve<A: Answer>(self, answer: Arc<A>, shutdown: CancellationToken, grace: Duration) {
        let graceful = GracefulShutdown::new();
        let mut connections = JoinSet::new();
        loop {
            while connections.try_join_next().is_some() {}
            let accepted = async {
                let room = self.doors.room().await;
                (room, self.tcp.accept().await)
            };
            let (room, accepted) = tokio::select! {
                () = shutdown.cancelled() => break,
                accepted = accepted => accepted,
            };
            let Some(room) = room else { break };
            match accepted {
                Ok((stream, peer)) => match self.doors.admit(room, peer.ip()) {
                    Ok(admitted) => {
                        let doors = Arc::clone(&self.doors);
                        let (tls, deadlines) = (self.tls.clone(), self.deadlines);
                        let connection = Connection { peer, admitted, doors, deadlines, accepted: Instant::now() };
                        connections.spawn(connection.serve(stream, tls, Arc::clone(&answer), graceful.watcher()));
                    }
                    Err(refusal) => {
                        tracing::debug!(%peer, ?refusal, "a connection is closed: its address has too many")
                    }
                },
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
    peer: SocketAddr,
    admitted: Admitted,
    doors: Arc<Doors>,
    deadlines: Deadlines,
    accepted: Instant,
}

impl Connection {
    async fn serve<A: Answer>(mut self, stream: TcpStream, tls: TlsAcceptor, answer: Arc<A>, graceful: Watcher) {
        let peer = self.peer;
        stream.set_nodelay(true).ok();
        let stream = match timeout(self.deadlines.handshake, tls.accept(stream)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return self.refuse(Refusal::Handshake, &error),
            Err(late) => return self.refuse(Refusal::Handshake, &late),
        };
        self.admitted.shaken();
        let begun = Arc::new(AtomicBool::new(false));
        let first = Arc::clone(&begun);
        let service = service_fn(move |request| {
            first.store(true, Ordering::Relaxed);
            let answer = Arc::clone(&answer);
            async move { Ok::<_, Infallible>(answer.answer(request, peer).await) }
        });
        let builder = protocol(&stream);
        let serving = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).into_owned();
        let watched = graceful.watch(serving);
        let silent = async {
            sleep_until(self.accepted + self.deadlines.first_request).await;
            if begun.load(Ordering::Relaxed) {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            ended = watched => if let Err(error) = ended {
                tracing::debug!(%peer, error = %error, "connection ended");
            },
            () = silent => self.refuse(Refusal::Silent, &"no request came in time"),
        }
    }

    fn refuse(&self, refusal: Refusal, why: &dyn std::fmt::Display) {
        self.doors.metrics.refuse(refusal);
        tracing::debug!(peer = %self.peer, ?refusal, %why, "connection closed");
    }
}

/// What was agreed on in the handshake: nobody has to guess from the first bytes, which may never come.
fn protocol(stream: &TlsStream<TcpStream>) -> auto::Builder<TokioExecutor> {
    let builder = auto::Builder::new(TokioExecutor::new());
    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let mut builder = if http2 { builder.http2_only() } else { builder.http1_only() };
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

#[cfg(test)]
mod tests;
