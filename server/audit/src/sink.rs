//! Where audit events go.

use std::io;
use std::path::PathBuf;

use futures_util::future::BoxFuture;

use crate::Event;

/// Takes audit events. One sink serves the whole process.
pub trait AuditSink: Send + Sync + 'static {
    /// Writes the event and resolves when it is durable. What it announces must not happen if this fails.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up the answer, not the line: it may still be written.
    fn record<'a>(&'a self, event: &'a Event) -> BoxFuture<'a, Result<(), AuditError>>;

    /// Hands over an event about something that has happened already, without waiting. If it cannot be written it is
    /// lost and counted ([`lost`](Self::lost)).
    fn note(&self, event: &Event);

    /// Whether the last write succeeded. Reads that are served while this is false are to be counted.
    fn available(&self) -> bool;

    /// How many events of [`note`](Self::note) could not be written since the start.
    fn lost(&self) -> u64;
}

/// Why an event was not recorded.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// No space is left where the log lives.
    #[error("the file system of the audit log {path} is full")]
    Full {
        /// The log.
        path: PathBuf,
    },
    /// The log cannot be written for another reason.
    #[error("cannot write the audit log {path}")]
    Io {
        /// The log.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The disk did not answer within the deadline.
    #[error("the audit log did not take the event in time")]
    Stalled,
    /// The sink has been shut down.
    #[error("the audit log is closed")]
    Closed,
}

impl AuditError {
    /// A sentence for the person whose request is refused. It names what is full, and no path of the server.
    #[must_use]
    pub fn sentence(&self) -> &'static str {
        match self {
            Self::Full { .. } => {
                "the file system of the server's audit log is full; changes and exec are refused until there is space"
            }
            Self::Io { .. } => "the server's audit log cannot be written; changes and exec are refused until it can",
            Self::Stalled => {
                "the server's audit log does not answer in time; changes and exec are refused until it does"
            }
            Self::Closed => "the server is shutting down and takes no more changes",
        }
    }

    pub(crate) fn from_io(path: &std::path::Path, source: io::Error) -> Self {
        let path = path.to_owned();
        if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
            Self::Full { path }
        } else {
            Self::Io { path, source }
        }
    }
}
