//! An agent against real TLS servers on loopback: what it sends, to whom, and what it says when it fails.
#![expect(clippy::unwrap_used, reason = "helpers of tests, which clippy does not see as such")]

mod dial;
mod pki;
mod proxy;
mod server;
mod supervise;
mod support;
