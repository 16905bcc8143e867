//! End-to-end tests: the real server and the real cluster agent against a real Kubernetes.
//!
//! [`Server`] is a `cattle-server` process on a port of its own; [`Member`] a Kubernetes control plane with a cluster agent
//! process that is connected to it, as its import manifest describes it. Where pods matter, tests use [`Managed`] nodes
//! instead, and nothing but the manifest.

mod events;
mod forge;
mod kubelet;
mod lag;
mod managed;
mod member;
mod memory;
mod node_agent;
mod relay;
mod server;
mod tls;
mod ways;

pub use events::changes;
pub use forge::{claims, resign, sha256};
pub use kubelet::LogNode;
pub use lag::LateWatches;
pub use managed::Managed;
pub use member::{Agent, Member, condition};
pub use memory::Memory;
pub use node_agent::NodeAgent;
pub use relay::{Relay, Way};
pub use server::{ADMIN_PASSWORD, Launch, Server, User};
pub use tls::presented;
pub use ways::Ways;
