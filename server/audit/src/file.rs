//! The audit log as a file.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

use crate::rotation::RotatingFile;
use crate::{AuditError, AuditSink, Event};

/// Events that may wait for the disk.
const QUEUE: usize = 1024;
/// Bytes that one write to the disk may take together.
const BATCH_BYTES: usize = 256 * 1024;
/// How long a request waits for its line before it is refused.
const RECORD_DEADLINE: Duration = Duration::from_secs(5);

/// Where the log is and how much of it is kept.
#[derive(Clone, Debug)]
pub struct FileSinkConfig {
    /// The file; rotated ones stand beside it as `<path>.1` (newest) and so on. Its directory must exist.
    pub path: PathBuf,
    /// A file that would grow beyond this many bytes is rotated first.
    pub max_bytes: u64,
    /// How many rotated files are kept.
    pub keep: usize,
}

impl FileSinkConfig {
    /// 100 MiB per file, ten rotated files.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { path, max_bytes: 100 * 1024 * 1024, keep: 10 }
    }
}

/// Appends events to a file that only its owner can read.
///
/// One thread owns the file. Lines that arrive while it waits for the disk are written and synced together, so that
/// durability costs one `fdatasync` per batch and not per event. Dropping the sink writes what was accepted and joins the thread.
#[derive(Debug)]
pub struct FileSink {
    /// `None` only while dropping.
    queue: Option<mpsc::Sender<Job>>,
    state: Arc<State>,
    writer: Option<JoinHandle<()>>,
    /// Closed when the writer has ended, however it ended.
    alive: watch::Receiver<()>,
}

#[derive(Debug)]
struct Job {
    line: Vec<u8>,
    done: Option<oneshot::Sender<Result<(), AuditError>>>,
}

#[derive(Debug)]
struct State {
    path: PathBuf,
    available: AtomicBool,
    lost: AtomicU64,
}

impl FileSink {
    /// Opens the log and starts its writer.
    ///
    /// # Errors
    ///
    /// [`AuditError::Io`] or [`AuditError::Full`] if the file cannot be opened.
    pub fn open(config: &FileSinkConfig) -> Result<Self, AuditError> {
        let path = config.path.clone();
        let file = RotatingFile::open(&path, config.max_bytes, config.keep)
            .map_err(|error| AuditError::from_io(&path, error))?;
        let state = Arc::new(State { path, available: AtomicBool::new(true), lost: AtomicU64::new(0) });
        let (queue, jobs) = mpsc::channel(QUEUE);
        let (lives, alive) = watch::channel(());
        let writer = {
            let state = Arc::clone(&state);
            thread::Builder::new().name("audit".to_owned()).spawn(move || {
                let _lives = lives;
                write_all(jobs, file, &state);
            })
        };
        let writer = writer.map_err(|error| AuditError::from_io(&state.path, error))?;
        Ok(Self { queue: Some(queue), state, writer: Some(writer), alive })
    }

    /// Resolves when nothing can be recorded any more because the writer has ended: while the sink is in use, that is a panic.
    /// Cancel safe.
    pub fn writer_ended(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut alive = self.alive.clone();
        async move { while alive.changed().await.is_ok() {} }
    }

    async fn write(&self, line: Vec<u8>) -> Result<(), AuditError> {
        let (done, result) = oneshot::channel();
        let queue = self.queue.as_ref().ok_or(AuditError::Closed)?;
        queue.send(Job { line, done: Some(done) }).await.map_err(|_| AuditError::Closed)?;
        result.await.map_err(|_| AuditError::Closed)?
    }
}

impl AuditSink for FileSink {
    fn record<'a>(&'a self, event: &'a Event) -> BoxFuture<'a, Result<(), AuditError>> {
        let line = event.to_line();
        async move {
            let written = timeout(RECORD_DEADLINE, self.write(line)).await;
            written.unwrap_or_else(|_| {
                self.state.available.store(false, Ordering::Relaxed);
                Err(AuditError::Stalled)
            })
        }
        .boxed()
    }

    fn note(&self, event: &Event) {
        let job = Job { line: event.to_line(), done: None };
        if self.queue.as_ref().is_none_or(|queue| queue.try_send(job).is_err()) {
            self.state.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn available(&self) -> bool {
        self.state.available.load(Ordering::Relaxed)
    }

    fn lost(&self) -> u64 {
        self.state.lost.load(Ordering::Relaxed)
    }
}

impl Drop for FileSink {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::warn!("the audit log's writer panicked");
        }
    }
}

/// The writer thread: ends when the sink is dropped and everything accepted is written.
fn write_all(mut jobs: mpsc::Receiver<Job>, mut file: RotatingFile, state: &State) {
    while let Some(first) = jobs.blocking_recv() {
        let mut batch = vec![first];
        let mut bytes = batch[0].line.clone();
        while bytes.len() < BATCH_BYTES
            && let Ok(job) = jobs.try_recv()
        {
            bytes.extend_from_slice(&job.line);
            batch.push(job);
        }
        let written = file.append(&bytes);
        if state.available.swap(written.is_ok(), Ordering::Relaxed) != written.is_ok() {
            match &written {
                Ok(()) => tracing::info!(path = %state.path.display(), "audit log is written again"),
                Err(error) => tracing::warn!(path = %state.path.display(), %error, "audit log cannot be written"),
            }
        }
        for job in batch {
            answer(job, written.as_ref().err(), state);
        }
    }
}

fn answer(job: Job, error: Option<&io::Error>, state: &State) {
    match (job.done, error) {
        (Some(done), None) => drop(done.send(Ok(()))),
        (Some(done), Some(error)) => {
            // An io::Error cannot be cloned; kind and code are what is left of it for each waiter.
            let copy = error.raw_os_error().map_or_else(|| error.kind().into(), io::Error::from_raw_os_error);
            drop(done.send(Err(AuditError::from_io(&state.path, copy))));
        }
        (None, None) => {}
        (None, Some(_)) => {
            state.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Actor, AuditId, RequestInfo};

    fn event(number: usize) -> Event {
        let path = format!("/api/v1/namespaces/a/pods/p-{number}");
        Event::request(AuditId::new(), Actor::named("u-abcde"), &RequestInfo::parse("DELETE", &path, None), &path)
    }

    #[tokio::test]
    async fn what_was_acknowledged_is_in_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.log");
        let sink = FileSink::open(&FileSinkConfig::new(path.clone())).unwrap();
        let events: Vec<Event> = (0..200).map(event).collect();
        let all = futures_util::future::join_all(events.iter().map(|event| sink.record(event))).await;
        assert!(all.iter().all(Result::is_ok));
        // Read while the sink is alive: nothing is left in a buffer of ours.
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 200);
        for line in text.lines() {
            serde_json::from_str::<serde_json::Value>(line).unwrap();
        }
        assert!(sink.available());
    }

    #[tokio::test]
    async fn dropping_the_sink_writes_what_it_accepted() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.log");
        let sink = FileSink::open(&FileSinkConfig::new(path.clone())).unwrap();
        (0..50).for_each(|n| sink.note(&event(n)));
        let mut ended = Box::pin(sink.writer_ended());
        assert!((&mut ended).now_or_never().is_none(), "it writes");
        drop(sink);
        assert_eq!(ended.now_or_never(), Some(()));
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 50);
    }

    #[tokio::test]
    async fn a_full_disk_is_told_by_its_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.log");
        std::os::unix::fs::symlink("/dev/full", &path).unwrap();
        let sink = FileSink::open(&FileSinkConfig::new(path)).unwrap();
        let error = sink.record(&event(1)).await.unwrap_err();
        assert!(matches!(error, AuditError::Full { .. }), "{error:?}");
        assert!(error.sentence().contains("full"));
        assert!(!sink.available());
        sink.note(&event(2));
        let after = sink.record(&event(3)).await;
        assert!(after.is_err());
        assert_eq!(sink.lost(), 1);
    }
}
