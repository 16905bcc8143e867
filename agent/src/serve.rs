//! The streams that the server opens: each is a task of its own, their number has a cap.

use std::sync::Arc;

use cattle_proto::stream::RefusedCode;
use cattle_tunnel::{Incoming, PendingStream, SessionHandle};
use tokio::task::JoinSet;

use crate::BoxFuture;
use crate::metrics::Metrics;

/// Refusals that may be under way at once; a server that ignores `Busy` is answered with resets beyond that.
const MAX_REFUSALS: usize = 64;

/// Serves streams by their target. The agent's own crate knows the targets; it answers [`RefusedCode::UnknownTarget`]
/// to any other.
pub trait Handler: Send + Sync + 'static {
    /// Answers `stream`, and serves it to its end. Dropping the future resets the stream; a panic costs this stream
    /// only.
    fn handle(self: Arc<Self>, stream: PendingStream) -> BoxFuture<'static, ()>;
}

/// Serves the streams of one session until it ends, at most `limit` at once.
pub(crate) async fn serve(
    mut incoming: Incoming,
    session: SessionHandle,
    handler: Arc<dyn Handler>,
    limit: usize,
    metrics: Metrics,
) {
    let mut streams = JoinSet::new();
    let mut refusals = JoinSet::new();
    loop {
        tokio::select! {
            Some(ended) = streams.join_next() => {
                if let Err(error) = ended && error.is_panic() {
                    tracing::error!("a stream's handler panicked");
                }
            }
            Some(_) = refusals.join_next() => {}
            pending = incoming.accept() => {
                let Some(pending) = pending else { return };
                match admit(streams.len(), limit, session.is_draining()) {
                    Ok(()) => {
                        streams.spawn(Arc::clone(&handler).handle(pending));
                    }
                    Err(code) => {
                        metrics.refuse(code);
                        if refusals.len() < MAX_REFUSALS {
                            refusals.spawn(pending.refuse(code));
                        }
                    }
                }
            }
        }
    }
}

fn admit(running: usize, limit: usize, draining: bool) -> Result<(), RefusedCode> {
    match (draining, running < limit) {
        (true, _) => Err(RefusedCode::Draining),
        (false, false) => Err(RefusedCode::Busy),
        (false, true) => Ok(()),
    }
}
