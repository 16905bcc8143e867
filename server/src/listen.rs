//! The server's one public listener: TCP, TLS, HTTP/1.1 and HTTP/2.
//!
//! The accept loop does nothing but accept: every connection is a task of its own (owned by the loop's [`JoinSet`]), and
//! `connection` says how long a peer may take for each of its steps, and [`Limits`] how many of them there may be.

mod activity;
mod connection;
mod limits;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::body::Body;
use http::{Request, Response};
use hyper::body::Incoming;
use rustls::server::ResolvesServerCert;
use tokio::{net::TcpListener, task::JoinSet, time::sleep};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use self::{
    connection::{Connection, Deadlines},
    limits::Doors,
};
pub use limits::{Limits, ListenMetrics};

/// The accept loop rests this long when the process is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

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
        let (doors, deadlines) = (Doors::new(limits, metrics), Deadlines::default());
        Ok(Self { tcp, tls: TlsAcceptor::from(Arc::new(config)), address, doors, deadlines })
    }

    /// Where the listener is bound.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown`, then accepts nothing more and returns when every running request is done: how long that may take,
    /// the caller decides.
    ///
    /// Connections that an HTTP upgrade took over are their owner's (the gateway's or the proxy's), not this one's: they count
    /// towards no limit here.
    ///
    /// # Cancel safety
    /// Dropping the future ends every connection.
    pub async fn serve<A: Answer>(self, answer: Arc<A>, shutdown: CancellationToken) {
        let Self { tcp, tls, doors, deadlines, .. } = self;
        let mut accepting = Accepting::default();
        let mut running = JoinSet::new();
        loop {
            while running.try_join_next().is_some() {}
            let accepted = async {
                let room = doors.room().await.ok_or_else(|| io::Error::other("no more room is made"))?;
                let (stream, peer) = tcp.accept().await?;
                io::Result::Ok((stream, peer, room))
            };
            // Cancel safe: room that waits for its connection is given back.
            let accepted = tokio::select! {
                () = shutdown.cancelled() => break,
                accepted = accepted => accepted,
            };
            match accepted {
                Ok((stream, peer, room)) => {
                    accepting.works();
                    match doors.admit(room, peer.ip()) {
                        Ok(admitted) => {
                            let (tls, doors, shutdown) = (tls.clone(), Arc::clone(&doors), shutdown.clone());
                            let connection = Connection { stream, peer, admitted, doors, deadlines, tls, shutdown };
                            running.spawn(connection.serve(Arc::clone(&answer)));
                        }
                        Err(refusal) => {
                            tracing::debug!(%peer, ?refusal, "a connection is closed: its address has too many");
                        }
                    }
                }
                Err(error) => {
                    accepting.fails(&error);
                    tokio::select! { () = shutdown.cancelled() => break, () = sleep(ACCEPT_PAUSE) => {} }
                }
            }
        }
        drop(tcp);
        while running.join_next().await.is_some() {}
    }
}

/// Whether connections can be accepted, told once when that changes: out of descriptors, it would be told ten times a second.
#[derive(Default)]
struct Accepting {
    fails: bool,
}

impl Accepting {
    fn fails(&mut self, error: &io::Error) {
        if !std::mem::replace(&mut self.fails, true) {
            tracing::warn!(%error, "no connection can be accepted; trying on");
        }
    }

    fn works(&mut self) {
        if std::mem::take(&mut self.fails) {
            tracing::info!("connections are accepted again");
        }
    }
}

#[cfg(test)]
mod tests;
