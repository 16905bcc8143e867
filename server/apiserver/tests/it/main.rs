//! The API over a real store, by requests as clients send them.

#![expect(clippy::unwrap_used, clippy::wildcard_enum_match_arm, reason = "a test fails where it cannot go on")]

mod authorization;
mod clients;
mod errors;
mod hostile;
mod objects;
mod secrets;
mod shapes;
mod support;
mod watches;
