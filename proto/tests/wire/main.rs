//! The bytes of the protocol: that they never change, survive the way back, and that nothing else is taken for them.
#![expect(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

mod decoders;
mod golden;
mod refuse;
mod roundtrip;
