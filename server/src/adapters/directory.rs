//! Which clusters exist and who may enter them, from memory.

use std::{collections::HashMap, sync::Arc, time::Duration};

use cattle_api::management::Cluster;
use cattle_auth::{Access, UserInfo};
use cattle_proto::id::ClusterId;
use cattle_proxy::{ApiServer, ClusterDirectory};
use cattle_store::{EventKind, Revision, Store, StoreError, Typed, WatchError};
use futures_util::StreamExt;
use kube::ResourceExt;
use parking_lot::RwLock;

/// Pause before the store is asked again after it failed.
const RETRY: Duration = Duration::from_secs(1);

/// The clusters that are bound, kept by a watch of the store.
pub struct Directory {
    access: Access,
    clusters: RwLock<HashMap<ClusterId, ApiServer>>,
}

/// Why following the store stopped.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error("the store failed")]
    Store(#[from] StoreError),
    #[error("the watch ended")]
    Watch(#[from] WatchError),
}

impl Directory {
    /// An empty directory; [`run`](Self::run) fills it.
    #[must_use]
    pub fn new(access: Access) -> Arc<Self> {
        Arc::new(Self { access, clusters: RwLock::default() })
    }

    /// Follows the store until it is dropped. `gone` is told of every cluster that is deleted, `ready` once that the first
    /// list is in. Cancel safe.
    pub async fn run(&self, store: Arc<dyn Store>, gone: impl Fn(&ClusterId), ready: impl FnOnce()) {
        let clusters = Typed::<Cluster>::new(store);
        let mut ready = Some(ready);
        loop {
            let lost = match self.list(&clusters, &gone).await {
                Ok(revision) => {
                    if let Some(ready) = ready.take() {
                        ready();
                    }
                    self.follow(&clusters, revision, &gone).await
                }
                Err(error) => Err(error),
            };
            if let Err(error) = lost {
                tracing::warn!(error = &error as &dyn std::error::Error, "clusters cannot be followed");
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    async fn list(&self, clusters: &Typed<Cluster>, gone: &impl Fn(&ClusterId)) -> Result<Revision, Lost> {
        let (items, revision) = clusters.list(None).await?;
        let listed: HashMap<_, _> = items.iter().filter_map(entry).collect();
        let before = std::mem::replace(&mut *self.clusters.write(), listed);
        for cluster in before.keys().filter(|cluster| !self.clusters.read().contains_key(*cluster)) {
            gone(cluster);
        }
        Ok(revision)
    }

    async fn follow(
        &self,
        clusters: &Typed<Cluster>,
        revision: Revision,
        gone: &impl Fn(&ClusterId),
    ) -> Result<(), Lost> {
        let mut events = clusters.watch(None, revision).await?;
        while let Some(event) = events.next().await {
            let event = event?;
            let Ok(id) = event.object.name_any().parse::<ClusterId>() else { continue };
            match entry(&event.object).filter(|_| event.kind != EventKind::Deleted) {
                Some((id, server)) => drop(self.clusters.write().insert(id, server)),
                None => drop(self.clusters.write().remove(&id)),
            }
            if event.kind == EventKind::Deleted {
                gone(&id);
            }
        }
        Ok(())
    }
}

impl ClusterDirectory for Directory {
    fn lookup(&self, cluster: &ClusterId) -> Option<ApiServer> {
        self.clusters.read().get(cluster).cloned()
    }

    fn may_enter(&self, user: &UserInfo, cluster: &ClusterId) -> bool {
        self.access.may_enter(user, cluster.as_str())
    }

    fn may_see_times(&self, user: &UserInfo) -> bool {
        self.access.may_grant_global(user).is_ok()
    }
}

fn entry(cluster: &Cluster) -> Option<(ClusterId, ApiServer)> {
    let identity = cluster.status.as_ref()?.identity.as_ref()?;
    let server = ApiServer {
        ca_pem: identity.ca_cert.clone(),
        ca_generation: u64::try_from(identity.ca_generation).ok()?,
        server_name: identity.api_server_name.clone(),
    };
    Some((cluster.name_any().parse().ok()?, server))
}
