//! The wire between agents and the server.
#![forbid(unsafe_code)]

pub mod capability;
mod code;
pub mod codec;
pub mod control;
pub mod handshake;
pub mod id;
pub mod limits;
pub mod secret;
pub mod stream;
pub mod version;
