//! One connection and the task that drives it.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use super::body::RequestBody;
use super::pool::Pool;
use crate::directory::Io;

/// How long a finished connection may take until it can carry the next request. It is short: the only thing left to do is to
/// send the rest of a body that the API server did not wait for.
const READY_DEADLINE: Duration = Duration::from_secs(2);
/// Bytes that hyper may hold of one connection in either direction. What does not fit waits in the tunnel's window.
const BUFFER: usize = 64 * 1024;

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Requests one after the other.
    Pooled,
    /// One request that may switch protocols.
    Upgradable,
}

/// The right to send one request on a connection. The connection ends when this is dropped and not given back.
pub(super) struct Lease {
    sender: SendRequest<RequestBody>,
    /// Its driver listens here: a lease that comes back, or the end of the last one.
    back: mpsc::Sender<Self>,
    kind: Kind,
    generation: u64,
}

impl Lease {
    /// The pool's generation when the connection was opened.
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    pub(super) fn sender(&mut self) -> &mut SendRequest<RequestBody> {
        &mut self.sender
    }

    /// Whether a request can be sent without waiting.
    pub(super) fn is_ready(&self) -> bool {
        self.sender.is_ready() && !self.sender.is_closed()
    }

    /// The answer has been read to its end.
    pub(super) fn give_back(self) {
        if self.kind == Kind::Pooled {
            let driver = self.back.clone();
            // The queue holds one and there is one lease; if the driver has ended, so has the connection.
            drop(driver.try_send(self));
        }
    }
}

/// Starts HTTP on a connection. The returned future drives it and has to be run; dropping it closes the connection.
pub(super) async fn open(
    io: TlsStream<Box<dyn Io>>,
    kind: Kind,
    generation: u64,
    pool: Arc<Pool>,
) -> hyper::Result<(Lease, impl Future<Output = ()> + Send + 'static)> {
    let mut builder = http1::Builder::new();
    builder.max_buf_size(BUFFER);
    let (sender, connection) = builder.handshake(TokioIo::new(io)).await?;
    let (back, returned) = mpsc::channel(1);
    let connection = async move {
        let ended = match kind {
            Kind::Pooled => connection.await,
            Kind::Upgradable => connection.with_upgrades().await,
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "connection to an API server ended");
        }
    };
    Ok((Lease { sender, back, kind, generation }, drive(connection, returned, pool)))
}

/// Ends when the connection does, or when its lease is dropped: then whatever the API server was still doing for it is over.
async fn drive(connection: impl Future<Output = ()>, mut returned: mpsc::Receiver<Lease>, pool: Arc<Pool>) {
    let mut connection = pin!(connection.fuse());
    loop {
        let lease = tokio::select! {
            biased;
            () = &mut connection => return,
            lease = returned.recv() => lease,
        };
        let Some(mut lease) = lease else { return };
        let ready = tokio::select! {
            biased;
            () = &mut connection => return,
            ready = timeout(READY_DEADLINE, lease.sender.ready()) => ready,
        };
        if !matches!(ready, Ok(Ok(()))) || !pool.put(lease) {
            return;
        }
    }
}
