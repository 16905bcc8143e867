//! Streams to the API server: the agent dials one of the addresses that its environment names and copies bytes. What the
//! bytes are is between the server and the API server, which speak TLS.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use cattle_proto::limits;
use cattle_proto::stream::{RefusedCode, Target};
use cattle_runtime::ErrorChain as _;
use cattle_tunnel::{PendingStream, splice};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::Instrument as _;

use crate::address::Address;
use crate::{BoxFuture, Handler};

/// How long an address is tried alone before the next one is tried beside it (RFC 8305 calls it the connection attempt
/// delay). The server gives a route 2 s: several addresses that do not answer fit into that.
const HEAD_START: Duration = Duration::from_millis(250);

/// Serves [`Target::KubeApiserver`], and nothing else.
#[derive(Clone, Debug)]
pub struct Relay {
    /// Best first.
    addresses: Vec<Address>,
}

impl Relay {
    /// A relay to the API server, at the first of `addresses` that takes a connection. All of them are the same API server to
    /// whoever speaks TLS through it; an earlier one is only nearer.
    pub fn new(addresses: Vec<Address>) -> Self {
        Self { addresses }
    }

    /// Dials once, for whoever has to find out whether there is a way, and says which address took the connection.
    ///
    /// # Errors
    /// When none did in time.
    pub async fn examine(&self) -> io::Result<SocketAddr> {
        self.dial().await?.peer_addr()
    }

    async fn serve(&self, stream: PendingStream) {
        let Target::KubeApiserver = stream.header().target else {
            return stream.refuse(RefusedCode::UnknownTarget).await;
        };
        let dialed = tokio::select! {
            dialed = self.dial() => dialed,
            () = stream.given_up() => return tracing::debug!("the server gave the stream up"),
        };
        match dialed {
            Ok(api_server) => relay(stream, api_server).await,
            Err(error) => {
                let code = refusal(&error);
                tracing::warn!(addresses = %self.shown(), %code, error = %error.chain(), "cannot dial the API server");
                stream.refuse(code).await;
            }
        }
    }

    /// A connection to the first address that takes one. Cancel safe: the attempts end with it.
    async fn dial(&self) -> io::Result<TcpStream> {
        let racing = race(&self.addresses, connect);
        timeout(limits::DIAL_TIME, racing).await.map_err(|_| io::ErrorKind::TimedOut)?
    }

    fn shown(&self) -> String {
        let shown: Vec<_> = self.addresses.iter().map(Address::to_string).collect();
        shown.join(", ")
    }
}

/// One address after the other; the next one begins when the last one has failed, or has had its head start.
async fn race<T, F>(addresses: &[Address], connect: impl Fn(Address) -> F) -> io::Result<T>
where
    T: Send + 'static,
    F: Future<Output = io::Result<T>> + Send + 'static,
{
    let mut attempts = JoinSet::new();
    let mut left = addresses.iter();
    let mut failure = io::Error::from(io::ErrorKind::AddrNotAvailable);
    loop {
        if let Some(address) = left.next() {
            attempts.spawn(connect(address.clone()));
        }
        tokio::select! {
            ended = attempts.join_next() => match ended {
                Some(Ok(Ok(stream))) => return Ok(stream),
                Some(Ok(Err(error))) => failure = error,
                Some(Err(error)) => failure = error.into(),
                None => return Err(failure),
            },
            () = sleep(HEAD_START), if left.len() > 0 => {}
        }
    }
}

async fn connect(address: Address) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address.dial_target()).await?;
    stream.set_nodelay(true)?;
    tracing::trace!(%address, "connected");
    Ok(stream)
}

impl Handler for Relay {
    fn handle(self: Arc<Self>, stream: PendingStream) -> BoxFuture<'static, ()> {
        let span = tracing::debug_span!("stream", id = stream.id());
        Box::pin(async move { self.serve(stream).await }.instrument(span))
    }
}

async fn relay(stream: PendingStream, mut api_server: TcpStream) {
    let mut stream = match stream.accept().await {
        Ok(stream) => stream,
        Err(error) => return tracing::debug!(error = %error.chain(), "the server gave the stream up"),
    };
    // An API server that does not read must not keep what nobody waits for.
    let given_up = stream.given_up();
    // No idle limit: a watch may be silent for hours, and the session's keepalive ends what is dead.
    let spliced = tokio::select! {
        spliced = splice(&mut stream, &mut api_server, None) => spliced,
        () = given_up => return tracing::debug!("the server gave the stream up"),
    };
    match spliced {
        Ok(spliced) => tracing::debug!(to_api_server = spliced.forth, from_api_server = spliced.back, "stream ended"),
        Err(error) => tracing::debug!(error = %error.chain(), "stream cut"),
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the kinds are open; whatever else fails, there is no way")]
fn refusal(error: &io::Error) -> RefusedCode {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => RefusedCode::ConnectionRefused,
        io::ErrorKind::TimedOut => RefusedCode::DialTimeout,
        _ => RefusedCode::Unreachable,
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    fn addresses() -> Vec<Address> {
        ["10.0.0.1:1", "10.0.0.1:2", "10.0.0.1:3"].map(|text| text.parse().unwrap()).to_vec()
    }

    /// What a network answers: a port that takes connections, one that refuses them, one that says nothing.
    async fn answer(address: Address, takes: &[u16], refuses: &[u16]) -> io::Result<u16> {
        let (_, port) = address.dial_target();
        if takes.contains(&port) {
            Ok(port)
        } else if refuses.contains(&port) {
            Err(io::ErrorKind::ConnectionRefused.into())
        } else {
            std::future::pending().await
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_address_that_takes_a_connection_is_it() {
        let started = Instant::now();
        for (takes, refuses, taken, after) in [
            (&[1, 2, 3][..], &[][..], 1, Duration::ZERO),
            (&[2, 3], &[1], 2, Duration::ZERO),
            (&[2, 3], &[], 2, HEAD_START),
            (&[3], &[2], 3, HEAD_START),
            (&[3], &[], 3, HEAD_START * 2),
        ] {
            let begun = Instant::now();
            let raced = race(&addresses(), |address| answer(address, takes, refuses)).await;
            assert_eq!((raced.unwrap(), begun.elapsed()), (taken, after), "{takes:?} {refuses:?}");
        }
        assert!(started.elapsed() < Duration::from_secs(2), "the server's time for a route");
        let refused = race(&addresses(), |address| answer(address, &[], &[1, 2, 3])).await;
        assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        let none = race(&[], |address| answer(address, &[1], &[])).await;
        assert_eq!(none.unwrap_err().kind(), io::ErrorKind::AddrNotAvailable);
    }

    #[test]
    fn every_failure_of_a_dial_has_its_code() {
        for (kind, code) in [
            (io::ErrorKind::ConnectionRefused, RefusedCode::ConnectionRefused),
            (io::ErrorKind::TimedOut, RefusedCode::DialTimeout),
            (io::ErrorKind::NetworkUnreachable, RefusedCode::Unreachable),
            (io::ErrorKind::PermissionDenied, RefusedCode::Unreachable),
        ] {
            assert_eq!(refusal(&kind.into()), code, "{kind:?}");
        }
    }
}
