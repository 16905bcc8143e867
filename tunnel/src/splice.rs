//! A raw copy both ways between two streams of bytes.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// A buffer's first size: most streams are idle most of the time.
const SMALL: usize = 4 * 1024;
/// A buffer's largest size, for bulk.
const LARGE: usize = 64 * 1024;
/// Reads in a row that fill less than a quarter before a buffer shrinks again.
const PATIENCE: u8 = 16;

/// Bytes that went each way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spliced {
    /// From the first to the second.
    pub forth: u64,
    /// From the second to the first.
    pub back: u64,
}

/// Why a splice ended early. Both streams should be dropped, which resets them.
#[derive(Debug, thiserror::Error)]
#[error("{cause}")]
pub struct SpliceError {
    /// What had gone each way by then.
    pub spliced: Spliced,
    /// What failed.
    #[source]
    pub cause: SpliceCause,
}

/// What failed in a splice.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpliceCause {
    /// The first stream.
    #[error("the first stream failed")]
    First(#[source] io::Error),
    /// The second stream.
    #[error("the second stream failed")]
    Second(#[source] io::Error),
    /// Nothing went either way for as long as was allowed.
    #[error("the streams were idle for too long")]
    Idle,
}

/// Copies both ways until both halves have ended. The end of file of one stream is passed on as the shutdown of the other,
/// whose own half goes on. With `idle`, a splice over which nothing goes for that long ends.
///
/// # Errors
/// When a stream fails or both are idle for too long.
///
/// # Cancel safety
/// Not cancel safe: bytes that were read and not yet written are lost.
pub async fn splice<A, B>(first: &mut A, second: &mut B, idle: Option<Duration>) -> Result<Spliced, SpliceError>
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let (mut forth, mut back) = (Copy::new(), Copy::new());
    let mut timer = idle.map(|idle| Box::pin(tokio::time::sleep(idle)));
    let mut moved = 0;
    let result = std::future::poll_fn(|cx| {
        let there = forth.poll(cx, first, second).map_err(Side::forth)?;
        let here = back.poll(cx, second, first).map_err(Side::back)?;
        if there.is_ready() && here.is_ready() {
            return Poll::Ready(Ok(()));
        }
        if let (Some(timer), Some(idle)) = (timer.as_mut(), idle) {
            if forth.bytes + back.bytes != moved {
                moved = forth.bytes + back.bytes;
                timer.as_mut().reset(Instant::now() + idle);
            }
            ready!(timer.as_mut().poll(cx));
            return Poll::Ready(Err(SpliceCause::Idle));
        }
        Poll::Pending
    })
    .await;
    let spliced = Spliced { forth: forth.bytes, back: back.bytes };
    result.map(|()| spliced).map_err(|cause| SpliceError { spliced, cause })
}

/// Which end of a one-way copy failed.
enum Side {
    From(io::Error),
    To(io::Error),
}

impl Side {
    fn forth(self) -> SpliceCause {
        match self {
            Self::From(error) => SpliceCause::First(error),
            Self::To(error) => SpliceCause::Second(error),
        }
    }

    fn back(self) -> SpliceCause {
        match self {
            Self::From(error) => SpliceCause::Second(error),
            Self::To(error) => SpliceCause::First(error),
        }
    }
}

/// One direction.
struct Copy {
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    bytes: u64,
    small_reads: u8,
    unflushed: bool,
    state: State,
}

/// Where a direction stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Copying,
    ShuttingDown,
    Done,
}

impl Copy {
    fn new() -> Self {
        Self {
            buffer: vec![0; SMALL].into_boxed_slice(),
            start: 0,
            end: 0,
            bytes: 0,
            small_reads: 0,
            unflushed: false,
            state: State::Copying,
        }
    }

    /// Copies as far as possible; ready when this direction is over.
    fn poll<R, W>(&mut self, cx: &mut Context<'_>, from: &mut R, to: &mut W) -> Poll<Result<(), Side>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        loop {
            match self.state {
                State::Done => return Poll::Ready(Ok(())),
                State::ShuttingDown => {
                    ready!(Pin::new(&mut *to).poll_shutdown(cx)).map_err(Side::To)?;
                    self.state = State::Done;
                    self.buffer = Box::default();
                }
                State::Copying if self.start < self.end => {
                    let n = ready!(Pin::new(&mut *to).poll_write(cx, &self.buffer[self.start..self.end]));
                    match n.map_err(Side::To)? {
                        0 => return Poll::Ready(Err(Side::To(io::ErrorKind::WriteZero.into()))),
                        n => self.start += n,
                    }
                    self.unflushed = true;
                }
                State::Copying => match self.poll_fill(cx, from) {
                    Poll::Ready(filled) => filled.map_err(Side::From)?,
                    Poll::Pending => {
                        if self.unflushed {
                            ready!(Pin::new(&mut *to).poll_flush(cx)).map_err(Side::To)?;
                            self.unflushed = false;
                        }
                        return Poll::Pending;
                    }
                },
            }
        }
    }

    fn poll_fill<R: AsyncRead + Unpin>(&mut self, cx: &mut Context<'_>, from: &mut R) -> Poll<io::Result<()>> {
        let mut buf = ReadBuf::new(&mut self.buffer);
        ready!(Pin::new(from).poll_read(cx, &mut buf))?;
        let n = buf.filled().len();
        (self.start, self.end) = (0, n);
        self.bytes += n as u64;
        if n == 0 {
            self.state = State::ShuttingDown;
        } else {
            self.resize(n);
        }
        Poll::Ready(Ok(()))
    }

    /// Grows after a read that filled the buffer, shrinks after many that filled little of it.
    fn resize(&mut self, n: usize) {
        let size = self.buffer.len();
        self.small_reads = if n < size / 4 { self.small_reads.saturating_add(1) } else { 0 };
        let new = match n {
            _ if n == size && size < LARGE => size * 4,
            _ if self.small_reads >= PATIENCE && size > SMALL => SMALL.max(n.next_power_of_two()),
            _ => return,
        };
        let mut buffer = vec![0; new].into_boxed_slice();
        buffer[..n].copy_from_slice(&self.buffer[..n]);
        self.buffer = buffer;
        self.small_reads = 0;
    }
}
