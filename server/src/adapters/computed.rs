//! Fields of objects that are computed when they are read.

use std::sync::Arc;

use cattle_api::{
    Resource,
    management::{Cluster, Node},
    resource,
};
use cattle_apiserver::{Decorate, Recomputed};
use cattle_controllers::ClusterControllers;
use cattle_gateway::Gateway;
use cattle_proto::id::ClusterId;
use futures_util::stream::{self, BoxStream, StreamExt};
use kube::{ResourceExt as _, core::DynamicObject};
use serde_json::Value;
use tokio::sync::broadcast::{self, error::RecvError};

use super::agent_sessions::AgentSessions;

/// Conditions and sessions of clusters and nodes.
pub struct Computed {
    controllers: Arc<ClusterControllers>,
    gateway: Gateway,
    sessions: AgentSessions,
}

impl Computed {
    /// As these controllers and this gateway see them.
    #[must_use]
    pub fn new(controllers: Arc<ClusterControllers>, gateway: Gateway) -> Self {
        Self { controllers, sessions: AgentSessions::new(gateway.clone()), gateway }
    }

    fn cluster(&self, cluster: &mut Cluster) {
        let conditions = self.controllers.conditions(cluster);
        let id = cluster.name_any().parse::<ClusterId>();
        let agents = id.map(|id| self.sessions.of_cluster(&id));
        let status = cluster.status.get_or_insert_default();
        (status.agents, status.conditions) = (agents.unwrap_or_default(), conditions);
    }

    fn node(&self, node: &mut Node) {
        let id = node.namespace().and_then(|name| name.parse::<ClusterId>().ok());
        let agent = id.and_then(|id| self.sessions.of_node(&id, &node.spec.requested_hostname));
        let conditions = self.controllers.node_conditions(node, agent.as_ref());
        let status = node.status.get_or_insert_default();
        (status.agent, status.conditions) = (agent, conditions);
    }
}

impl Decorate for Computed {
    fn decorate(&self, resource: &'static Resource, object: &mut DynamicObject) {
        let decorated = if *resource == resource::CLUSTER {
            resource::decode::<Cluster>(object).and_then(|mut cluster| {
                self.cluster(&mut cluster);
                resource::encode(&cluster)
            })
        } else if *resource == resource::NODE {
            resource::decode::<Node>(object).and_then(|mut node| {
                self.node(&mut node);
                resource::encode(&node)
            })
        } else {
            return;
        };
        if let Ok(decorated) = decorated {
            *object = decorated;
        }
    }

    fn changes(&self, resource: &'static Resource) -> BoxStream<'static, Recomputed> {
        let recomputed: fn(ClusterId) -> Recomputed = if *resource == resource::CLUSTER {
            |cluster| Recomputed::One { namespace: None, name: cluster.to_string() }
        } else if *resource == resource::NODE {
            |cluster| Recomputed::Namespace(cluster.to_string())
        } else {
            return stream::pending().boxed();
        };
        let (links, health) = (self.gateway.registry().changed(), self.controllers.health_changed());
        let clusters = stream::select(clusters(links), clusters(health));
        clusters.map(move |cluster| cluster.map_or(Recomputed::Any, recomputed)).boxed()
    }

    /// What changes with each ping and each stream is shown, and is no news.
    fn calm(&self, resource: &'static Resource, object: &mut Value) {
        let agents = if *resource == resource::CLUSTER {
            object.pointer_mut("/status/agents").and_then(Value::as_array_mut).map(Vec::as_mut_slice)
        } else {
            object.pointer_mut("/status/agent").map(std::slice::from_mut)
        };
        for agent in agents.unwrap_or_default().iter_mut().filter_map(Value::as_object_mut) {
            for field in ["rank", "streams", "roundTripMicroseconds", "lastProbe"] {
                agent.remove(field);
            }
        }
    }
}

/// The clusters that are told of; `None` when some were missed. Never ends.
fn clusters(changed: broadcast::Receiver<ClusterId>) -> impl futures_util::Stream<Item = Option<ClusterId>> + Send {
    stream::unfold(changed, |mut changed| async move {
        match changed.recv().await {
            Ok(cluster) => Some((Some(cluster), changed)),
            Err(RecvError::Lagged(_)) => Some((None, changed)),
            Err(RecvError::Closed) => std::future::pending().await,
        }
    })
}
