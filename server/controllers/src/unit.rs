//! One cluster's unit: everything that the server does for a cluster while it is connected.
//!
//! A unit starts when the cluster connects and stops when it goes away, so a cluster that is away costs nothing. All of its
//! tasks are in one set that the unit joins. What it does:
//!
//! - keeps the server's credential valid ([`crate::credential`]),
//! - probes the users' path ([`crate::health`]),
//! - keeps issuer, keys and version in the record ([`crate::facts`](crate::IssuerKeys)),
//! - keeps Node objects as the cluster and its node agents say ([`crate::nodes`]),
//! - brings roles, bindings and impersonators to what the server's objects say, and back when somebody changes them by hand,
//! - runs what later work attaches ([`UnitTask`]).
//!
//! A cluster that is being deleted has a unit that removes instead ([`crate::deletion`]).

use std::sync::Arc;
use std::time::Duration;

use cattle_api::management::Cluster;
use cattle_api::sealed::SERVER_CREDENTIAL;
use cattle_proto::id::ClusterId;
use cattle_store::Typed;
use kube::Client;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::clusters::{Bearer, BoxFuture};
use crate::context::Context;
use crate::controllers::Shared;
use crate::credential::{self, ServerCredential};
use crate::deed::Deed;
use crate::deletion;
use crate::worker::Worker;
use crate::{facts, health, nodes};

/// What is to be looked at again in one cluster.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Work {
    /// One user's impersonator.
    User(String),
    /// Roles and bindings of all members.
    Members,
}

/// A connected cluster, as tasks of its unit see it. Clones are the same.
#[derive(Clone)]
pub struct ClusterUnit {
    /// The cluster.
    pub cluster: ClusterId,
    /// Its API server, as the server's own account.
    pub client: Client,
    /// Cancelled when the unit stops: the cluster went away, is being deleted, or the process ends.
    pub stop: CancellationToken,
}

/// Work that runs in every unit. It is started with the unit and has to end soon after `stop` is cancelled.
pub trait UnitTask: Send + Sync + 'static {
    /// For logs.
    fn name(&self) -> &'static str;

    /// The task.
    fn run(&self, unit: ClusterUnit) -> BoxFuture<'static, ()>;
}

/// Runs a unit that serves, until `stop`. Everything that it started has ended when it resolves.
pub(crate) async fn serve(shared: Arc<Shared>, cluster: ClusterId, stop: CancellationToken) {
    let (bearer, mut tasks) = begin(&shared, &cluster, &stop).await;
    let worker = Worker::new(Arc::clone(&shared), cluster.clone());
    // From here on a first request waits for its impersonator instead of failing.
    shared.impersonators.open(&cluster, worker.desk());
    if let Some(client) = connect(&shared.context, &cluster, &bearer, &stop).await {
        spawn_probe(&shared, &cluster, &bearer, &stop, &mut tasks);
        let (context, name, own, token) = (shared.context.clone(), cluster.clone(), client.clone(), stop.clone());
        tasks.spawn(async move { facts::keep(&context, &name, &own, &token).await });
        let (context, name, own, token) = (shared.context.clone(), cluster.clone(), client.clone(), stop.clone());
        tasks.spawn(async move { nodes::keep(&context, &name, &own, &token).await });
        let unit = ClusterUnit { cluster: cluster.clone(), client: client.clone(), stop: stop.clone() };
        for task in &shared.attached {
            tracing::debug!(task = task.name(), "task of the unit");
            tasks.spawn(task.run(unit.clone()));
        }
        worker.run(&client, &stop).await;
    }
    shared.impersonators.close(&cluster);
    shared.health.forget(&cluster);
    end(tasks, &stop).await;
}

/// Runs a unit that removes, until everything is removed or `stop`. The record goes with its last step.
pub(crate) async fn remove(shared: Arc<Shared>, cluster: ClusterId, stop: CancellationToken) {
    let (bearer, tasks) = begin(&shared, &cluster, &stop).await;
    if let Some(client) = connect(&shared.context, &cluster, &bearer, &stop).await {
        tracing::info!("removing what was made in the cluster");
        let report = |progress| shared.removals.record(&cluster, progress);
        let done = tokio::select! {
            () = stop.cancelled() => false,
            () = deletion::remove_downstream(&client, report) => true,
        };
        if done {
            match deletion::finish(&shared.context.store, cluster.as_str()).await {
                Ok(()) => {
                    shared.context.hosts.forget(&cluster);
                    shared.context.audit.note(&Deed::Remove.done(&cluster));
                    tracing::info!("the cluster is removed");
                }
                Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "the record cannot be removed"),
            }
        }
    }
    end(tasks, &stop).await;
}

/// The credential, from the store, and the task that keeps it valid.
async fn begin(shared: &Arc<Shared>, cluster: &ClusterId, stop: &CancellationToken) -> (Bearer, JoinSet<()>) {
    let bearer = Bearer::default();
    let clusters = Typed::<Cluster>::new(Arc::clone(&shared.context.store));
    match clusters.unseal(None, cluster.as_str(), SERVER_CREDENTIAL).await {
        Ok(sealed) => bearer.replace(sealed.as_ref().and_then(ServerCredential::unseal)),
        Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "the stored credential cannot be read"),
    }
    let mut tasks = JoinSet::new();
    let (context, name, own, token) = (shared.context.clone(), cluster.clone(), bearer.clone(), stop.clone());
    tasks.spawn(async move { credential::keep(&context, &name, &own, &token).await });
    (bearer, tasks)
}

/// A client, as soon as there is a credential and a way. `None` when the unit stops before.
async fn connect(context: &Context, cluster: &ClusterId, bearer: &Bearer, stop: &CancellationToken) -> Option<Client> {
    let connected = async {
        bearer.held().await;
        loop {
            if let Some(client) = context.clusters.client(cluster, bearer) {
                return client;
            }
            // The record was bound a moment ago, and the way into the cluster does not know yet.
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::select! { () = stop.cancelled() => None, client = connected => Some(client) }
}

fn spawn_probe(
    shared: &Arc<Shared>,
    cluster: &ClusterId,
    bearer: &Bearer,
    stop: &CancellationToken,
    tasks: &mut JoinSet<()>,
) {
    let (shared, cluster, bearer, stop) = (Arc::clone(shared), cluster.clone(), bearer.clone(), stop.clone());
    tasks.spawn(async move { health::keep(&shared.context, &cluster, &bearer, &shared.health, &stop).await });
}

async fn end(mut tasks: JoinSet<()>, stop: &CancellationToken) {
    stop.cancel();
    while tasks.join_next().await.is_some() {}
}
