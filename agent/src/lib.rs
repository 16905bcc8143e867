//! Being connected: what every agent of Cattle does before it does anything else.
//!
//! An agent dials out to its server, proves itself, and keeps one [session](cattle_tunnel) up for ever. This crate knows
//! neither Kubernetes nor the host it runs on: the agent's own crate gives it a [`Cluster`] that says who the cluster is,
//! and a [`Handler`] that serves the streams which the server opens.
//!
//! | module | what |
//! |---|---|
//! | [`args`] | `CATTLE_SERVER` and what else an agent has to be told, checked |
//! | [`trust`] | the roots that the server's certificate is checked against, from a checksum or the system |
//! | [`connect`] | one attempt, in stages with named errors |
//! | [`credential`], [`identity`] | what the agent shows, and which of it |
//! | [`backoff`] | the waits between attempts |
//! | [`supervise`] | the loop; [`link`] is what others see of it |
//! | [`serve`], [`control`] | the streams of a session, and its control stream |
//! | [`relay`], [`address`] | streams to an API server, and where it listens |
//! | [`doctor`] | the stages as a table |
//!
//! # Promises
//!
//! - Nothing secret leaves the process before the server has proved itself ([`trust`]). No switch changes that.
//! - An agent tries for ever. Liveness fails only when its own loop is stuck, readiness follows the session
//!   ([`link::LinkWatch`]).
//! - Every network step has a deadline, every task an owner, every queue a bound.
#![forbid(unsafe_code)]

pub mod address;
pub mod args;
pub mod backoff;
pub mod connect;
pub mod control;
pub mod credential;
pub mod doctor;
pub mod identity;
pub mod link;
pub mod metrics;
pub mod proxy;
mod random;
pub mod relay;
pub mod serve;
pub mod server_url;
pub mod supervise;
pub mod trust;

pub use address::{Address, InvalidAddress};
pub use args::{ConnectArgs, ConnectConfig};
pub use connect::Dialer;
pub use identity::{Cluster, Identity, Role, ServerCredentialError};
pub use link::{Link, LinkWatch};
pub use relay::Relay;
pub use serve::Handler;
pub use supervise::{Options, Supervisor};

/// A future of a trait's method.
pub type BoxFuture<'a, T> = std::pin::Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// An error of another crate, which is shown but not judged.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
