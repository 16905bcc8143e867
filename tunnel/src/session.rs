//! Handles of a session.

use std::sync::Arc;
use std::time::Duration;

use cattle_proto::codec::DecodeError;
use cattle_proto::id::SessionId;
use cattle_proto::stream::{OpenReply, RefusedCode, StreamHeader};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::CloseReason;
use crate::drain::{Drain, DrainStep, Drained};
use crate::message::{FrameError, read_frame, write_frame};
use crate::mux::Open;
use crate::numbers::SessionNumbers;
use crate::shared::Shared;
use crate::stream::TunnelStream;

/// A session at either end: to look at it, to drain it, to close it. Clones are the same session.
#[derive(Clone, Debug)]
pub struct SessionHandle {
    shared: Arc<Shared>,
}

impl SessionHandle {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// The session's id, the same at both ends.
    #[must_use]
    pub fn id(&self) -> SessionId {
        self.shared.id
    }

    /// Streams that are open, the control stream not counted.
    #[must_use]
    pub fn streams(&self) -> usize {
        *self.shared.open_streams().borrow()
    }

    /// How long the peer took to answer the last ping, which goes every
    /// [`PING_INTERVAL`](cattle_proto::limits::PING_INTERVAL); `None` before the first answer. What lay in the connection's
    /// buffers is part of it.
    #[must_use]
    pub fn round_trip(&self) -> Option<Duration> {
        self.shared.wire.round_trip()
    }

    /// What the session has done so far.
    #[must_use]
    pub fn numbers(&self) -> SessionNumbers {
        self.shared.numbers.now()
    }

    /// Why the session has ended, if it has.
    #[must_use]
    pub fn close_reason(&self) -> Option<CloseReason> {
        self.shared.close_reason()
    }

    /// Closes the session now: every stream in it fails. [`SessionHandle::closed`] tells when it is done.
    pub fn close(&self) {
        self.shared.close.cancel();
    }

    /// Waits for the end of the session.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn closed(&self) -> CloseReason {
        let mut closed = self.shared.watch_closed();
        match closed.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or(CloseReason::Aborted),
            // The sender lives in `shared`, which `self` holds.
            Err(_) => CloseReason::Aborted,
        }
    }

    /// Opens no more streams from here on; those that are open go on.
    pub fn refuse_streams(&self) {
        self.shared.refuse_streams();
    }

    /// Whether the session takes no new streams.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.shared.is_draining()
    }

    /// Refuses new streams, waits until the last one ends or `grace` is over, then closes the session.
    ///
    /// # Cancel safety
    /// Cancel safe; new streams stay refused.
    pub async fn drain(&self, grace: Duration) -> Drained {
        self.refuse_streams();
        let drain = Drain::begin(Instant::now(), grace);
        let mut open = self.shared.open_streams();
        loop {
            let streams = if self.shared.is_closed() { 0 } else { *open.borrow_and_update() };
            match drain.poll(Instant::now(), streams) {
                DrainStep::Close(drained) => {
                    self.close();
                    return drained;
                }
                DrainStep::Wait(until) => {
                    tokio::select! {
                        _ = open.changed() => {}
                        () = tokio::time::sleep_until(until) => {}
                        _ = self.closed() => {}
                    }
                }
            }
        }
    }
}

/// A session at the server's end, which opens its streams. Clones are the same session.
#[derive(Clone, Debug)]
pub struct Session {
    handle: SessionHandle,
    opens: mpsc::Sender<Open>,
}

impl Session {
    pub(crate) fn new(handle: SessionHandle, opens: mpsc::Sender<Open>) -> Self {
        Self { handle, opens }
    }

    /// The session itself.
    #[must_use]
    pub fn handle(&self) -> &SessionHandle {
        &self.handle
    }

    /// Opens a stream and waits for the agent's answer, all within `within`.
    ///
    /// # Errors
    /// See [`OpenError`]. Whatever the error, no byte after the header was sent, so another session may be tried.
    ///
    /// # Cancel safety
    /// Cancel safe: a stream that is under way is reset.
    pub async fn open(&self, header: StreamHeader, within: Duration) -> Result<TunnelStream, OpenError> {
        let deadline = Instant::now() + within;
        let asking = tokio::time::timeout_at(deadline, self.stream());
        let mut stream = asking.await.map_err(|_| OpenError::Timeout { header_sent: false })??;
        match tokio::time::timeout_at(deadline, exchange(&mut stream, &header)).await {
            Err(_) => Err(OpenError::Timeout { header_sent: true }),
            Ok(Ok(OpenReply::Opened)) => Ok(stream.opened()),
            Ok(Ok(OpenReply::Refused(code))) => Err(OpenError::Refused(code)),
            Ok(Err(FrameError::Decode(error))) => Err(OpenError::Malformed(error)),
            Ok(Err(_)) => Err(self.handle.close_reason().map_or(OpenError::Reset, OpenError::Closed)),
        }
    }

    /// A stream without a header.
    async fn stream(&self) -> Result<TunnelStream, OpenError> {
        let shared = &self.handle.shared;
        if let Some(reason) = shared.close_reason() {
            return Err(OpenError::Closed(reason));
        }
        if shared.is_draining() {
            return Err(OpenError::Draining);
        }
        let place = Arc::clone(&shared.slots).try_acquire_owned().map_err(|_| OpenError::SessionFull)?;
        let room = shared.config.budget.reserve().ok_or(OpenError::ProcessFull)?;
        let (reply, stream) = oneshot::channel();
        let open = Open { permits: vec![place, room], reply };
        let closed = || OpenError::Closed(shared.close_reason().unwrap_or(CloseReason::Aborted));
        tokio::select! {
            biased;
            sent = async { self.opens.send(open).await.ok()?; stream.await.ok() } => sent.ok_or_else(closed),
            reason = self.handle.closed() => Err(OpenError::Closed(reason)),
        }
    }
}

async fn exchange(stream: &mut TunnelStream, header: &StreamHeader) -> Result<OpenReply, FrameError> {
    write_frame(stream, header).await?;
    read_frame(stream).await
}

/// Why a stream was not opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The session has ended.
    #[error("the session has ended")]
    Closed(#[source] CloseReason),
    /// The session takes no new streams.
    #[error("the session is ending")]
    Draining,
    /// The session has as many streams as it may.
    #[error("the session has too many streams")]
    SessionFull,
    /// All sessions together have as many streams as the process may.
    #[error("the server has too many streams")]
    ProcessFull,
    /// The agent refused it.
    #[error("the agent refused: {0}")]
    Refused(RefusedCode),
    /// There was no answer in time.
    #[error("the agent did not answer in time")]
    Timeout {
        /// Whether the agent may have seen the header.
        header_sent: bool,
    },
    /// The agent reset the stream without an answer.
    #[error("the agent reset the stream")]
    Reset,
    /// The agent's answer is none.
    #[error("the agent's answer is malformed")]
    Malformed(#[source] DecodeError),
}

impl OpenError {
    /// Whether the agent may have seen the header, and so have begun what it asks for. What follows a header was never
    /// sent.
    #[must_use]
    pub const fn header_sent(&self) -> bool {
        match self {
            Self::Draining | Self::SessionFull | Self::ProcessFull | Self::Timeout { header_sent: false } => false,
            Self::Closed(_) | Self::Refused(_) | Self::Timeout { .. } | Self::Reset | Self::Malformed(_) => true,
        }
    }
}
