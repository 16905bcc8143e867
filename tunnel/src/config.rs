//! What a session may use.

use std::sync::Arc;

use cattle_proto::limits;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::keepalive::KeepaliveTimes;
use crate::metrics::Metrics;

/// Limits and shared parts of a session. Clones share the [`Budget`] and the [`Metrics`].
#[derive(Clone, Debug)]
pub struct SessionConfig {
    /// Streams that may be open at once in this session, at most [`limits::STREAMS_PER_SESSION`].
    pub streams: usize,
    /// Streams that may be open at once in all sessions of the process.
    pub budget: Budget,
    /// Times of the keepalive.
    pub keepalive: KeepaliveTimes,
    /// Where numbers go.
    pub metrics: Metrics,
}

impl Default for SessionConfig {
    fn default() -> Self {
        Self {
            streams: limits::STREAMS_PER_SESSION,
            budget: Budget::default(),
            keepalive: KeepaliveTimes::default(),
            metrics: Metrics::default(),
        }
    }
}

/// Memory that all sessions of a process together may give to streams whose readers stall. A stream reserves its window
/// while it is open, so the bound holds whatever the peers send; most streams hold next to nothing of it.
#[derive(Clone, Debug)]
pub struct Budget(Arc<Semaphore>);

impl Budget {
    /// A budget of `bytes`, at least one stream's window.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        let streams = (bytes / limits::STREAM_WINDOW).clamp(1, Semaphore::MAX_PERMITS);
        Self(Arc::new(Semaphore::new(streams)))
    }

    /// Streams for which there is room.
    #[must_use]
    pub fn streams_left(&self) -> usize {
        self.0.available_permits()
    }

    pub(crate) fn reserve(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.0).try_acquire_owned().ok()
    }
}

impl Default for Budget {
    /// 16,384 streams: 4 GiB if every one of their readers stalled at once.
    fn default() -> Self {
        Self::new(16_384 * limits::STREAM_WINDOW)
    }
}
