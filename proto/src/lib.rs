//! The wire between agents and the server: the complete specification of protocol version 1.
//!
//! An agent runs where nobody can reach it. It dials out to the server over a WebSocket, proves who it is, and from then on
//! the *server* opens streams through that connection to what the agent can reach. This page is enough to write another
//! agent; the modules have the types and the reasons.
//!
//! # Layers
//!
//! ```text
//! TCP ─ TLS ─ HTTP/1.1 upgrade ─ WebSocket (binary messages = a stream of bytes) ─ handshake ─ yamux ─ streams
//! ```
//!
//! # 1. Connect
//!
//! The agent sends `GET /v3/connect` ([`version::CONNECT_PATH`]) with a WebSocket upgrade (RFC 6455, version 13, HTTP/1.1)
//! and offers its subprotocols in `Sec-WebSocket-Protocol`, best first; the server takes one ([`version::SUBPROTOCOLS`]:
//! `cattle.v1`). Nothing secret is in the request. The agent must have verified the server's certificate before it goes on.
//! An `Origin` header is answered with 403: browsers may not connect. 503 with `Retry-After`: the server is busy. A server
//! that speaks none of the offered subprotocols answers 400 with its own in `Sec-WebSocket-Protocol`, so that the agent can
//! tell another age ([`version::SUBPROTOCOL_FAMILY`]) from a proxy in between.
//!
//! After the 101, both directions are streams of bytes carried by **binary** messages. Where a message begins and ends means
//! nothing. A sender's messages have at most [`limits::WEBSOCKET_MESSAGE`] bytes; a receiver accepts up to
//! [`limits::WEBSOCKET_ACCEPT`]. A text message ends the session. No extensions.
//!
//! # 2. Frames
//!
//! A message of this crate is sent as a *frame*: its body's length in four bytes, big-endian, and the body. A receiver checks
//! the length against the message's own limit before it allocates, and refuses a body that it does not use up. Bodies are
//! bincode 1.3 with variable-length integers:
//!
//! | type | bytes |
//! |---|---|
//! | `u8`, and each byte of a fixed array | itself |
//! | `u16`, `u32`, `u64` | below 251: one byte; else 251 and 2 bytes, 252 and 4, or 253 and 8, little-endian |
//! | text | length in bytes as `u64`, UTF-8 |
//! | `Option` | 0, or 1 and the value |
//! | struct, tuple | the fields in order, nothing between |
//! | enum | number of the variant as `u32`, from 0 in the order listed, then its fields |
//!
//! Codes ([`RejectCode`](handshake::RejectCode), [`RefusedCode`](stream::RefusedCode),
//! [`CredentialFailureCode`](control::CredentialFailureCode)) are `u16` numbers, not enums: a receiver must accept numbers it
//! does not know.
//!
//! # 3. Handshake
//!
//! The agent sends one [`Hello`](handshake::Hello), at most [`limits::HANDSHAKE_FRAME`] bytes:
//!
//! | field | type | |
//! |---|---|---|
//! | versions | `u16`, `u16` | oldest and newest protocol version spoken, neither 0 |
//! | capabilities | `u64` | bits, see [`capability`] |
//! | kind | enum | 0 cluster agent, 1 node agent |
//! | software | text | 1 to 64 printable ASCII characters |
//! | instance | 16 bytes | drawn at random when the process starts |
//! | credential | enum | see below |
//!
//! Credential 0, *service account*: `cluster` (text), `token` (text). Credential 1, *registration*: `cluster`,
//! `registration_token`, `claim` (`kube_system_uid`, `ca_pem`, `server_name`: texts), `token`. A cluster id is `c-` and 5 to
//! 40 of `[a-z0-9-]`, without a `-` at its end. Tokens are printable ASCII without spaces, at most [`limits::TOKEN`] bytes.
//! `token` is always the pod's own projected service-account token with the audience `cattle:<cluster id>:<server id>`.
//!
//! The server answers with one [`HelloReply`](handshake::HelloReply): variant 0, `Welcome` (`version` `u16`, `capabilities`
//! `u64`, `session` 16 bytes, `phase` 0 registration or 1 serving, `server_time` `u64` seconds since 1970), or variant 1,
//! `Reject` (`code` `u16`, `retry_after_seconds` `u32`), after which it closes. Each side gives the handshake
//! [`limits::HANDSHAKE_TIME`]. What counts is the newest version that both speak, and the capabilities that both have.
//!
//! No reason to reject is final. An agent tries again for ever with exponential back-off and full jitter, and at least
//! `retry_after_seconds` later. It tries *service account* first; on `NotRegistered`, `UnknownSigningKey` or
//! `Unauthenticated`, if it holds a registration token, *registration* next, then *service account* again.
//!
//! A cluster that the server has no record of is answered `ClusterDeleted`, whether it was deleted or never was: the server
//! does not tell which clusters there have been. A registration token that is not good for a cluster is answered
//! `RegistrationTokenUnknown`, whether the cluster exists or not. A registration token changes a bound cluster's keys or name
//! only when it was made after the binding (`RegistrationTokenSpent`); with nothing to change, an older one is answered
//! `Registered` until it expires, which is what a second replica needs.
//!
//! # 4. Session
//!
//! The first byte after `Welcome` belongs to yamux (the specification of `hashicorp/yamux`, version 0), whose client is the
//! agent. Its flow control gives each stream [`limits::STREAM_WINDOW`] at first. The agent opens the first stream, the
//! *control stream*, and no other; the server opens all the rest, at most [`limits::STREAMS_PER_SESSION`] at once. An acceptor
//! acknowledges a stream at once, with an empty data frame that carries `ACK`, apart from any answer. yamux's own pings are
//! answered, but are not the keepalive.
//!
//! **Keepalive.** Each end sends a WebSocket ping every [`limits::PING_INTERVAL`] and gives the session up after
//! [`limits::SILENCE`] in which no byte came. A session is never repaired: it is dropped with all its streams, and the agent
//! makes a new one. A newer session of the same `instance` replaces the older one, and of one pod's sessions a server may
//! keep the newest few only. The one that is replaced gets no new streams and is closed when the last of the old ones ends.
//!
//! # 5. Control stream
//!
//! Frames both ways until the session ends, at most [`limits::CONTROL_FRAME`] bytes each. The agent's first is a heartbeat,
//! at once; a session without a control stream is closed after 10 s.
//!
//! | from the agent ([`AgentMessage`](control::AgentMessage)) | body |
//! |---|---|
//! | 0 `Heartbeat`, every [`limits::HEARTBEAT_INTERVAL`] | `sequence` `u64`, `streams` `u32` |
//! | 1 `Facts`, when they change | text: a JSON object of at most [`limits::FACTS`] bytes |
//! | 2 `ServerCredential` | `token` text, `expires_at` `u64` |
//! | 3 `ServerCredentialFailed` | `code` `u16` |
//! | 4 `Proof`, when the projected token's file changes | `token` text |
//! | 5 `Leaving`, before the process stops | – |
//!
//! | from the server ([`ServerMessage`](control::ServerMessage)) | body |
//! |---|---|
//! | 0 `GoAway` | `reconnect_in_ms` `u32`, `try_for_ms` `u32` |
//! | 1 `CredentialRequest` | – |
//! | 2 `Registered` | – |
//! | 3 `RegistrationFailed` | `code` `u16` |
//!
//! A node agent's facts are [`HostFacts`](facts::HostFacts). A cluster agent has none yet.
//!
//! On `GoAway` the agent waits `reconnect_in_ms`, makes a new session, and keeps the old one until the server closes it:
//! when its last stream has ended, or after `try_for_ms`. The server ends a session whose last proof has expired by more than
//! [`limits::CLOCK_LEEWAY`].
//!
//! # 6. Streams
//!
//! The server's first frame on a stream is a [`StreamHeader`](stream::StreamHeader), at most [`limits::STREAM_FRAME`] bytes:
//! `target` (enum: 0 the agent's own API server) and `trace` (`Option` of 16 bytes, 8 bytes, `u8`: W3C Trace Context). The
//! agent dials the target itself, at the address its own environment says, within [`limits::DIAL_TIME`], and answers with an
//! [`OpenReply`](stream::OpenReply): 0 `Opened`, or 1 `Refused` and a `u16` code. After `Opened`, every byte belongs to the
//! target. The end of one direction (yamux `FIN`) is passed on as such; the other goes on. A failure is a reset (`RST`), never
//! an ordinary end. TLS to the API server runs from the server through the stream: the agent sees ciphertext.
//!
//! # 7. Registration
//!
//! After a `Welcome` with phase *registration* the agent requests a token for the service account `cattle-system/cattle` at
//! its API server and sends it as `ServerCredential` (or `ServerCredentialFailed`). The server opens streams to the API server
//! and verifies the claim there. It answers `Registered` and `GoAway` with `reconnect_in_ms` 0, and the agent comes back with
//! its service account; or `RegistrationFailed`, and the session ends. All within [`limits::REGISTRATION_TIME`].
//!
//! # 8. Compatibility
//!
//! - The subprotocol's name fixes sections 1 to 3, the protocol version everything after. Bytes of a released version never
//!   change: `tests/golden` has each of its messages.
//! - Enums grow at the end, and a new variant is sent only to a peer that has the capability for it. Codes may grow freely.
//! - What evolves (facts, later operations) is JSON inside a frame; unknown fields are ignored.
//! - The server speaks the versions of all agents that it supports; agents are updated after it.
#![forbid(unsafe_code)]

pub mod capability;
mod code;
pub mod codec;
pub mod control;
pub mod facts;
pub mod handshake;
pub mod id;
pub mod limits;
pub mod secret;
pub mod stream;
#[cfg(feature = "testing")]
pub mod testing;
pub mod version;
