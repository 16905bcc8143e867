//! Following changes.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use futures_util::Stream;
use futures_util::stream::BoxStream;
use kube::core::DynamicObject;

use crate::error::StoreError;
use crate::key::Revision;

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// It was made.
    Added,
    /// It was changed.
    Modified,
    /// It is gone.
    Deleted,
}

/// One change of one object.
#[derive(Clone, Debug)]
pub struct WatchEvent {
    /// What happened.
    pub kind: EventKind,
    /// The object after the change; of a deleted one, its last state with the revision of the deletion.
    pub object: Arc<DynamicObject>,
    /// The object before the change. Who filters needs it: an object that leaves a selector is `DELETED` for that watcher.
    pub previous: Option<Arc<DynamicObject>>,
    /// When.
    pub revision: Revision,
}

/// Why a watch ended before its time.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WatchError {
    /// The watcher was slower than history is kept: list again.
    #[error("the watch fell behind what is kept of the history")]
    Expired,
    /// The store failed.
    #[error("the history cannot be read")]
    Store(#[source] StoreError),
}

/// Changes, in order. It ends after an error, and without one when the store closes.
pub struct WatchStream {
    events: BoxStream<'static, Result<WatchEvent, WatchError>>,
    position: Arc<AtomicU64>,
}

impl WatchStream {
    /// For implementations: a stream of events, and a counter that says up to which revision the stream has been read. The
    /// stream raises it also for changes that it does not show.
    #[must_use]
    pub fn new(events: BoxStream<'static, Result<WatchEvent, WatchError>>, position: Arc<AtomicU64>) -> Self {
        Self { events, position }
    }

    /// Everything up to this revision that concerns this watch was delivered: what a bookmark may say.
    ///
    /// It moves on when the stream is polled, also by changes of other resources.
    #[must_use]
    pub fn position(&self) -> Revision {
        Revision(self.position.load(Ordering::Acquire))
    }
}

impl Stream for WatchStream {
    type Item = Result<WatchEvent, WatchError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.events.as_mut().poll_next(context)
    }
}

impl fmt::Debug for WatchStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WatchStream").field("position", &self.position()).finish_non_exhaustive()
    }
}
