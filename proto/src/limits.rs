//! Every maximum of the protocol, with its reason. A receiver checks a size *before* it allocates for it.

use std::time::Duration;

/// Largest handshake frame in bytes (`Hello` and its reply). A registration carries a CA bundle and two tokens; 64 KiB is
/// several times that, and little enough to give to a peer that has proved nothing.
pub const HANDSHAKE_FRAME: usize = 64 * 1024;

/// Largest stream header or open reply in bytes. The largest header of version 1 is below 64 bytes.
pub const STREAM_FRAME: usize = 4 * 1024;

/// Largest frame on the control stream in bytes. Facts are the largest message: [`FACTS`] and their envelope.
pub const CONTROL_FRAME: usize = 512 * 1024;

/// Largest body of facts in bytes (JSON). Enough for a summary of thousands of nodes, and bounded since the server keeps
/// the last one of every session.
pub const FACTS: usize = 256 * 1024;

/// Largest token (a JWT or a registration token) in bytes. Kubernetes' projected tokens are about 1.2 KiB.
pub const TOKEN: usize = 16 * 1024;

/// Largest CA bundle in bytes (PEM). A rotation has two or three certificates of about 1.2 KiB.
pub const CA_PEM: usize = 32 * 1024;

/// Longest name of a node, pod or host in bytes: the limit of a DNS name.
pub const NAME: usize = 253;

/// Longest software version in bytes; it is logged and shown, and decides nothing.
pub const SOFTWARE: usize = 64;

/// Streams that may be open at once in one session, the control stream not counted. The opener holds to it; an acceptor
/// allows twice as many before it calls it an offence, since its own end of a finished stream may close later.
pub const STREAMS_PER_SESSION: usize = 12 * 1024;

/// Bytes that one stream may have in flight at first, and that a stalled reader can cost: yamux's initial window.
pub const STREAM_WINDOW: usize = 256 * 1024;

/// Bytes by which the windows of all streams of a session together may grow beyond [`STREAM_WINDOW`] each. Latency under
/// bulk load is window by throughput, so this is small: one stream comes to 1 MiB, which fills 160 Mbit/s at 50 ms.
pub const SESSION_WINDOW_POOL: usize = 768 * 1024;

/// Largest WebSocket message that is sent, in bytes: with its header, of at most 14 bytes, it is what TLS takes in one write.
pub const WEBSOCKET_MESSAGE: usize = 64 * 1024 - 14;

/// Largest WebSocket message or frame that is accepted, in bytes.
pub const WEBSOCKET_ACCEPT: usize = 1024 * 1024;

/// Time that one side gives the whole handshake.
pub const HANDSHAKE_TIME: Duration = Duration::from_secs(10);

/// Time between two WebSocket pings of one end.
pub const PING_INTERVAL: Duration = Duration::from_secs(5);

/// Silence after which an end gives the session up. Every byte received ends the silence.
pub const SILENCE: Duration = Duration::from_secs(15);

/// Time that an agent gives its own dial to a target before it answers `Refused`.
pub const DIAL_TIME: Duration = Duration::from_secs(10);

/// Time between two heartbeats of an agent.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(30);

/// Time a session in phase `Registration` may take, from `Welcome` to `Registered`.
pub const REGISTRATION_TIME: Duration = Duration::from_secs(60);

/// Difference between two clocks that is forgiven when a token's times are checked.
pub const CLOCK_LEEWAY: Duration = Duration::from_secs(60);
