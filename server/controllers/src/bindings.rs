//! Members' bindings and those of global administrators as ClusterRoleBindings downstream.

use std::collections::{BTreeMap, BTreeSet};

use cattle_api::builtin::ADMIN;
use cattle_api::management::{ClusterRoleTemplateBinding, GlobalRoleBinding, RoleTemplate};
use cattle_auth::{GROUP_AUTHENTICATED, GROUP_CATTLE_AUTHENTICATED};
use cattle_manifest::names;
use k8s_openapi::api::rbac::v1::{ClusterRoleBinding, RoleRef, Subject};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;

use crate::ownership::{self, hash10};
use crate::roles::closure;

/// Label on the bindings of global administrators; the value is `true`.
pub const GLOBAL_ADMIN_LABEL: &str = "authz.cluster.cattle.io/globaladmin";
/// Kubernetes' own role of administrators.
const CLUSTER_ADMIN: &str = "cluster-admin";
const RBAC: &str = "rbac.authorization.k8s.io";

/// The bindings that a cluster should have, by name.
///
/// `conflicts` are templates whose ClusterRole is not ours (see [`crate::roles`]); they are not bound.
#[must_use]
pub fn desired<'a>(
    templates: &BTreeMap<String, RoleTemplate>,
    members: impl IntoIterator<Item = &'a ClusterRoleTemplateBinding>,
    admins: impl IntoIterator<Item = &'a GlobalRoleBinding>,
    conflicts: &BTreeSet<String>,
) -> BTreeMap<String, ClusterRoleBinding> {
    let mut bindings = BTreeMap::new();
    for member in members {
        let Some(subject) = member_subject(member) else { continue };
        for name in closure(templates, &member.spec.role_template_name).into_keys() {
            if !conflicts.contains(name) {
                let binding = member_binding(member, name, subject.clone());
                // Two memberships may give the same right; the one that sorts first owns the binding.
                bindings.entry(binding.name_any()).or_insert(binding);
            }
        }
    }
    let global = admins.into_iter().filter(|binding| binding.spec.global_role_name == ADMIN);
    for binding in global.filter_map(admin_binding) {
        bindings.insert(binding.name_any(), binding);
    }
    bindings
}

fn member_binding(member: &ClusterRoleTemplateBinding, role: &str, subject: Subject) -> ClusterRoleBinding {
    let name = format!("crb-{}", hash10(&["", "ClusterRole", role, &subject.kind, &subject.name]));
    binding(name, (names::BINDING_OWNER_LABEL, owner_value(member)), role, subject)
}

/// `globaladmin-<key>`: the user's name, or a hash of the group's.
fn admin_binding(global: &GlobalRoleBinding) -> Option<ClusterRoleBinding> {
    let (user, group) = (&global.spec.user_name, &global.spec.group_principal_name);
    let (key, subject) = match (user.is_empty(), group.is_empty()) {
        (false, true) => (user.clone(), user_subject(user)?),
        (true, false) => (format!("u-{}", hash10(&[group])), group_subject(group)?),
        (true, true) | (false, false) => return None,
    };
    Some(binding(format!("globaladmin-{key}"), (GLOBAL_ADMIN_LABEL, "true".to_owned()), CLUSTER_ADMIN, subject))
}

fn binding(name: String, (key, value): (&str, String), role: &str, subject: Subject) -> ClusterRoleBinding {
    let mut labels = cattle_manifest::labels();
    labels.insert(key.to_owned(), value);
    ClusterRoleBinding {
        metadata: ObjectMeta { name: Some(name), labels: Some(labels), ..ObjectMeta::default() },
        role_ref: RoleRef { api_group: Some(RBAC.into()), kind: "ClusterRole".into(), name: role.into() },
        subjects: Some(vec![subject]),
    }
}

/// `<namespace>_<name>`, cut to the 63 characters of a label's value with a hash at its end.
fn owner_value(member: &ClusterRoleTemplateBinding) -> String {
    let full = format!("{}_{}", member.namespace().unwrap_or_default(), member.name_any());
    if full.len() <= 63 { full } else { format!("{}-{}", &full[..52], hash10(&[&full])) }
}

fn member_subject(member: &ClusterRoleTemplateBinding) -> Option<Subject> {
    let spec = &member.spec;
    if let Some(group) = spec.group() {
        return group_subject(group);
    }
    user_subject(user_of(member)?)
}

/// The user whom the membership is for; `None` for a group's.
pub(crate) fn user_of(member: &ClusterRoleTemplateBinding) -> Option<&str> {
    let spec = &member.spec;
    match (spec.group(), spec.user_name.as_str()) {
        (Some(_), _) => None,
        (None, "") => spec.user_principal_name.strip_prefix("local://"),
        (None, user) => Some(user),
    }
}

/// The user whom a global role is given to; `None` for a group's.
pub(crate) fn admin_user(global: &GlobalRoleBinding) -> Option<&str> {
    Some(global.spec.user_name.as_str()).filter(|user| !user.is_empty())
}

/// A user of ours; the names of Kubernetes' own users are not.
fn user_subject(name: &str) -> Option<Subject> {
    cattle_api::names::is_label(name).then(|| subject("User", name))
}

/// A group. Of Kubernetes' own groups only the two that every signed-in user is in: a binding must not speak for
/// `system:masters` or for service accounts.
fn group_subject(name: &str) -> Option<Subject> {
    let known = [GROUP_AUTHENTICATED, GROUP_CATTLE_AUTHENTICATED].contains(&name);
    let plain = !name.is_empty() && !name.starts_with("system:") && !name.chars().any(char::is_control);
    (known || plain).then(|| subject("Group", name))
}

fn subject(kind: &str, name: &str) -> Subject {
    Subject { api_group: Some(RBAC.into()), kind: kind.into(), name: name.into(), ..Subject::default() }
}

/// Whether a binding was made from a membership or for a global administrator.
pub(crate) fn is_of_member(binding: &ClusterRoleBinding) -> bool {
    let meta = &binding.metadata;
    let marked =
        ownership::label(meta, names::BINDING_OWNER_LABEL).or_else(|| ownership::label(meta, GLOBAL_ADMIN_LABEL));
    ownership::is_ours(meta) && marked.is_some()
}

/// What to do about the bindings.
#[derive(Debug, Clone, PartialEq)]
pub enum BindingStep {
    /// Make it.
    Create(ClusterRoleBinding),
    /// Bring the observed one (by UID) to this state.
    Update(ClusterRoleBinding),
    /// Remove exactly this one. Comes before the [`Create`](Self::Create) that replaces it: a role reference is immutable.
    Delete(ObjectMeta),
}

/// What is to be done, and the names that belong to somebody else.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BindingPlan {
    /// In the order to do it: rights are taken away before others are given.
    pub steps: Vec<BindingStep>,
    /// Bindings with a name of ours that are not ours.
    pub conflicts: BTreeSet<String>,
}

/// Decides what to do, given every ClusterRoleBinding that is ours and every one with a desired name.
#[must_use]
pub fn decide(desired: &BTreeMap<String, ClusterRoleBinding>, observed: &[ClusterRoleBinding]) -> BindingPlan {
    let by_name: BTreeMap<&str, &ClusterRoleBinding> =
        observed.iter().filter_map(|binding| Some((binding.metadata.name.as_deref()?, binding))).collect();
    let surplus = observed.iter().filter(|have| is_of_member(have) && !desired.contains_key(&have.name_any()));
    let mut plan = BindingPlan::default();
    plan.steps.extend(surplus.map(|have| BindingStep::Delete(have.metadata.clone())));
    for (name, want) in desired {
        match by_name.get(name.as_str()) {
            None => plan.steps.push(BindingStep::Create(want.clone())),
            Some(have) if !ownership::is_ours(&have.metadata) => drop(plan.conflicts.insert(name.clone())),
            Some(have) if have.role_ref != want.role_ref => {
                plan.steps.push(BindingStep::Delete(have.metadata.clone()));
                plan.steps.push(BindingStep::Create(want.clone()));
            }
            Some(have) if same(want, have) => {}
            Some(have) => {
                let mut want = want.clone();
                want.metadata.uid.clone_from(&have.metadata.uid);
                plan.steps.push(BindingStep::Update(want));
            }
        }
    }
    plan
}

/// Whether the observed binding gives exactly the desired right.
pub(crate) fn same(want: &ClusterRoleBinding, have: &ClusterRoleBinding) -> bool {
    want.role_ref == have.role_ref
        && want.subjects == have.subjects
        && ownership::meta_holds(&want.metadata, &have.metadata)
}

#[cfg(test)]
mod tests;
