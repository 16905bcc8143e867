//! What the gateway does, as numbers.

use std::sync::atomic::AtomicI64;
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// The gateway's numbers. Clones share them.
#[derive(Clone, Debug)]
pub struct GatewayMetrics {
    /// Sessions and streams.
    pub tunnel: cattle_tunnel::Metrics,
    /// Handshakes by outcome: `welcome`, the name of a reject code, or `failed`.
    pub handshakes: Family<HandshakeLabel, Counter>,
    /// Dials by outcome.
    pub dials: Family<DialLabel, Counter>,
    /// Seconds until a dial had its stream.
    pub dial_seconds: Histogram,
    /// Peers that have not been answered yet.
    pub half_open: Gauge<i64, AtomicI64>,
    /// Sessions that carry traffic.
    pub sessions: Gauge<i64, AtomicI64>,
    /// Sessions whose agent does not reach its API server.
    pub sessions_failing: Gauge<i64, AtomicI64>,
}

/// Upper bounds of the time that a dial takes: a loopback to the deadline of one route and beyond.
const DIAL_SECONDS: [f64; 10] = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.0, 10.0];

impl Default for GatewayMetrics {
    fn default() -> Self {
        Self {
            tunnel: cattle_tunnel::Metrics::default(),
            handshakes: Family::default(),
            dials: Family::default(),
            dial_seconds: Histogram::new(DIAL_SECONDS),
            half_open: Gauge::default(),
            sessions: Gauge::default(),
            sessions_failing: Gauge::default(),
        }
    }
}

/// Outcome of a handshake.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct HandshakeLabel {
    /// `welcome`, the name of a reject code, or `failed`.
    pub outcome: &'static str,
}

/// Outcome of a dial.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct DialLabel {
    /// The outcome.
    pub outcome: DialOutcome,
}

/// Outcome of a dial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, EncodeLabelValue)]
#[expect(missing_docs, reason = "the names are those of `DialError`")]
pub enum DialOutcome {
    Opened,
    NotConnected,
    Refused,
    Timeout,
    Lost,
    Busy,
    Protocol,
}

impl GatewayMetrics {
    /// Registers every number in `registry`, under the prefix the caller chose.
    pub fn register(&self, registry: &mut Registry) {
        self.tunnel.register(registry);
        registry.register("handshakes", "Handshakes by outcome", self.handshakes.clone());
        registry.register("dials", "Dials into clusters by outcome", self.dials.clone());
        registry.register("dial_seconds", "Seconds until a dial had its stream", self.dial_seconds.clone());
        registry.register("half_open_peers", "Peers that have not been answered yet", self.half_open.clone());
        registry.register("sessions", "Sessions that carry traffic", self.sessions.clone());
        let help = "Sessions whose agent does not reach its API server";
        registry.register("sessions_failing", help, self.sessions_failing.clone());
    }

    pub(crate) fn handshake(&self, outcome: &'static str) {
        self.handshakes.get_or_create(&HandshakeLabel { outcome }).inc();
    }

    pub(crate) fn dialed(&self, outcome: DialOutcome, time: Duration) {
        self.dials.get_or_create(&DialLabel { outcome }).inc();
        if outcome == DialOutcome::Opened {
            self.dial_seconds.observe(time.as_secs_f64());
        }
    }
}
