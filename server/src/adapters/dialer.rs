//! Streams to API servers, through the gateway's routes.

use cattle_gateway::{DialError, Gateway, SessionDialer};
use cattle_proto::{id::ClusterId, stream::RefusedCode};
use cattle_proxy::{ClusterDialer, Io};
use cattle_tunnel::OpenError;
use futures_util::future::BoxFuture;
use jiff::Timestamp;

/// Any session of the cluster.
pub struct GatewayDialer(pub Gateway);

impl ClusterDialer for GatewayDialer {
    fn dial<'a>(&'a self, cluster: &'a ClusterId) -> BoxFuture<'a, Result<Box<dyn Io>, cattle_proxy::DialError>> {
        Box::pin(async move {
            let dialed = self.0.dial(cluster).await.map_err(translate)?;
            // Of the request that dials; the next ones on this connection name it by their cluster only.
            let span = tracing::Span::current();
            span.record("session", tracing::field::display(dialed.session)).record("stream", dialed.stream.id());
            tracing::debug!(%cluster, session = %dialed.session, stream = dialed.stream.id(), "dialled");
            Ok(Box::new(dialed.stream) as Box<dyn Io>)
        })
    }
}

/// One session only: the one that is being registered or probed.
pub struct OneSession(pub SessionDialer);

impl ClusterDialer for OneSession {
    fn dial<'a>(&'a self, _: &'a ClusterId) -> BoxFuture<'a, Result<Box<dyn Io>, cattle_proxy::DialError>> {
        Box::pin(async move {
            let stream = self.0.dial().await.map_err(opened)?;
            Ok(Box::new(stream) as Box<dyn Io>)
        })
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "every other reason is a loss of the session")]
fn opened(error: OpenError) -> cattle_proxy::DialError {
    match error {
        OpenError::Refused(code) => refused(code),
        OpenError::Timeout { .. } => cattle_proxy::DialError::TimedOut,
        _ => cattle_proxy::DialError::Broken,
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "a broken protocol and a newer gateway's reasons are losses of the session"
)]
fn translate(error: DialError) -> cattle_proxy::DialError {
    match error {
        DialError::NotConnected { since } => cattle_proxy::DialError::NotConnected { since: since.and_then(time) },
        DialError::Refused { code } => refused(code),
        DialError::Timeout => cattle_proxy::DialError::TimedOut,
        DialError::Busy => cattle_proxy::DialError::Busy,
        _ => cattle_proxy::DialError::Broken,
    }
}

fn refused(code: RefusedCode) -> cattle_proxy::DialError {
    if code == RefusedCode::Busy {
        cattle_proxy::DialError::Busy
    } else {
        cattle_proxy::DialError::ApiServerUnreachable
    }
}

/// Seconds since 1970, as the gateway counts.
pub(crate) fn time(seconds: u64) -> Option<Timestamp> {
    Timestamp::from_second(i64::try_from(seconds).ok()?).ok()
}
