//! An in-memory pipe that can be slow, silent or cut.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::time::{Instant, Sleep};

/// The two ends of a pipe that holds `buffer` bytes each way and delivers each after `latency`.
#[must_use]
pub fn wire(buffer: usize, latency: Duration) -> (FaultyIo, FaultyIo, Fault) {
    let (near, far) = tokio::io::duplex(buffer);
    let fault = Fault::default();
    (FaultyIo::new(near, latency, buffer, fault.clone()), FaultyIo::new(far, latency, buffer, fault.clone()), fault)
}

/// Breaks and mends a pipe. Clones break the same one.
#[derive(Clone, Debug, Default)]
pub struct Fault(Arc<Mutex<Broken>>);

#[derive(Debug, Default)]
struct Broken {
    how: How,
    wakers: Vec<Waker>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum How {
    #[default]
    Whole,
    Stalled,
    Cut,
}

impl Fault {
    /// Both ends fail with `ConnectionReset`, as when a peer is killed.
    pub fn cut(&self) {
        self.set(How::Cut);
    }

    /// No byte passes, and nobody is told: a network that drops everything.
    pub fn stall(&self) {
        self.set(How::Stalled);
    }

    /// Bytes pass again, those of before included.
    pub fn resume(&self) {
        self.set(How::Whole);
    }

    fn set(&self, how: How) {
        let mut broken = self.0.lock();
        broken.how = how;
        broken.wakers.drain(..).for_each(Waker::wake);
    }

    fn poll(&self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        let mut broken = self.0.lock();
        if broken.how != How::Cut && !broken.wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
            broken.wakers.push(cx.waker().clone());
        }
        match broken.how {
            How::Whole => Poll::Ready(Ok(())),
            How::Stalled => Poll::Pending,
            How::Cut => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
        }
    }
}

/// One end of the pipe.
#[derive(Debug)]
pub struct FaultyIo {
    io: DuplexStream,
    fault: Fault,
    latency: Duration,
    buffer: usize,
    /// What has arrived and when it may be read.
    arrived: VecDeque<(Instant, Vec<u8>)>,
    held: usize,
    ended: bool,
    timer: Pin<Box<Sleep>>,
}

impl FaultyIo {
    fn new(io: DuplexStream, latency: Duration, buffer: usize, fault: Fault) -> Self {
        Self {
            io,
            fault,
            latency,
            buffer,
            arrived: VecDeque::new(),
            held: 0,
            ended: false,
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
        }
    }

    /// Takes what the pipe has into the queue of what arrives later.
    fn poll_arrivals(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let mut chunk = [0; 4096];
        while !self.ended && self.held < self.buffer {
            let mut buf = ReadBuf::new(&mut chunk);
            match Pin::new(&mut self.io).poll_read(cx, &mut buf)? {
                Poll::Pending => break,
                Poll::Ready(()) if buf.filled().is_empty() => self.ended = true,
                Poll::Ready(()) => {
                    self.held += buf.filled().len();
                    self.arrived.push_back((Instant::now() + self.latency, buf.filled().to_vec()));
                }
            }
        }
        Ok(())
    }
}

impl AsyncRead for FaultyIo {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        ready!(this.fault.poll(cx))?;
        if this.latency.is_zero() {
            return Pin::new(&mut this.io).poll_read(cx, buf);
        }
        this.poll_arrivals(cx)?;
        let Some((at, bytes)) = this.arrived.front_mut() else {
            return if this.ended { Poll::Ready(Ok(())) } else { Poll::Pending };
        };
        if *at > Instant::now() {
            this.timer.as_mut().reset(*at);
            ready!(this.timer.as_mut().poll(cx));
        }
        let n = bytes.len().min(buf.remaining());
        buf.put_slice(&bytes[..n]);
        bytes.drain(..n);
        if bytes.is_empty() {
            this.arrived.pop_front();
        }
        this.held -= n;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for FaultyIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.fault.poll(cx))?;
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.fault.poll(cx))?;
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.fault.poll(cx))?;
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
