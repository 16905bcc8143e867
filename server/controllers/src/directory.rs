//! The server's own objects as far as the controllers need them, kept in memory by watches of the store.
//!
//! Who may enter which cluster is decided by [`cattle_auth::AccessIndex`], fed by the same events as everything else here, so
//! that one look at the [`World`] is consistent in itself and says the same as the server's gate.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use cattle_api::Resource;
use cattle_api::ext::Token;
use cattle_api::management::{Cluster, ClusterRoleTemplateBinding, GlobalRoleBinding, RoleTemplate, User};
use cattle_api::resource::{self, Kind};
use cattle_auth::{AccessIndex, Kind as Fact};
use cattle_store::{EventKind, Page, Store, StoreError, WatchError};
use futures_util::StreamExt;
use kube::ResourceExt;
use kube::core::DynamicObject;
use parking_lot::{RwLock, RwLockReadGuard};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::identity::Identity;

/// Pause before a failed list or watch is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// The world in memory, shared. Reading it is a short lock; never hold one across an await.
pub(crate) struct Directory {
    world: RwLock<World>,
    changes: watch::Sender<u64>,
}

impl Directory {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { world: RwLock::new(World::default()), changes: watch::Sender::new(0) })
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, World> {
        self.world.read()
    }

    /// Wakes after every change. Nothing is to be decided before [`World::is_complete`].
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Follows the store until `stop`. Joins everything that it started.
    pub(crate) async fn run(self: Arc<Self>, store: Arc<dyn Store>, stop: CancellationToken) {
        let mut tasks = JoinSet::new();
        for (kind, resource) in KINDS {
            let (directory, store, stop) = (Arc::clone(&self), Arc::clone(&store), stop.clone());
            tasks.spawn(async move {
                tokio::select! { () = stop.cancelled() => {}, () = directory.follow(*kind, resource, &*store) => {} }
            });
        }
        while tasks.join_next().await.is_some() {}
    }

    async fn follow(&self, kind: Fact, resource: &'static Resource, store: &dyn Store) {
        loop {
            let error = match self.follow_once(kind, resource, store).await {
                Ok(()) => None,
                Err(Lost::Store(StoreError::Expired) | Lost::Watch(WatchError::Expired)) => None,
                Err(error) => Some(error),
            };
            if let Some(error) = error {
                tracing::warn!(%resource, error = &error as &dyn std::error::Error, "cannot follow the store");
                tokio::time::sleep(RETRY).await;
            }
        }
    }

    async fn follow_once(&self, kind: Fact, resource: &'static Resource, store: &dyn Store) -> Result<(), Lost> {
        let listing = store.list(resource, None, Page::ALL).await?;
        self.change(|world| world.reset(kind, &listing.items));
        let mut events = store.watch(resource, None, listing.revision).await?;
        while let Some(event) = events.next().await {
            let event = event?;
            self.change(|world| world.apply(kind, event.kind, &event.object));
        }
        // The store is closing; the loop waits for `stop`.
        tokio::time::sleep(RETRY).await;
        Ok(())
    }

    fn change(&self, change: impl FnOnce(&mut World)) {
        change(&mut self.world.write());
        self.changes.send_modify(|generation| *generation += 1);
    }
}

#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error("the store failed")]
    Store(#[from] StoreError),
    #[error("the watch ended")]
    Watch(#[from] WatchError),
}

static KINDS: &[(Fact, &Resource)] = &[
    (Fact::Cluster, &resource::CLUSTER),
    (Fact::User, &resource::USER),
    (Fact::Token, &resource::TOKEN),
    (Fact::GlobalRole, &resource::GLOBAL_ROLE),
    (Fact::GlobalRoleBinding, &resource::GLOBAL_ROLE_BINDING),
    (Fact::RoleTemplate, &resource::ROLE_TEMPLATE),
    (Fact::ClusterRoleTemplateBinding, &resource::CLUSTER_ROLE_TEMPLATE_BINDING),
];

/// The server's objects. Those being deleted count as gone, except for clusters, whose deletion is work.
#[derive(Default)]
pub(crate) struct World {
    access: AccessIndex,
    listed: BTreeSet<Fact>,
    clusters: BTreeMap<String, Arc<Cluster>>,
    /// Login names of the users that may sign in.
    logins: BTreeMap<String, String>,
    tokens: BTreeMap<String, String>,
    templates: BTreeMap<String, RoleTemplate>,
    admins: BTreeMap<String, GlobalRoleBinding>,
    members: BTreeMap<String, BTreeMap<String, ClusterRoleTemplateBinding>>,
}

impl World {
    /// Whether every kind was listed once: before that, "nobody" and "not known yet" look the same.
    pub(crate) fn is_complete(&self) -> bool {
        self.listed.len() == KINDS.len()
    }

    pub(crate) fn clusters(&self) -> &BTreeMap<String, Arc<Cluster>> {
        &self.clusters
    }

    pub(crate) fn templates(&self) -> &BTreeMap<String, RoleTemplate> {
        &self.templates
    }

    pub(crate) fn admins(&self) -> impl Iterator<Item = &GlobalRoleBinding> {
        self.admins.values()
    }

    pub(crate) fn members(&self, cluster: &str) -> impl Iterator<Item = &ClusterRoleTemplateBinding> {
        self.members.get(cluster).into_iter().flat_map(BTreeMap::values)
    }

    /// Whether the user exists and is not disabled.
    pub(crate) fn is_active(&self, user: &str) -> bool {
        self.logins.contains_key(user)
    }

    /// Who may enter the cluster.
    pub(crate) fn entrants(&self, cluster: &str) -> BTreeSet<String> {
        self.access.entrants(cluster).into_iter().collect()
    }

    /// Who of them has signed in (has a token), as the authenticator sees them.
    pub(crate) fn signed_in(&self, entrants: &BTreeSet<String>) -> BTreeMap<String, Identity> {
        let holders: BTreeSet<&String> = self.tokens.values().collect();
        let identity = |user: &String| {
            let login = self.logins.get(user).map_or("", String::as_str);
            Some((user.clone(), Identity::local(user, login).ok()?))
        };
        entrants.iter().filter(|user| holders.contains(user)).filter_map(identity).collect()
    }

    pub(crate) fn reset(&mut self, kind: Fact, objects: &[DynamicObject]) {
        self.access.reset(kind, objects);
        match kind {
            Fact::Cluster => self.clusters.clear(),
            Fact::User => self.logins.clear(),
            Fact::Token => self.tokens.clear(),
            Fact::RoleTemplate => self.templates.clear(),
            Fact::GlobalRoleBinding => self.admins.clear(),
            Fact::ClusterRoleTemplateBinding => self.members.clear(),
            Fact::GlobalRole => {}
        }
        for object in objects {
            self.put(kind, object);
        }
        self.listed.insert(kind);
    }

    pub(crate) fn apply(&mut self, kind: Fact, event: EventKind, object: &DynamicObject) {
        let (namespace, name) = (object.namespace(), object.name_any());
        self.remove(kind, namespace.as_deref(), &name);
        match event {
            EventKind::Added | EventKind::Modified => {
                self.access.apply(kind, object);
                self.put(kind, object);
            }
            EventKind::Deleted => self.access.delete(kind, namespace.as_deref(), &name),
        }
    }

    fn put(&mut self, kind: Fact, object: &DynamicObject) {
        let name = object.name_any();
        if kind == Fact::Cluster {
            if let Some(cluster) = read(object) {
                self.clusters.insert(name, Arc::new(cluster));
            }
            return;
        }
        if object.metadata.deletion_timestamp.is_some() {
            return;
        }
        match kind {
            Fact::User => {
                let active = read::<User>(object).filter(|user| user.spec.is_enabled());
                put(&mut self.logins, name, active.map(|user| user.spec.username));
            }
            Fact::Token => put(&mut self.tokens, name, read::<Token>(object).map(|token| token.spec.user_id)),
            Fact::RoleTemplate => put(&mut self.templates, name, read(object)),
            Fact::GlobalRoleBinding => put(&mut self.admins, name, read(object)),
            Fact::ClusterRoleTemplateBinding => {
                put(self.members.entry(object.namespace().unwrap_or_default()).or_default(), name, read(object));
            }
            Fact::Cluster | Fact::GlobalRole => {}
        }
    }

    fn remove(&mut self, kind: Fact, namespace: Option<&str>, name: &str) {
        match kind {
            Fact::Cluster => drop(self.clusters.remove(name)),
            Fact::User => drop(self.logins.remove(name)),
            Fact::Token => drop(self.tokens.remove(name)),
            Fact::RoleTemplate => drop(self.templates.remove(name)),
            Fact::GlobalRoleBinding => drop(self.admins.remove(name)),
            Fact::ClusterRoleTemplateBinding => {
                let namespace = namespace.unwrap_or_default();
                if let Some(members) = self.members.get_mut(namespace) {
                    members.remove(name);
                    if members.is_empty() {
                        self.members.remove(namespace);
                    }
                }
            }
            Fact::GlobalRole => {}
        }
    }
}

fn put<T>(map: &mut BTreeMap<String, T>, name: String, value: Option<T>) {
    if let Some(value) = value {
        map.insert(name, value);
    }
}

/// An object that does not fit its kind gives nobody anything.
fn read<K: Kind>(object: &DynamicObject) -> Option<K> {
    resource::decode(object).ok()
}

#[cfg(test)]
mod tests {
    use cattle_api::ext::TokenSpec;
    use cattle_api::management::{
        ClusterRoleTemplateBindingFields, GlobalRoleBindingFields, RoleTemplateFields, UserFields,
    };

    use super::*;

    fn world() -> World {
        let mut world = World::default();
        for (kind, _) in KINDS {
            world.reset(*kind, &[]);
        }
        let template =
            RoleTemplate::new("cluster-owner", RoleTemplateFields { context: "cluster".into(), ..Default::default() });
        add(&mut world, Fact::RoleTemplate, &template);
        for user in ["u-alice", "u-bob", "u-root"] {
            let fields = UserFields { username: user[2..].into(), ..Default::default() };
            add(&mut world, Fact::User, &User::new(user, fields));
        }
        let fields = ClusterRoleTemplateBindingFields {
            cluster_name: "c-abcde".into(),
            role_template_name: "cluster-owner".into(),
            user_name: "u-alice".into(),
            ..Default::default()
        };
        let mut member = ClusterRoleTemplateBinding::new("m1", fields);
        member.metadata.namespace = Some("c-abcde".into());
        add(&mut world, Fact::ClusterRoleTemplateBinding, &member);
        let fields = GlobalRoleBindingFields {
            global_role_name: "admin".into(),
            user_name: "u-root".into(),
            ..Default::default()
        };
        add(&mut world, Fact::GlobalRoleBinding, &GlobalRoleBinding::new("g1", fields));
        world
    }

    fn add<K: Kind>(world: &mut World, kind: Fact, object: &K) {
        world.apply(kind, EventKind::Added, &resource::encode(object).unwrap());
    }

    fn token(world: &mut World, name: &str, user: &str) {
        add(world, Fact::Token, &Token::new(name, TokenSpec { user_id: user.into(), ..Default::default() }));
    }

    #[test]
    fn impersonators_are_for_who_may_enter_and_has_signed_in() {
        let mut world = world();
        let entrants = world.entrants("c-abcde");
        assert_eq!(entrants, BTreeSet::from(["u-alice".to_owned(), "u-root".to_owned()]));
        assert!(world.signed_in(&entrants).is_empty());
        token(&mut world, "token-1", "u-alice");
        token(&mut world, "token-2", "u-bob");
        let signed_in = world.signed_in(&entrants);
        assert_eq!(
            signed_in.into_iter().collect::<Vec<_>>(),
            [("u-alice".to_owned(), Identity::local("u-alice", "alice").unwrap(),)]
        );
        assert_eq!(world.entrants("c-other"), BTreeSet::from(["u-root".to_owned()]));
    }

    #[test]
    fn access_ends_with_the_membership_the_user_or_the_switch() {
        let endings: [fn(&mut World); 3] = [
            |world| {
                let member = world.members["c-abcde"]["m1"].clone();
                world.apply(Fact::ClusterRoleTemplateBinding, EventKind::Deleted, &resource::encode(&member).unwrap());
            },
            |world| {
                let user = User::new("u-alice", UserFields::default());
                world.apply(Fact::User, EventKind::Deleted, &resource::encode(&user).unwrap());
            },
            |world| {
                let user = User::new("u-alice", UserFields { enabled: Some(false), ..Default::default() });
                world.apply(Fact::User, EventKind::Modified, &resource::encode(&user).unwrap());
            },
        ];
        for end in endings {
            let mut world = world();
            end(&mut world);
            assert_eq!(world.entrants("c-abcde"), BTreeSet::from(["u-root".to_owned()]));
        }
    }

    #[test]
    fn nothing_is_decided_before_everything_was_listed() {
        let mut world = World::default();
        for (kind, _) in KINDS {
            assert!(!world.is_complete());
            world.reset(*kind, &[]);
        }
        assert!(world.is_complete());
    }
}
