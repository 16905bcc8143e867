//! First contact with a server whose CA is not known yet: the checksum that names a CA, and TLS that remembers what it was
//! shown.
//!
//! Agents and the command line come to trust a server in the same way. They fetch its CA over a connection that they do not
//! believe, compare the CA's [`CaChecksum`], and make a new connection that trusts exactly this CA. That is one rule, so it
//! stands in one place:
//!
//! - [`Recorder::first_contact`] accepts any certificate, sends nothing by itself, and keeps what was shown.
//! - [`Recorder::verifying`] decides as rustls does, and keeps what was shown, so that a refusal can say whose it was.
//!
//! The crate opens no connection and reads no file.
#![forbid(unsafe_code)]

mod checksum;
mod recorder;

pub use checksum::{CaChecksum, CaChecksumError};
pub use recorder::{Recorded, Recorder};
