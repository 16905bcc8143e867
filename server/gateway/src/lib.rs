//! The server end of all sessions.
//!
//! ```text
//!  GET /v3/connect ─ upgrade ─ accept ─ AgentAuthority ─┬─ serve ──── Registry ── route ── dial ── TunnelStream
//!                    (checks)  (Hello)   (judges)       └─ registration
//! ```
//!
//! - **[`Gateway::upgrade`]** answers the HTTP request: HTTP/1.1, the agents' subprotocol, no browsers, a bounded number of
//!   peers that have not been answered yet. The session runs in a task of the gateway, joined by [`Gateway::shutdown`].
//! - **[`Gateway::accept`]** hears `Hello` and asks the [`AgentAuthority`]. Whatever the agent says of itself counts for
//!   nothing: cluster, kind, pod and node come from the verified token ([`token`]).
//! - A **serving** session is entered in the [`Registry`] with the agent's first control message, and leaves it when it
//!   ends, whatever the reason: the connection, an expired proof, a newer session of the same process, the agent's or the
//!   server's leave. A **registration** session is never in the registry: users' traffic cannot reach it.
//! - **[`Gateway::dial`]** tries the cluster's routes, best first ([`route`]), two seconds each. Only the stream's header is
//!   sent before the agent has answered, so any failure may be tried on the next route.
//!
//! The server's own evidence decides which session is good ([`health`]): keepalives end dead ones, a dial that fails at the
//! agent counts against its session, and whoever probes sessions one by one tells [`Registry::observe`] the results.
#![forbid(unsafe_code)]

mod accept;
mod authority;
mod config;
mod dial;
mod gateway;
pub mod health;
mod metrics;
mod registration;
mod registry;
pub mod route;
mod scrape;
mod serve;
pub mod token;
mod upgrade;

pub use accept::PeerInfo;
pub use authority::{AgentAuthority, AgentIdentity, Registration, RegistrationPermit, SessionDialer, SessionEvents};
pub use config::{DrainTime, GatewayConfig};
pub use dial::{DialError, Dialed};
pub use gateway::Gateway;
pub use metrics::{DialLabel, DialOutcome, GatewayMetrics, HandshakeLabel};
pub use registry::{LastReject, Link, Member, Registry, Seen};
pub use scrape::Sessions;
pub use upgrade::UpgradeRefusal;
