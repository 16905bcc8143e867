//! The bytes of the protocol: that they never change, survive the way back, and that nothing else is taken for them.
#![expect(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

mod golden;
mod mutate;
mod refuse;
mod roundtrip;
mod samples;
