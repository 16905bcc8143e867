//! One authenticated session between an agent and the server: WebSocket and yamux over any stream of bytes.
#![forbid(unsafe_code)]

mod close;
mod config;
mod control;
mod drain;
mod frame;
mod handshake;
mod incoming;
mod keepalive;
mod message;
mod metrics;
mod mux;
mod outbox;
mod session;
mod shared;
mod splice;
mod stream;
#[cfg(feature = "testing")]
pub mod testing;
mod websocket;

pub use close::CloseReason;
pub use config::{Budget, SessionConfig};
pub use control::{AgentControl, Control, ControlArrival, ControlReceiver, ControlSender, ServerControl};
pub use drain::{Drain, DrainStep, Drained};
pub use handshake::{AgentEnd, Greeting, HandshakeError, ServerEnd, connect, receive};
pub use incoming::{Incoming, PendingStream};
pub use keepalive::KeepaliveTimes;
pub use message::FrameError;
pub use metrics::{Metrics, ReasonLabel};
pub use mux::Driver;
pub use session::{OpenError, Session, SessionHandle};
pub use splice::{SpliceCause, SpliceError, Spliced, splice};
pub use stream::TunnelStream;
pub use websocket::{UpgradeError, WebSocket};
