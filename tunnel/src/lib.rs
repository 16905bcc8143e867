//! One authenticated session between an agent and the server: WebSocket and yamux over any stream of bytes.
//!
//! [`cattle_proto`] has the protocol; this crate speaks it, for both ends, and knows nothing of Kubernetes.
//!
//! ```text
//!  agent                                          server
//!  WebSocket::upgrade(io)                         WebSocket::server(upgraded io)
//!  connect(socket, hello) ── Hello ──────────────► receive(socket) ─► Greeting ── who is it?
//!         │        ◄───────── Welcome | Reject ────────  welcome() | reject()
//!      AgentEnd                                       ServerEnd
//!      ├ driver.run()                                 ├ driver.run()
//!      ├ control  ◄──────── control stream ─────────► ├ control.arrive()
//!      └ incoming.accept() ◄──── stream ───────────── └ session.open(header)
//!             └ accept() ── Opened ─► TunnelStream ◄─► TunnelStream
//! ```
//!
//! # Life
//!
//! A session lives while its [`Driver`] runs: one task that owns the socket and moves every byte. The caller owns that task.
//! When it ends, for whatever [`CloseReason`], every stream, open, accept and control message under it fails; nothing is
//! repaired. [`SessionHandle::drain`] is the graceful end, [`SessionHandle::close`] the other.
//!
//! # What is bounded, and by what
//!
//! - Data from a stream to the socket: a stream hands over what fits into a queue of 128 KiB for all of them, 16 KiB at a
//!   time. Frames of the multiplexer itself never wait for room, and a peer that makes them pile up is cut off at 4 MiB.
//! - Data from the socket to a reader: the stream's window, 256 KiB at first, growing within a pool of 768 KiB per session. A
//!   reader that stops costs that and no other stream anything.
//! - Streams: a semaphore per session and a [`Budget`] per process, far below the multiplexer's own limit, which is fatal.
//! - Time: the handshake, each open, each header, each answer, each close.
//!
//! # yamux, kept in check
//!
//! The crate `yamux` stops reading while it owes a pong that it cannot write (two ends that send in bulk then wait for each
//! other), lets at most 256 streams be unacknowledged, reports an offence of the peer and goes on, and says nothing to a
//! peer that still sends to a stream whose other end was closed and dropped. `outbox` takes every write; the driver
//! acknowledges each stream when it arrives; `frame` watches the headers that pass by, so that a reset is told from an end
//! of file, an offence ends the session, and the resets that are missing are put in.
//!
//! # Tests
//!
//! With the feature `testing`, `testing::Pair` is both ends over a pipe that can be small, slow, silent or cut, under
//! tokio's paused clock.
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
mod numbers;
mod outbox;
mod ping;
mod queue;
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
pub use metrics::{Metrics, ReasonLabel, ResetLabel};
pub use mux::Driver;
pub use numbers::SessionNumbers;
pub use session::{OpenError, Session, SessionHandle};
pub use splice::{SpliceCause, SpliceError, Spliced, splice};
pub use stream::TunnelStream;
pub use websocket::{UpgradeError, WebSocket};
