//! Bodies to and from an API server.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;

use super::Inner;
use super::connection::Lease;

/// An error of a body that somebody else made.
pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A request's body, streamed.
pub(crate) type RequestBody = UnsyncBoxBody<Bytes, BoxError>;

/// The body of an answer, streamed.
///
/// It holds the connection. When it ends, the connection goes back to the pool; when it is dropped before, the connection is closed.
pub struct UpstreamBody {
    incoming: Incoming,
    lease: Option<Lease>,
    /// Keeps the connection's driver alive when the upstream itself was replaced.
    upstream: Option<Arc<Inner>>,
}

impl UpstreamBody {
    pub(super) fn new(incoming: Incoming, lease: Lease, upstream: Arc<Inner>) -> Self {
        let mut body = Self { incoming, lease: Some(lease), upstream: Some(upstream) };
        body.finish_if_ended();
        body
    }

    /// Whoever reads a body may stop asking as soon as it knows that nothing follows, so this is checked after each frame.
    fn finish_if_ended(&mut self) {
        if self.incoming.is_end_stream() {
            self.finish();
        }
    }

    fn finish(&mut self) {
        if let Some(lease) = self.lease.take() {
            lease.give_back();
        }
        self.upstream = None;
    }
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.incoming).poll_frame(cx));
        match &frame {
            Some(Ok(_)) => self.finish_if_ended(),
            Some(Err(_)) => drop(self.lease.take()),
            None => self.finish(),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
