//! One stream of a session.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use cattle_proto::limits;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;

use crate::frame::HEADER;
use crate::shared::{Shared, StreamState};

/// Most bytes of one write, of which four fill a message.
const WRITE: usize = limits::WEBSOCKET_MESSAGE / 4 - HEADER;

/// A stream of bytes both ways, inside a session.
///
/// - `shutdown` closes this end's half; the other half goes on.
/// - A drop without `shutdown` resets the stream: the peer's reads and writes fail.
/// - A read returns the end of file only after the peer's `shutdown`. A stream that the peer reset fails with
///   `ConnectionReset`, one whose session was lost with `ConnectionAborted`.
/// - A reader that does not read costs the peer's writer its window and nobody else anything.
///
/// It may be split and used by two tasks.
#[derive(Debug)]
pub struct TunnelStream {
    inner: yamux::Stream,
    shared: Arc<Shared>,
    state: Arc<StreamState>,
    role: Role,
    shut_down: bool,
    /// The last write waits for the peer's reader.
    stalled: bool,
    read: u64,
    written: u64,
    /// Kept for their drops: places in the session's and the process's count of streams.
    _permits: Permits,
}

/// Places that a stream takes while it is open.
pub(crate) type Permits = Vec<OwnedSemaphorePermit>;

/// What a stream is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Control messages: never waits for room in the queue, and no drain waits for it.
    Control,
    /// Anything else.
    Data,
}

impl TunnelStream {
    pub(crate) fn new(inner: yamux::Stream, shared: Arc<Shared>, role: Role, permits: Permits) -> Self {
        let state = shared.stream_opened(inner.id().val(), role == Role::Data);
        Self { inner, shared, state, role, shut_down: false, stalled: false, read: 0, written: 0, _permits: permits }
    }

    /// Number of the stream in its session, for logs.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.inner.id().val()
    }

    /// Bytes read so far, the opening not counted.
    #[must_use]
    pub fn bytes_read(&self) -> u64 {
        self.read
    }

    /// Bytes written so far, the opening not counted.
    #[must_use]
    pub fn bytes_written(&self) -> u64 {
        self.written
    }

    /// Waits until the peer resets the stream without having closed its half: it has lost interest. Who is busy writing what
    /// it read from here elsewhere, and so does not read, would not notice otherwise. The end of the session is no reset.
    ///
    /// One waits at a time: a later call takes the place of an earlier one.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub fn given_up(&self) -> impl Future<Output = ()> + Send + 'static {
        let state = Arc::clone(&self.state);
        std::future::poll_fn(move |cx| state.poll_gone(cx))
    }

    /// The opening is done; what follows is counted.
    pub(crate) fn opened(mut self) -> Self {
        (self.read, self.written) = (0, 0);
        self
    }

    /// Tells the opener that the stream has arrived, apart from any answer: yamux lets only 256 streams wait for that.
    pub(crate) fn acknowledge(&mut self, cx: &mut Context<'_>) {
        // An empty write carries the flag. A new stream has room for it, so there is nothing to wait for.
        let _ = futures_io::AsyncWrite::poll_write(Pin::new(&mut self.inner), cx, &[]);
    }

    /// What a read that finds nothing more means.
    fn end_of_reading(&self) -> io::Result<()> {
        if self.state.fin.load(Ordering::Acquire) {
            Ok(())
        } else if self.state.reset.load(Ordering::Acquire) {
            Err(io::ErrorKind::ConnectionReset.into())
        } else {
            Err(io::ErrorKind::ConnectionAborted.into())
        }
    }

    fn write_error(&self) -> io::Error {
        if self.shared.is_closed() {
            io::ErrorKind::ConnectionAborted.into()
        } else if self.state.reset.load(Ordering::Acquire) {
            io::ErrorKind::ConnectionReset.into()
        } else {
            io::ErrorKind::BrokenPipe.into()
        }
    }
}

impl AsyncRead for TunnelStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        this.state.reader.register(cx.waker());
        let polled = futures_io::AsyncRead::poll_read(Pin::new(&mut this.inner), cx, buf.initialize_unfilled());
        match polled {
            Poll::Ready(Ok(n)) if n > 0 => {
                buf.advance(n);
                this.read += n as u64;
                this.shared.count_read(n);
                Poll::Ready(Ok(()))
            }
            Poll::Ready(_) => Poll::Ready(this.end_of_reading()),
            // The driver closes the session without a word to yamux's readers.
            Poll::Pending if this.shared.is_closed() => Poll::Ready(this.end_of_reading()),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncWrite for TunnelStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        this.state.writer.register(cx.waker());
        if this.shared.is_closed() || this.shut_down {
            return Poll::Ready(Err(this.write_error()));
        }
        if this.role == Role::Data {
            ready!(this.shared.poll_queue(cx, &this.state));
        }
        let chunk = &buf[..buf.len().min(WRITE)];
        this.shared.queue_grew(&this.state, chunk.len());
        let polled = futures_io::AsyncWrite::poll_write(Pin::new(&mut this.inner), cx, chunk);
        let taken = if let Poll::Ready(Ok(n)) = &polled { *n } else { 0 };
        if taken < chunk.len() {
            this.shared.queue_kept(&this.state, chunk.len() - taken);
        }
        if polled.is_pending() && !std::mem::replace(&mut this.stalled, true) {
            this.shared.count_stall();
        }
        let written = ready!(polled);
        this.stalled = false;
        match written {
            Ok(n) => {
                this.written += n as u64;
                this.shared.count_written(n);
                Poll::Ready(Ok(n))
            }
            Err(_) => Poll::Ready(Err(this.write_error())),
        }
    }

    /// Returns at once: the driver sends everything as soon as the socket takes it.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.shared.is_closed() { Poll::Ready(Err(self.write_error())) } else { Poll::Ready(Ok(())) }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.shut_down {
            return Poll::Ready(Ok(()));
        }
        this.state.writer.register(cx.waker());
        if this.shared.is_closed() {
            return Poll::Ready(Err(this.write_error()));
        }
        let closed = ready!(futures_io::AsyncWrite::poll_close(Pin::new(&mut this.inner), cx));
        this.shut_down = closed.is_ok();
        Poll::Ready(closed.map_err(|_| this.write_error()))
    }
}

impl Drop for TunnelStream {
    fn drop(&mut self) {
        let id = self.id();
        let fin = self.state.fin.load(Ordering::Acquire);
        let over = self.shared.is_closed() || self.state.reset.load(Ordering::Acquire);
        if !(over || self.shut_down && fin) {
            self.shared.count_reset();
        }
        match (self.shut_down, fin) {
            _ if over => {}
            // The peer has closed its half, this end has not: yamux would close it as if all had been said.
            (false, true) => self.shared.reset_now(id),
            // This end has closed its half, the peer has not: yamux would say nothing, and the peer wait for a window.
            (true, false) => self.shared.reset_later(id),
            // Both halves open: yamux resets. Both closed: nothing to say.
            (false, false) | (true, true) => {}
        }
        self.shared.stream_dropped(id, self.role == Role::Data);
    }
}
