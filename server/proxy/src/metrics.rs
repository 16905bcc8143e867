//! What an operator can see of the proxy. Nothing here has a label whose values users could multiply.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

type Labelled = Family<[(&'static str, &'static str); 1], Counter>;

/// Counters of the proxy; clones count together.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    answers: Labelled,
    errors: Labelled,
    running: Gauge,
    opened: Counter,
    closed: Counter,
    reused: Counter,
    repeated: Counter,
    upgrades: Counter,
    revoked: Counter,
    impersonation_retries: Counter,
    unaudited_reads: Counter,
}

impl Metrics {
    /// Registers all of them, with names that begin with `cattle_proxy_`.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("cattle_proxy");
        registry.register("answers", "Answers to clients by class of status", self.answers.clone());
        registry.register(
            "errors",
            "Requests that were not answered by an API server, by side at fault",
            self.errors.clone(),
        );
        registry.register("running", "Requests that run, watches and sessions included", self.running.clone());
        registry.register("upstream_opened", "Connections to API servers opened", self.opened.clone());
        registry.register("upstream_closed", "Connections to API servers closed", self.closed.clone());
        registry.register("upstream_reused", "Requests that found a warm connection", self.reused.clone());
        registry.register(
            "upstream_repeated",
            "Reads repeated because a warm connection ended under them",
            self.repeated.clone(),
        );
        registry.register("upgrades", "Connections that switched to WebSocket or SPDY", self.upgrades.clone());
        registry.register("revoked", "Running requests ended because access ended", self.revoked.clone());
        registry.register(
            "impersonation_retries",
            "Requests repeated while RBAC caches caught up",
            self.impersonation_retries.clone(),
        );
        registry.register(
            "unaudited_reads",
            "Reads served while the audit log could not be written",
            self.unaudited_reads.clone(),
        );
    }

    pub(crate) fn answered(&self, status: http::StatusCode) {
        let class = match status.as_u16() / 100 {
            1 => "1xx",
            2 => "2xx",
            3 => "3xx",
            4 => "4xx",
            _ => "5xx",
        };
        self.answers.get_or_create(&[("class", class)]).inc();
    }

    pub(crate) fn failed(&self, side: &'static str) {
        self.errors.get_or_create(&[("side", side)]).inc();
    }

    pub(crate) fn run(&self) -> RunningGuard {
        self.running.inc();
        RunningGuard(self.running.clone())
    }

    /// Counts a connection to an API server as open until the guard is dropped.
    pub(crate) fn open_connection(&self) -> ConnectionGuard {
        self.opened.inc();
        ConnectionGuard(self.closed.clone())
    }

    pub(crate) fn reuse(&self) {
        self.reused.inc();
    }

    pub(crate) fn repeat(&self) {
        self.repeated.inc();
    }

    pub(crate) fn upgraded(&self) {
        self.upgrades.inc();
    }

    pub(crate) fn revoke(&self) {
        self.revoked.inc();
    }

    pub(crate) fn retry_impersonation(&self) {
        self.impersonation_retries.inc();
    }

    pub(crate) fn read_unaudited(&self) {
        self.unaudited_reads.inc();
    }

    /// Connections to API servers opened and closed so far; equal when nothing runs and nothing is pooled.
    #[must_use]
    pub fn connections(&self) -> (u64, u64) {
        (self.opened.get(), self.closed.get())
    }
}

#[derive(Debug)]
pub(crate) struct RunningGuard(Gauge);

impl Drop for RunningGuard {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[derive(Debug)]
pub(crate) struct ConnectionGuard(Counter);

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.0.inc();
    }
}
