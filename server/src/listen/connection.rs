//! One connection: TLS, then the protocol that its handshake chose, then its end.
//!
//! | step | time | then |
//! |---|---|---|
//! | TLS handshake | 10 s | closed |
//! | first request | 20 s | closed |
//! | header of an HTTP/1.1 request, and the pause before it | 20 s | closed |
//! | nothing runs | 2 min | told to go (HTTP/2 `GOAWAY`), then closed |
//! | HTTP/2 peer silent | ping after 30 s, 20 s for the answer | closed |
//!
//! The protocol is the one of ALPN and not guessed from the first bytes: guessing waits for them without a limit.

use std::{
    convert::Infallible,
    error::Error,
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use cattle_runtime::socket::be_prompt;
use hyper::{
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;

use super::{
    Answer,
    activity::Activity,
    limits::{Admitted, Doors, Refusal},
};

/// A peer has this long to send its first request's header.
const HEADER_DEADLINE: Duration = Duration::from_secs(20);
/// A connection on which nothing runs is closed after this time, a header that is half sent or none. Longer than clients keep
/// theirs (90 s in Go): a server that closes first meets requests on their way, and a change cannot be sent again.
const IDLE: Duration = Duration::from_secs(120);
/// A connection that was told to go has this long for requests that were on their way, after the last one.
const LINGER: Duration = Duration::from_secs(5);
/// HTTP/2 requests at once on one connection.
const STREAMS_PER_CONNECTION: u32 = 250;

/// How long a peer may take before it has asked for anything.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadlines {
    pub(super) handshake: Duration,
    pub(super) first_request: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self { handshake: Duration::from_secs(10), first_request: HEADER_DEADLINE }
    }
}

/// An accepted connection, before its handshake.
pub(super) struct Connection {
    pub(super) stream: TcpStream,
    pub(super) peer: SocketAddr,
    pub(super) admitted: Admitted,
    pub(super) doors: Arc<Doors>,
    pub(super) deadlines: Deadlines,
    pub(super) tls: TlsAcceptor,
    pub(super) shutdown: CancellationToken,
}

impl Connection {
    /// Serves it to its end. After `shutdown` running requests finish, and no further ones begin.
    pub(super) async fn serve<A: Answer>(self, answer: Arc<A>) {
        let Self { stream, peer, mut admitted, doors, deadlines, tls, shutdown } = self;
        if let Err(error) = be_prompt(&stream) {
            tracing::debug!(%error, %peer, "options of a connection");
        }
        let handshake = tokio::select! {
            handshake = timeout(deadlines.handshake, tls.accept(stream)) => handshake,
            () = shutdown.cancelled() => return,
        };
        let ended: Result<Over, BoxError> = match handshake {
            Ok(Ok(stream)) => {
                admitted.shaken();
                let life = Life { activity: Activity::default(), first_request: deadlines.first_request, shutdown };
                Box::pin(converse(stream, peer, answer, life)).await.map_err(Into::into)
            }
            Ok(Err(error)) => Err(error.into()),
            Err(elapsed) => Err(io::Error::from(elapsed).into()),
        };
        match ended {
            Ok(Over::Ended) => {}
            Ok(Over::Silent) => doors.metrics.refuse(Refusal::Silent),
            Err(error) => {
                if admitted.is_shaking() {
                    doors.metrics.refuse(Refusal::Handshake);
                }
                tracing::debug!(%peer, error = &*error as &dyn Error, "connection ended");
            }
        }
    }
}

type BoxError = Box<dyn Error + Send + Sync>;

/// How a connection was over.
enum Over {
    /// In one of the ways that connections end.
    Ended,
    /// It was closed: no request came in time.
    Silent,
}

/// What decides how long a connection lives.
struct Life {
    activity: Activity,
    first_request: Duration,
    shutdown: CancellationToken,
}

async fn converse<A: Answer>(
    stream: TlsStream<TcpStream>,
    peer: SocketAddr,
    answer: Arc<A>,
    life: Life,
) -> hyper::Result<Over> {
    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let begins = life.activity.clone();
    let service = service_fn(move |request| {
        let (answer, running) = (Arc::clone(&answer), begins.begin());
        async move { Ok::<_, Infallible>(answer.answer(request, peer).await.map(|body| running.with(body))) }
    });
    let stream = TokioIo::new(stream);
    if http2 {
        let connection = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS_PER_CONNECTION)
            .max_header_list_size(64 * 1024)
            .keep_alive_interval(Some(Duration::from_secs(30)))
            .keep_alive_timeout(Duration::from_secs(20))
            .serve_connection(stream, service);
        life.drive(connection, http2::Connection::graceful_shutdown).await
    } else {
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(IDLE)
            .max_buf_size(64 * 1024)
            .serve_connection(stream, service)
            .with_upgrades();
        life.drive(connection, http1::UpgradeableConnection::graceful_shutdown).await
    }
}

impl Life {
    /// Runs a connection until its peer ends it, nothing runs on it any more, or the server stops. `finish` tells it to go.
    async fn drive<C: Future<Output = hyper::Result<()>>>(
        self,
        connection: C,
        finish: impl FnOnce(Pin<&mut C>),
    ) -> hyper::Result<Over> {
        let mut connection = pin!(connection);
        tokio::select! {
            ended = connection.as_mut() => return match ended {
                Err(error) if error.is_timeout() && !self.activity.has_begun() => Ok(Over::Silent),
                ended => ended.map(|()| Over::Ended),
            },
            () = self.activity.idle(self.first_request, IDLE) => {
                if !self.activity.has_begun() {
                    return Ok(Over::Silent);
                }
            }
            () = self.shutdown.cancelled() => {}
        }
        finish(connection.as_mut());
        tokio::select! {
            ended = connection => ended.map(|()| Over::Ended),
            () = self.activity.idle(LINGER, LINGER) => Ok(Over::Ended),
        }
    }
}
