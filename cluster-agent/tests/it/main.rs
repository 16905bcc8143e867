//! The cluster agent against an API server and a management server of a few lines each, all over real TLS: the library's
//! parts, and the binary as a process.
#![expect(clippy::unwrap_used, reason = "helpers of tests, which clippy does not see as such")]

mod api_server;
mod kubernetes;
#[expect(dead_code, reason = "the agent's own tests use all of it")]
#[path = "../../../agent/tests/it/pki.rs"]
mod pki;
mod process;
#[expect(dead_code, reason = "the agent's own tests use all of it")]
#[path = "../../../agent/tests/it/server.rs"]
mod server;
mod support;
