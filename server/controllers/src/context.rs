//! What every controller has at hand.

use std::sync::Arc;

use cattle_audit::AuditSink;
use cattle_store::Store;

use crate::clusters::Clusters;

/// The store, the way into the clusters, and the audit log.
#[derive(Clone)]
pub struct Context {
    /// The server's objects.
    pub store: Arc<dyn Store>,
    /// The clusters, through the gateway.
    pub clusters: Arc<dyn Clusters>,
    /// Takes the record of what the server does on its own.
    pub audit: Arc<dyn AuditSink>,
}
