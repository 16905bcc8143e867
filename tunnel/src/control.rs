//! The control stream: typed messages both ways.

use std::io;
use std::marker::PhantomData;

use bytes::{Buf, BytesMut};
use cattle_proto::codec::{self, Message};
use cattle_proto::control::{AgentMessage, ServerMessage};
use tokio::io::{AsyncReadExt, ReadHalf, WriteHalf};
use tokio::sync::oneshot;

use crate::CloseReason;
use crate::message::{FrameError, write_frame};
use crate::session::SessionHandle;
use crate::stream::TunnelStream;

/// The control stream of an agent.
pub type AgentControl = Control<AgentMessage, ServerMessage>;

/// The control stream of the server.
pub type ServerControl = Control<ServerMessage, AgentMessage>;

/// A control stream that sends `T` and receives `R`.
pub struct Control<T, R> {
    sender: ControlSender<T>,
    receiver: ControlReceiver<R>,
}

/// The sending half.
pub struct ControlSender<T> {
    stream: WriteHalf<TunnelStream>,
    sends: PhantomData<fn(T)>,
}

/// The receiving half.
pub struct ControlReceiver<R> {
    stream: ReadHalf<TunnelStream>,
    buffer: BytesMut,
    receives: PhantomData<fn() -> R>,
}

impl<T: Message, R: Message> Control<T, R> {
    pub(crate) fn new(stream: TunnelStream) -> Self {
        let (reader, writer) = tokio::io::split(stream);
        Self {
            sender: ControlSender { stream: writer, sends: PhantomData },
            receiver: ControlReceiver { stream: reader, buffer: BytesMut::new(), receives: PhantomData },
        }
    }

    /// Sends `message`.
    ///
    /// # Errors
    /// When the message is too large or the session is over.
    ///
    /// # Cancel safety
    /// Not cancel safe: after a cancelled send the control stream cannot be used.
    pub async fn send(&mut self, message: &T) -> Result<(), FrameError> {
        self.sender.send(message).await
    }

    /// The next message; `None` when the peer has closed its half.
    ///
    /// # Errors
    /// When the peer sends no message, or the session is over.
    ///
    /// # Cancel safety
    /// Cancel safe: nothing received is lost.
    pub async fn recv(&mut self) -> Result<Option<R>, FrameError> {
        self.receiver.recv().await
    }

    /// The two halves, for two owners.
    #[must_use]
    pub fn split(self) -> (ControlSender<T>, ControlReceiver<R>) {
        (self.sender, self.receiver)
    }
}

// By hand: the messages have no `Debug`, and what is buffered is not to be seen.
impl<T, R> std::fmt::Debug for Control<T, R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Control").finish_non_exhaustive()
    }
}

impl<T: Message> ControlSender<T> {
    /// As [`Control::send`].
    ///
    /// # Errors
    /// As there.
    pub async fn send(&mut self, message: &T) -> Result<(), FrameError> {
        write_frame(&mut self.stream, message).await
    }
}

impl<R: Message> ControlReceiver<R> {
    /// As [`Control::recv`].
    ///
    /// # Errors
    /// As there.
    pub async fn recv(&mut self) -> Result<Option<R>, FrameError> {
        loop {
            // The size is checked with the first four bytes, so the buffer never grows beyond the message's limit.
            if let Some((message, used)) = codec::decode_frame(&self.buffer).map_err(FrameError::Decode)? {
                self.buffer.advance(used);
                return Ok(Some(message));
            }
            if self.stream.read_buf(&mut self.buffer).await.map_err(FrameError::Io)? == 0 {
                let between = self.buffer.is_empty();
                return if between { Ok(None) } else { Err(FrameError::Io(io::ErrorKind::UnexpectedEof.into())) };
            }
        }
    }
}

/// The server's control stream before the agent's first message has made it.
#[derive(Debug)]
pub struct ControlArrival {
    pub(crate) stream: oneshot::Receiver<TunnelStream>,
    pub(crate) session: SessionHandle,
}

impl ControlArrival {
    /// Waits for the agent to open its control stream; the caller sets the deadline. The driver has to run.
    ///
    /// # Errors
    /// When the session ends before.
    pub async fn arrive(self) -> Result<ServerControl, CloseReason> {
        match self.stream.await {
            Ok(stream) => Ok(Control::new(stream)),
            Err(_) => Err(self.session.closed().await),
        }
    }
}
