//! The access model as plain data: facts in, decisions out. No I/O, no clock, no lock.

use std::collections::{BTreeMap, BTreeSet};

use cattle_api::builtin;
use kube::core::DynamicObject;

use super::facts::{self, ClusterBinding, GlobalBinding, Kind, Subject, Template, UserFact};
use super::grants::Grants;
use super::rules::{Attributes, Rule};
use super::{Decision, Denied, MANAGEMENT, ObjectRef, Roles};
use crate::UserInfo;

/// The group of the kinds that belong to their owner.
const EXT: &str = "ext.cattle.io";
/// A closure larger than this is a mistake or an attack; it gives nothing.
const MAX_TEMPLATES: usize = 500;

/// Everything that decides who may do what. An empty index allows nothing.
#[derive(Clone, Debug, Default)]
pub struct AccessIndex {
    users: BTreeMap<String, UserFact>,
    global_roles: BTreeMap<String, Vec<Rule>>,
    global_bindings: BTreeMap<String, GlobalBinding>,
    templates: BTreeMap<String, Template>,
    /// cluster → binding name → binding.
    bindings: BTreeMap<String, BTreeMap<String, ClusterBinding>>,
}

impl AccessIndex {
    /// Takes in an object as it is now. One that is being deleted, or cannot be read, counts as gone.
    pub fn apply(&mut self, kind: Kind, object: &DynamicObject) {
        let name = object.metadata.name.clone().unwrap_or_default();
        let namespace = object.metadata.namespace.clone();
        self.delete(kind, namespace.as_deref(), &name);
        if !facts::is_live(object) {
            return;
        }
        match kind {
            Kind::User => put(&mut self.users, name, facts::user(object)),
            Kind::GlobalRole => put(&mut self.global_roles, name, facts::global_role(object)),
            Kind::GlobalRoleBinding => put(&mut self.global_bindings, name, facts::global_binding(object)),
            Kind::RoleTemplate => put(&mut self.templates, name, facts::template(object)),
            Kind::ClusterRoleTemplateBinding => {
                let cluster = namespace.unwrap_or_default();
                put(self.bindings.entry(cluster).or_default(), name, facts::cluster_binding(object));
            }
            Kind::Cluster | Kind::Token => {}
        }
    }

    /// Forgets an object.
    pub fn delete(&mut self, kind: Kind, namespace: Option<&str>, name: &str) {
        match kind {
            Kind::User => drop(self.users.remove(name)),
            Kind::GlobalRole => drop(self.global_roles.remove(name)),
            Kind::GlobalRoleBinding => drop(self.global_bindings.remove(name)),
            Kind::RoleTemplate => drop(self.templates.remove(name)),
            Kind::ClusterRoleTemplateBinding => {
                let cluster = namespace.unwrap_or_default();
                if let Some(bindings) = self.bindings.get_mut(cluster) {
                    bindings.remove(name);
                    if bindings.is_empty() {
                        self.bindings.remove(cluster);
                    }
                }
            }
            Kind::Cluster | Kind::Token => {}
        }
    }

    /// Replaces everything of one kind, after a new list.
    pub fn reset<'a>(&mut self, kind: Kind, objects: impl IntoIterator<Item = &'a DynamicObject>) {
        match kind {
            Kind::User => self.users.clear(),
            Kind::GlobalRole => self.global_roles.clear(),
            Kind::GlobalRoleBinding => self.global_bindings.clear(),
            Kind::RoleTemplate => self.templates.clear(),
            Kind::ClusterRoleTemplateBinding => self.bindings.clear(),
            Kind::Cluster | Kind::Token => {}
        }
        for object in objects {
            self.apply(kind, object);
        }
    }

    /// Whether the user may send anything to the cluster's API. The cluster's own RBAC decides the rest.
    #[must_use]
    pub fn may_enter(&self, user: &UserInfo, cluster: &str) -> bool {
        !self.roles(user, cluster).is_none()
    }

    pub(crate) fn user_may_enter(&self, user: &str, cluster: &str) -> bool {
        self.is_active(user) && !self.roles_of(&Who::local(user), cluster).is_none()
    }

    /// What the user holds in a cluster: administrator, and the closure of the role templates bound to them.
    #[must_use]
    pub fn roles(&self, user: &UserInfo, cluster: &str) -> Roles {
        if !self.is_active(user.name()) || user.cluster_scope().is_some_and(|scope| scope != cluster) {
            return Roles::default();
        }
        self.roles_of(&Who::from(user), cluster)
    }

    /// Every enabled user who may enter the cluster, by name.
    #[must_use]
    pub fn entrants(&self, cluster: &str) -> Vec<String> {
        let enabled = self.users.iter().filter(|(_, fact)| fact.active).map(|(name, _)| name);
        enabled.filter(|name| !self.roles_of(&Who::local(name), cluster).is_none()).cloned().collect()
    }

    /// The user who signs in with this name, in any case.
    #[must_use]
    pub fn user_by_login(&self, login: &str) -> Option<&str> {
        let login = facts::fold_username(login);
        let found = self.users.iter().find(|(_, fact)| fact.login.as_deref() == Some(login.as_str()));
        found.map(|(name, _)| name.as_str())
    }

    /// Decides a request to the server's own API.
    #[must_use]
    pub fn authorize(&self, user: &UserInfo, wanted: &Attributes<'_>) -> Decision {
        if !self.is_active(user.name()) {
            return Decision::Deny(Denied::NoSuchUser);
        }
        if user.cluster_scope().is_some() {
            return Decision::Deny(Denied::ClusterScopedToken);
        }
        if self.is_admin(&Who::from(user)) {
            return Decision::Allow;
        }
        // What belongs to its owner stays so, whatever the rules of global roles say of the kind.
        match own_affairs(user, wanted) {
            Some(decision) if wanted.group == EXT => decision,
            _ if self.global_rule_covers(user, wanted) => Decision::Allow,
            Some(decision) => decision,
            None => self.in_cluster(user, wanted),
        }
    }

    /// Whether an object may appear in an answer to this user, or be changed by a request that was
    /// [`Decision::Filtered`].
    #[must_use]
    pub fn visible(&self, user: &UserInfo, object: &ObjectRef<'_>) -> bool {
        if !self.is_active(user.name()) || user.cluster_scope().is_some() {
            return false;
        }
        if self.is_admin(&Who::from(user)) {
            return true;
        }
        match (object.group, object.resource) {
            (EXT, "tokens" | "kubeconfigs") => object.owner == Some(user.name()),
            (MANAGEMENT, "users") => object.name == user.name(),
            (MANAGEMENT, "clusters") => self.may_enter(user, object.name),
            _ => {
                let get = Attributes {
                    verb: "get",
                    group: object.group,
                    resource: object.resource,
                    subresource: None,
                    namespace: object.namespace,
                    name: Some(object.name),
                };
                self.authorize(user, &get) == Decision::Allow
            }
        }
    }

    /// Whether `user` may give somebody `template` in `cluster`: administrators and owners of the cluster may, and
    /// others only what they hold there themselves.
    ///
    /// # Errors
    /// Why the template may not be given.
    pub fn may_grant(&self, user: &UserInfo, cluster: &str, template: &str) -> Result<(), Denied> {
        let known = self.templates.get(template).ok_or(Denied::NoSuchRole)?;
        if known.locked {
            return Err(Denied::RoleLocked);
        }
        if !known.for_clusters {
            return Err(Denied::NotAClusterRole);
        }
        let closure = self.closure(template).ok_or(Denied::NoSuchRole)?;
        let held = self.roles(user, cluster);
        let covered = held.admin || self.owns(&held, cluster) || closure.is_subset(&held.templates);
        (user.cluster_scope().is_none() && covered).then_some(()).ok_or(Denied::Escalation)
    }

    /// Whether `user` may give somebody a global role: administrators only.
    ///
    /// # Errors
    /// [`Denied::Escalation`].
    pub fn may_grant_global(&self, user: &UserInfo) -> Result<(), Denied> {
        let admin = self.is_active(user.name()) && self.is_admin(&Who::from(user));
        (admin && user.cluster_scope().is_none()).then_some(()).ok_or(Denied::Escalation)
    }

    pub(crate) fn is_active(&self, user: &str) -> bool {
        self.users.get(user).is_some_and(|fact| fact.active)
    }

    /// What everybody holds, in a form that two states can be compared in.
    pub(crate) fn grants(&self) -> Grants {
        let mut grants = Grants::default();
        grants.users.extend(self.users.iter().filter(|(_, fact)| fact.active).map(|(name, _)| name.clone()));
        let admins = self.global_bindings.values().filter(|binding| binding.role == builtin::ADMIN);
        grants.admins.extend(admins.map(|binding| binding.subject.clone()));
        for (cluster, bindings) in &self.bindings {
            for binding in bindings.values() {
                let closure = self.closure(&binding.template).unwrap_or_default();
                let held = grants.bound.entry((binding.subject.clone(), cluster.clone())).or_default();
                held.extend(closure);
            }
        }
        grants
    }

    fn roles_of(&self, who: &Who<'_>, cluster: &str) -> Roles {
        let bindings = self.bindings.get(cluster).into_iter().flat_map(BTreeMap::values);
        let bound = bindings.filter(|binding| who.is(&binding.subject));
        let templates = bound.filter_map(|binding| self.closure(&binding.template)).flatten().collect();
        Roles { admin: self.is_admin(who), templates }
    }

    fn is_admin(&self, who: &Who<'_>) -> bool {
        self.global_bindings.values().any(|binding| binding.role == builtin::ADMIN && who.is(&binding.subject))
    }

    fn owns(&self, held: &Roles, cluster: &str) -> bool {
        self.rules(held).any(|rule| rule.owns_cluster(cluster))
    }

    fn rules<'a>(&'a self, held: &'a Roles) -> impl Iterator<Item = &'a Rule> {
        held.templates.iter().filter_map(|name| self.templates.get(name)).flat_map(|template| &template.rules)
    }

    fn global_rule_covers(&self, user: &UserInfo, wanted: &Attributes<'_>) -> bool {
        let who = Who::from(user);
        let held = self.global_bindings.values().filter(|binding| who.is(&binding.subject));
        let mut rules = held.filter_map(|binding| self.global_roles.get(&binding.role)).flatten();
        rules.any(|rule| rule.covers(wanted))
    }

    /// What the user's roles in the one cluster that the request concerns allow.
    fn in_cluster(&self, user: &UserInfo, wanted: &Attributes<'_>) -> Decision {
        let deny = Decision::Deny(Denied::Forbidden);
        if wanted.group != MANAGEMENT {
            return deny;
        }
        let on_cluster = wanted.resource == "clusters" && wanted.namespace.is_none();
        let cluster = match (on_cluster, wanted.namespace, wanted.name) {
            (true, None, Some(cluster)) | (false, Some(cluster), _) => cluster,
            (true, _, None) | (false, None, None) if matches!(wanted.verb, "list" | "watch") => {
                return if wanted.resource == "clusters" || is_cluster_content(wanted.resource) {
                    Decision::Filtered
                } else {
                    deny
                };
            }
            _ => return deny,
        };
        let held = self.roles(user, cluster);
        let allowed = if on_cluster {
            let reads = matches!(wanted.verb, "get" | "list" | "watch");
            !held.is_none() && (reads || (wanted.subresource.is_none() && self.owns(&held, cluster)))
        } else {
            is_cluster_content(wanted.resource)
                && (wanted.subresource.is_none() || wanted.verb == "get")
                && self.rules(&held).any(|rule| rule.covers(wanted))
        };
        if allowed { Decision::Allow } else { deny }
    }

    /// The template and all it inherits, each once; `None` when it does not exist or the closure is absurd. A cycle is
    /// walked once.
    fn closure(&self, template: &str) -> Option<BTreeSet<String>> {
        self.templates.get(template)?;
        let mut found = BTreeSet::new();
        let mut open = vec![template];
        while let Some(name) = open.pop() {
            let Some(known) = self.templates.get(name) else {
                continue;
            };
            if !found.insert(name.to_owned()) {
                continue;
            }
            if found.len() > MAX_TEMPLATES {
                return None;
            }
            open.extend(known.inherits.iter().map(String::as_str));
        }
        Some(found)
    }
}

/// Somebody, as bindings name them.
struct Who<'a> {
    user: &'a str,
    groups: Vec<&'a str>,
}

impl<'a> Who<'a> {
    /// A user of the local provider: in no groups but those of everybody.
    fn local(user: &'a str) -> Self {
        Self { user, groups: vec![crate::user::GROUP_AUTHENTICATED, crate::user::GROUP_CATTLE_AUTHENTICATED] }
    }

    fn is(&self, subject: &Subject) -> bool {
        match subject {
            Subject::User(name) => name == self.user,
            Subject::Group(name) => self.groups.contains(&name.as_str()),
        }
    }
}

impl<'a> From<&'a UserInfo> for Who<'a> {
    fn from(user: &'a UserInfo) -> Self {
        Self { user: user.name(), groups: user.groups().iter().map(String::as_str).collect() }
    }
}

/// What everybody may do about themselves, whatever roles they have.
fn own_affairs(user: &UserInfo, wanted: &Attributes<'_>) -> Option<Decision> {
    match (wanted.group, wanted.resource, wanted.verb) {
        ("authentication.k8s.io", "selfsubjectreviews", "create")
        | ("authorization.k8s.io", "selfsubjectaccessreviews" | "selfsubjectrulesreviews", "create")
        | (EXT, "tokens" | "kubeconfigs", "create") => Some(Decision::Allow),
        (EXT, "tokens" | "kubeconfigs", _) => Some(Decision::Filtered),
        (MANAGEMENT, "users", "get") if wanted.name == Some(user.name()) => Some(Decision::Allow),
        (MANAGEMENT, "users", "list" | "watch") => Some(Decision::Filtered),
        _ => None,
    }
}

/// Kinds in a cluster's namespace that roles in the cluster give rights to.
fn is_cluster_content(resource: &str) -> bool {
    matches!(resource, "clusterroletemplatebindings" | "clusterregistrationtokens" | "nodes")
}

fn put<T>(map: &mut BTreeMap<String, T>, name: String, fact: Option<T>) {
    if let Some(fact) = fact {
        map.insert(name, fact);
    }
}
