//! What one session has done, as numbers.

use std::sync::atomic::{AtomicU64, Ordering};

/// A session's counters as they were when they were asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionNumbers {
    /// Streams made, by this end or the peer, the control stream among them.
    pub streams_opened: u64,
    /// Streams dropped.
    pub streams_closed: u64,
    /// Bytes read from streams.
    pub bytes_read: u64,
    /// Bytes written to streams.
    pub bytes_written: u64,
    /// Streams that this end reset.
    pub resets_sent: u64,
    /// Streams that the peer reset.
    pub resets_received: u64,
    /// Times that a writer had to wait for the peer's reader: the stream's window was used up.
    pub stalls: u64,
}

/// The counters themselves.
#[derive(Debug, Default)]
pub(crate) struct Numbers {
    pub(crate) streams_opened: AtomicU64,
    pub(crate) streams_closed: AtomicU64,
    pub(crate) bytes_read: AtomicU64,
    pub(crate) bytes_written: AtomicU64,
    pub(crate) resets_sent: AtomicU64,
    pub(crate) resets_received: AtomicU64,
    pub(crate) stalls: AtomicU64,
}

impl Numbers {
    pub(crate) fn now(&self) -> SessionNumbers {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        SessionNumbers {
            streams_opened: read(&self.streams_opened),
            streams_closed: read(&self.streams_closed),
            bytes_read: read(&self.bytes_read),
            bytes_written: read(&self.bytes_written),
            resets_sent: read(&self.resets_sent),
            resets_received: read(&self.resets_received),
            stalls: read(&self.stalls),
        }
    }
}
