//! Node objects: one for each machine of each cluster.
//!
//! Two sides tell of a machine. The cluster's own Node object is followed by a watch while the cluster is connected. The node
//! agent on it sends what it sees of its host, also while the cluster's API server does not answer; those words wait in the
//! [`HostBook`] until the unit takes them. A Node object is written when something in it has changed and at no other time:
//! heartbeats are not news. What a session or a probe says is computed when the object is read ([`conditions`]).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cattle_api::management::Node;
use cattle_api::management::node::{Host, NodeSpec, NodeStatus, object_name};
use cattle_proto::id::{ClusterId, NodeName};
use cattle_store::{StoreError, Typed};
use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1::{Node as KubernetesNode, Pod};
use kube::runtime::watcher::{Config, Event};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, ResourceExt as _};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::context::Context;

mod book;
mod conditions;
mod describe;

pub use book::{AgentPod, HostBook, Teller};
pub use conditions::conditions;
use describe::{describe, is_control_plane};

/// After a failure of the store.
const RETRY: Duration = Duration::from_secs(5);
/// Between two times of writing down what agents say: one that tells something else all the time costs no more than this.
const HEAR: Duration = Duration::from_secs(10);
/// For the API server's answer about a pod.
const LOOK: Duration = Duration::from_secs(10);

/// The task of one unit. Cancel-safe: it begins anew with what is stored.
pub(crate) async fn keep(context: &Context, cluster: &ClusterId, client: &Client, stop: &CancellationToken) {
    let following = async {
        loop {
            let error = Box::pin(follow(context, cluster, client)).await;
            tracing::warn!(error = &error as &dyn std::error::Error, "cannot write down the cluster's nodes");
            tokio::time::sleep(RETRY).await;
        }
    };
    tokio::select! { () = stop.cancelled() => {}, () = following => {} }
}

/// Follows both sides until the store fails.
async fn follow(context: &Context, cluster: &ClusterId, client: &Client) -> StoreError {
    let mut nodes = match Nodes::load(context, cluster).await {
        Ok(nodes) => nodes,
        Err(error) => return error,
    };
    nodes.announce();
    let mut changes = context.hosts.changes();
    let api: Api<KubernetesNode> = Api::all(client.clone());
    let pods: Api<Pod> = Api::namespaced(client.clone(), cattle_manifest::names::NAMESPACE);
    // Somebody may have said something before this began.
    let (mut waits, mut due) = (true, Instant::now());
    let mut events = std::pin::pin!(watcher(api, Config::default()).default_backoff());
    loop {
        let done = tokio::select! {
            event = events.next() => match event {
                Some(Ok(event)) => nodes.take_in(event).await,
                // The watch goes on by itself, with back-off. A manifest of before has no right to see nodes.
                Some(Err(error)) => {
                    tracing::debug!(error = &error as &dyn std::error::Error, "watch of nodes");
                    Ok(())
                }
                None => std::future::pending().await,
            },
            Ok(()) = changes.changed() => {
                waits = true;
                Ok(())
            }
            () = sleep_until(due), if waits => {
                due = Instant::now() + HEAR;
                nodes.hear(&pods).await.map(|heard| waits = heard == Heard::Later)
            }
        };
        if let Err(error) = done {
            return error;
        }
    }
}

/// The nodes of one cluster, as they are stored.
struct Nodes<'a> {
    context: &'a Context,
    cluster: &'a ClusterId,
    store: Typed<Node>,
    known: BTreeMap<String, (NodeSpec, NodeStatus)>,
    /// Names that a list under way has had so far.
    listing: BTreeSet<String>,
}

impl<'a> Nodes<'a> {
    async fn load(context: &'a Context, cluster: &'a ClusterId) -> Result<Self, StoreError> {
        let store = Typed::<Node>::new(std::sync::Arc::clone(&context.store));
        let (stored, _) = store.list(Some(cluster.as_str())).await?;
        let known = stored.into_iter().map(|node| {
            let status = node.status.unwrap_or_default();
            (node.spec.requested_hostname.clone(), (node.spec, status))
        });
        Ok(Self { context, cluster, store, known: known.collect(), listing: BTreeSet::new() })
    }

    /// Takes in what the cluster says.
    async fn take_in(&mut self, event: Event<KubernetesNode>) -> Result<(), StoreError> {
        match event {
            Event::Init => self.listing.clear(),
            Event::InitApply(node) => {
                self.listing.insert(node.name_any());
                self.seen(&node).await?;
            }
            Event::InitDone => {
                let listed = std::mem::take(&mut self.listing);
                let gone: Vec<_> = self.known.keys().filter(|name| !listed.contains(*name)).cloned().collect();
                for name in gone {
                    self.remove(&name).await?;
                }
            }
            Event::Apply(node) => self.seen(&node).await?,
            Event::Delete(node) => self.remove(&node.name_any()).await?,
        }
        Ok(())
    }

    async fn seen(&mut self, node: &KubernetesNode) -> Result<(), StoreError> {
        let name = node.name_any();
        let host = self.known.get(&name).and_then(|(_, status)| status.host.clone());
        let (spec, status) = describe(node, host);
        self.put(name, spec, status).await
    }

    /// Takes in what node agents have said.
    async fn hear(&mut self, pods: &Api<Pod>) -> Result<Heard, StoreError> {
        let mut words = self.context.hosts.take(self.cluster).into_iter();
        while let Some((teller, host)) = words.next() {
            let name = match self.node_of(&teller, pods).await {
                Ok(Some(name)) => name,
                Ok(None) => continue,
                Err(error) => {
                    tracing::debug!(error = &error as &dyn std::error::Error, ?teller, "cannot find an agent's node");
                    self.context.hosts.put_back(self.cluster, words.chain([(teller, host)]));
                    return Ok(Heard::Later);
                }
            };
            let (spec, status) = self.known.get(&name).cloned().unwrap_or_else(|| unconfirmed(&name, &host));
            let status = NodeStatus { host: Some(host.clone()), ..status };
            if let Err(error) = self.put(name, spec, status).await {
                self.context.hosts.put_back(self.cluster, words.chain([(teller, host)]));
                return Err(error);
            }
        }
        Ok(Heard::All)
    }

    /// The node of whoever tells something; nobody's, if the cluster has no such pod or does not let us see it.
    async fn node_of(&self, teller: &Teller, pods: &Api<Pod>) -> Result<Option<String>, LookError> {
        let pod = match teller {
            Teller::Node(name) => return Ok(Some(name.clone())),
            Teller::Pod(pod) => pod,
        };
        let found = match timeout(LOOK, Box::pin(pods.get_opt(&pod.name))).await.map_err(|_| LookError::Timeout)? {
            Err(kube::Error::Api(status)) if status.is_forbidden() => {
                tracing::warn!(
                    pod = pod.name,
                    "the cluster's manifest is too old for its Kubernetes: apply the current one"
                );
                None
            }
            found => found?,
        };
        let found = found.filter(|found| found.metadata.uid.as_ref() == Some(&pod.uid));
        let Some(name) = found.and_then(|pod| pod.spec?.node_name) else { return Ok(None) };
        let Ok(node) = NodeName::try_from(name.clone()) else { return Ok(None) };
        self.context.clusters.place_agent(self.cluster, &pod.uid, &node);
        Ok(Some(name))
    }

    async fn put(&mut self, name: String, spec: NodeSpec, status: NodeStatus) -> Result<(), StoreError> {
        if self.known.get(&name).is_some_and(|(old, before)| (old, before) == (&spec, &status)) {
            return Ok(());
        }
        let (namespace, object) = (Some(self.cluster.as_str()), object_name(&name));
        let (new_spec, new_status) = (spec.clone(), status.clone());
        let change = move |node: &mut Node| (node.spec, node.status) = (new_spec.clone(), Some(new_status.clone()));
        if self.store.modify(namespace, &object, change).await?.is_none() {
            let mut node = Node::new(&object, spec.clone());
            node.metadata.namespace = Some(self.cluster.to_string());
            node.status = Some(status.clone());
            self.store.create(&node, Vec::new()).await?;
            tracing::info!(node = name, "a node of the cluster");
        }
        self.known.insert(name, (spec, status));
        self.announce();
        Ok(())
    }

    async fn remove(&mut self, name: &str) -> Result<(), StoreError> {
        self.store.delete(Some(self.cluster.as_str()), &object_name(name)).await?;
        if self.known.remove(name).is_some() {
            tracing::info!(node = name, "a node of the cluster is gone");
            self.announce();
        }
        Ok(())
    }

    /// Tells whoever chooses routes which nodes run the control plane.
    fn announce(&self) {
        let names = self.known.iter().filter(|(_, (spec, _))| spec.control_plane).map(|(name, _)| name.clone());
        self.context.clusters.control_plane_nodes(self.cluster, names.collect());
    }
}

/// What became of the words that waited.
#[derive(PartialEq, Eq)]
enum Heard {
    All,
    /// The cluster could not be asked about some of them.
    Later,
}

/// Why the cluster could not be asked for a pod.
#[derive(Debug, thiserror::Error)]
enum LookError {
    #[error("no answer in time")]
    Timeout,
    #[error("the API server does not say it")]
    Kubernetes(#[from] kube::Error),
}

/// A node that its own agent has told of, and the cluster not yet.
fn unconfirmed(name: &str, host: &Host) -> (NodeSpec, NodeStatus) {
    let has = |role: &str| host.roles.iter().any(|one| one == role);
    let (control_plane, etcd) = (is_control_plane(has), has("etcd"));
    let worker = !control_plane && !etcd;
    let spec = NodeSpec { imported: true, requested_hostname: name.to_owned(), control_plane, etcd, worker };
    (spec, NodeStatus { node_name: name.to_owned(), ..NodeStatus::default() })
}
