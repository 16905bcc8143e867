//! The node agent: one pod of a DaemonSet on every node of a downstream cluster, on the host's network.
//!
//! It keeps a standby session of its own to the server. When no cluster agent is healthy, the server sends the cluster's
//! traffic through it: the agent relays bytes to the API server of its cluster, and the TLS inside them is between the server
//! and the API server. It has no Kubernetes right at all, and it needs neither cluster DNS nor the cluster's network.
//!
//! Where the API server is, in this order ([`api_server`]): on this node; where the kubelet of this node finds it; at the
//! service address. Never from the wire.
//!
//! It tells the server of its host ([`mod@host`]): what `/proc` and `/sys` show, and what the init container has found in the
//! distribution's files ([`NodeFile`]). Which node it speaks for is what its token proves.
//!
//! `Args → Config → App`, as the cluster agent: [`Args`] are flags and environment, [`Config`] is the same checked, [`App`]
//! is built and then run.
#![forbid(unsafe_code)]

pub mod api_server;
mod app;
mod args;
mod distribution;
pub mod doctor;
pub mod host;
pub mod kubelet;
mod node_file;

pub use app::{App, BuildError};
pub use args::{Args, Command, Config, ConfigError, OutputFormat, RunArgs};
pub use distribution::Distribution;
pub use node_file::{NodeFile, NodeFileError};
