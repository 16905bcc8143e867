//! The cluster agent: one Deployment in each downstream cluster, which connects the cluster to its server.
//!
//! It holds no rights worth stealing but one: to request tokens for the server's own service account `cattle`. What the
//! server and its users do in the cluster passes through as TLS between the server and the API server; the agent
//! relays bytes, and only to the API server that its own environment names.
//!
//! `Args → Config → App`: [`Args`] are flags and environment, [`Config`] is the same checked, [`App`] is built (bound,
//! metrics registered) and then run. [`doctor`] examines the same configuration step by step.
#![forbid(unsafe_code)]

mod app;
mod args;
pub mod doctor;
pub mod kubernetes;

pub use app::{App, BuildError};
pub use args::{Args, Command, Config, ConfigError, OutputFormat};
