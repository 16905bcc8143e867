//! The body of an answer to a client.

use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::{Sleep, sleep};

use crate::event::Events;
use crate::running::Running;
use crate::streams::Ending;
use crate::upstream::UpstreamBody;

/// How long a watch that has to end may go on to the end of the event that is on its way.
const EVENT_DEADLINE: Duration = Duration::from_secs(1);
/// How long the body of an answer that refuses to switch protocols may take. Its client waits for a session and not for a body;
/// Kubernetes' own proxy allows as much.
const REFUSAL_DEADLINE: Duration = Duration::from_secs(10);

/// How long an answer that has to end may wait for its reader to take notice.
const READER_DEADLINE: Duration = Duration::from_secs(3);

/// What a client gets: a text of ours, or the API server's answer, frame by frame.
///
/// Dropping it ends the request at the API server.
pub struct ProxyBody(Content);

enum Content {
    Fixed(Option<Bytes>),
    Streamed(Box<Streamed>),
}

/// An answer was cut off.
#[derive(Debug, thiserror::Error)]
pub enum ProxyBodyError {
    /// The connection to the API server broke.
    #[error("the API server's answer broke off")]
    Upstream(#[source] hyper::Error),
    /// The user's access ended.
    #[error("access ended")]
    Revoked,
    /// The body of a refused switch of protocols took too long.
    #[error("the answer to a request to switch protocols did not end in time")]
    Endless,
    /// The server stops.
    #[error("the server stops")]
    Stopping,
}

impl From<Ending> for ProxyBodyError {
    fn from(ending: Ending) -> Self {
        match ending {
            Ending::Revoked => Self::Revoked,
            Ending::Draining => Self::Stopping,
        }
    }
}

struct Streamed {
    /// What was already read of the answer to look into it.
    read: Option<Bytes>,
    held: Arc<Mutex<Option<Held>>>,
    ending: Pin<Box<dyn Future<Output = Ending> + Send>>,
    state: State,
    /// A watch whose events can be told apart: it can end between two of them.
    events: Option<Events>,
    /// When the body must have ended.
    deadline: Option<Pin<Box<Sleep>>>,
    /// Dropped with this.
    _here: oneshot::Sender<()>,
}

/// What an answer holds at the API server and here until it is over.
struct Held {
    upstream: UpstreamBody,
    running: Running,
    ending: Option<Ending>,
}

/// Ends an answer that nobody reads. A body is only asked for more when its reader has room; a reader who has stopped would
/// keep the request at the API server after access has ended, for as long as the connection stands.
pub(crate) struct Straggler {
    held: Weak<Mutex<Option<Held>>>,
    ending: Pin<Box<dyn Future<Output = Ending> + Send>>,
    /// The body is gone.
    gone: oneshot::Receiver<()>,
}

enum State {
    Flowing,
    /// The watch has to end; the rest of the event that is under way still goes out.
    Closing(Ending, Pin<Box<Sleep>>),
    Done,
}

impl ProxyBody {
    /// A whole text.
    pub(crate) fn fixed(text: impl Into<Bytes>) -> Self {
        Self(Content::Fixed(Some(text.into())))
    }

    /// No body, e.g. of a `101`.
    pub(crate) fn empty() -> Self {
        Self(Content::Fixed(None))
    }

    /// An API server's answer. `read` is what somebody has read of it; a watch has `events`. Somebody must run what ends it
    /// when its reader does not.
    pub(crate) fn streamed(
        read: Option<Bytes>,
        upstream: UpstreamBody,
        running: Running,
        events: Option<Events>,
    ) -> (Self, Straggler) {
        let (here, gone) = oneshot::channel();
        // A watch whose events cannot be told apart is waited for like any other answer.
        let (ending, also) = (running.ending(events.is_some()), running.ending(events.is_some()));
        let held = Arc::new(Mutex::new(Some(Held { upstream, running, ending: None })));
        let straggler = Straggler { held: Arc::downgrade(&held), ending: Box::pin(also), gone };
        let (ending, state) = (Box::pin(ending), State::Flowing);
        let streamed = Streamed { read, held, ending, state, events, deadline: None, _here: here };
        (Self(Content::Streamed(Box::new(streamed))), straggler)
    }

    /// The body of an answer that refuses to switch protocols: it has to end soon.
    pub(crate) fn ending_soon(mut self) -> Self {
        if let Content::Streamed(streamed) = &mut self.0 {
            streamed.deadline = Some(Box::pin(sleep(REFUSAL_DEADLINE)));
        }
        self
    }
}

impl Body for ProxyBody {
    type Data = Bytes;
    type Error = ProxyBodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ProxyBodyError>>> {
        match &mut self.0 {
            Content::Fixed(text) => Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
            Content::Streamed(streamed) => streamed.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Content::Fixed(text) => text.as_ref().is_none_or(Bytes::is_empty),
            Content::Streamed(streamed) => {
                let at_end = || streamed.held.lock().as_ref().is_some_and(|held| held.upstream.is_end_stream());
                matches!(streamed.state, State::Done) || (streamed.read.is_none() && at_end())
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Content::Fixed(text) => SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64)),
            // A watch may end early, so its length is not promised.
            Content::Streamed(streamed) if streamed.read.is_some() || streamed.events.is_some() => SizeHint::default(),
            Content::Streamed(streamed) => {
                streamed.held.lock().as_ref().map_or_else(SizeHint::default, |held| held.upstream.size_hint())
            }
        }
    }
}

impl Streamed {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ProxyBodyError>>> {
        if matches!(self.state, State::Done) {
            return Poll::Ready(None);
        }
        if matches!(self.state, State::Flowing)
            && let Poll::Ready(ending) = self.ending.as_mut().poll(cx)
        {
            if let Some(held) = &mut *self.held.lock() {
                held.end(ending);
            }
            if self.events.is_none() {
                return self.end(Some(ending.into()));
            }
            self.state = State::Closing(ending, Box::pin(sleep(EVENT_DEADLINE)));
        }
        if let State::Closing(ending, deadline) = &mut self.state {
            if self.events.is_some_and(|events| events.is_between()) {
                return self.end(None);
            }
            if deadline.as_mut().poll(cx).is_ready() {
                let ending = *ending;
                return self.end(Some(ending.into()));
            }
        }
        if self.deadline.as_mut().is_some_and(|deadline| deadline.as_mut().poll(cx).is_ready()) {
            return self.end(Some(ProxyBodyError::Endless));
        }
        if let Some(read) = self.read.take() {
            return Poll::Ready(Some(Ok(Frame::data(read))));
        }
        match ready!(self.poll_upstream(cx)) {
            Some(Ok(frame)) => Poll::Ready(Some(Ok(self.passed(frame)))),
            Some(Err(error)) => self.end(Some(error)),
            None => self.end(None),
        }
    }

    fn poll_upstream(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ProxyBodyError>>> {
        match &mut *self.held.lock() {
            Some(held) => Pin::new(&mut held.upstream).poll_frame(cx).map_err(ProxyBodyError::Upstream),
            // The reader is back, too late.
            None => Poll::Ready(Some(Err(ProxyBodyError::Revoked))),
        }
    }

    fn passed(&mut self, frame: Frame<Bytes>) -> Frame<Bytes> {
        let closing = matches!(self.state, State::Closing(..));
        match &mut self.events {
            Some(events) => frame.map_data(|data| events.pass(data, closing)),
            None => frame,
        }
    }

    fn end(&mut self, error: Option<ProxyBodyError>) -> Poll<Option<Result<Frame<Bytes>, ProxyBodyError>>> {
        self.state = State::Done;
        let held = self.held.lock().take();
        drop(held);
        Poll::Ready(error.map(Err))
    }
}

impl Held {
    fn end(&mut self, why: Ending) {
        if self.ending.replace(why).is_none() {
            self.running.end(why);
        }
    }
}

impl Straggler {
    /// Resolves when the answer is over, or has been ended. Cancel safe; dropped, a reader who has stopped is waited for.
    pub(crate) async fn end(mut self) {
        let why = tokio::select! {
            _ = &mut self.gone => return,
            why = &mut self.ending => why,
        };
        tokio::select! {
            _ = &mut self.gone => return,
            () = sleep(READER_DEADLINE) => {}
        }
        let held = self.held.upgrade().and_then(|held| held.lock().take());
        if let Some(mut held) = held {
            held.end(why);
            tracing::debug!("an answer that nobody reads was ended with the access that it was given for");
        }
    }
}
