//! Changing a password: one's own, or somebody's by an administrator.

use cattle_api::management::User;
use cattle_api::{Secret, resource, sealed};
use cattle_store::{Key, Page, Store, StoreError, Transaction, Write};

use super::Login;
use crate::authenticate::{AuthenticateError, Identity};
use crate::password::{PasswordRejected, PasswordRules, Verdict, is_same};
use crate::throttle::{Source, Throttled};

/// Why a password was not changed.
#[derive(Debug, thiserror::Error)]
pub enum ChangePasswordError {
    /// The request has no good credential.
    #[error(transparent)]
    Authenticate(#[from] AuthenticateError),
    /// The current password is wrong.
    #[error("the current password is wrong")]
    Wrong,
    /// The new one may not be set.
    #[error(transparent)]
    Rejected(#[from] PasswordRejected),
    /// Only administrators set the passwords of others.
    #[error("only an administrator may set somebody's password")]
    Forbidden,
    /// There is no such user.
    #[error("no such user")]
    NoSuchUser,
    /// Too many attempts.
    #[error(transparent)]
    Throttled(#[from] Throttled),
    /// Too many passwords are being checked.
    #[error("too many sign-ins at once: try again")]
    Busy,
    /// The store failed, or the user was changed at the same time.
    #[error("the password cannot be changed now")]
    Unavailable(#[source] StoreError),
}

/// Whose other tokens end with a change of password.
enum Ending<'a> {
    /// All sign-ins but the one that changes it; API tokens and kubeconfigs stay.
    OtherSessions { but: &'a str },
    /// All tokens: somebody else decided that the old password is not to be trusted.
    All,
}

impl Login {
    /// Changes the caller's own password; the other sessions of this user end. This is the one thing that somebody may do
    /// whose password must be changed. Not cancel safe: the change may or may not have happened.
    ///
    /// # Errors
    /// Why not.
    pub async fn change_password(
        &self,
        headers: &http::HeaderMap,
        current: &Secret,
        new: Secret,
        source: Source,
    ) -> Result<(), ChangePasswordError> {
        let Identity { user: caller, .. } = self.authenticator.identify(headers).await?;
        if caller.cluster_scope().is_some() {
            return Err(ChangePasswordError::Forbidden);
        }
        self.throttle.attempt(source, caller.username())?;
        let user = self.user(caller.name()).await?;
        let key = Key::cluster(&resource::USER, caller.name());
        let hash = self.store.unseal(&key, sealed::PASSWORD_HASH).await.map_err(ChangePasswordError::Unavailable)?;
        match self.passwords.verify(current, hash.as_ref()).await {
            Ok(Verdict::Right { .. }) => {}
            Ok(Verdict::Wrong) => return Err(ChangePasswordError::Wrong),
            Err(_) => return Err(ChangePasswordError::Busy),
        }
        if is_same(current, &new) {
            return Err(PasswordRejected::Unchanged.into());
        }
        let ending = Ending::OtherSessions { but: caller.token().as_str() };
        self.set(user, new, false, ending).await
    }

    /// Sets somebody's password, as an administrator. All tokens of that user end. Not cancel safe.
    ///
    /// # Errors
    /// Why not.
    pub async fn set_password(
        &self,
        headers: &http::HeaderMap,
        name: &str,
        new: Secret,
        must_change: bool,
    ) -> Result<(), ChangePasswordError> {
        let caller = self.authenticator.authenticate(headers).await?;
        if self.access.may_grant_global(&caller).is_err() {
            return Err(ChangePasswordError::Forbidden);
        }
        let user = self.user(name).await?;
        self.set(user, new, must_change, Ending::All).await
    }

    async fn user(&self, name: &str) -> Result<User, ChangePasswordError> {
        let object = self.store.get(&Key::cluster(&resource::USER, name)).await;
        let object = object.map_err(ChangePasswordError::Unavailable)?.ok_or(ChangePasswordError::NoSuchUser)?;
        resource::decode(&object).map_err(|_| ChangePasswordError::NoSuchUser)
    }

    async fn set(
        &self,
        mut user: User,
        new: Secret,
        must_change: bool,
        ending: Ending<'_>,
    ) -> Result<(), ChangePasswordError> {
        let rules = PasswordRules::read(&*self.store).await.map_err(ChangePasswordError::Unavailable)?;
        let new = rules.accept(&new, &user.spec.username, &user.spec.display_name)?;
        let hash = self.passwords.hash(&new).await.map_err(|_| ChangePasswordError::Busy)?;
        let name = user.metadata.name.clone().unwrap_or_default();
        user.spec.must_change_password = must_change;
        let invalid = |error| ChangePasswordError::Unavailable(StoreError::Io(Box::new(error)));
        let object = resource::encode(&user).map_err(invalid)?;
        let mut writes = vec![Write::Update { object, sealed: vec![(sealed::PASSWORD_HASH.to_owned(), hash)] }];
        for token in tokens_to_end(&*self.store, &name, &ending).await.map_err(ChangePasswordError::Unavailable)? {
            writes.push(Write::Delete { key: token, uid: None, revision: None });
        }
        self.store.commit(Transaction::new(writes)).await.map_err(ChangePasswordError::Unavailable)?;
        tracing::debug!(user = name, "the password was changed");
        Ok(())
    }
}

async fn tokens_to_end(store: &dyn Store, user: &str, ending: &Ending<'_>) -> Result<Vec<Key>, StoreError> {
    let listing = store.list(&resource::TOKEN, None, Page::ALL).await?;
    let text = |data: &serde_json::Value, field: &str| data["spec"][field].as_str().unwrap_or_default().to_owned();
    let ends = |object: &&kube::core::DynamicObject| {
        let session = text(&object.data, "kind") == cattle_api::ext::token::KIND_SESSION;
        text(&object.data, "userID") == user
            && match ending {
                Ending::OtherSessions { but } => session && object.metadata.name.as_deref() != Some(but),
                Ending::All => true,
            }
    };
    let names = listing.items.iter().filter(ends).filter_map(|object| object.metadata.name.clone());
    Ok(names.map(|name| Key::cluster(&resource::TOKEN, name)).collect())
}
