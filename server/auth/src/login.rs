//! Signing in, signing out, and changing passwords.
//!
//! [`Login`] is the operations; [`wire`] is what they look like in JSON, as Rancher's documentation has it; the routes are
//! [`routes`](crate::routes::routes).
//!
//! A sign-in with a wrong name costs and answers what one with a wrong password does. Every attempt counts against the
//! [limits](crate::throttle) before anything is computed.

mod password;
#[cfg(test)]
mod tests;
pub mod wire;

use std::sync::Arc;

use cattle_api::management::User;
use cattle_api::{Secret, resource, sealed};
use cattle_store::{Key, Store, StoreError, Write};

use crate::access::Access;
use crate::authenticate::{AuthenticateError, Authenticator};
use crate::issue::{IssuedToken, TokenKind, TokenRequest, issue};
use crate::password::{Passwords, Verdict};
use crate::throttle::{Source, Throttle, Throttled};
use crate::user::UserInfo;

pub use self::password::ChangePasswordError;

/// Signs people in and out.
pub struct Login {
    store: Arc<dyn Store>,
    access: Access,
    authenticator: Arc<Authenticator>,
    passwords: Passwords,
    throttle: Throttle,
}

/// A sign-in.
pub struct Attempt<'a> {
    /// The name, in any case.
    pub username: &'a str,
    /// The password.
    pub password: &'a Secret,
    /// For people who look at the list of tokens later.
    pub description: &'a str,
    /// What token is wanted.
    pub wanted: Wanted<'a>,
    /// A shorter life than the settings give, in milliseconds; 0 is theirs.
    pub ttl_ms: i64,
}

/// What a sign-in is to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted<'a> {
    /// A session.
    Session,
    /// A token to put into a kubeconfig, for one cluster if one is named.
    Kubeconfig(Option<&'a str>),
}

/// A successful sign-in.
pub struct SignedIn {
    /// The token, and its secret.
    pub issued: IssuedToken,
    /// The token is good for one thing only: to change the password.
    pub must_change_password: bool,
}

/// Why a sign-in failed.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// Wrong name or wrong password: which, is nobody's business.
    #[error("authentication failed")]
    Failed,
    /// The right password of a user who is disabled.
    #[error("the account is disabled")]
    Disabled,
    /// A token for a cluster that the user may not enter, or that does not exist.
    #[error("the cluster does not exist, or you may not enter it")]
    NoSuchCluster,
    /// Too many attempts.
    #[error(transparent)]
    Throttled(#[from] Throttled),
    /// Too many sign-ins are being checked.
    #[error("too many sign-ins at once: try again")]
    Busy,
    /// The server has not read yet who exists.
    #[error("the server is starting: try again")]
    NotReady,
    /// The store failed.
    #[error("sign-ins cannot be checked now")]
    Unavailable(#[source] StoreError),
}

/// Who is found for a name, and what their password must match.
struct Candidate {
    user: User,
    hash: Option<Secret>,
}

impl Login {
    /// The operations over a store. `access` says who exists; it must be fed by an [`AccessWatcher`](crate::AccessWatcher).
    #[must_use]
    pub fn new(store: Arc<dyn Store>, access: Access, authenticator: Arc<Authenticator>, passwords: Passwords) -> Self {
        Self { store, access, authenticator, passwords, throttle: Throttle::new() }
    }

    /// Checks a name and a password and makes a token. Not cancel safe: see [`issue`].
    ///
    /// # Errors
    /// Why not.
    pub async fn sign_in(&self, attempt: &Attempt<'_>, source: Source) -> Result<SignedIn, LoginError> {
        self.throttle.attempt(source, attempt.username)?;
        if !self.access.is_synced() {
            return Err(LoginError::NotReady);
        }
        let user = self.check_password(attempt).await?;
        let name = user.metadata.name.clone().unwrap_or_default();
        if !user.spec.is_enabled() {
            return Err(LoginError::Disabled);
        }
        let must_change_password = user.spec.must_change_password;
        if let Wanted::Kubeconfig(Some(cluster)) = attempt.wanted
            && (must_change_password || !self.access.user_may_enter(&name, cluster))
        {
            return Err(LoginError::NoSuchCluster);
        }
        let (kind, scope) = match attempt.wanted {
            Wanted::Session => (TokenKind::Session, None),
            Wanted::Kubeconfig(scope) => (TokenKind::Kubeconfig, scope),
        };
        let request =
            TokenRequest { user: &name, kind, description: attempt.description, scope, ttl_ms: attempt.ttl_ms };
        let issued = issue(&*self.store, &request).await.map_err(LoginError::Unavailable)?;
        tracing::debug!(user = name, token = issued.token.metadata.name, "signed in");
        Ok(SignedIn { issued, must_change_password })
    }

    /// Ends the token that the request was made with; ending one twice is no error. Works for somebody whose password
    /// must be changed. Cancel safe.
    ///
    /// # Errors
    /// As [`Authenticator::authenticate`], without [`AuthenticateError::PasswordChangeRequired`].
    pub async fn sign_out(&self, headers: &http::HeaderMap) -> Result<UserInfo, AuthenticateError> {
        let identity = self.authenticator.identify(headers).await?;
        let key = Key::cluster(&resource::TOKEN, identity.user.token().as_str());
        match self.store.commit(Write::Delete { key, uid: None, revision: None }.into()).await {
            Ok(_) | Err(StoreError::NotFound(_)) => Ok(identity.user),
            Err(error) => Err(AuthenticateError::Unavailable(error)),
        }
    }

    /// The user whose password this is.
    async fn check_password(&self, attempt: &Attempt<'_>) -> Result<User, LoginError> {
        let candidate = self.find(attempt.username).await?;
        if let Some(user) = self.verify(attempt.password, candidate.as_ref()).await? {
            return Ok(user);
        }
        // The index follows the store by a moment: a user who was made just now is found by the time the hash of a wrong
        // guess is done.
        match candidate {
            Some(_) => Err(LoginError::Failed),
            None => match self.find(attempt.username).await? {
                None => Err(LoginError::Failed),
                found => self.verify(attempt.password, found.as_ref()).await?.ok_or(LoginError::Failed),
            },
        }
    }

    async fn find(&self, username: &str) -> Result<Option<Candidate>, LoginError> {
        let Some(name) = self.access.user_by_login(username) else { return Ok(None) };
        let key = Key::cluster(&resource::USER, name);
        let object = self.store.get(&key).await.map_err(LoginError::Unavailable)?;
        let Some(user) = object.and_then(|object| resource::decode::<User>(&object).ok()) else { return Ok(None) };
        // The index may be behind: what counts is the object.
        if crate::access::fold_username(&user.spec.username) != crate::access::fold_username(username)
            || user.metadata.deletion_timestamp.is_some()
        {
            return Ok(None);
        }
        let hash = self.store.unseal(&key, sealed::PASSWORD_HASH).await.map_err(LoginError::Unavailable)?;
        Ok(Some(Candidate { user, hash }))
    }

    async fn verify(&self, guess: &Secret, candidate: Option<&Candidate>) -> Result<Option<User>, LoginError> {
        let hash = candidate.and_then(|candidate| candidate.hash.as_ref());
        let verdict = self.passwords.verify(guess, hash).await.map_err(|_| LoginError::Busy)?;
        let (Verdict::Right { rehash }, Some(candidate)) = (verdict, candidate) else { return Ok(None) };
        if let Some(better) = rehash {
            self.keep_better(&candidate.user, better).await;
        }
        Ok(Some(candidate.user.clone()))
    }

    /// Failing to store a better hash fails nobody's sign-in.
    async fn keep_better(&self, user: &User, hash: Secret) {
        let name = user.metadata.name.clone().unwrap_or_default();
        let key = Key::cluster(&resource::USER, name);
        // Only if the user is the one whose password was checked: no change in between, such as another password.
        let same = Write::Require {
            key: key.clone(),
            uid: user.metadata.uid.clone(),
            revision: user.metadata.resource_version.as_deref().and_then(cattle_store::Revision::parse),
        };
        let seal = Write::Seal { key, field: sealed::PASSWORD_HASH.to_owned(), value: Some(hash) };
        if let Err(error) = self.store.commit(cattle_store::Transaction::new(vec![same, seal])).await {
            tracing::debug!(%error, "a password's hash could not be renewed; the next sign-in tries again");
        }
    }
}
