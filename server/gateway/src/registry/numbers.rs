//! What has happened to one cluster's way, as numbers. They end with the cluster.

use std::collections::BTreeMap;
use std::time::Duration;

use cattle_tunnel::CloseReason;

use crate::metrics::DialOutcome;

/// Counters of one cluster, since the server started.
#[derive(Clone, Debug, Default)]
pub(crate) struct ClusterNumbers {
    /// Sessions that were let in.
    pub(crate) sessions: u64,
    /// Sessions that ended, by [`CloseReason::name`].
    pub(crate) ended: BTreeMap<&'static str, u64>,
    /// Dials by outcome.
    pub(crate) dials: BTreeMap<DialOutcome, u64>,
    /// Seconds that successful dials took, in all.
    pub(crate) dial_seconds: f64,
}

impl ClusterNumbers {
    pub(super) fn dialed(&mut self, outcome: DialOutcome, time: Duration) {
        *self.dials.entry(outcome).or_default() += 1;
        if outcome == DialOutcome::Opened {
            self.dial_seconds += time.as_secs_f64();
        }
    }

    pub(super) fn ended(&mut self, reason: &CloseReason) {
        *self.ended.entry(reason.name()).or_default() += 1;
    }
}
