//! What is ours in one cluster, followed by watches.
//!
//! Six watches, each limited to objects of ours; they tell which key to look at again, and they are enough to see that
//! nothing is to be done. Decisions that write read live.

use std::fmt::Debug;
use std::sync::Arc;

use cattle_manifest::names;
use futures_util::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{Namespace, Secret, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, RoleBinding};
use kube::api::Api;
use kube::runtime::reflector::{Store, reflector, store};
use kube::runtime::watcher::{Config, Event};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;

use crate::impersonation;
use crate::ownership;
use crate::unit::Work;

/// The objects, as the watches saw them last.
pub(crate) struct Mirror {
    pub(crate) roles: Store<ClusterRole>,
    pub(crate) bindings: Store<ClusterRoleBinding>,
    pub(crate) accounts: Store<ServiceAccount>,
    pub(crate) secrets: Store<Secret>,
    pub(crate) namespaces: Store<Namespace>,
    pub(crate) rights: Store<RoleBinding>,
}

/// What a watch saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Seen {
    /// Something that concerns this.
    One(Work),
    /// A whole list, or something that concerns all.
    All,
}

/// Where the watches tell what they saw.
pub(crate) type Tell = Arc<dyn Fn(Seen) + Send + Sync>;

impl Mirror {
    /// Starts the watches as tasks of `tasks`.
    pub(crate) fn start(client: &Client, tell: &Tell, tasks: &mut JoinSet<()>) -> Self {
        let ours = Config::default().labels(&ownership::selector());
        let namespace = format!("metadata.name={}", names::IMPERSONATION_NAMESPACE);
        let rights = format!("metadata.name={}", names::IMPERSONATION_ROLE);
        let within = names::IMPERSONATION_NAMESPACE;
        Self {
            roles: start(Api::all(client.clone()), ours.clone(), role, tell, tasks),
            bindings: start(Api::all(client.clone()), ours.clone(), binding, tell, tasks),
            accounts: start(Api::namespaced(client.clone(), within), ours.clone(), account, tell, tasks),
            secrets: start(Api::namespaced(client.clone(), within), ours, secret, tell, tasks),
            namespaces: start(
                Api::all(client.clone()),
                Config::default().fields(&namespace),
                |_| Seen::All,
                tell,
                tasks,
            ),
            rights: start(
                Api::namespaced(client.clone(), within),
                Config::default().fields(&rights),
                |_| Seen::All,
                tell,
                tasks,
            ),
        }
    }

    /// Resolves when every watch has its first list. Never, if a watch is refused for ever: the unit's owner has the deadline.
    pub(crate) async fn listed(&self) -> bool {
        let all = futures_util::try_join!(
            self.roles.wait_until_ready(),
            self.bindings.wait_until_ready(),
            self.accounts.wait_until_ready(),
            self.secrets.wait_until_ready(),
            self.namespaces.wait_until_ready(),
            self.rights.wait_until_ready(),
        );
        all.is_ok()
    }
}

fn start<K>(api: Api<K>, config: Config, key: fn(&K) -> Seen, tell: &Tell, tasks: &mut JoinSet<()>) -> Store<K>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    let (reader, writer) = store();
    let events = watcher(api, config).default_backoff().map_ok(|event| event.modify(slim));
    tasks.spawn(follow(reflector(writer, events), key, Arc::clone(tell)));
    reader
}

async fn follow<K>(
    events: impl futures_util::Stream<Item = Result<Event<K>, watcher::Error>> + Send,
    key: fn(&K) -> Seen,
    tell: Tell,
) where
    K: Resource<DynamicType = ()> + Send + Sync + 'static,
{
    let mut events = std::pin::pin!(events);
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Apply(object) | Event::Delete(object)) => tell(key(&object)),
            Ok(Event::InitDone) => tell(Seen::All),
            Ok(Event::Init | Event::InitApply(_)) => {}
            // The watch starts again by itself, with back-off.
            Err(error) => tracing::debug!(kind = %K::kind(&()), error = &error as &dyn std::error::Error, "watch"),
        }
    }
}

/// Who wrote which field is most of an object and of no use here.
fn slim<K: Resource>(object: &mut K) {
    object.managed_fields_mut().clear();
}

fn role(object: &ClusterRole) -> Seen {
    by_name(object).unwrap_or(Seen::One(Work::Members))
}

fn binding(object: &ClusterRoleBinding) -> Seen {
    by_name(object).unwrap_or(Seen::One(Work::Members))
}

fn account(object: &ServiceAccount) -> Seen {
    by_name(object).unwrap_or(Seen::All)
}

fn secret(object: &Secret) -> Seen {
    let user = impersonation::user_of_secret(object);
    user.map_or(Seen::All, |user| Seen::One(Work::User(user.to_owned())))
}

fn by_name<K: ResourceExt>(object: &K) -> Option<Seen> {
    let name = object.name_any();
    impersonation::user_of(&name).map(|user| Seen::One(Work::User(user.to_owned())))
}
