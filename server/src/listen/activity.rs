//! What runs on one connection, to tell a busy one from one that only holds its place.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tokio::{sync::watch, time::sleep};

/// The requests of one connection. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Activity(Arc<watch::Sender<Requests>>);

#[derive(Debug, Default)]
struct Requests {
    running: usize,
    /// How many there have been.
    begun: u64,
}

/// A request that runs; it is over when this is dropped.
#[derive(Debug)]
pub(super) struct Running(Activity);

/// An answer's body. The request runs until it has left, or nobody wants it any more.
#[derive(Debug)]
pub(super) struct RunningBody {
    body: Body,
    _running: Running,
}

impl Activity {
    /// A request has come.
    pub(super) fn begin(&self) -> Running {
        self.0.send_modify(|requests| {
            requests.running += 1;
            requests.begun += 1;
        });
        Running(self.clone())
    }

    /// Whether there has been a request.
    pub(super) fn has_begun(&self) -> bool {
        self.0.borrow().begun > 0
    }

    /// Resolves when nothing has run for `patience`: `first` instead while there has been no request yet. Cancel safe.
    pub(super) async fn idle(&self, first: Duration, patience: Duration) {
        let mut requests = self.0.subscribe();
        loop {
            let patience = match requests.wait_for(|requests| requests.running == 0).await {
                Ok(requests) if requests.begun == 0 => first,
                // The sender is `self`: it does not go.
                Ok(_) | Err(_) => patience,
            };
            tokio::select! {
                _ = requests.changed() => {}
                () = sleep(patience) => return,
            }
        }
    }
}

impl Running {
    /// Runs on until `body` has left.
    pub(super) fn with(self, body: Body) -> RunningBody {
        RunningBody { body, _running: self }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.0.send_modify(|requests| requests.running -= 1);
    }
}

impl HttpBody for RunningBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use tokio::time::{Instant, advance, timeout};

    use super::*;

    const FIRST: Duration = Duration::from_secs(20);
    const PATIENCE: Duration = Duration::from_secs(120);

    #[tokio::test(start_paused = true)]
    async fn a_connection_without_a_request_is_idle_soon() {
        let begun = Instant::now();
        Activity::default().idle(FIRST, PATIENCE).await;
        assert_eq!(begun.elapsed(), FIRST);
    }

    #[tokio::test(start_paused = true)]
    async fn a_running_request_keeps_it_and_patience_begins_at_its_end() {
        let activity = Activity::default();
        let running = activity.begin();
        let mut idle = Box::pin(activity.idle(FIRST, PATIENCE));
        assert!(timeout(PATIENCE * 100, &mut idle).await.is_err(), "it runs");
        let body = running.with(Body::from("text"));
        assert!(timeout(PATIENCE * 100, &mut idle).await.is_err(), "its answer is on its way");
        drop(body);
        assert!((&mut idle).now_or_never().is_none());
        advance(PATIENCE / 2).await;
        // A short one in between, that nobody has seen.
        drop(activity.begin());
        let begun = Instant::now();
        idle.await;
        assert_eq!(begun.elapsed(), PATIENCE);
    }
}
