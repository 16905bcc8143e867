//! The connection as yamux sees it: one that takes every write at once.
//!
//! yamux 0.14 stops reading while a pong that it owes cannot be written. Two ends that both send in bulk can then wait for
//! each other for ever. Here a write never waits: what the socket does not take stays in a queue, whose length is bounded
//! because streams hand over data only while there is room (`Shared::poll_queue`) and every other frame answers one that
//! was received.
//!
//! yamux flushes after each frame. Here that sends full messages only; what else has gathered goes when yamux turns to
//! reading, which it does when it has no more frames. So frames that come together share a message, its TLS records and one
//! system call, and none of them waits for anything but its turn: the queue is fair between streams ([`crate::queue`]).

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use cattle_proto::limits;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::frame::{Header, Tracker};
use crate::queue::Queue;
use crate::shared::Shared;
use crate::websocket::WebSocket;

/// Bytes that may wait for the socket in all. Data keeps far below it; only a peer that makes this end answer, and does not
/// read the answers, gets here. Its session ends.
const MOST: usize = 4 * 1024 * 1024;

/// A WebSocket with a queue before it.
#[derive(Debug)]
pub(crate) struct Outbox<S> {
    socket: WebSocket<S>,
    shared: Arc<Shared>,
    queue: Queue,
    incoming: Tracker,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Outbox<S> {
    pub(crate) fn new(socket: WebSocket<S>, shared: Arc<Shared>) -> Self {
        Self { socket, shared, queue: Queue::default(), incoming: Tracker::default() }
    }

    fn append(&mut self, bytes: &[u8]) {
        let shared = &self.shared;
        self.queue.push(bytes, |header| {
            if header.is_go_away() {
                shared.wire.gone_away.store(true, Ordering::Relaxed);
            }
        });
    }

    /// Puts due resets between two frames.
    fn append_resets(&mut self) {
        if self.queue.at_boundary() {
            for stream in self.shared.take_resets() {
                self.append(&Header::reset(stream));
            }
        }
    }

    /// Sends the full messages, and the one that is being filled if `all` is to go.
    fn poll_send(&mut self, cx: &mut Context<'_>, all: bool) -> Poll<io::Result<()>> {
        self.append_resets();
        let polled = self.poll_messages(cx, all);
        self.measure(polled.is_ready() && self.queue.waiting() == 0);
        polled
    }

    fn poll_messages(&mut self, cx: &mut Context<'_>, all: bool) -> Poll<io::Result<()>> {
        if self.shared.wire.ping.swap(false, Ordering::Relaxed) {
            self.socket.ping();
        }
        let least = if all { 1 } else { limits::WEBSOCKET_MESSAGE };
        while self.queue.waiting() >= least {
            // Whose turn it is, is decided when there is room: what comes until then may go first.
            ready!(self.socket.poll_ready(cx))?;
            let Some(message) = self.queue.pop() else { break };
            self.socket.send(message.bytes)?;
            self.shared.queue_shrank(&message.data);
        }
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn measure(&self, flushed: bool) {
        let (received, sent) = self.socket.meter();
        self.shared.wire.received.store(received, Ordering::Relaxed);
        self.shared.wire.sent.store(sent, Ordering::Relaxed);
        self.shared.wire.queued.store(!flushed, Ordering::Relaxed);
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> futures_io::AsyncRead for Outbox<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if let Poll::Ready(Err(error)) = this.poll_send(cx, true) {
            return Poll::Ready(Err(error));
        }
        let mut read = ReadBuf::new(buf);
        let polled = Pin::new(&mut this.socket).poll_read(cx, &mut read);
        this.shared.wire.set_round_trip(this.socket.round_trip());
        this.shared.wire.received.store(this.socket.meter().0, Ordering::Relaxed);
        ready!(polled)?;
        this.incoming.feed(read.filled(), |header| {
            if header.is_reset() {
                this.shared.saw_reset(header.stream);
            } else if header.is_fin() {
                this.shared.saw_fin(header.stream);
            }
        });
        Poll::Ready(Ok(read.filled().len()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> futures_io::AsyncWrite for Outbox<S> {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.append_resets();
        if self.queue.waiting() + buf.len() > MOST {
            return Poll::Ready(Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the peer does not read what it asks for",
            )));
        }
        self.append(buf);
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.queue.waiting() >= limits::WEBSOCKET_MESSAGE { self.poll_send(cx, false) } else { Poll::Ready(Ok(())) }
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx, true))?;
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use cattle_proto::id::SessionId;
    use futures_util::StreamExt as _;
    use futures_util::future::poll_fn;
    use tokio::io::DuplexStream;
    use tokio_tungstenite::WebSocketStream;
    use tokio_tungstenite::tungstenite::protocol::Role;

    use super::*;
    use crate::SessionConfig;

    type Peer = WebSocketStream<DuplexStream>;

    async fn outbox() -> (Outbox<DuplexStream>, Peer) {
        let (ours, theirs) = tokio::io::duplex(1024 * 1024);
        let shared = Shared::new(SessionId::new([0; 16]), SessionConfig::default(), 8);
        let outbox = Outbox::new(WebSocket::server(ours).await, shared);
        (outbox, WebSocketStream::from_raw_socket(theirs, Role::Client, None).await)
    }

    /// As yamux does: each frame is written and flushed.
    async fn write(outbox: &mut Outbox<DuplexStream>, frames: usize) {
        poll_fn(|cx| {
            for number in 0..frames {
                let frame = Header::reset(u32::try_from(number).unwrap());
                let written = futures_io::AsyncWrite::poll_write(Pin::new(outbox), cx, &frame);
                assert!(matches!(written, Poll::Ready(Ok(n)) if n == frame.len()));
                assert!(matches!(futures_io::AsyncWrite::poll_flush(Pin::new(outbox), cx), Poll::Ready(Ok(()))));
            }
            Poll::Ready(())
        })
        .await;
    }

    async fn turn_to_reading(outbox: &mut Outbox<DuplexStream>) {
        poll_fn(|cx| {
            assert!(futures_io::AsyncRead::poll_read(Pin::new(outbox), cx, &mut [0; 12]).is_pending());
            Poll::Ready(())
        })
        .await;
    }

    async fn received(peer: &mut Peer) -> usize {
        peer.next().await.unwrap().unwrap().into_data().len()
    }

    #[tokio::test]
    async fn frames_that_come_together_share_a_message() {
        let (mut outbox, mut peer) = outbox().await;
        for frames in [4, 1] {
            write(&mut outbox, frames).await;
            turn_to_reading(&mut outbox).await;
            assert_eq!(received(&mut peer).await, frames * 12);
        }
    }

    #[tokio::test]
    async fn what_fills_a_message_waits_for_nothing() {
        let (mut outbox, mut peer) = outbox().await;
        let frames = limits::WEBSOCKET_MESSAGE / 12 + 5;
        write(&mut outbox, frames).await;
        let mut sent = received(&mut peer).await;
        turn_to_reading(&mut outbox).await;
        while sent < frames * 12 {
            sent += received(&mut peer).await;
        }
        assert_eq!(sent, frames * 12);
    }
}
