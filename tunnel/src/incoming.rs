//! Streams that the server opens, at the agent.

use std::time::Duration;

use cattle_proto::limits;
use cattle_proto::stream::{OpenReply, RefusedCode, StreamHeader};
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;

use crate::message::{FrameError, read_frame, write_frame};
use crate::stream::TunnelStream;

/// Streams that may wait for their headers. Headers come with the first bytes, so few ever wait.
const HEADERS: usize = 256;

/// Time for a header to come after its stream.
const HEADER_TIME: Duration = Duration::from_secs(10);

/// Time to write an answer: it fits into any window, so this only ends with a dead session.
const ANSWER_TIME: Duration = Duration::from_secs(10);

/// The streams that the server opens in one session.
#[derive(Debug)]
pub struct Incoming {
    streams: mpsc::Receiver<TunnelStream>,
    headers: FuturesUnordered<BoxFuture<'static, Option<PendingStream>>>,
    ended: bool,
}

impl Incoming {
    pub(crate) fn new(streams: mpsc::Receiver<TunnelStream>) -> Self {
        Self { streams, headers: FuturesUnordered::new(), ended: false }
    }

    /// The next stream whose header has come; `None` when the session is over. One slow header delays no other stream.
    ///
    /// # Cancel safety
    /// Cancel safe: no stream is lost.
    pub async fn accept(&mut self) -> Option<PendingStream> {
        loop {
            tokio::select! {
                stream = self.streams.recv(), if !self.ended && self.headers.len() < HEADERS => match stream {
                    Some(stream) => self.headers.push(Box::pin(receive(stream))),
                    None => self.ended = true,
                },
                Some(received) = self.headers.next() => {
                    if let Some(pending) = received {
                        return Some(pending);
                    }
                }
                else => return None,
            }
        }
    }
}

/// Reads a stream's header. One that does not come, or is none, costs that stream only.
async fn receive(mut stream: TunnelStream) -> Option<PendingStream> {
    let refusal = match tokio::time::timeout(HEADER_TIME, read_frame(&mut stream)).await {
        Ok(Ok(header)) => return Some(PendingStream { header, stream }),
        Ok(Err(FrameError::Decode(_))) => RefusedCode::Malformed,
        Ok(Err(_)) | Err(_) => return None,
    };
    tracing::debug!(stream = stream.id(), "malformed stream header");
    answer_refusal(stream, refusal).await;
    None
}

/// A stream that wants an answer. Dropped without one it is reset.
#[derive(Debug)]
pub struct PendingStream {
    header: StreamHeader,
    stream: TunnelStream,
}

impl PendingStream {
    /// What the server wants.
    #[must_use]
    pub fn header(&self) -> StreamHeader {
        self.header
    }

    /// Number of the stream in its session, for logs.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.stream.id()
    }

    /// Waits until the server gives the stream up before it has an answer. See [`TunnelStream::given_up`].
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub fn given_up(&self) -> impl Future<Output = ()> + Send + 'static {
        self.stream.given_up()
    }

    /// Answers `Opened`; what follows belongs to the target.
    ///
    /// # Errors
    /// When the server has given the stream up, or the session is over.
    ///
    /// # Cancel safety
    /// Not cancel safe: the stream is reset.
    pub async fn accept(mut self) -> Result<TunnelStream, FrameError> {
        write_frame(&mut self.stream, &OpenReply::Opened).await?;
        Ok(self.stream.opened())
    }

    /// Answers `Refused`. An error would only say that nobody listens any more, so there is none.
    pub async fn refuse(self, code: RefusedCode) {
        answer_refusal(self.stream, code).await;
    }
}

async fn answer_refusal(mut stream: TunnelStream, code: RefusedCode) {
    let answer = async {
        write_frame(&mut stream, &OpenReply::Refused(code)).await?;
        stream.shutdown().await.map_err(FrameError::Io)
    };
    if !matches!(tokio::time::timeout(ANSWER_TIME, answer).await, Ok(Ok(()))) {
        tracing::debug!(stream = stream.id(), %code, "nobody waits for the refusal");
    }
}

const _: () = assert!(HEADERS < limits::STREAMS_PER_SESSION);
