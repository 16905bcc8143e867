//! The next step for one impersonator. No I/O, no clock.

use k8s_openapi::api::core::v1::{Namespace, Secret, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, RoleBinding};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::objects::{ACCOUNT_ANNOTATION, ACCOUNT_UID_ANNOTATION, Impersonator, object_name};
use crate::{bindings, ownership};

/// What was found downstream for one user.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    /// The namespace of all impersonators.
    pub namespace: Option<Namespace>,
    /// The server's own rights in that namespace.
    pub own_rights: Option<RoleBinding>,
    /// The user's role.
    pub role: Option<ClusterRole>,
    /// The user's account.
    pub account: Option<ServiceAccount>,
    /// The account's role.
    pub binding: Option<ClusterRoleBinding>,
    /// The account's tokens.
    pub secrets: Vec<Secret>,
}

impl Observed {
    /// Whether there is a namespace to work in.
    pub(crate) fn is_namespace_live(&self) -> bool {
        self.namespace.as_ref().is_some_and(|namespace| namespace.metadata.deletion_timestamp.is_none())
    }
}

/// One change downstream.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Make the namespace.
    CreateNamespace,
    /// Give the server's account its rights in the namespace.
    CreateOwnRights,
    /// Make the role.
    CreateRole(ClusterRole),
    /// Bring the observed role to this state.
    UpdateRole(ClusterRole),
    /// Make the account.
    CreateAccount(ServiceAccount),
    /// Bring the observed account to this state.
    UpdateAccount(ServiceAccount),
    /// Make the binding.
    CreateBinding(ClusterRoleBinding),
    /// Bring the observed binding to this state.
    UpdateBinding(ClusterRoleBinding),
    /// Make a Secret; its name is generated.
    CreateSecret(Secret),
    /// Remove exactly this binding.
    DeleteBinding(ObjectMeta),
    /// Remove exactly this role.
    DeleteRole(ObjectMeta),
    /// Remove exactly this Secret.
    DeleteSecret(ObjectMeta),
    /// Remove exactly this account.
    DeleteAccount(ObjectMeta),
}

/// What is next.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "there is one at a time")]
pub enum Next {
    /// Do this, observe, decide again.
    Do(Step),
    /// Something is going on downstream; look again when it changes. The text says what is missing and why.
    Wait(&'static str),
    /// Everything is as it should be; this is the account's token. Empty when the impersonator should not exist.
    Done(Option<Vec<u8>>),
    /// The name of an object of ours is taken by somebody else's object.
    Conflict(Conflict),
}

/// An object with a name of ours that is not ours. It is not touched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} {name} exists in the cluster and was not made by this server; remove or rename it")]
pub struct Conflict {
    /// Its kind.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
}

/// Decides what is next. `desired` is `None` when the user must not have an impersonator.
#[must_use]
pub fn decide(desired: Option<&Impersonator>, observed: &Observed) -> Next {
    match desired {
        Some(desired) => build(desired, observed),
        None => remove(observed),
    }
}

fn build(desired: &Impersonator, observed: &Observed) -> Next {
    match &observed.namespace {
        None => return Next::Do(Step::CreateNamespace),
        Some(namespace) if namespace.metadata.deletion_timestamp.is_some() => {
            return Next::Wait("Namespace cattle-impersonation-system is being deleted");
        }
        Some(_) if observed.own_rights.is_none() => return Next::Do(Step::CreateOwnRights),
        Some(_) => {}
    }
    let name = object_name(desired.identity().user());
    let Some(role) = &observed.role else {
        return Next::Do(Step::CreateRole(desired.role()));
    };
    if let Some(next) = settle_role(desired, role, &name) {
        return next;
    }
    let Some(account) = &observed.account else {
        return Next::Do(Step::CreateAccount(desired.account(ownership::owner(role))));
    };
    if let Some(next) = settle_account(desired, account, role, &name) {
        return next;
    }
    let Some(binding) = &observed.binding else {
        return Next::Do(Step::CreateBinding(desired.binding(ownership::owner(role))));
    };
    if let Some(next) = settle_binding(desired, binding, role, &name) {
        return next;
    }
    settle_secrets(desired, account, &observed.secrets)
}

fn settle_role(desired: &Impersonator, role: &ClusterRole, name: &str) -> Option<Next> {
    if let Some(next) = taken("ClusterRole", name, &role.metadata) {
        return Some(next);
    }
    if role.aggregation_rule.is_some() {
        // Kubernetes would write its rules; ours could never stay.
        return Some(Next::Do(Step::DeleteRole(role.metadata.clone())));
    }
    let mut want = desired.role();
    if role.rules == want.rules && ownership::meta_holds(&want.metadata, &role.metadata) {
        return None;
    }
    want.metadata.uid.clone_from(&role.metadata.uid);
    Some(Next::Do(Step::UpdateRole(want)))
}

fn settle_account(desired: &Impersonator, account: &ServiceAccount, role: &ClusterRole, name: &str) -> Option<Next> {
    if let Some(next) = taken("ServiceAccount", name, &account.metadata) {
        return Some(next);
    }
    let mut want = desired.account(ownership::owner(role));
    let automount = account.automount_service_account_token == want.automount_service_account_token;
    if automount && ownership::meta_holds(&want.metadata, &account.metadata) {
        return None;
    }
    want.metadata.uid.clone_from(&account.metadata.uid);
    Some(Next::Do(Step::UpdateAccount(want)))
}

fn settle_binding(
    desired: &Impersonator,
    binding: &ClusterRoleBinding,
    role: &ClusterRole,
    name: &str,
) -> Option<Next> {
    if let Some(next) = taken("ClusterRoleBinding", name, &binding.metadata) {
        return Some(next);
    }
    let mut want = desired.binding(ownership::owner(role));
    if binding.role_ref != want.role_ref {
        return Some(Next::Do(Step::DeleteBinding(binding.metadata.clone())));
    }
    if bindings::same(&want, binding) {
        return None;
    }
    want.metadata.uid.clone_from(&binding.metadata.uid);
    Some(Next::Do(Step::UpdateBinding(want)))
}

/// One Secret is kept: the oldest that is good. A lost answer to a create may leave more than one.
fn settle_secrets(desired: &Impersonator, account: &ServiceAccount, secrets: &[Secret]) -> Next {
    let ours = || secrets.iter().filter(|secret| ownership::is_ours(&secret.metadata));
    let good = |secret: &&Secret| is_for(secret, account) && secret.metadata.deletion_timestamp.is_none();
    let key = |secret: &&Secret| {
        (token(secret).is_none(), secret.metadata.creation_timestamp.clone(), secret.metadata.name.clone())
    };
    let Some(kept) = ours().filter(good).min_by_key(key) else {
        return Next::Do(Step::CreateSecret(desired.secret(ownership::owner(account))));
    };
    let surplus = ours()
        .find(|secret| secret.metadata.name != kept.metadata.name && secret.metadata.deletion_timestamp.is_none());
    match (token(kept), surplus) {
        (None, _) => {
            Next::Wait("the impersonator's Secret has no token yet: the cluster's controller manager writes it")
        }
        (Some(_), Some(surplus)) => Next::Do(Step::DeleteSecret(surplus.metadata.clone())),
        (Some(token), None) => Next::Done(Some(token.to_vec())),
    }
}

/// Rights first, then everything else.
fn remove(observed: &Observed) -> Next {
    let live = |meta: &ObjectMeta| ownership::is_ours(meta) && meta.deletion_timestamp.is_none();
    let binding = observed.binding.as_ref().map(|object| &object.metadata).filter(|meta| live(meta));
    let role = observed.role.as_ref().map(|object| &object.metadata).filter(|meta| live(meta));
    let secret = observed.secrets.iter().map(|object| &object.metadata).find(|meta| live(meta));
    let account = observed.account.as_ref().map(|object| &object.metadata).filter(|meta| live(meta));
    if let Some(meta) = binding {
        return Next::Do(Step::DeleteBinding(meta.clone()));
    }
    if let Some(meta) = role {
        return Next::Do(Step::DeleteRole(meta.clone()));
    }
    if observed.is_namespace_live() && observed.own_rights.is_none() {
        return Next::Do(Step::CreateOwnRights);
    }
    match (secret, account) {
        (Some(meta), _) => Next::Do(Step::DeleteSecret(meta.clone())),
        (None, Some(meta)) => Next::Do(Step::DeleteAccount(meta.clone())),
        (None, None) => Next::Done(None),
    }
}

fn taken(kind: &'static str, name: &str, meta: &ObjectMeta) -> Option<Next> {
    if meta.deletion_timestamp.is_some() {
        return Some(Next::Wait("an object of the impersonator is being deleted"));
    }
    (!ownership::is_ours(meta)).then(|| Next::Conflict(Conflict { kind, name: name.to_owned() }))
}

/// Whether Kubernetes made, or will make, the Secret's token for exactly this account.
fn is_for(secret: &Secret, account: &ServiceAccount) -> bool {
    let meta = &secret.metadata;
    let uid = ownership::annotation(meta, ACCOUNT_UID_ANNOTATION);
    ownership::annotation(meta, ACCOUNT_ANNOTATION) == account.metadata.name.as_deref()
        && uid.is_none_or(|uid| Some(uid) == account.metadata.uid.as_deref())
}

fn token(secret: &Secret) -> Option<&[u8]> {
    secret.data.as_ref()?.get("token").map(|token| token.0.as_slice()).filter(|token| !token.is_empty())
}

#[cfg(test)]
mod tests;
