//! The handshake, and the session that comes out of it.
//!
//! No byte reaches the multiplexer before the server has believed the agent.

use std::io;
use std::time::Duration;

use cattle_proto::capability::Capabilities;
use cattle_proto::handshake::{Hello, HelloReply, Reject, RejectCode, Welcome};
use cattle_proto::limits;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout, timeout_at};
use yamux::Mode;

use crate::control::{AgentControl, Control, ControlArrival};
use crate::incoming::Incoming;
use crate::message::{FrameError, read_frame, write_frame};
use crate::mux::{Driver, Inbound};
use crate::session::{Session, SessionHandle};
use crate::shared::Shared;
use crate::websocket::WebSocket;
use crate::{CloseReason, SessionConfig};

/// Time to deliver a refusal.
const REJECT_TIME: Duration = Duration::from_secs(2);

/// Requests for streams that may wait for the driver.
const OPENS: usize = 256;

/// An agent's end of a new session.
#[derive(Debug)]
pub struct AgentEnd<S> {
    /// What the server said.
    pub welcome: Welcome,
    /// What both ends can do.
    pub capabilities: Capabilities,
    /// The session, to look at, drain and close.
    pub session: SessionHandle,
    /// The streams that the server opens.
    pub incoming: Incoming,
    /// The control stream. The server waits for its first message: a heartbeat.
    pub control: AgentControl,
    /// Runs the session.
    pub driver: Driver<S>,
}

/// The server's end of a new session.
#[derive(Debug)]
pub struct ServerEnd<S> {
    /// What both ends can do.
    pub capabilities: Capabilities,
    /// The session, to open streams in.
    pub session: Session,
    /// The control stream, once the agent has opened it.
    pub control: ControlArrival,
    /// Runs the session.
    pub driver: Driver<S>,
}

/// Introduces an agent to the server, within [`limits::HANDSHAKE_TIME`].
///
/// # Errors
/// See [`HandshakeError`].
///
/// # Cancel safety
/// Not cancel safe: the WebSocket is spent.
pub async fn connect<S>(
    mut socket: WebSocket<S>,
    hello: &Hello,
    config: SessionConfig,
) -> Result<AgentEnd<S>, HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let exchange = async {
        write_frame(&mut socket, hello).await?;
        read_frame::<HelloReply>(&mut socket).await
    };
    let reply = timeout(limits::HANDSHAKE_TIME, exchange).await.map_err(|_| HandshakeError::Timeout)??;
    let welcome = match reply {
        HelloReply::Welcome(welcome) => welcome,
        HelloReply::Reject(reject) => return Err(HandshakeError::Rejected(reject)),
    };
    if !hello.versions.contains(welcome.version) {
        return Err(HandshakeError::Version);
    }
    let shared = Shared::new(welcome.session, config, 2 * limits::STREAMS_PER_SESSION - 1);
    let (streams, incoming) = mpsc::channel(limits::STREAMS_PER_SESSION);
    let inbound = Inbound::Streams(streams);
    let mut driver = Driver::new(socket, Mode::Client, std::sync::Arc::clone(&shared), None, inbound);
    let control = std::future::poll_fn(|cx| driver.poll_control(cx)).await.map_err(HandshakeError::Closed)?;
    Ok(AgentEnd {
        capabilities: hello.capabilities.shared(welcome.capabilities),
        welcome,
        session: SessionHandle::new(shared),
        incoming: Incoming::new(incoming),
        control: Control::new(control),
        driver,
    })
}

/// Hears an agent out, within [`limits::HANDSHAKE_TIME`]. What is no `Hello` is answered with a `Reject`.
///
/// # Errors
/// See [`HandshakeError`].
///
/// # Cancel safety
/// Not cancel safe: the WebSocket is spent.
pub async fn receive<S>(mut socket: WebSocket<S>) -> Result<Greeting<S>, HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let deadline = Instant::now() + limits::HANDSHAKE_TIME;
    match timeout_at(deadline, read_frame(&mut socket)).await {
        Ok(Ok(hello)) => Ok(Greeting { hello, socket, deadline }),
        Ok(Err(error)) => {
            if matches!(error, FrameError::Decode(_)) {
                send_reject(socket, Reject { code: RejectCode::Malformed, retry_after_seconds: 0 }).await;
            }
            Err(error.into())
        }
        Err(_) => {
            send_reject(socket, Reject { code: RejectCode::Timeout, retry_after_seconds: 0 }).await;
            Err(HandshakeError::Timeout)
        }
    }
}

/// An agent that has said who it is and waits for an answer.
pub struct Greeting<S> {
    hello: Hello,
    socket: WebSocket<S>,
    deadline: Instant,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Greeting<S> {
    /// What the agent said. Nothing of it is proved.
    pub fn hello(&self) -> &Hello {
        &self.hello
    }

    /// When the agent has to have its answer.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Lets the agent in.
    ///
    /// # Errors
    /// When it has gone, or takes no answer in time.
    pub async fn welcome(mut self, welcome: Welcome, config: SessionConfig) -> Result<ServerEnd<S>, HandshakeError> {
        let capabilities = self.hello.capabilities.shared(welcome.capabilities);
        let slots = config.streams.min(limits::STREAMS_PER_SESSION);
        let shared = Shared::new(welcome.session, config, slots);
        let reply = HelloReply::Welcome(welcome);
        let sending = timeout_at(self.deadline, write_frame(&mut self.socket, &reply));
        sending.await.map_err(|_| HandshakeError::Timeout)??;
        let handle = SessionHandle::new(std::sync::Arc::clone(&shared));
        let (opens, requests) = mpsc::channel(OPENS);
        let (waiting, stream) = oneshot::channel();
        let inbound = Inbound::Control(Some(waiting));
        Ok(ServerEnd {
            capabilities,
            session: Session::new(handle.clone(), opens),
            control: ControlArrival { stream, session: handle },
            driver: Driver::new(self.socket, Mode::Server, shared, Some(requests), inbound),
        })
    }

    /// Turns the agent away and closes the connection, within two seconds.
    pub async fn reject(self, reject: Reject) {
        send_reject(self.socket, reject).await;
    }
}

async fn send_reject<S: AsyncRead + AsyncWrite + Unpin>(mut socket: WebSocket<S>, reject: Reject) {
    let sending = async {
        write_frame(&mut socket, &HelloReply::Reject(reject)).await?;
        socket.shutdown().await.map_err(FrameError::Io)
    };
    if !matches!(timeout(REJECT_TIME, sending).await, Ok(Ok(()))) {
        tracing::debug!(code = %reject.code, "the peer did not wait for the refusal");
    }
}

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// It took longer than it may.
    #[error("the handshake took too long")]
    Timeout,
    /// The server said no.
    #[error("the server refused: {}", .0.code)]
    Rejected(Reject),
    /// The peer's message is none, or one of ours is too large.
    #[error("the handshake message is malformed")]
    Malformed(#[source] FrameError),
    /// The server chose a version that was not offered.
    #[error("the server chose a version that was not offered")]
    Version,
    /// The connection failed or ended.
    #[error("the connection failed during the handshake")]
    Io(#[source] io::Error),
    /// The session ended as it began.
    #[error("the session ended as it began")]
    Closed(#[source] CloseReason),
}

impl From<FrameError> for HandshakeError {
    fn from(error: FrameError) -> Self {
        match error {
            FrameError::Io(error) if error.kind() == io::ErrorKind::InvalidData => {
                Self::Malformed(FrameError::Io(error))
            }
            FrameError::Io(error) => Self::Io(error),
            other @ (FrameError::Encode(_) | FrameError::Decode(_)) => Self::Malformed(other),
        }
    }
}
