//! Who may do what at the server, and who may enter which cluster.
//!
//! [`AccessIndex`] is the model, plain data. [`Access`] shares one between the request path and the
//! [`AccessWatcher`](crate::AccessWatcher) that feeds it from the store. Until every kind has been listed, and whenever
//! a watch is lost, [`Access`] denies: what cannot be checked is refused.

mod facts;
mod grants;
mod index;
mod rules;
#[cfg(test)]
mod tests;
pub(crate) mod watcher;

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::RwLock;

pub(crate) use self::facts::is_live;
pub use self::facts::{Kind, fold_username};
pub use self::index::AccessIndex;
pub use self::rules::Attributes;
use crate::UserInfo;

/// The group of clusters, users, roles and bindings.
pub(crate) const MANAGEMENT: &str = "management.cattle.io";

/// The answer to a request to the server's own API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Go on.
    Allow,
    /// Go on, but with each object only if [`Access::visible`] says so: leave it out of lists and watches, and answer
    /// `NotFound` to a request that names it, *before* anything is changed.
    Filtered,
    /// Refuse with 403.
    Deny(Denied),
}

/// Why not. The variants are for the server's log and its audit; a stranger must not learn from them what exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// No role allows it.
    #[error("no role of this user allows it")]
    Forbidden,
    /// The user was deleted or disabled after the credential was checked.
    #[error("the user does not exist or is disabled")]
    NoSuchUser,
    /// Tokens for one cluster are good for that cluster's API only.
    #[error("the token is for one cluster only")]
    ClusterScopedToken,
    /// The binding would give more than its maker has.
    #[error("a user may give only roles they hold in the cluster, unless they own it")]
    Escalation,
    /// The binding names a role that does not exist.
    #[error("no such role")]
    NoSuchRole,
    /// The role may not be given any more.
    #[error("the role is locked: existing bindings keep it, new ones may not be made")]
    RoleLocked,
    /// The role is for projects.
    #[error("the role is not for clusters")]
    NotAClusterRole,
    /// The index is not in step with the store.
    #[error("the server does not know yet who may do what")]
    NotReady,
}

/// One object of the server's API, as far as it matters for who may see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjectRef<'a> {
    /// API group.
    pub group: &'a str,
    /// Plural resource name.
    pub resource: &'a str,
    /// Namespace of a namespaced object.
    pub namespace: Option<&'a str>,
    /// Object name.
    pub name: &'a str,
    /// The user a Token or Kubeconfig belongs to (`spec.userID`); `None` for kinds without an owner.
    pub owner: Option<&'a str>,
}

/// What somebody holds in a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roles {
    /// Holds the global role `admin`.
    pub admin: bool,
    /// The closure of the role templates bound to them.
    pub templates: BTreeSet<String>,
}

impl Roles {
    /// Nothing at all: this user may not enter.
    #[must_use]
    pub fn is_none(&self) -> bool {
        !self.admin && self.templates.is_empty()
    }
}

/// The index, shared. Clones are the same index. Locks are held for the decision only, never across an await.
#[derive(Clone, Debug, Default)]
pub struct Access {
    shared: Arc<RwLock<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    index: AccessIndex,
    synced: bool,
    generation: u64,
}

impl Access {
    /// An index that denies everything until its watcher has filled it.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A ready index with this content, for tests of crates that take one.
    #[cfg(any(test, feature = "testing"))]
    #[must_use]
    pub fn ready(index: AccessIndex) -> Self {
        Self { shared: Arc::new(RwLock::new(Shared { index, synced: true, generation: 0 })) }
    }

    /// Whether decisions are possible. `false` denies everything.
    #[must_use]
    pub fn is_synced(&self) -> bool {
        self.shared.read().synced
    }

    /// Grows whenever an answer may have become another one: who shows filtered lists over time compares it.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.shared.read().generation
    }

    /// Whether the user may send anything to the cluster's API.
    #[must_use]
    pub fn may_enter(&self, user: &UserInfo, cluster: &str) -> bool {
        self.with(|index| index.may_enter(user, cluster)).unwrap_or(false)
    }

    /// Decides a request to the server's own API.
    #[must_use]
    pub fn authorize(&self, user: &UserInfo, wanted: &Attributes<'_>) -> Decision {
        self.with(|index| index.authorize(user, wanted)).unwrap_or(Decision::Deny(Denied::NotReady))
    }

    /// Whether an object may appear in an answer to this user; see [`Decision::Filtered`].
    #[must_use]
    pub fn visible(&self, user: &UserInfo, object: &ObjectRef<'_>) -> bool {
        self.with(|index| index.visible(user, object)).unwrap_or(false)
    }

    /// What the user holds in a cluster.
    #[must_use]
    pub fn roles(&self, user: &UserInfo, cluster: &str) -> Roles {
        self.with(|index| index.roles(user, cluster)).unwrap_or_default()
    }

    /// Every enabled user who may enter the cluster; `None` when the index is not ready, which is not "nobody".
    #[must_use]
    pub fn entrants(&self, cluster: &str) -> Option<Vec<String>> {
        self.with(|index| index.entrants(cluster))
    }

    /// As [`may_enter`](Self::may_enter), before there is a [`UserInfo`]: at a sign-in.
    pub(crate) fn user_may_enter(&self, user: &str, cluster: &str) -> bool {
        self.with(|index| index.user_may_enter(user, cluster)).unwrap_or(false)
    }

    /// The user who signs in with this name, in any case. Admission of users keeps names unique with it.
    #[must_use]
    pub fn user_by_login(&self, login: &str) -> Option<String> {
        self.with(|index| index.user_by_login(login).map(str::to_owned)).flatten()
    }

    /// Whether `user` may give somebody the role template in the cluster. Call it for every create of a
    /// ClusterRoleTemplateBinding, after [`authorize`](Self::authorize).
    ///
    /// # Errors
    /// Why not.
    pub fn may_grant(&self, user: &UserInfo, cluster: &str, template: &str) -> Result<(), Denied> {
        self.with(|index| index.may_grant(user, cluster, template)).unwrap_or(Err(Denied::NotReady))
    }

    /// Whether `user` may give somebody a global role.
    ///
    /// # Errors
    /// Why not.
    pub fn may_grant_global(&self, user: &UserInfo) -> Result<(), Denied> {
        self.with(|index| index.may_grant_global(user)).unwrap_or(Err(Denied::NotReady))
    }

    fn with<T>(&self, decide: impl FnOnce(&AccessIndex) -> T) -> Option<T> {
        let shared = self.shared.read();
        shared.synced.then(|| decide(&shared.index))
    }

    pub(crate) fn grants(&self) -> grants::Grants {
        self.shared.read().index.grants()
    }

    pub(crate) fn publish(&self, index: AccessIndex) {
        let mut shared = self.shared.write();
        let generation = shared.generation + 1;
        *shared = Shared { index, synced: true, generation };
    }

    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut AccessIndex) -> T) -> T {
        let mut shared = self.shared.write();
        shared.generation += 1;
        change(&mut shared.index)
    }

    pub(crate) fn out_of_sync(&self) {
        let mut shared = self.shared.write();
        shared.generation += 1;
        shared.synced = false;
    }
}
