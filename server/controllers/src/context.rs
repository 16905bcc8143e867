//! What every controller has at hand.

use std::sync::Arc;

use cattle_audit::AuditSink;
use cattle_store::Store;

use crate::clusters::Clusters;
use crate::nodes::HostBook;

/// The store, the way into the clusters, what comes out of them, and the audit log.
#[derive(Clone)]
pub struct Context {
    /// The server's objects.
    pub store: Arc<dyn Store>,
    /// The clusters, through the gateway.
    pub clusters: Arc<dyn Clusters>,
    /// What node agents have said of their hosts.
    pub hosts: HostBook,
    /// Takes the record of what the server does on its own.
    pub audit: Arc<dyn AuditSink>,
}
