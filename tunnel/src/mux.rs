//! The one task that owns a session's connection.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use cattle_proto::limits;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::WaitForCancellationFutureOwned;
use yamux::{Connection, ConnectionError, Mode};

use crate::CloseReason;
use crate::keepalive::{Keepalive, Step};
use crate::outbox::Outbox;
use crate::shared::Shared;
use crate::stream::{Permits, Role, TunnelStream};
use crate::websocket::WebSocket;

/// Streams that the crate lets a session have before it ends it: twice what an opener may have.
const FATAL_STREAMS: usize = 2 * limits::STREAMS_PER_SESSION;

/// Time that a close gives the peer to take what is left.
const CLOSE_TIME: Duration = Duration::from_secs(2);

/// Owns the connection of one session, moves all its bytes and keeps it alive. The session lives while this runs.
///
/// # Cancel safety
/// Dropping it, or the future of [`Driver::run`], ends the session at once; every stream fails with `ConnectionAborted`.
#[must_use = "a session lives while its driver runs"]
#[derive(Debug)]
pub struct Driver<S> {
    connection: Connection<Outbox<S>>,
    shared: Arc<Shared>,
    keepalive: Keepalive,
    timer: Pin<Box<Sleep>>,
    close: Pin<Box<WaitForCancellationFutureOwned>>,
    opens: Option<mpsc::Receiver<Open>>,
    waiting: Option<Open>,
    inbound: Inbound,
}

/// A request for a stream.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) permits: Permits,
    pub(crate) reply: oneshot::Sender<TunnelStream>,
}

/// Where the peer's streams go.
#[derive(Debug)]
pub(crate) enum Inbound {
    /// At the server: the one control stream.
    Control(Option<oneshot::Sender<TunnelStream>>),
    /// At the agent: to whoever accepts them.
    Streams(mpsc::Sender<TunnelStream>),
}

impl<S: AsyncRead + AsyncWrite + Unpin> Driver<S> {
    pub(crate) fn new(
        socket: WebSocket<S>,
        mode: Mode,
        shared: Arc<Shared>,
        opens: Option<mpsc::Receiver<Open>>,
        inbound: Inbound,
    ) -> Self {
        let now = Instant::now();
        let times = shared.config.keepalive;
        shared.config.metrics.sessions_opened.inc();
        Self {
            connection: Connection::new(Outbox::new(socket, Arc::clone(&shared)), config(), mode),
            keepalive: Keepalive::new(times, now),
            timer: Box::pin(tokio::time::sleep_until(now + times.ping)),
            close: Box::pin(shared.close.clone().cancelled_owned()),
            shared,
            opens,
            waiting: None,
            inbound,
        }
    }

    /// Opens the agent's control stream; at the start of a session nothing stands in its way.
    pub(crate) fn poll_control(&mut self, cx: &mut Context<'_>) -> Poll<Result<TunnelStream, CloseReason>> {
        let stream = ready!(self.connection.poll_new_outbound(cx)).map_err(|error| reason(&error))?;
        Poll::Ready(Ok(TunnelStream::new(stream, Arc::clone(&self.shared), Role::Control, Permits::new())))
    }

    /// Runs the session to its end and says why it ended.
    pub async fn run(mut self) -> CloseReason {
        let reason = std::future::poll_fn(|cx| self.poll_serve(cx)).await;
        self.shared.end(reason.clone());
        if reason == CloseReason::Closed {
            let closing = std::future::poll_fn(|cx| self.connection.poll_close(cx));
            // An orderly close is a courtesy; the session is over in any case.
            let _ = tokio::time::timeout(CLOSE_TIME, closing).await;
        }
        reason
    }

    fn poll_serve(&mut self, cx: &mut Context<'_>) -> Poll<CloseReason> {
        if self.close.as_mut().poll(cx).is_ready() {
            return Poll::Ready(CloseReason::Closed);
        }
        loop {
            if let Err(reason) = self.poll_opens(cx).and_then(|()| self.poll_inbound(cx)) {
                return Poll::Ready(reason);
            }
            match self.poll_times(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(reason)) => return Poll::Ready(reason),
                // Something is to be sent: the connection has to be polled for it.
                Poll::Ready(Ok(())) => {}
            }
        }
    }

    /// Answers requests for streams as far as yamux allows.
    fn poll_opens(&mut self, cx: &mut Context<'_>) -> Result<(), CloseReason> {
        loop {
            if self.waiting.is_none() {
                match self.opens.as_mut().map(|opens| opens.poll_recv(cx)) {
                    Some(Poll::Ready(Some(open))) => self.waiting = Some(open),
                    Some(Poll::Ready(None)) => self.opens = None,
                    Some(Poll::Pending) | None => return Ok(()),
                }
                continue;
            }
            if self.waiting.as_ref().is_some_and(|open| open.reply.is_closed()) {
                self.waiting = None;
                continue;
            }
            match self.connection.poll_new_outbound(cx) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Err(error)) => return Err(reason(&error)),
                Poll::Ready(Ok(stream)) => {
                    if let Some(Open { permits, reply }) = self.waiting.take() {
                        // The asker may have left just now: then the stream is dropped, which resets it.
                        let _ = reply.send(TunnelStream::new(stream, Arc::clone(&self.shared), Role::Data, permits));
                    }
                }
            }
        }
    }

    /// Moves bytes both ways, and takes the peer's streams.
    fn poll_inbound(&mut self, cx: &mut Context<'_>) -> Result<(), CloseReason> {
        loop {
            match self.connection.poll_next_inbound(cx) {
                Poll::Pending if self.shared.wire.gone_away.load(Ordering::Relaxed) => {
                    return Err(CloseReason::Protocol("a multiplexer frame that breaks the rules"));
                }
                Poll::Pending => return Ok(()),
                Poll::Ready(None) => return Err(CloseReason::PeerClosed),
                Poll::Ready(Some(Err(error))) => return Err(reason(&error)),
                Poll::Ready(Some(Ok(stream))) => self.accept(stream, cx)?,
            }
        }
    }

    fn accept(&mut self, stream: yamux::Stream, cx: &mut Context<'_>) -> Result<(), CloseReason> {
        match &mut self.inbound {
            Inbound::Control(waiting) => {
                let Some(waiting) = waiting.take() else {
                    return Err(CloseReason::Protocol("a second stream from the agent"));
                };
                let mut stream = TunnelStream::new(stream, Arc::clone(&self.shared), Role::Control, Permits::new());
                stream.acknowledge(cx);
                let _ = waiting.send(stream);
            }
            Inbound::Streams(streams) => {
                // Without a place the stream is dropped, which resets it.
                let Ok(place) = Arc::clone(&self.shared.slots).try_acquire_owned() else {
                    return Ok(());
                };
                let mut stream = TunnelStream::new(stream, Arc::clone(&self.shared), Role::Data, vec![place]);
                stream.acknowledge(cx);
                let _ = streams.try_send(stream);
            }
        }
        Ok(())
    }

    /// Ready when something is to be sent, or the peer is dead.
    fn poll_times(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CloseReason>> {
        loop {
            let now = Instant::now();
            let (reset, next_reset) = self.shared.end_lingering(now);
            if reset {
                return Poll::Ready(Ok(()));
            }
            let next = match self.keepalive.poll(now, self.shared.wire.progress()) {
                Step::Ping => {
                    self.shared.wire.ping.store(true, Ordering::Relaxed);
                    return Poll::Ready(Ok(()));
                }
                Step::Silent => return Poll::Ready(Err(CloseReason::Silent)),
                Step::Stalled => return Poll::Ready(Err(CloseReason::Stalled)),
                Step::Wait(at) => next_reset.map_or(at, |reset| reset.min(at)),
            };
            if self.timer.deadline() != next {
                self.timer.as_mut().reset(next);
            }
            ready!(self.timer.as_mut().poll(cx));
        }
    }
}

impl<S> Drop for Driver<S> {
    fn drop(&mut self) {
        self.shared.end(CloseReason::Aborted);
    }
}

/// The crate's limits, behind ours.
fn config() -> yamux::Config {
    let mut config = yamux::Config::default();
    // The order matters: each setter asserts that the window holds the streams.
    config
        .set_max_connection_receive_window(None)
        .set_max_num_streams(FATAL_STREAMS)
        .set_max_connection_receive_window(Some(FATAL_STREAMS * limits::STREAM_WINDOW + limits::SESSION_WINDOW_POOL));
    config
}

fn reason(error: &ConnectionError) -> CloseReason {
    #[expect(clippy::wildcard_enum_match_arm, reason = "every other error is the peer's offence")]
    match error {
        ConnectionError::Closed => CloseReason::PeerClosed,
        ConnectionError::Io(error) | ConnectionError::Decode(yamux::FrameDecodeError::Io(error)) => {
            CloseReason::from_io(error)
        }
        ConnectionError::NoMoreStreamIds => CloseReason::Protocol("no more stream numbers"),
        ConnectionError::TooManyStreams => CloseReason::Protocol("too many streams"),
        _ => CloseReason::Protocol("malformed multiplexer frame"),
    }
}
