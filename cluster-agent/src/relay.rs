//! Streams to the API server: the agent dials the one address that its environment names and copies bytes. What the
//! bytes are is between the server and the API server, which speak TLS.

use std::io;
use std::sync::Arc;

use cattle_agent::{BoxFuture, Handler};
use cattle_proto::limits;
use cattle_proto::stream::{RefusedCode, Target};
use cattle_runtime::ErrorChain as _;
use cattle_tunnel::{PendingStream, splice};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tracing::Instrument as _;

use crate::kubernetes::ApiServerAddress;

/// Serves [`Target::KubeApiserver`], and nothing else.
#[derive(Clone, Debug)]
pub struct Relay {
    api_server: ApiServerAddress,
}

impl Relay {
    /// A relay to `api_server`.
    pub fn new(api_server: ApiServerAddress) -> Self {
        Self { api_server }
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
                tracing::warn!(api_server = %self.api_server, %code, error = %error.chain(), "cannot dial the API server");
                stream.refuse(code).await;
            }
        }
    }

    async fn dial(&self) -> io::Result<TcpStream> {
        let connecting = TcpStream::connect(self.api_server.dial_target());
        let stream = timeout(limits::DIAL_TIME, connecting).await.map_err(|_| io::ErrorKind::TimedOut)??;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
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
    use super::*;

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
