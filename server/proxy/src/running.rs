//! What one running request holds until it is over.

use std::net::IpAddr;
use std::sync::Arc;

use cattle_audit::{AuditSink, Event};

use crate::limits::Permit;
use crate::metrics::{Metrics, RunningGuard};
use crate::streams::{Ending, StreamGuard};

/// Where a request came from, as the listener saw it; put into the request's extensions by the listener. Addresses in
/// headers are never believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientAddress(pub IpAddr);

/// A request that runs. Dropping it gives everything back and writes the last line of the audit log.
pub(crate) struct Running {
    stream: StreamGuard,
    metrics: Metrics,
    audited: Option<Audited>,
    _permit: Permit,
    _counted: RunningGuard,
}

/// A request whose beginning stands in the audit log, and whose end will.
pub(crate) struct Audited {
    sink: Arc<dyn AuditSink>,
    event: Event,
    code: u16,
    reason: Option<&'static str>,
}

impl Audited {
    /// `event` has been recorded.
    pub(crate) fn new(sink: Arc<dyn AuditSink>, event: Event) -> Self {
        Self { sink, event, code: 0, reason: Some("RequestAbandoned") }
    }
}

impl Running {
    pub(crate) fn new(stream: StreamGuard, permit: Permit, metrics: Metrics) -> Self {
        let counted = metrics.run();
        Self { stream, metrics, audited: None, _permit: permit, _counted: counted }
    }

    pub(crate) fn audit(&mut self, audited: Audited) {
        self.audited = Some(audited);
    }

    /// Whether its beginning stands in the audit log, so that its end will.
    pub(crate) fn is_audited(&self) -> bool {
        self.audited.is_some()
    }

    /// Resolves when the user's access has ended or, for a `watch`, when the server stops.
    pub(crate) fn ending(&self, watch: bool) -> impl Future<Output = Ending> + Send + 'static {
        self.stream.ending(watch)
    }

    /// The answer has begun.
    pub(crate) fn answered(&mut self, status: http::StatusCode) {
        if let Some(audited) = &mut self.audited {
            audited.code = status.as_u16();
            audited.reason = None;
            if status == http::StatusCode::SWITCHING_PROTOCOLS {
                audited.sink.note(&audited.event.response_started(audited.code));
            }
        }
    }

    /// It is ended before its own end.
    pub(crate) fn end(&mut self, why: Ending) {
        let reason = match why {
            Ending::Revoked => "AccessEnded",
            Ending::Draining => "ServerStopping",
        };
        if why == Ending::Revoked {
            self.metrics.revoke();
        }
        if let Some(audited) = &mut self.audited {
            audited.reason = Some(reason);
        }
    }
}

impl Drop for Audited {
    fn drop(&mut self) {
        let last = match self.reason {
            Some(reason) => self.event.completed_because(self.code, reason),
            None => self.event.completed(self.code),
        };
        self.sink.note(&last);
    }
}
