//! Messages of `cattle_proto` on a stream of bytes.

use std::io;

use cattle_proto::codec::{self, DecodeError, EncodeError, Message, PREFIX};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Why a message did not come or go.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The message to send is too large.
    #[error("the message is too large")]
    Encode(#[source] EncodeError),
    /// The bytes received are no message.
    #[error("the message is malformed")]
    Decode(#[source] DecodeError),
    /// The stream failed, or ended inside a message.
    #[error("the stream failed")]
    Io(#[source] io::Error),
}

/// Writes `message` and flushes.
///
/// # Cancel safety
/// Not cancel safe: a part may have been written.
pub(crate) async fn write_frame<M: Message>(io: &mut (impl AsyncWrite + Unpin), message: &M) -> Result<(), FrameError> {
    let frame = codec::encode_frame(message).map_err(FrameError::Encode)?;
    io.write_all(&frame).await.map_err(FrameError::Io)?;
    io.flush().await.map_err(FrameError::Io)
}

/// Reads one message and nothing after it.
///
/// # Cancel safety
/// Not cancel safe: a part may have been read.
pub(crate) async fn read_frame<M: Message>(io: &mut (impl AsyncRead + Unpin)) -> Result<M, FrameError> {
    let mut prefix = [0; PREFIX];
    io.read_exact(&mut prefix).await.map_err(FrameError::Io)?;
    let mut body = vec![0; codec::body_size::<M>(prefix).map_err(FrameError::Decode)?];
    io.read_exact(&mut body).await.map_err(FrameError::Io)?;
    codec::decode(&body).map_err(FrameError::Decode)
}
