//! Watches: history from the table, then changes as they come.
//!
//! A watch that is too slow for the queue of live changes goes back to the table, from where it was. So its memory is bounded
//! by one chunk of history, and it fails only when it is slower than history is kept.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cattle_api::resource::Resource;
use futures_util::StreamExt as _;
use futures_util::stream;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use super::Shared;
use super::apply::Logged;
use super::reader;
use crate::error::StoreError;
use crate::key::Revision;
use crate::watch::{WatchError, WatchEvent, WatchStream};

/// Events that are read from the table at a time.
const CHUNK: usize = 128;

struct Follow {
    shared: Arc<Shared>,
    resource: &'static Resource,
    namespace: Option<String>,
    live: broadcast::Receiver<Arc<Logged>>,
    backlog: VecDeque<WatchEvent>,
    /// Everything up to here is in `backlog` or was delivered.
    read: u64,
    /// Everything up to here was delivered.
    position: Arc<AtomicU64>,
    behind: bool,
    failed: bool,
}

/// Starts a watch; the first chunk of history is read at once, so that `Expired` comes before the stream.
pub(super) async fn follow(
    shared: Arc<Shared>,
    live: broadcast::Receiver<Arc<Logged>>,
    resource: &'static Resource,
    namespace: Option<&str>,
    after: Revision,
) -> Result<WatchStream, StoreError> {
    let position = Arc::new(AtomicU64::new(after.0));
    let mut follow = Follow {
        shared,
        resource,
        namespace: namespace.map(str::to_owned),
        live,
        backlog: VecDeque::new(),
        read: after.0,
        position: Arc::clone(&position),
        behind: true,
        failed: false,
    };
    follow.catch_up().await?;
    let events = stream::unfold(follow, |mut follow| async move { Some((follow.next().await?, follow)) });
    Ok(WatchStream::new(events.boxed(), position))
}

impl Follow {
    async fn next(&mut self) -> Option<Result<WatchEvent, WatchError>> {
        if self.failed {
            return None;
        }
        loop {
            if let Some(event) = self.backlog.pop_front() {
                self.position.store(event.revision.0, Ordering::Release);
                return Some(Ok(event));
            }
            self.position.store(self.read, Ordering::Release);
            if self.behind {
                if let Err(error) = self.catch_up().await {
                    self.failed = true;
                    let expired = matches!(error, StoreError::Expired);
                    return Some(Err(if expired { WatchError::Expired } else { WatchError::Store(error) }));
                }
                continue;
            }
            match self.live.recv().await {
                Ok(logged) => self.accept(&logged),
                Err(RecvError::Lagged(_)) => self.behind = true,
                Err(RecvError::Closed) => return None,
            }
        }
    }

    fn accept(&mut self, logged: &Logged) {
        let (resource, event) = logged;
        if event.revision.0 <= self.read {
            return;
        }
        self.read = event.revision.0;
        let namespace = event.object.metadata.namespace.as_deref();
        if *resource == self.resource && (self.namespace.is_none() || self.namespace.as_deref() == namespace) {
            self.backlog.push_back(event.clone());
        }
    }

    async fn catch_up(&mut self) -> Result<(), StoreError> {
        let (resource, namespace, after) = (self.resource, self.namespace.clone(), self.read);
        let read = move |connection: &rusqlite::Connection| {
            reader::history(connection, resource, namespace.as_deref(), after, CHUNK)
        };
        let history = self.shared.readers.run(read).await?;
        self.behind = !history.complete;
        self.read = history.seen;
        self.backlog.extend(history.events);
        Ok(())
    }
}
