//! What tests of this crate and its fuzz targets share: samples of every message, and what must hold for any bytes.

pub mod samples;

use crate::codec::{self, Message, PREFIX};
use crate::control::{AgentMessage, ServerMessage};
use crate::handshake::{Hello, HelloReply};
use crate::stream::{OpenReply, StreamHeader};

/// One decoder of the protocol, the message's type forgotten.
#[derive(Clone, Copy, Debug)]
pub struct Decoder {
    /// Its name, which is also its fuzz target's.
    pub name: &'static str,
    /// [`Message::NAME`] of what it reads.
    pub message: &'static str,
    /// [`Message::LIMIT`] of what it reads.
    pub limit: usize,
    /// Frames that it accepts.
    pub samples: fn() -> Vec<Vec<u8>>,
    /// [`check`] for its message.
    pub check: fn(&[u8]) -> bool,
}

/// Every decoder of the protocol.
pub const DECODERS: &[Decoder] = &[
    Decoder::of::<Hello>("hello", || frames(&samples::hellos())),
    Decoder::of::<HelloReply>("hello_reply", || frames(&samples::hello_replies())),
    Decoder::of::<StreamHeader>("stream_header", || frames(&samples::stream_headers())),
    Decoder::of::<OpenReply>("open_reply", || frames(&samples::open_replies())),
    Decoder::of::<AgentMessage>("agent_message", || frames(&samples::agent_messages())),
    Decoder::of::<ServerMessage>("server_message", || frames(&samples::server_messages())),
];

impl Decoder {
    const fn of<M: Message + PartialEq>(name: &'static str, samples: fn() -> Vec<Vec<u8>>) -> Self {
        Self { name, message: M::NAME, limit: M::LIMIT, samples, check: check::<M> }
    }
}

/// Reads any bytes as a frame of `M`, and says whether they are one. What holds for all of them: no panic, `None` only while
/// the frame can still become whole, and what is accepted can be sent and is read as the same.
///
/// # Panics
/// When a rule is broken.
#[must_use]
pub fn check<M: Message + PartialEq>(bytes: &[u8]) -> bool {
    let read = match codec::decode_frame::<M>(bytes) {
        Ok(read) => read,
        Err(error) => {
            assert!(error.to_string().starts_with(M::NAME), "an error says which message it is about: {error}");
            return false;
        }
    };
    let Some((message, used)) = read else {
        assert!(bytes.len() < PREFIX + M::LIMIT, "nothing that comes can make this a frame");
        return false;
    };
    assert!(used <= bytes.len(), "it read more than there is");
    let body = codec::encode(&message).unwrap_or_else(|error| panic!("accepted and cannot be sent: {error}"));
    let again = codec::decode::<M>(&body);
    assert!(again.is_ok_and(|again| again == message), "accepted and read as something else");
    true
}

fn frames<M: Message>(messages: &samples::Named<M>) -> Vec<Vec<u8>> {
    messages.iter().filter_map(|(_, message)| codec::encode_frame(message).ok()).collect()
}
