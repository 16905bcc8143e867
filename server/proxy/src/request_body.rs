//! A client's body on its way to an API server: streamed, and held back while it is not known whether it will be needed again.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep};

use crate::upstream::{BoxError, RequestBody};

/// How long a body is held back for a `100 Continue` that may never come (RFC 9110 §10.1.1 tells clients not to wait for ever).
const CONTINUE_DEADLINE: Duration = Duration::from_secs(3);

/// The body, as long as no byte of it was asked for, and when the client last gave some of it.
pub(crate) struct ClientBody {
    unread: Arc<Mutex<Option<RequestBody>>>,
    hint: SizeHint,
    empty: bool,
    progress: Arc<Mutex<Instant>>,
}

/// Lets a held-back body go.
#[derive(Clone)]
pub(crate) struct Release(watch::Sender<bool>);

impl Release {
    /// The API server wants the body.
    pub(crate) fn go(&self) {
        self.0.send_replace(true);
    }
}

impl ClientBody {
    pub(crate) fn new<B>(body: B) -> Self
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let (hint, empty) = (body.size_hint(), body.is_end_stream());
        let unread = Arc::new(Mutex::new(Some(body.map_err(Into::into).boxed_unsync())));
        Self { unread, hint, empty, progress: Arc::new(Mutex::new(Instant::now())) }
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.empty
    }

    /// Whether a request with this body can be sent once more.
    pub(crate) fn is_unread(&self) -> bool {
        self.empty || self.unread.lock().is_some()
    }

    /// When the client last gave a part of it, or when it came.
    pub(crate) fn last_progress(&self) -> Instant {
        *self.progress.lock()
    }

    /// The body for one attempt. It is read from the client when the API server's connection first asks for it.
    pub(crate) fn attempt(&self) -> RequestBody {
        self.attempt_held(None).boxed_unsync()
    }

    /// Like [`attempt`](Self::attempt), but nothing is read before the release, or a deadline.
    pub(crate) fn held_attempt(&self) -> (RequestBody, Release) {
        let (release, released) = watch::channel(false);
        let hold = Hold { released, deadline: Box::pin(sleep(CONTINUE_DEADLINE)), waiting: None };
        (self.attempt_held(Some(hold)).boxed_unsync(), Release(release))
    }

    fn attempt_held(&self, hold: Option<Hold>) -> Attempt {
        Attempt {
            unread: Arc::clone(&self.unread),
            hint: self.hint,
            empty: self.empty,
            progress: Arc::clone(&self.progress),
            hold,
            body: None,
        }
    }
}

struct Hold {
    released: watch::Receiver<bool>,
    deadline: Pin<Box<Sleep>>,
    waiting: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Hold {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let released = self.released.clone();
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(wait(released)));
        if waiting.as_mut().poll(cx).is_ready() { Poll::Ready(()) } else { self.deadline.as_mut().poll(cx) }
    }
}

/// A release that is dropped without having been used says nothing: the deadline decides then.
async fn wait(mut released: watch::Receiver<bool>) {
    if released.wait_for(|go| *go).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Trailers end it and are not sent: no Kubernetes API takes any, and they would be a second place for header names.
struct Attempt {
    unread: Arc<Mutex<Option<RequestBody>>>,
    hint: SizeHint,
    empty: bool,
    progress: Arc<Mutex<Instant>>,
    hold: Option<Hold>,
    body: Option<RequestBody>,
}

impl Body for Attempt {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        if let Some(hold) = &mut this.hold {
            ready!(hold.poll(cx));
            this.hold = None;
        }
        if this.body.is_none() {
            this.body = this.unread.lock().take();
        }
        let Some(body) = &mut this.body else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(body).poll_frame(cx));
        *this.progress.lock() = Instant::now();
        match frame {
            Some(Ok(frame)) if frame.is_trailers() => Poll::Ready(None),
            frame => Poll::Ready(frame),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().map_or(self.empty, Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| self.hint, Body::size_hint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use http_body_util::Full;

    #[tokio::test]
    async fn a_held_body_is_whole_until_it_is_released() {
        let client = ClientBody::new(Full::new(Bytes::from_static(b"hello")));
        let (mut first, _kept) = client.held_attempt();
        assert!(first.frame().now_or_never().is_none());
        assert!(client.is_unread());
        assert_eq!(first.size_hint().exact(), Some(5));
        drop(first);
        let (second, release) = client.held_attempt();
        release.go();
        assert_eq!(second.collect().await.unwrap().to_bytes(), "hello");
        assert!(!client.is_unread());
    }

    #[tokio::test]
    async fn a_body_that_nobody_asks_for_is_sent_in_the_end() {
        let client = ClientBody::new(Full::new(Bytes::from_static(b"hello")));
        let (body, release) = client.held_attempt();
        drop(release);
        assert_eq!(body.collect().await.unwrap().to_bytes(), "hello");
    }

    #[tokio::test]
    async fn trailers_stay_here() {
        let trailers = http::HeaderMap::from_iter([(http::header::COOKIE, "x".parse().unwrap())]);
        let body = Full::new(Bytes::from_static(b"x")).with_trailers(async { Some(Ok(trailers)) });
        let sent = ClientBody::new(body).attempt().collect().await.unwrap();
        assert!(sent.trailers().is_none());
        assert_eq!(sent.to_bytes(), "x");
    }
}
