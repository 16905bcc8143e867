//! A WebSocket as a stream of bytes: binary messages only, their borders without meaning.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use cattle_proto::limits;
use cattle_proto::version::{SUBPROTOCOL_FAMILY, SUBPROTOCOLS};
use futures_util::{Sink, Stream};
use pin_project_lite::pin_project;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::error::{Error as WsError, ProtocolError};
use tokio_tungstenite::tungstenite::http::{HeaderName, HeaderValue, Response, header};
use tokio_tungstenite::tungstenite::protocol::{Message, Role, WebSocketConfig};

use crate::ping::Pings;

/// Bytes of the read buffer. It is there for as long as the session is, so it is small; larger reads gain nothing, since
/// TLS returns one record at a time.
const READ_BUFFER: usize = 16 * 1024;

/// Most bytes that may wait in the WebSocket's own buffer: two messages and the control frames between them.
const WRITE_BUFFER: usize = 2 * limits::WEBSOCKET_MESSAGE + 16 * 1024;

/// A WebSocket whose handshake is done, as `AsyncRead` and `AsyncWrite`.
///
/// One write makes one message of at most 64 KiB; a flush sends what is buffered. Pings of the peer are answered while
/// reading. The end of the WebSocket is the end of file.
#[derive(Debug)]
pub struct WebSocket<S> {
    inner: WebSocketStream<Metered<S>>,
    unread: Bytes,
    pings: Pings,
}

impl<S: AsyncRead + AsyncWrite + Unpin> WebSocket<S> {
    /// The server's end, over a connection that has answered `101 Switching Protocols`.
    pub async fn server(io: S) -> Self {
        Self::raw(io, Role::Server).await
    }

    /// The client's end, over a connection that has received `101 Switching Protocols` and nothing after it.
    pub async fn client(io: S) -> Self {
        Self::raw(io, Role::Client).await
    }

    /// Upgrades a fresh connection, plain or TLS, to `uri` (`ws` or `wss`, with host and path), and offers every
    /// subprotocol of this build.
    ///
    /// # Errors
    /// When the server answers anything but a 101 that takes one of them.
    ///
    /// # Cancel safety
    /// Not cancel safe: the connection is spent. It has no deadline of its own.
    pub async fn upgrade(io: S, uri: &str) -> Result<Self, UpgradeError> {
        let mut request = uri.into_client_request().map_err(|_| UpgradeError::Uri)?;
        let offer = HeaderValue::from_str(&SUBPROTOCOLS.join(", ")).map_err(|_| UpgradeError::Uri)?;
        request.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, offer);
        let (inner, _) = tokio_tungstenite::client_async_with_config(request, Metered::new(io), Some(config()))
            .await
            .map_err(UpgradeError::from)?;
        Ok(Self { inner, unread: Bytes::new(), pings: Pings::default() })
    }

    async fn raw(io: S, role: Role) -> Self {
        let inner = WebSocketStream::from_raw_socket(Metered::new(io), role, Some(config())).await;
        Self { inner, unread: Bytes::new(), pings: Pings::default() }
    }

    /// Bytes received from and taken by the connection below, in all.
    pub(crate) fn meter(&self) -> (u64, u64) {
        let metered = self.inner.get_ref();
        (metered.received, metered.sent)
    }

    /// Has a ping sent by the next flush.
    pub(crate) fn ping(&mut self) {
        self.pings.ask();
    }

    /// How long the peer took to answer the last ping.
    pub(crate) fn round_trip(&self) -> Option<Duration> {
        self.pings.round_trip()
    }

    /// Ready when the connection has taken every message before.
    pub(crate) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_ready(cx).map_err(into_io)
    }

    /// Sends a message; [`WebSocket::poll_ready`] has said that there is room for it.
    pub(crate) fn send(&mut self, message: Bytes) -> io::Result<()> {
        Pin::new(&mut self.inner).start_send(Message::Binary(message)).map_err(into_io)
    }

    fn poll_ping(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.pings.is_due() {
            ready!(Pin::new(&mut self.inner).poll_ready(cx)).map_err(into_io)?;
            let ping = Message::Ping(self.pings.send(Instant::now()));
            Pin::new(&mut self.inner).start_send(ping).map_err(into_io)?;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for WebSocket<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while self.unread.is_empty() {
            match ready!(Pin::new(&mut self.inner).poll_next(cx)) {
                None | Some(Ok(Message::Close(_))) => return Poll::Ready(Ok(())),
                Some(Ok(Message::Binary(bytes))) => self.unread = bytes,
                Some(Ok(Message::Pong(payload))) => self.pings.hear(&payload, Instant::now()),
                Some(Ok(Message::Ping(_) | Message::Frame(_))) => {}
                Some(Ok(Message::Text(_))) => {
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "a text message")));
                }
                Some(Err(error)) => return Poll::Ready(Err(into_io(error))),
            }
        }
        let n = self.unread.len().min(buf.remaining());
        buf.put_slice(&self.unread[..n]);
        self.unread.advance(n);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for WebSocket<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let n = buf.len().min(limits::WEBSOCKET_MESSAGE);
        ready!(self.poll_ready(cx))?;
        self.send(Bytes::copy_from_slice(&buf[..n]))?;
        Poll::Ready(Ok(n))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_ping(cx))?;
        Pin::new(&mut self.inner).poll_flush(cx).map_err(into_io)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_close(cx).map_err(into_io)
    }
}

/// Why a server did not upgrade.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UpgradeError {
    /// The URI is none of a WebSocket.
    #[error("not a WebSocket URI")]
    Uri,
    /// The server answered with another status.
    #[error("the server answered with status {status}")]
    Status {
        /// The status.
        status: u16,
        /// Seconds in `Retry-After`, if there were any.
        retry_after: Option<u32>,
    },
    /// The server speaks our kind of protocol in other versions only.
    #[error("the server speaks {server}, this end {}", SUBPROTOCOLS.join(", "))]
    Version {
        /// The server's subprotocols.
        server: String,
    },
    /// The answer is not one of a WebSocket server that speaks our subprotocol.
    #[error("the server does not speak this protocol")]
    Protocol,
    /// The connection failed.
    #[error("the connection failed during the upgrade")]
    Io(#[source] io::Error),
}

impl From<WsError> for UpgradeError {
    fn from(error: WsError) -> Self {
        #[expect(clippy::wildcard_enum_match_arm, reason = "every other error is an answer that is none of ours")]
        match error {
            WsError::Http(response) => refusal(&response),
            WsError::Io(error) => Self::Io(error),
            WsError::Protocol(ProtocolError::HandshakeIncomplete) => Self::Io(io::ErrorKind::UnexpectedEof.into()),
            WsError::Url(_) => Self::Uri,
            _ => Self::Protocol,
        }
    }
}

/// A server that refuses every subprotocol names its own.
fn refusal<B>(response: &Response<B>) -> UpgradeError {
    let text = |name: HeaderName| response.headers().get(name).and_then(|value| value.to_str().ok());
    match text(header::SEC_WEBSOCKET_PROTOCOL) {
        Some(server) if server.starts_with(SUBPROTOCOL_FAMILY) => UpgradeError::Version { server: server.to_owned() },
        Some(_) | None => UpgradeError::Status {
            status: response.status().as_u16(),
            retry_after: text(header::RETRY_AFTER).and_then(|value| value.parse().ok()),
        },
    }
}

/// Limits of every WebSocket of ours; the crate's own defaults are unbounded or large.
fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(0)
        .max_write_buffer_size(WRITE_BUFFER)
        .max_message_size(Some(limits::WEBSOCKET_ACCEPT))
        .max_frame_size(Some(limits::WEBSOCKET_ACCEPT))
}

fn into_io(error: WsError) -> io::Error {
    #[expect(clippy::wildcard_enum_match_arm, reason = "every other error is the peer's offence")]
    match error {
        WsError::Io(error) => error,
        WsError::ConnectionClosed | WsError::AlreadyClosed => io::ErrorKind::BrokenPipe.into(),
        WsError::Protocol(ProtocolError::ResetWithoutClosingHandshake | ProtocolError::SendAfterClosing) => {
            io::ErrorKind::ConnectionReset.into()
        }
        other => io::Error::new(io::ErrorKind::InvalidData, other),
    }
}

pin_project! {
    /// A connection that counts its bytes.
    #[derive(Debug)]
    struct Metered<S> {
        #[pin]
        io: S,
        received: u64,
        sent: u64,
    }
}

impl<S> Metered<S> {
    fn new(io: S) -> Self {
        Self { io, received: 0, sent: 0 }
    }
}

impl<S: AsyncRead> AsyncRead for Metered<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.project();
        let before = buf.filled().len();
        let result = this.io.poll_read(cx, buf);
        *this.received += (buf.filled().len() - before) as u64;
        result
    }
}

impl<S: AsyncWrite> AsyncWrite for Metered<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.project();
        let n = ready!(this.io.poll_write(cx, buf))?;
        *this.sent += n as u64;
        Poll::Ready(Ok(n))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().io.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().io.poll_shutdown(cx)
    }
}
