//! The upstream of each cluster, as long as what it trusts is what is recorded.

use std::collections::HashMap;
use std::sync::Arc;

use cattle_proto::id::ClusterId;
use parking_lot::Mutex;

use crate::directory::{ApiServer, ClusterDialer};
use crate::metrics::Metrics;
use crate::upstream::{ApiServerError, Upstream};

/// One upstream per (cluster, CA generation). A record that changes makes a new one; the old one takes no new request.
pub(crate) struct Upstreams {
    dialer: Arc<dyn ClusterDialer>,
    metrics: Metrics,
    known: Mutex<HashMap<ClusterId, Upstream>>,
}

impl Upstreams {
    pub(crate) fn new(dialer: Arc<dyn ClusterDialer>, metrics: Metrics) -> Self {
        Self { dialer, metrics, known: Mutex::default() }
    }

    /// The upstream for what is recorded now.
    pub(crate) fn of(&self, cluster: &ClusterId, trust: ApiServer) -> Result<Upstream, ApiServerError> {
        let mut known = self.known.lock();
        if let Some(upstream) = known.get(cluster) {
            if *upstream.trust() == trust {
                return Ok(upstream.clone());
            }
            upstream.retire();
        }
        // A record that cannot be used leaves none behind: the old trust is over either way.
        known.remove(cluster);
        let upstream = Upstream::new(cluster.clone(), trust, Arc::clone(&self.dialer), self.metrics.clone())?;
        known.insert(cluster.clone(), upstream.clone());
        Ok(upstream)
    }

    /// The routes to the cluster have changed.
    pub(crate) fn renew(&self, cluster: &ClusterId) {
        if let Some(upstream) = self.known.lock().get(cluster) {
            upstream.renew();
        }
    }

    /// The cluster is gone.
    pub(crate) fn forget(&self, cluster: &ClusterId) {
        if let Some(upstream) = self.known.lock().remove(cluster) {
            upstream.retire();
        }
    }

    /// All are gone.
    pub(crate) fn clear(&self) {
        for (_, upstream) in self.known.lock().drain() {
            upstream.retire();
        }
    }
}
