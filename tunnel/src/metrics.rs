//! What sessions and streams do, as numbers.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use crate::CloseReason;

/// The counters of all sessions of a process. Clones share them. Streams opened less streams closed are the streams there
/// are; after every session has ended both are equal.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    /// Streams made, by this end or the peer.
    pub streams_opened: Counter,
    /// Streams dropped.
    pub streams_closed: Counter,
    /// Bytes read from streams.
    pub bytes_read: Counter,
    /// Bytes written to streams.
    pub bytes_written: Counter,
    /// Streams that were reset, by which end.
    pub streams_reset: Family<ResetLabel, Counter>,
    /// Times that a writer had to wait for the peer's reader.
    pub stalls: Counter,
    /// Sessions whose handshake succeeded.
    pub sessions_opened: Counter,
    /// Sessions that ended, by reason.
    pub sessions_closed: Family<ReasonLabel, Counter>,
}

/// Why a session ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ReasonLabel {
    /// [`CloseReason::name`].
    pub reason: &'static str,
}

/// Which end reset a stream.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ResetLabel {
    /// `own` or `peer`.
    pub by: &'static str,
}

impl Metrics {
    /// Registers every counter in `registry`, under the prefix the caller chose.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("streams_opened", "Streams made", self.streams_opened.clone());
        registry.register("streams_closed", "Streams dropped", self.streams_closed.clone());
        registry.register("stream_bytes_read", "Bytes read from streams", self.bytes_read.clone());
        registry.register("stream_bytes_written", "Bytes written to streams", self.bytes_written.clone());
        registry.register("streams_reset", "Streams that were reset, by which end", self.streams_reset.clone());
        let help = "Times that a writer had to wait for the peer's reader";
        registry.register("stream_stalls", help, self.stalls.clone());
        registry.register("sessions_opened", "Sessions whose handshake succeeded", self.sessions_opened.clone());
        registry.register("sessions_closed", "Sessions that ended, by reason", self.sessions_closed.clone());
    }

    pub(crate) fn stream_reset(&self, by: &'static str) {
        self.streams_reset.get_or_create(&ResetLabel { by }).inc();
    }

    pub(crate) fn session_closed(&self, reason: &CloseReason) {
        self.sessions_closed.get_or_create(&ReasonLabel { reason: reason.name() }).inc();
    }
}
