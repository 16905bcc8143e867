//! The figures, and what is promised of them.

use super::path::Kind;

pub(super) const DOWN_1: &str = "bulk down, 1 stream";
pub(super) const UP_1: &str = "bulk up, 1 stream";
pub(super) const DOWN_8: &str = "bulk down, 8 streams";
pub(super) const UP_8: &str = "bulk up, 8 streams";
pub(super) const CPU_DOWN: &str = "processor, down";
pub(super) const CPU_UP: &str = "processor, up";
pub(super) const WARM_P50: &str = "warm request, p50";
pub(super) const WARM_P99: &str = "warm request, p99";
pub(super) const FRESH_1: &str = "new streams, 1 at a time";
pub(super) const FRESH_16: &str = "new streams, 16 at a time";
pub(super) const BESIDE_P50: &str = "request beside bulk, p50";
pub(super) const BESIDE_P99: &str = "request beside bulk, p99";
pub(super) const BULK_KEPT: &str = "bulk beside requests";
pub(super) const BESIDE_STALLED: &str = "request beside a stalled reader";
pub(super) const BOTH_WAYS: &str = "bulk both ways, 4 + 4 streams";
pub(super) const BOTH_WAYS_STOPPED: &str = "bulk both ways stopped";
pub(super) const HALF_CLOSE: &str = "half close arrives";
pub(super) const STALLED_MEMORY: &str = "memory of a stalled stream";
pub(super) const AMONG_1000: &str = "new stream among 1,000 idle";
pub(super) const AMONG_10000: &str = "new stream among 10,000 idle";
pub(super) const AMONG_BARE: &str = "new stream among 10,000 without sockets";
pub(super) const IDLE_SERVER: &str = "memory of an idle stream, server";
pub(super) const IDLE_AGENT: &str = "memory of an idle stream, agent";
pub(super) const BARE_SERVER: &str = "memory of an idle stream, server, of an agent without sockets";
pub(super) const BARE_AGENT: &str = "memory of an idle stream, agent, without its socket";

/// One thing that is measured.
pub(super) struct Figure {
    pub(super) name: &'static str,
    pub(super) unit: &'static str,
    pub(super) promises: &'static [Promise],
}

/// What ours is to reach.
pub(super) struct Promise {
    /// As a multiple of this way's figure in the same round; of nothing, it is the figure itself.
    pub(super) against: Option<Kind>,
    pub(super) bound: Bound,
}

#[derive(Clone, Copy)]
pub(super) enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

impl Bound {
    pub(super) fn holds(self, value: f64) -> bool {
        match self {
            Self::AtLeast(bound) => value >= bound,
            Self::AtMost(bound) => value <= bound,
        }
    }
}

const fn least(against: Kind, bound: f64) -> Promise {
    Promise { against: Some(against), bound: Bound::AtLeast(bound) }
}

const fn most(against: Kind, bound: f64) -> Promise {
    Promise { against: Some(against), bound: Bound::AtMost(bound) }
}

const fn itself(bound: Bound) -> Promise {
    Promise { against: None, bound }
}

const fn figure(name: &'static str, unit: &'static str, promises: &'static [Promise]) -> Figure {
    Figure { name, unit, promises }
}

use Kind::{Remotedialer, TlsPair};

/// All of them, as the page shows them.
pub(super) const FIGURES: [Figure; 23] = [
    figure(DOWN_1, "MB/s", &[least(TlsPair, 1.0), least(Remotedialer, 3.0)]),
    figure(UP_1, "MB/s", &[least(TlsPair, 0.95), least(Remotedialer, 3.0)]),
    figure(DOWN_8, "MB/s", &[least(TlsPair, 0.95), least(Remotedialer, 2.5)]),
    figure(UP_8, "MB/s", &[least(TlsPair, 0.95), least(Remotedialer, 2.5)]),
    figure(CPU_DOWN, "s/GB", &[most(TlsPair, 1.0), most(Remotedialer, 0.3)]),
    figure(CPU_UP, "s/GB", &[most(TlsPair, 1.05), most(Remotedialer, 0.3)]),
    figure(WARM_P50, "µs", &[most(TlsPair, 1.1), most(Remotedialer, 0.65)]),
    figure(WARM_P99, "µs", &[most(TlsPair, 1.3)]),
    figure(FRESH_1, "/s", &[least(TlsPair, 2.7), least(Remotedialer, 2.0)]),
    figure(FRESH_16, "/s", &[least(TlsPair, 3.3), least(Remotedialer, 2.0)]),
    figure(BESIDE_P50, "ms", &[itself(Bound::AtMost(2.0))]),
    figure(BESIDE_P99, "ms", &[itself(Bound::AtMost(5.0)), most(Remotedialer, 0.2)]),
    figure(BULK_KEPT, "of alone", &[itself(Bound::AtLeast(0.9))]),
    figure(BESIDE_STALLED, "of alone", &[itself(Bound::AtMost(1.1))]),
    figure(BOTH_WAYS, "MB/s", &[]),
    figure(BOTH_WAYS_STOPPED, "", &[itself(Bound::AtMost(0.0))]),
    figure(HALF_CLOSE, "", &[itself(Bound::AtLeast(1.0))]),
    figure(STALLED_MEMORY, "kB", &[itself(Bound::AtMost(400.0))]),
    figure(AMONG_1000, "of alone", &[itself(Bound::AtMost(1.1))]),
    figure(AMONG_10000, "of alone", &[itself(Bound::AtMost(1.5))]),
    figure(IDLE_SERVER, "kB", &[itself(Bound::AtMost(10.0))]),
    figure(IDLE_AGENT, "kB", &[itself(Bound::AtMost(10.0))]),
    figure(BARE_AGENT, "kB", &[itself(Bound::AtMost(1.5))]),
];
