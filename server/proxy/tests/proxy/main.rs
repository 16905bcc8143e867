//! The proxy as a client and an API server see it: real sockets, real TLS, bytes written by hand.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails by panicking, as the test does")]

mod errors;
mod fake;
mod grace;
mod isolation;
mod retries;
mod revocation;
mod rig;
mod smuggling;
mod streaming;
mod upgrade;
