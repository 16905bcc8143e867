//! An agent against real TLS servers on loopback: what it sends, to whom, and what it says when it fails.

mod dial;
mod pki;
mod proxy;
mod server;
mod supervise;
mod support;
