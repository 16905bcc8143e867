//! The load: what a way is asked to carry, and how long it takes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::target::{ANSWER, BULK, COUNT, DOWN, ECHO, REQUEST, UP};
use crate::samples::Samples;

/// Longest time without an answer; what takes longer has stopped.
const PATIENCE: Duration = Duration::from_secs(30);

/// Which way the bytes of bulk go.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    /// From the target to the load.
    Down,
    /// From the load to the target.
    Up,
}

/// A stream that is asked small things.
pub(super) struct Line(TcpStream);

impl Line {
    /// A connection that the target has not heard of yet.
    pub(super) async fn open(entry: SocketAddr) -> anyhow::Result<Self> {
        let mut stream = connect(entry).await?;
        stream.write_u8(ECHO).await?;
        Ok(Self(stream))
    }

    /// One request and its answer.
    pub(super) async fn ask(&mut self) -> anyhow::Result<Duration> {
        let (start, mut answer) = (Instant::now(), [0; ANSWER]);
        let exchange = async {
            self.0.write_all(&[1; REQUEST]).await?;
            self.0.read_exact(&mut answer).await
        };
        timeout(PATIENCE, exchange).await.context("no answer")??;
        Ok(start.elapsed())
    }

    /// Several, one after the other.
    pub(super) async fn asks(&mut self, count: usize) -> anyhow::Result<Samples> {
        let mut samples = Samples::default();
        for _ in 0..count {
            samples.push(self.ask().await?);
        }
        Ok(samples)
    }
}

/// Moves `bytes` in all over as many streams, which are there before; says how long it took.
pub(super) async fn bulk(entry: SocketAddr, way: Direction, streams: u64, bytes: u64) -> anyhow::Result<Duration> {
    let moved = Arc::new(AtomicU64::new(0));
    let mut connections = Vec::new();
    for _ in 0..streams {
        connections.push(connect(entry).await?);
    }
    let (start, mut tasks) = (Instant::now(), JoinSet::new());
    for stream in connections {
        tasks.spawn(carry(stream, way, bytes / streams, Arc::clone(&moved)));
    }
    while let Some(carried) = tasks.join_next().await {
        carried??;
    }
    ensure!(moved.load(Ordering::Relaxed) == bytes / streams * streams, "bytes are missing");
    Ok(start.elapsed())
}

/// A new stream for every request, `parallel` of them at any time: each one's time from its beginning, and that of all.
pub(super) async fn fresh(entry: SocketAddr, count: usize, parallel: usize) -> anyhow::Result<(Samples, Duration)> {
    let (start, mut tasks, mut samples) = (Instant::now(), JoinSet::new(), Samples::default());
    for worker in 0..parallel {
        let count = count / parallel + usize::from(worker < count % parallel);
        tasks.spawn(async move {
            let mut samples = Samples::default();
            for _ in 0..count {
                let start = Instant::now();
                Line::open(entry).await?.ask().await?;
                samples.push(start.elapsed());
            }
            anyhow::Ok(samples)
        });
    }
    while let Some(worker) = tasks.join_next().await {
        samples.extend(&worker??);
    }
    Ok((samples, start.elapsed()))
}

/// Bulk without an end; it stops when this is dropped.
pub(super) struct Flood {
    tasks: JoinSet<anyhow::Result<()>>,
    moved: Arc<AtomicU64>,
}

impl Flood {
    pub(super) async fn start(entry: SocketAddr, ways: &[Direction]) -> anyhow::Result<Self> {
        let (mut tasks, moved) = (JoinSet::new(), Arc::new(AtomicU64::new(0)));
        for way in ways {
            tasks.spawn(carry(connect(entry).await?, *way, u64::MAX, Arc::clone(&moved)));
        }
        Ok(Self { tasks, moved })
    }

    /// Bytes so far.
    pub(super) fn moved(&self) -> u64 {
        self.moved.load(Ordering::Relaxed)
    }

    /// Whether a stream has failed.
    pub(super) fn failed(&mut self) -> bool {
        self.tasks.try_join_next().is_some()
    }
}

/// Streams that the target fills and nobody reads.
pub(super) async fn stalled(entry: SocketAddr, count: usize) -> anyhow::Result<Vec<TcpStream>> {
    let mut streams = Vec::new();
    for _ in 0..count {
        let mut stream = connect(entry).await?;
        stream.write_u8(DOWN).await?;
        stream.write_u64(u64::MAX).await?;
        streams.push(stream);
    }
    Ok(streams)
}

/// Whether an answer that comes after the end of what was sent arrives.
pub(super) async fn half_close(entry: SocketAddr) -> anyhow::Result<bool> {
    const SENT: u64 = 1024 * 1024;
    let mut stream = connect(entry).await?;
    let exchange = async {
        stream.write_u8(COUNT).await?;
        stream.write_all(&vec![1; SENT as usize]).await?;
        stream.shutdown().await?;
        stream.read_u64().await
    };
    Ok(matches!(timeout(Duration::from_secs(5), exchange).await, Ok(Ok(SENT))))
}

/// Idle streams, each of which has been answered once.
pub(super) async fn idle(entry: SocketAddr, count: usize) -> anyhow::Result<Vec<Line>> {
    let mut lines = Vec::with_capacity(count);
    for number in 0..count {
        let mut line = Line::open(entry).await?;
        line.ask().await.with_context(|| format!("stream {number}"))?;
        lines.push(line);
    }
    Ok(lines)
}

async fn connect(entry: SocketAddr) -> anyhow::Result<TcpStream> {
    let stream = TcpStream::connect(entry).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn carry(mut stream: TcpStream, way: Direction, bytes: u64, moved: Arc<AtomicU64>) -> anyhow::Result<()> {
    let mut buffer = vec![1; BULK];
    stream.write_u8(if way == Direction::Down { DOWN } else { UP }).await?;
    stream.write_u64(bytes).await?;
    let mut left = bytes;
    while left > 0 {
        let limit = left.min(BULK as u64) as usize;
        let n = match way {
            Direction::Down => stream.read(&mut buffer[..limit]).await?,
            Direction::Up => stream.write(&buffer[..limit]).await?,
        };
        ensure!(n > 0, "the stream ended early");
        moved.fetch_add(n as u64, Ordering::Relaxed);
        left -= n as u64;
    }
    if way == Direction::Up {
        stream.read_u8().await?;
    }
    Ok(())
}
