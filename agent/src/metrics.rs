//! What an agent's connection does, as numbers.

use cattle_proto::stream::RefusedCode;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// The agent's metrics. Clones share them; the session's own are in `cattle_tunnel`.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    /// Attempts to get a session, by outcome: `connected`, or an error's code.
    pub(crate) attempts: Family<OutcomeLabel, Counter>,
    /// 1 while a serving session is up.
    pub(crate) up: Gauge,
    /// Streams refused by the agent itself, by reason.
    pub(crate) refused: Family<OutcomeLabel, Counter>,
}

/// How something came out: one of a closed set of names.
#[derive(Clone, Debug, Eq, Hash, PartialEq, EncodeLabelSet)]
pub(crate) struct OutcomeLabel {
    outcome: &'static str,
}

impl Metrics {
    /// Registers them as `cattle_agent_…`.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("cattle_agent");
        registry.register("attempts", "Attempts to get a session", self.attempts.clone());
        registry.register("up", "1 while a serving session is up", self.up.clone());
        registry.register("streams_refused", "Streams that the agent refused", self.refused.clone());
    }

    pub(crate) fn attempt(&self, outcome: &'static str) {
        self.attempts.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    pub(crate) fn refuse(&self, code: RefusedCode) {
        self.refused.get_or_create(&OutcomeLabel { outcome: code.name() }).inc();
    }
}
