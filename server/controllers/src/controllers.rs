//! Starts and stops the units of all clusters.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use cattle_api::condition::Condition;
use cattle_api::management::cluster::{CLEANUP_FINALIZER, FORGET_ANNOTATION};
use cattle_api::management::{AgentSession, Cluster, Node};
use cattle_proto::id::ClusterId;
use jiff::Timestamp;
use kube::ResourceExt;
use parking_lot::RwLock;
use tokio::sync::broadcast;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::clusters::Link;
use crate::conditions::conditions;
use crate::context::Context;
use crate::deed::Deed;
use crate::deletion::{self, Progress};
use crate::directory::{Directory, World};
use crate::health::HealthBook;
use crate::impersonation::Impersonators;
use crate::nodes;
use crate::unit::{self, UnitTask};

/// The controllers of all clusters.
pub struct ClusterControllers {
    shared: Arc<Shared>,
    started: Timestamp,
}

/// What all units have in common.
pub(crate) struct Shared {
    pub(crate) context: Context,
    pub(crate) directory: Arc<Directory>,
    pub(crate) impersonators: Impersonators,
    pub(crate) health: HealthBook,
    pub(crate) removals: RemovalBook,
    pub(crate) attached: Vec<Arc<dyn UnitTask>>,
}

/// How far the removals are. In memory only: after a restart the next step tells it anew.
#[derive(Default)]
pub(crate) struct RemovalBook(RwLock<HashMap<ClusterId, Progress>>);

impl RemovalBook {
    pub(crate) fn record(&self, cluster: &ClusterId, progress: Progress) {
        self.0.write().insert(cluster.clone(), progress);
    }

    fn of(&self, cluster: &ClusterId) -> Option<Progress> {
        self.0.read().get(cluster).copied()
    }
}

impl ClusterControllers {
    /// Controllers that do nothing before [`run`](Self::run). `attached` runs in every unit besides the controllers' own work.
    #[must_use]
    pub fn new(context: Context, attached: Vec<Arc<dyn UnitTask>>) -> Self {
        let shared = Shared {
            context,
            directory: Directory::new(),
            impersonators: Impersonators::default(),
            health: HealthBook::default(),
            removals: RemovalBook::default(),
            attached,
        };
        Self { shared: Arc::new(shared), started: Timestamp::now() }
    }

    /// Tokens of impersonators, for the proxy.
    #[must_use]
    pub fn impersonators(&self) -> Impersonators {
        self.shared.impersonators.clone()
    }

    /// The clusters whose health has turned, and with it their conditions. Whoever falls behind has to look at all of them.
    #[must_use]
    pub fn health_changed(&self) -> broadcast::Receiver<ClusterId> {
        self.shared.health.changed()
    }

    /// The conditions of a cluster as they are now, for whoever reads the object.
    #[must_use]
    pub fn conditions(&self, cluster: &Cluster) -> Vec<Condition> {
        let started = self.started;
        let Ok(id) = cluster.name_any().parse::<ClusterId>() else {
            return conditions(cluster, Link::default(), None, None, started);
        };
        let health = self.shared.health.of(&id);
        let removal = self.shared.removals.of(&id);
        conditions(cluster, self.shared.context.clusters.link(&id), health.as_ref(), removal.as_ref(), started)
    }

    /// The conditions of a node as they are now. `agent` is the session of the agent on it.
    #[must_use]
    pub fn node_conditions(&self, node: &Node, agent: Option<&AgentSession>) -> Vec<Condition> {
        let cluster = node.namespace().and_then(|name| name.parse::<ClusterId>().ok());
        let link = cluster.map(|id| self.shared.context.clusters.link(&id)).unwrap_or_default();
        nodes::conditions(node, agent, link, self.started)
    }

    /// Runs every unit until `stop`, and joins all of them.
    pub async fn run(&self, stop: CancellationToken) {
        let mut directory = JoinSet::new();
        let store = Arc::clone(&self.shared.context.store);
        directory.spawn(Arc::clone(&self.shared.directory).run(store, stop.clone()));
        Manager::new(Arc::clone(&self.shared)).run(&stop).await;
        while directory.join_next().await.is_some() {}
    }
}

/// What a unit is for. Another one of the same cluster means: stop it, start anew.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Mode {
    Serve {
        uid: String,
        ca_generation: i64,
    },
    Remove {
        uid: String,
    },
    /// No way or no need to remove anything downstream: only the record goes.
    Forget {
        uid: String,
    },
}

struct Manager {
    shared: Arc<Shared>,
    running: BTreeMap<String, (Mode, CancellationToken)>,
    tasks: JoinSet<String>,
    sweeps: JoinSet<()>,
    known: usize,
}

impl Manager {
    fn new(shared: Arc<Shared>) -> Self {
        Self { shared, running: BTreeMap::new(), tasks: JoinSet::new(), sweeps: JoinSet::new(), known: usize::MAX }
    }

    async fn run(mut self, stop: &CancellationToken) {
        let mut links = self.shared.context.clusters.changes();
        let mut objects = self.shared.directory.changes();
        loop {
            self.adjust(stop);
            tokio::select! {
                () = stop.cancelled() => break,
                Ok(()) = links.changed() => {}
                Ok(()) = objects.changed() => {}
                Some(ended) = self.tasks.join_next(), if !self.tasks.is_empty() => self.ended(ended),
                Some(_) = self.sweeps.join_next(), if !self.sweeps.is_empty() => {}
            }
        }
        for (_, token) in self.running.values() {
            token.cancel();
        }
        while self.tasks.join_next().await.is_some() {}
        self.sweeps.shutdown().await;
    }

    /// Makes the running units those that should run. One that is still ending keeps its place until it has ended.
    fn adjust(&mut self, stop: &CancellationToken) {
        let (desired, count) = {
            let world = self.shared.directory.read();
            if !world.is_complete() {
                return;
            }
            (desired(&world, |id| self.shared.context.clusters.link(id)), world.clusters().len())
        };
        for (name, (mode, token)) in &self.running {
            if desired.get(name).map(|(_, wanted)| wanted) != Some(mode) {
                token.cancel();
            }
        }
        for (name, (id, mode)) in desired {
            if !self.running.contains_key(&name) {
                self.start(name, id, mode, stop.child_token());
            }
        }
        if count < self.known && self.sweeps.is_empty() {
            let store = Arc::clone(&self.shared.context.store);
            self.sweeps.spawn(async move {
                if let Err(error) = deletion::sweep(&store).await {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "cannot look for what deleted clusters left"
                    );
                }
            });
        }
        self.known = count;
    }

    fn start(&mut self, name: String, id: ClusterId, mode: Mode, token: CancellationToken) {
        let span = tracing::info_span!("unit", cluster = %id);
        let (shared, stop, ended) = (Arc::clone(&self.shared), token.clone(), name.clone());
        let kind = mode.clone();
        let unit = async move {
            match kind {
                Mode::Serve { .. } => unit::serve(shared, id, stop).await,
                Mode::Remove { .. } => unit::remove(shared, id, stop).await,
                Mode::Forget { .. } => forget(&shared, &id).await,
            }
            ended
        };
        tracing::debug!(cluster = name, ?mode, "unit starts");
        self.running.insert(name, (mode, token));
        self.tasks.spawn(unit.instrument(span));
    }

    fn ended(&mut self, ended: Result<String, tokio::task::JoinError>) {
        match ended {
            Ok(name) => {
                tracing::debug!(cluster = name, "unit ended");
                self.running.remove(&name);
            }
            // Which one is not known any more: all are stopped and started anew rather than one being lost for ever.
            Err(error) => {
                tracing::error!(%error, "a unit failed");
                self.running.values().for_each(|(_, token)| token.cancel());
                if self.tasks.is_empty() {
                    self.running.clear();
                }
            }
        }
    }
}

async fn forget(shared: &Shared, cluster: &ClusterId) {
    match deletion::finish(&shared.context.store, cluster.as_str()).await {
        Ok(()) => {
            shared.context.hosts.forget(cluster);
            shared.context.audit.note(&Deed::Forget.done(cluster));
            tracing::info!("the cluster's record is removed");
        }
        Err(error) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "the record cannot be removed");
            tokio::time::sleep(std::time::Duration::from_secs(5)).await;
        }
    }
}

/// The units that should run. Pure.
fn desired(world: &World, link: impl Fn(&ClusterId) -> Link) -> BTreeMap<String, (ClusterId, Mode)> {
    let mut units = BTreeMap::new();
    for (name, cluster) in world.clusters() {
        let Ok(id) = name.parse::<ClusterId>() else { continue };
        if let Some(mode) = mode(cluster, link(&id)) {
            units.insert(name.clone(), (id, mode));
        }
    }
    units
}

fn mode(cluster: &Cluster, link: Link) -> Option<Mode> {
    let uid = cluster.uid().unwrap_or_default();
    let identity = cluster.status.as_ref().and_then(|status| status.identity.as_ref());
    if cluster.metadata.deletion_timestamp.is_some() {
        let ours = cluster.finalizers().iter().any(|finalizer| finalizer == CLEANUP_FINALIZER);
        let forget = cluster.annotations().get(FORGET_ANNOTATION).is_some_and(|value| value == "true");
        return match (ours, forget || identity.is_none(), link.connected) {
            // Somebody else's finalizer holds the record; ours is done.
            (false, _, _) | (true, false, false) => None,
            (true, true, _) => Some(Mode::Forget { uid }),
            (true, false, true) => Some(Mode::Remove { uid }),
        };
    }
    let identity = identity.filter(|_| link.connected)?;
    Some(Mode::Serve { uid, ca_generation: identity.ca_generation })
}

#[cfg(test)]
mod tests {
    use cattle_api::management::{ClusterIdentity, ClusterSpec, ClusterStatus};
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    const UP: Link = Link { connected: true, since: None, refused: None };
    const DOWN: Link = Link { connected: false, since: None, refused: None };

    fn cluster(bound: bool) -> Cluster {
        let mut cluster = Cluster::new("c-abcde", ClusterSpec::default());
        cluster.metadata.uid = Some("uid-1".into());
        let identity = ClusterIdentity {
            kube_system_uid: "uid".into(),
            ca_cert: "pem".into(),
            ca_generation: 7,
            api_server_name: "kubernetes".into(),
            issuer: "issuer".into(),
            jwks: "{}".into(),
        };
        cluster.status = Some(ClusterStatus { identity: bound.then_some(identity), ..ClusterStatus::default() });
        cluster.metadata.finalizers = bound.then(|| vec![CLEANUP_FINALIZER.to_owned()]);
        cluster
    }

    #[test]
    fn a_cluster_that_is_away_costs_nothing() {
        assert_eq!(mode(&cluster(true), DOWN), None);
        assert_eq!(mode(&cluster(false), UP), None);
        assert_eq!(mode(&cluster(true), UP), Some(Mode::Serve { uid: "uid-1".into(), ca_generation: 7 }));
    }

    #[test]
    fn a_deletion_waits_for_the_cluster_unless_it_is_forgotten() {
        let mut deleting = cluster(true);
        deleting.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
        assert_eq!(mode(&deleting, UP), Some(Mode::Remove { uid: "uid-1".into() }));
        assert_eq!(mode(&deleting, DOWN), None);
        deleting.annotations_mut().insert(FORGET_ANNOTATION.into(), "true".into());
        for link in [UP, DOWN] {
            assert_eq!(mode(&deleting, link), Some(Mode::Forget { uid: "uid-1".into() }));
        }
        // The record is held by somebody else's finalizer only.
        deleting.metadata.finalizers = Some(vec!["example.com/other".into()]);
        assert_eq!(mode(&deleting, UP), None);
    }
}
