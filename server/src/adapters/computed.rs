//! Fields of objects that are computed when they are read.

use std::sync::Arc;

use cattle_api::{Resource, management::Cluster, resource};
use cattle_apiserver::{Decorate, Recomputed};
use cattle_controllers::ClusterControllers;
use cattle_gateway::Gateway;
use futures_util::stream::{self, BoxStream, StreamExt};
use kube::core::DynamicObject;
use tokio::sync::watch;

/// Conditions of clusters.
pub struct ClusterConditions {
    controllers: Arc<ClusterControllers>,
    gateway: Gateway,
}

impl ClusterConditions {
    /// As these controllers see them.
    #[must_use]
    pub fn new(controllers: Arc<ClusterControllers>, gateway: Gateway) -> Self {
        Self { controllers, gateway }
    }
}

impl Decorate for ClusterConditions {
    fn decorate(&self, resource: &'static Resource, object: &mut DynamicObject) {
        if *resource != resource::CLUSTER {
            return;
        }
        let Ok(mut cluster) = resource::decode::<Cluster>(object) else { return };
        let conditions = self.controllers.conditions(&cluster);
        cluster.status.get_or_insert_default().conditions = conditions;
        if let Ok(decorated) = resource::encode(&cluster) {
            *object = decorated;
        }
    }

    fn changes(&self, resource: &'static Resource) -> BoxStream<'static, Recomputed> {
        if *resource != resource::CLUSTER {
            return stream::pending().boxed();
        }
        let (links, health) = (self.gateway.registry().changes(), self.controllers.health_changes());
        stream::select(ticks(links), ticks(health)).boxed()
    }
}

fn ticks(changes: watch::Receiver<u64>) -> impl futures_util::Stream<Item = Recomputed> + Send {
    stream::unfold(changes, |mut changes| async move {
        match changes.changed().await {
            Ok(()) => Some((Recomputed::Any, changes)),
            Err(_) => std::future::pending().await,
        }
    })
}
