//! Brings the roles and bindings of one cluster's members to what the server's objects say.

use std::collections::{BTreeMap, BTreeSet};

use cattle_api::management::{ClusterRoleTemplateBinding, GlobalRoleBinding, RoleTemplate};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt};

use crate::apply::{self, ApplyError};
use crate::bindings::{self, BindingStep};
use crate::directory::World;
use crate::mirror::Mirror;
use crate::ownership;
use crate::roles::{self, RoleStep};

/// What the server's objects say of one cluster: copied out of the [`World`], so that nothing is locked during I/O.
#[derive(Default)]
pub(crate) struct Membership {
    templates: BTreeMap<String, RoleTemplate>,
    members: Vec<ClusterRoleTemplateBinding>,
    admins: Vec<GlobalRoleBinding>,
}

impl Membership {
    /// Whoever may not sign in has no rights downstream either: those of a disabled user come back with the user.
    pub(crate) fn of(world: &World, cluster: &str) -> Self {
        let active = |user: Option<&str>| user.is_none_or(|user| world.is_active(user));
        Self {
            templates: world.templates().clone(),
            members: world.members(cluster).filter(|member| active(bindings::user_of(member))).cloned().collect(),
            admins: world.admins().filter(|admin| active(bindings::admin_user(admin))).cloned().collect(),
        }
    }

    /// The ClusterRoles of every template that a membership reaches and that is not external.
    fn roles(&self) -> BTreeMap<String, ClusterRole> {
        let reached =
            self.members.iter().flat_map(|member| roles::closure(&self.templates, &member.spec.role_template_name));
        let ours = reached.filter(|(_, template)| !template.spec.external);
        ours.map(|(name, template)| (name.to_owned(), roles::cluster_role(template))).collect()
    }

    fn bindings(&self, conflicts: &BTreeSet<String>) -> BTreeMap<String, ClusterRoleBinding> {
        bindings::desired(&self.templates, &self.members, &self.admins, conflicts)
    }

    /// Whether the watches show exactly what is desired.
    pub(crate) fn is_settled(&self, mirror: &Mirror) -> bool {
        let roles: Vec<ClusterRole> = mirror.roles.state().iter().map(|role| (**role).clone()).collect();
        let plan = roles::decide(&self.roles(), &roles);
        let have: Vec<ClusterRoleBinding> = mirror.bindings.state().iter().map(|binding| (**binding).clone()).collect();
        plan.steps.is_empty()
            && plan.conflicts.is_empty()
            && bindings::decide(&self.bindings(&plan.conflicts), &have).steps.is_empty()
    }

    /// Reads live, decides, and does it. Idempotent; cancelled in between, the next turn goes on.
    ///
    /// Answers the names that belong to somebody else. One step that fails does not keep the others from being done.
    pub(crate) async fn settle(&self, client: &Client) -> Result<BTreeSet<String>, ApplyError> {
        let (role_api, binding_api) = (Api::all(client.clone()), Api::all(client.clone()));
        let roles = self.roles();
        let plan = roles::decide(&roles, &observed(&role_api, roles.keys()).await?);
        let (deletions, others): (Vec<_>, Vec<_>) =
            plan.steps.into_iter().partition(|step| matches!(step, RoleStep::Delete(meta) if !replaced(meta, &roles)));
        let mut failure = None;
        for step in others {
            keep_first(&mut failure, act_role(&role_api, step).await);
        }
        let wanted = self.bindings(&plan.conflicts);
        let plan_bindings = bindings::decide(&wanted, &observed(&binding_api, wanted.keys()).await?);
        for step in plan_bindings.steps {
            keep_first(&mut failure, act_binding(&binding_api, step).await);
        }
        // A role goes after its bindings.
        for step in deletions {
            keep_first(&mut failure, act_role(&role_api, step).await);
        }
        match failure {
            Some(error) => Err(error),
            None => Ok(plan.conflicts.into_iter().chain(plan_bindings.conflicts).collect()),
        }
    }
}

fn replaced(meta: &kube::api::ObjectMeta, roles: &BTreeMap<String, ClusterRole>) -> bool {
    meta.name.as_ref().is_some_and(|name| roles.contains_key(name))
}

fn keep_first(failure: &mut Option<ApplyError>, result: Result<(), ApplyError>) {
    if let Err(error) = result {
        failure.get_or_insert(error);
    }
}

/// Everything of ours, and everything that has a desired name.
async fn observed<K: apply::Object>(api: &Api<K>, names: impl Iterator<Item = &String>) -> Result<Vec<K>, ApplyError> {
    let mut found = apply::list(api, &ListParams::default().labels(&ownership::selector())).await?;
    let listed: BTreeSet<String> = found.iter().map(ResourceExt::name_any).collect();
    for name in names.filter(|name| !listed.contains(*name)) {
        found.extend(apply::get(api, name).await?);
    }
    Ok(found)
}

async fn act_role(api: &Api<ClusterRole>, step: RoleStep) -> Result<(), ApplyError> {
    match step {
        RoleStep::Create(role) => apply::create(api, &role).await,
        RoleStep::Update(role) => apply::update(api, &role).await,
        RoleStep::Delete(meta) => apply::delete(api, &meta).await,
    }
}

async fn act_binding(api: &Api<ClusterRoleBinding>, step: BindingStep) -> Result<(), ApplyError> {
    match step {
        BindingStep::Create(binding) => apply::create(api, &binding).await,
        BindingStep::Update(binding) => apply::update(api, &binding).await,
        BindingStep::Delete(meta) => apply::delete(api, &meta).await,
    }
}

#[cfg(test)]
mod tests {
    use cattle_api::management::{
        ClusterRoleTemplateBindingFields, GlobalRoleBindingFields, RoleTemplateFields, User, UserFields,
    };
    use cattle_api::resource::{self, Kind};
    use cattle_auth::Kind as Fact;
    use cattle_store::EventKind;

    use super::*;

    fn add<K: Kind>(world: &mut World, kind: Fact, object: &K) {
        world.apply(kind, EventKind::Added, &resource::encode(object).unwrap());
    }

    fn user(name: &str, enabled: bool) -> User {
        User::new(name, UserFields { username: name[2..].into(), enabled: Some(enabled), ..Default::default() })
    }

    /// Alice by name, bob by principal, a group, and root as a global administrator.
    fn world() -> World {
        let mut world = World::default();
        add(&mut world, Fact::RoleTemplate, &RoleTemplate::new("cluster-owner", RoleTemplateFields::default()));
        let subjects = [("u-alice", "", ""), ("", "local://u-bob", ""), ("", "", "github_org://1")];
        for (at, (user, principal, group)) in subjects.into_iter().enumerate() {
            let fields = ClusterRoleTemplateBindingFields {
                cluster_name: "c-abcde".into(),
                role_template_name: "cluster-owner".into(),
                user_name: user.into(),
                user_principal_name: principal.into(),
                group_principal_name: group.into(),
                ..Default::default()
            };
            let mut member = ClusterRoleTemplateBinding::new(&format!("m{at}"), fields);
            member.metadata.namespace = Some("c-abcde".into());
            add(&mut world, Fact::ClusterRoleTemplateBinding, &member);
        }
        let fields = GlobalRoleBindingFields {
            global_role_name: "admin".into(),
            user_name: "u-root".into(),
            ..Default::default()
        };
        add(&mut world, Fact::GlobalRoleBinding, &GlobalRoleBinding::new("g1", fields));
        for name in ["u-alice", "u-bob", "u-root"] {
            add(&mut world, Fact::User, &user(name, true));
        }
        world
    }

    fn subjects(world: &World) -> BTreeSet<String> {
        let bindings = Membership::of(world, "c-abcde").bindings(&BTreeSet::new());
        let subjects = bindings.into_values().flat_map(|binding| binding.subjects.unwrap_or_default());
        subjects.map(|subject| subject.name).collect()
    }

    #[test]
    fn who_may_not_sign_in_has_no_rights_downstream_until_they_may() {
        let everybody = ["github_org://1", "u-alice", "u-bob", "u-root"].map(str::to_owned);
        for name in ["u-alice", "u-bob", "u-root"] {
            let mut world = world();
            assert_eq!(subjects(&world), BTreeSet::from(everybody.clone()));
            let others: BTreeSet<String> = everybody.iter().filter(|other| *other != name).cloned().collect();
            let change = |world: &mut World, event, enabled| {
                world.apply(Fact::User, event, &resource::encode(&user(name, enabled)).unwrap());
            };
            change(&mut world, EventKind::Modified, false);
            assert_eq!(subjects(&world), others, "{name} is disabled");
            change(&mut world, EventKind::Modified, true);
            assert_eq!(subjects(&world), BTreeSet::from(everybody.clone()), "{name} is back");
            change(&mut world, EventKind::Deleted, true);
            assert_eq!(subjects(&world), others, "{name} was deleted");
        }
    }
}
