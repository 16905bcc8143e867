//! Messages to bytes and back. The only module that names `bincode`.
//!
//! A message's body is bincode 1.3: integers as varints, little-endian; a `String` or a byte list is its length and its
//! bytes; an enum is its variant's index; an `Option` one byte 0 or 1 and the value; fields follow each other. On a stream
//! of bytes each body has its length before it, four bytes, big-endian.
//!
//! The length is checked against the message's limit before anything is allocated for it, and the body must be used up.

use bincode::Options;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Bytes of the length before a body.
pub const PREFIX: usize = 4;

/// A type that is sent as one frame. Only this crate has such types.
pub trait Message: Serialize + DeserializeOwned + sealed::Sealed {
    /// Largest body in bytes.
    const LIMIT: usize;
    /// The type's name for errors.
    const NAME: &'static str;
}

pub(crate) mod sealed {
    /// Keeps [`Message`](super::Message) to the types that the specification knows.
    #[expect(unnameable_types, reason = "a sealed trait: nobody outside may name it")]
    pub trait Sealed {}
}

/// The body of `message`.
///
/// # Errors
/// When it is larger than its limit.
pub fn encode<M: Message>(message: &M) -> Result<Vec<u8>, EncodeError> {
    options(M::LIMIT).serialize(message).map_err(|_| EncodeError { message: M::NAME, limit: M::LIMIT })
}

/// The message of which `body` is the whole body.
///
/// # Errors
/// When `body` is larger than the limit, is no such message, or goes on after it.
pub fn decode<M: Message>(body: &[u8]) -> Result<M, DecodeError> {
    if body.len() > M::LIMIT {
        return Err(DecodeError::TooLarge { message: M::NAME, size: body.len(), limit: M::LIMIT });
    }
    // The error's text may repeat what the peer sent; the name of the message is enough to find the cause.
    options(M::LIMIT).deserialize(body).map_err(|_| DecodeError::Malformed { message: M::NAME })
}

/// `message` as it stands on a stream of bytes: length and body.
///
/// # Errors
/// When it is larger than its limit.
pub fn encode_frame<M: Message>(message: &M) -> Result<Vec<u8>, EncodeError> {
    let body = encode(message)?;
    let too_large = || EncodeError { message: M::NAME, limit: M::LIMIT };
    let length = u32::try_from(body.len()).map_err(|_| too_large())?;
    let mut frame = Vec::with_capacity(PREFIX + body.len());
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(&body);
    Ok(frame)
}

/// Size of the body that follows `prefix`, checked: it is safe to allocate.
///
/// # Errors
/// When a message of this type may not be that large.
pub fn body_size<M: Message>(prefix: [u8; PREFIX]) -> Result<usize, DecodeError> {
    let size = usize::try_from(u32::from_be_bytes(prefix)).unwrap_or(usize::MAX);
    if size > M::LIMIT {
        return Err(DecodeError::TooLarge { message: M::NAME, size, limit: M::LIMIT });
    }
    Ok(size)
}

/// The first frame in `bytes`, and how many bytes it took; `None` when there is not all of it yet.
///
/// # Errors
/// As [`body_size`] and [`decode`], as soon as the bytes that are there show it.
pub fn decode_frame<M: Message>(bytes: &[u8]) -> Result<Option<(M, usize)>, DecodeError> {
    let Some((prefix, rest)) = bytes.split_first_chunk::<PREFIX>() else {
        return Ok(None);
    };
    let size = body_size::<M>(*prefix)?;
    match rest.get(..size) {
        Some(body) => Ok(Some((decode(body)?, PREFIX + size))),
        None => Ok(None),
    }
}

fn options(limit: usize) -> impl Options {
    bincode::DefaultOptions::new().with_varint_encoding().reject_trailing_bytes().with_limit(limit as u64)
}

/// A message is too large to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message} is larger than {limit} bytes")]
pub struct EncodeError {
    /// The message's type.
    pub message: &'static str,
    /// Its limit in bytes.
    pub limit: usize,
}

/// Bytes are no message. Nothing of them is repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The peer announced or sent more than the message may have.
    #[error("{message} of {size} bytes is larger than {limit} bytes")]
    TooLarge {
        /// The message's type.
        message: &'static str,
        /// Size in bytes that was announced.
        size: usize,
        /// Its limit in bytes.
        limit: usize,
    },
    /// The bytes break the rules of the message.
    #[error("{message} is malformed")]
    Malformed {
        /// The message's type.
        message: &'static str,
    },
}
