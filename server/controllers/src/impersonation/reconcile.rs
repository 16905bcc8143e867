//! Looks at one user's impersonator downstream and does the next steps.

use cattle_manifest::names;
use k8s_openapi::api::core::v1::{Namespace, Secret, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, RoleBinding};
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt};

use super::decide::{Conflict, Next, Observed, Step, decide};
use super::objects::{Impersonator, object_name, secret_prefix, user_of};
use crate::apply::{self, ApplyError};
use crate::mirror::Mirror;
use crate::ownership;

/// More steps than the longest repair has: a decision that never ends is an error, not a loop.
const MAX_STEPS: usize = 32;

/// Why an impersonator is not as it should be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReconcileError {
    /// The API server did not do it.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// A name is taken.
    #[error(transparent)]
    Conflict(#[from] Conflict),
    /// The steps did not come to an end.
    #[error("somebody else keeps changing the impersonator's objects")]
    Fight,
}

/// How a turn ended without an error.
pub(crate) enum Settled {
    /// In place, with this token; `None` when the user has no impersonator.
    Done(Option<Vec<u8>>),
    /// Something goes on downstream.
    Waiting(&'static str),
}

/// The API server, for one user's objects.
pub(crate) struct Downstream {
    roles: Api<ClusterRole>,
    bindings: Api<ClusterRoleBinding>,
    accounts: Api<ServiceAccount>,
    secrets: Api<Secret>,
    namespaces: Api<Namespace>,
    rights: Api<RoleBinding>,
}

impl Downstream {
    pub(crate) fn new(client: &Client) -> Self {
        Self {
            roles: Api::all(client.clone()),
            bindings: Api::all(client.clone()),
            accounts: Api::namespaced(client.clone(), names::IMPERSONATION_NAMESPACE),
            secrets: Api::namespaced(client.clone(), names::IMPERSONATION_NAMESPACE),
            namespaces: Api::all(client.clone()),
            rights: Api::namespaced(client.clone(), names::IMPERSONATION_NAMESPACE),
        }
    }

    /// Brings the user's objects to what is desired. `writing` is called before each write.
    ///
    /// Reads live, so that what it has just written is never done twice. Cancelled in between, the next turn goes on.
    pub(crate) async fn settle(
        &self,
        user: &str,
        desired: Option<&Impersonator>,
        writing: impl Fn() + Send + Sync,
    ) -> Result<Settled, ReconcileError> {
        for _ in 0..MAX_STEPS {
            match decide(desired, &self.observe(user).await?) {
                Next::Do(step) => {
                    writing();
                    self.act(step).await?;
                }
                Next::Wait(why) => return Ok(Settled::Waiting(why)),
                Next::Done(token) => return Ok(Settled::Done(token)),
                Next::Conflict(conflict) => return Err(conflict.into()),
            }
        }
        Err(ReconcileError::Fight)
    }

    /// Removes the Secret with this token, so that the next [`settle`](Self::settle) makes another one.
    pub(crate) async fn discard(&self, user: &str, token: &[u8]) -> Result<(), ReconcileError> {
        for secret in self.observe(user).await?.secrets {
            let holds = secret.data.as_ref().and_then(|data| data.get("token")).is_some_and(|held| held.0 == token);
            if holds && ownership::is_ours(&secret.metadata) {
                apply::delete(&self.secrets, &secret.metadata).await?;
            }
        }
        Ok(())
    }

    async fn observe(&self, user: &str) -> Result<Observed, ApplyError> {
        let name = object_name(user);
        let (namespace, own_rights, role, binding) = futures_util::try_join!(
            apply::get(&self.namespaces, names::IMPERSONATION_NAMESPACE),
            apply::get(&self.rights, names::IMPERSONATION_ROLE),
            apply::get(&self.roles, &name),
            apply::get(&self.bindings, &name),
        )?;
        let mut observed = Observed { namespace, own_rights, role, binding, ..Observed::default() };
        // Without rights in the namespace nothing in it can be read; the decision gets them first.
        if observed.is_namespace_live() && observed.own_rights.is_some() {
            let selector = ListParams::default().labels(&ownership::selector());
            let (account, secrets) =
                futures_util::try_join!(apply::get(&self.accounts, &name), apply::list(&self.secrets, &selector),)?;
            let prefix = secret_prefix(user);
            observed.account = account;
            observed.secrets = secrets.into_iter().filter(|secret| secret.name_any().starts_with(&prefix)).collect();
        }
        Ok(observed)
    }

    async fn act(&self, step: Step) -> Result<(), ApplyError> {
        match step {
            Step::CreateNamespace => apply::create(&self.namespaces, &cattle_manifest::impersonation_namespace()).await,
            Step::CreateOwnRights => {
                apply::create(&self.rights, &cattle_manifest::access::impersonation_binding()).await
            }
            Step::CreateRole(object) => apply::create(&self.roles, &object).await,
            Step::UpdateRole(object) => apply::update(&self.roles, &object).await,
            Step::CreateAccount(object) => apply::create(&self.accounts, &object).await,
            Step::UpdateAccount(object) => apply::update(&self.accounts, &object).await,
            Step::CreateBinding(object) => apply::create(&self.bindings, &object).await,
            Step::UpdateBinding(object) => apply::update(&self.bindings, &object).await,
            Step::CreateSecret(object) => apply::create(&self.secrets, &object).await,
            Step::DeleteBinding(meta) => apply::delete(&self.bindings, &meta).await,
            Step::DeleteRole(meta) => apply::delete(&self.roles, &meta).await,
            Step::DeleteSecret(meta) => apply::delete(&self.secrets, &meta).await,
            Step::DeleteAccount(meta) => apply::delete(&self.accounts, &meta).await,
        }
    }
}

/// What the watches say of a user's objects. Behind the truth by a moment: good enough to see that nothing is to be done.
pub(crate) fn observed_in(mirror: &Mirror, user: &str) -> Observed {
    let name = object_name(user);
    let prefix = secret_prefix(user);
    let secrets = mirror.secrets.state_filter(|secret| secret.name_any().starts_with(&prefix));
    Observed {
        namespace: mirror.namespaces.find(|_| true).map(|found| (*found).clone()),
        own_rights: mirror.rights.find(|_| true).map(|found| (*found).clone()),
        role: mirror.roles.find(|role| role.name_any() == name).map(|found| (*found).clone()),
        account: mirror.accounts.find(|account| account.name_any() == name).map(|found| (*found).clone()),
        binding: mirror.bindings.find(|binding| binding.name_any() == name).map(|found| (*found).clone()),
        secrets: secrets.iter().map(|found| (**found).clone()).collect(),
    }
}

/// Every user of whom the watches see something.
pub(crate) fn users_in(mirror: &Mirror) -> Vec<String> {
    let impersonator = |meta: &kube::api::ObjectMeta| {
        let marked = ownership::label(meta, names::IMPERSONATOR_LABEL).is_some();
        marked.then(|| meta.name.as_deref().and_then(user_of).map(str::to_owned)).flatten()
    };
    let roles = mirror.roles.state();
    let bindings = mirror.bindings.state();
    let accounts = mirror.accounts.state();
    let metas = roles.iter().map(|object| &object.metadata);
    let metas = metas.chain(bindings.iter().map(|object| &object.metadata));
    metas.chain(accounts.iter().map(|object| &object.metadata)).filter_map(impersonator).collect()
}

/// The user of a Secret, by the account that its token is for.
pub(crate) fn user_of_secret(secret: &Secret) -> Option<&str> {
    user_of(ownership::annotation(&secret.metadata, super::objects::ACCOUNT_ANNOTATION)?)
}
