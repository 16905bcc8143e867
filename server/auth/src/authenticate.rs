//! From the headers of a request to a [`UserInfo`], or to a refusal that tells a stranger nothing.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cattle_api::ext::Token;
use cattle_api::management::User;
use cattle_api::{resource, sealed};
use cattle_store::{Key, Revision, Store, StoreError};
use http::{HeaderMap, StatusCode};
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;

use crate::credential::{Credential, CredentialError};
use crate::token::TokenHash;
use crate::user::{TokenName, UserInfo};

/// How long an identity is believed without looking, even while the store has not changed.
const MAX_AGE: Duration = Duration::from_secs(1);
/// Identities that are remembered at the same time.
const MAX_CACHED: usize = 4096;

/// Why there is no identity.
#[derive(Debug, thiserror::Error)]
pub enum AuthenticateError {
    /// There is no credential, or it cannot be read.
    #[error("no usable credential")]
    Credential(#[source] CredentialError),
    /// The credential is not good. Which part of it failed is in the server's log at DEBUG, and nowhere else.
    #[error("the credential is not good")]
    Refused,
    /// The credential is good for one thing: setting another password.
    #[error("the password must be changed first")]
    PasswordChangeRequired,
    /// The credential could not be checked, hence is refused for now.
    #[error("credentials cannot be checked now")]
    Unavailable(#[source] StoreError),
}

impl AuthenticateError {
    /// The HTTP status that says so.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Credential(_) | Self::Refused => StatusCode::UNAUTHORIZED,
            Self::PasswordChangeRequired => StatusCode::FORBIDDEN,
            Self::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// Checks credentials against the store.
///
/// What was checked is believed for at most `MAX_AGE` and only as long as the store has not changed at all, so that a
/// deleted token, a disabled user or a password that must be changed count with the next request.
pub struct Authenticator {
    store: Arc<dyn Store>,
    known: Mutex<HashMap<TokenName, Known>>,
}

/// What a credential stands for, before it is decided what it may be used for.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) user: UserInfo,
    pub(crate) must_change_password: bool,
}

struct Known {
    hash: Arc<TokenHash>,
    scope: Option<String>,
    identity: Identity,
    revision: Revision,
    since: Instant,
}

/// Which part of a credential failed; for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    NoToken,
    WrongSecret,
    Disabled,
    Expired,
    NoUser,
    OlderThanUser,
    UserDisabled,
}

impl Authenticator {
    /// Checks against this store.
    #[must_use]
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store, known: Mutex::default() }
    }

    /// The identity of a request: `Authorization: Bearer name:secret`, or `Basic` with the same halves. Cancel safe.
    ///
    /// A token for one cluster is accepted here, and says so in [`UserInfo::cluster_scope`]; [`Access`](crate::Access)
    /// keeps it to its cluster.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn authenticate(&self, headers: &HeaderMap) -> Result<UserInfo, AuthenticateError> {
        let identity = self.identify(headers).await?;
        if identity.must_change_password {
            return Err(AuthenticateError::PasswordChangeRequired);
        }
        Ok(identity.user)
    }

    /// Whether an identity that was authenticated before would be again. Cancel safe.
    ///
    /// # Errors
    /// As [`authenticate`](Self::authenticate).
    pub async fn check_again(&self, user: &UserInfo) -> Result<(), AuthenticateError> {
        let (token, _, owner) = self.load(user.token()).await.map_err(AuthenticateError::Unavailable)?;
        let checked = token.as_ref().ok_or(Refusal::NoToken);
        match checked.and_then(|token| judge(user.token(), token, owner.as_ref(), Timestamp::now())) {
            Ok(identity) if identity.must_change_password => Err(AuthenticateError::PasswordChangeRequired),
            Ok(identity) if identity.user.name() == user.name() => Ok(()),
            _ => Err(AuthenticateError::Refused),
        }
    }

    /// As [`authenticate`](Self::authenticate), for what somebody may do whose password must be changed.
    pub(crate) async fn identify(&self, headers: &HeaderMap) -> Result<Identity, AuthenticateError> {
        let credential = Credential::from_headers(headers).map_err(AuthenticateError::Credential)?;
        if let Some(answer) = self.recall(&credential) {
            return answer;
        }
        // Read before the objects: a change in between makes what is remembered stale, never fresh.
        let revision = self.store.revision();
        let (token, hash, user) = self.load(credential.name()).await.map_err(AuthenticateError::Unavailable)?;
        let hash = hash.unwrap_or_else(TokenHash::nobody);
        let scope = token.as_ref().and_then(scope_of);
        let right = hash.verify(&credential, scope.as_deref());
        let judged = match token {
            None => Err(Refusal::NoToken),
            Some(_) if !right => Err(Refusal::WrongSecret),
            Some(token) => judge(credential.name(), &token, user.as_ref(), Timestamp::now()),
        };
        let identity = judged.map_err(|refusal| refuse(credential.name(), refusal))?;
        self.remember(credential.name(), Arc::new(hash), scope, identity.clone(), revision);
        Ok(identity)
    }

    fn recall(&self, credential: &Credential) -> Option<Result<Identity, AuthenticateError>> {
        let revision = self.store.revision();
        let (hash, scope, identity) = {
            let known = self.known.lock();
            let known = known.get(credential.name())?;
            if known.revision != revision || known.since.elapsed() > MAX_AGE {
                return None;
            }
            (Arc::clone(&known.hash), known.scope.clone(), known.identity.clone())
        };
        let refusal = if !hash.verify(credential, scope.as_deref()) {
            Refusal::WrongSecret
        } else if identity.user.expires_at().is_some_and(|end| end <= Timestamp::now()) {
            Refusal::Expired
        } else {
            return Some(Ok(identity));
        };
        Some(Err(refuse(credential.name(), refusal)))
    }

    fn remember(
        &self,
        name: &TokenName,
        hash: Arc<TokenHash>,
        scope: Option<String>,
        identity: Identity,
        revision: Revision,
    ) {
        let mut known = self.known.lock();
        if known.len() >= MAX_CACHED && !known.contains_key(name) {
            known.clear();
        }
        known.insert(name.clone(), Known { hash, scope, identity, revision, since: Instant::now() });
    }

    /// The token, its hash and its user. A token that does not exist costs the same reads.
    async fn load(&self, name: &TokenName) -> Result<(Option<Token>, Option<TokenHash>, Option<User>), StoreError> {
        let key = Key::cluster(&resource::TOKEN, name.as_str());
        let token: Option<Token> = self.store.get(&key).await?.and_then(|object| resource::decode(&object).ok());
        let hash = self.store.unseal(&key, sealed::TOKEN_HASH).await?;
        let hash = hash.as_ref().and_then(|hash| hash.expose_str()).and_then(TokenHash::parse);
        let owner = token.as_ref().map_or("u-nobody", |token| token.spec.user_id.as_str());
        let user = self.store.get(&Key::cluster(&resource::USER, owner)).await?;
        Ok((token, hash, user.and_then(|object| resource::decode(&object).ok())))
    }
}

/// When a token ends: its creation and its life. `None` is never; a life that no calendar holds has ended already.
pub(crate) fn expiry(token: &Token) -> Option<Timestamp> {
    if token.spec.ttl == 0 {
        return None;
    }
    let made = token.metadata.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
    let end = made.checked_add(SignedDuration::from_millis(token.spec.ttl.max(0)));
    // A sum beyond the calendar's end is no reason to live for ever.
    Some(end.unwrap_or(Timestamp::UNIX_EPOCH))
}

pub(crate) fn scope_of(token: &Token) -> Option<String> {
    Some(&token.spec.cluster_name).filter(|cluster| !cluster.is_empty()).cloned()
}

/// Everything about a token but its secret.
fn judge(name: &TokenName, token: &Token, user: Option<&User>, now: Timestamp) -> Result<Identity, Refusal> {
    if token.metadata.deletion_timestamp.is_some() || !token.spec.is_enabled() {
        return Err(Refusal::Disabled);
    }
    let end = expiry(token);
    if end.is_some_and(|end| end <= now) {
        return Err(Refusal::Expired);
    }
    let user = user.filter(|user| user.metadata.deletion_timestamp.is_none()).ok_or(Refusal::NoUser)?;
    let user_name = user.metadata.name.as_deref().ok_or(Refusal::NoUser)?;
    if user_name != token.spec.user_id {
        return Err(Refusal::NoUser);
    }
    // Somebody who gets the name of a deleted user does not get that user's tokens.
    if token.metadata.creation_timestamp < user.metadata.creation_timestamp {
        return Err(Refusal::OlderThanUser);
    }
    if !user.spec.is_enabled() {
        return Err(Refusal::UserDisabled);
    }
    let info = UserInfo::local(user_name, &user.spec.username, name.clone()).scoped(scope_of(token)).expiring(end);
    Ok(Identity { user: info, must_change_password: user.spec.must_change_password })
}

fn refuse(token: &TokenName, refusal: Refusal) -> AuthenticateError {
    tracing::debug!(%token, reason = ?refusal, "a credential was refused");
    AuthenticateError::Refused
}

#[cfg(test)]
mod tests;
