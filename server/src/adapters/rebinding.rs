//! Clusters that have to register again because their CA changed with an administrator's consent.
//!
//! Consent counts at a registration, but the agent of a cluster whose signing keys have not changed is believed without
//! one. So once the API server was seen with another CA and the record consents to a new one, its agents are told to
//! register. Consent alone changes nothing: a cluster that still shows the recorded CA stays connected.

use std::{collections::HashMap, sync::Arc};

use cattle_api::management::Cluster;
use cattle_proto::id::ClusterId;
use cattle_store::{Store, Typed};
use parking_lot::Mutex;

/// Which clusters were seen with another CA than the one of which generation.
pub struct Rebinding {
    clusters: Typed<Cluster>,
    mismatched: Mutex<HashMap<ClusterId, i64>>,
}

impl Rebinding {
    /// Nothing was seen yet.
    #[must_use]
    pub fn new(store: Arc<dyn Store>) -> Arc<Self> {
        Arc::new(Self { clusters: Typed::new(store), mismatched: Mutex::default() })
    }

    /// The API server does not prove itself by the recorded CA. Answers whether the cluster has to register again, so that
    /// its sessions have to end. Cancel safe.
    pub async fn mismatched(&self, cluster: &ClusterId) -> bool {
        let record = match self.clusters.get(None, cluster.as_str()).await {
            Ok(record) => record,
            Err(error) => {
                tracing::warn!(%cluster, error = &error as &dyn std::error::Error, "the cluster's record cannot be read");
                return false;
            }
        };
        let Some(record) = record else { return false };
        let Some(generation) = generation(&record) else { return false };
        self.mismatched.lock().insert(cluster.clone(), generation);
        record.spec.rebind.is_some()
    }

    /// Whether an agent of the cluster has to register before it is let in.
    #[must_use]
    pub fn is_due(&self, cluster: &ClusterId, record: &Cluster) -> bool {
        let seen = self.mismatched.lock().get(cluster).copied();
        seen.is_some() && seen == generation(record) && record.spec.rebind.is_some()
    }
}

fn generation(record: &Cluster) -> Option<i64> {
    Some(record.status.as_ref()?.identity.as_ref()?.ca_generation)
}

#[cfg(test)]
mod tests {
    use cattle_api::management::{ClusterIdentity, ClusterSpec, ClusterStatus, cluster::Rebind};
    use cattle_store::SqliteStore;

    use super::*;

    fn bound(ca_generation: i64, rebind: bool) -> Cluster {
        let rebind = rebind.then(|| Rebind { ca_sha256: "a".repeat(64) });
        let mut cluster =
            Cluster::new("c-abcde", ClusterSpec { display_name: "x".into(), rebind, ..ClusterSpec::default() });
        let identity = ClusterIdentity {
            kube_system_uid: "uid".into(),
            ca_cert: "pem".into(),
            ca_generation,
            api_server_name: "kubernetes".into(),
            issuer: "issuer".into(),
            jwks: "{}".into(),
        };
        cluster.status = Some(ClusterStatus { identity: Some(identity), ..ClusterStatus::default() });
        cluster
    }

    #[tokio::test]
    async fn a_registration_is_due_with_consent_and_another_ca_only() {
        let directory = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(SqliteStore::open(&directory.path().join("data")).unwrap());
        let clusters = Typed::<Cluster>::new(Arc::clone(&store));
        let rebinding = Rebinding::new(store);
        let id: ClusterId = "c-abcde".parse().unwrap();
        assert!(!rebinding.mismatched(&id).await, "there is no record");
        clusters.create(&bound(7, false), Vec::new()).await.unwrap();
        assert!(!rebinding.is_due(&id, &bound(7, true)), "consent alone");
        assert!(!rebinding.mismatched(&id).await, "another CA without consent");
        assert!(!rebinding.is_due(&id, &bound(7, false)));
        assert!(rebinding.is_due(&id, &bound(7, true)), "both");
        let consent = |record: &mut Cluster| record.spec.rebind = bound(7, true).spec.rebind;
        clusters.modify(None, "c-abcde", consent).await.unwrap();
        assert!(rebinding.mismatched(&id).await);
        assert!(!rebinding.is_due(&id, &bound(8, true)), "the CA that was seen is the recorded one now");
    }
}
