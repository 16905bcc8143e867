//! What every controller has at hand.

use std::sync::Arc;

use cattle_store::Store;

use crate::clusters::Clusters;

/// The store and the way into the clusters.
#[derive(Clone)]
pub struct Context {
    /// The server's objects.
    pub store: Arc<dyn Store>,
    /// The clusters, through the gateway.
    pub clusters: Arc<dyn Clusters>,
}
