//! Making tokens: names, lives and the object.

use cattle_api::ext::token::{KIND_LABEL, USER_LABEL};
use cattle_api::ext::{Token, TokenSpec, TokenStatus};
use cattle_api::management::setting::known;
use cattle_api::{Secret, names, resource, sealed};
use cattle_store::{Store, StoreError, Write};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::authenticate::expiry;
use crate::settings;
use crate::token::TokenSecret;
use crate::user::TokenName;

const MINUTE_MS: i64 = 60_000;
/// Attempts at a free name; with 27⁵ names each fails only when millions of tokens exist.
const NAME_ATTEMPTS: usize = 8;

/// What a new token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// A sign-in.
    Session,
    /// A token in a kubeconfig.
    Kubeconfig,
    /// A token that somebody asked for by name.
    Api,
}

impl TokenKind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Session => cattle_api::ext::token::KIND_SESSION,
            Self::Kubeconfig => cattle_api::ext::token::KIND_KUBECONFIG,
            Self::Api => cattle_api::ext::token::KIND_API,
        }
    }
}

/// Asks for a token. Whether the user may have it was decided before.
#[derive(Clone, Debug)]
pub struct TokenRequest<'a> {
    /// Whose it is.
    pub user: &'a str,
    /// What it is for.
    pub kind: TokenKind,
    /// For people.
    pub description: &'a str,
    /// The one cluster it is good for.
    pub scope: Option<&'a str>,
    /// The wanted life in milliseconds, 0 for as long as is allowed; see [`lifetime`].
    pub ttl_ms: i64,
}

/// A token that was made, and the only copy of its secret.
pub struct IssuedToken {
    /// The stored object.
    pub token: Token,
    /// `name:secret`.
    pub bearer: Secret,
}

/// A wanted life of a token is negative.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the life of a token must not be negative")]
pub struct NegativeTtl;

/// The life of a token in milliseconds, 0 for no end.
///
/// `wanted_ms` 0 means the default; whatever is wanted is cut to the maximum, both in minutes, where a maximum of 0 is no
/// limit. A value beyond the number range is as long as is allowed.
///
/// # Errors
/// [`NegativeTtl`].
pub fn lifetime(wanted_ms: i64, default_minutes: i64, max_minutes: i64) -> Result<i64, NegativeTtl> {
    if wanted_ms < 0 {
        return Err(NegativeTtl);
    }
    let default_ms = default_minutes.max(0).saturating_mul(MINUTE_MS);
    let max_ms = max_minutes.max(0).saturating_mul(MINUTE_MS);
    let wanted = if wanted_ms == 0 { default_ms } else { wanted_ms };
    Ok(match (wanted, max_ms) {
        (wanted, 0) => wanted,
        (0, max) => max,
        (wanted, max) => wanted.min(max),
    })
}

/// The life that the settings give a token of this kind, in milliseconds.
///
/// # Errors
/// The store's; a negative `wanted_ms` counts as 0.
pub async fn lifetime_by_settings(store: &dyn Store, kind: TokenKind, wanted_ms: i64) -> Result<i64, StoreError> {
    let max = settings::number(store, known::AUTH_TOKEN_MAX_TTL_MINUTES).await?;
    let life = match kind {
        TokenKind::Session => {
            // A sign-in lasts as long as the setting says, whatever is asked for; shorter is possible.
            let session = settings::number(store, known::AUTH_USER_SESSION_TTL_MINUTES).await?;
            lifetime(wanted_ms.max(0), session, session)
        }
        TokenKind::Kubeconfig => {
            let default = settings::number(store, known::KUBECONFIG_DEFAULT_TOKEN_TTL_MINUTES).await?;
            lifetime(wanted_ms.max(0), default, max)
        }
        TokenKind::Api => lifetime(wanted_ms.max(0), max, max),
    };
    Ok(life.unwrap_or_default())
}

/// Makes and stores a token. The life is cut by [`lifetime_by_settings`]. Not cancel safe: a dropped call may leave a
/// token whose secret nobody knows, which ends with its life.
///
/// # Errors
/// The store's.
pub async fn issue(store: &dyn Store, request: &TokenRequest<'_>) -> Result<IssuedToken, StoreError> {
    let ttl = lifetime_by_settings(store, request.kind, request.ttl_ms).await?;
    let prefix = match (request.kind, request.scope) {
        (TokenKind::Session | TokenKind::Api, _) => names::TOKEN_PREFIX.to_owned(),
        (TokenKind::Kubeconfig, None) => format!("{}{}", names::KUBECONFIG_TOKEN_PREFIX, request.user),
        (TokenKind::Kubeconfig, Some(cluster)) => {
            format!("{}{}.{cluster}", names::KUBECONFIG_TOKEN_PREFIX, request.user)
        }
    };
    let mut attempt = 1;
    loop {
        match store_one(store, request, &names::generate(&prefix), ttl).await {
            Err(StoreError::AlreadyExists(_)) if attempt < NAME_ATTEMPTS => attempt += 1,
            done => return done,
        }
    }
}

async fn store_one(
    store: &dyn Store,
    request: &TokenRequest<'_>,
    name: &str,
    ttl: i64,
) -> Result<IssuedToken, StoreError> {
    let invalid = || StoreError::Invalid(cattle_store::Invalid::Name);
    let token_name = TokenName::parse(name).ok_or_else(invalid)?;
    let secret = TokenSecret::generate();
    let hash = secret.hash(&token_name, request.scope);
    let object = resource::encode(&new_token(request, name, ttl)).map_err(|error| StoreError::Io(Box::new(error)))?;
    let write = Write::Create { object, sealed: vec![(sealed::TOKEN_HASH.to_owned(), hash)] };
    let stored = store.commit(write.into()).await?.into_object().ok_or_else(invalid)?;
    let mut token: Token = resource::decode(&stored).map_err(|error| StoreError::Io(Box::new(error)))?;
    let expires_at = expiry(&token).map(Time);
    token.status = Some(TokenStatus { expires_at, ..TokenStatus::default() });
    Ok(IssuedToken { token, bearer: secret.bearer(&token_name) })
}

fn new_token(request: &TokenRequest<'_>, name: &str, ttl: i64) -> Token {
    let mut token = Token::new(
        name,
        TokenSpec {
            user_id: request.user.to_owned(),
            kind: request.kind.as_str().to_owned(),
            description: request.description.to_owned(),
            ttl,
            enabled: Some(true),
            cluster_name: request.scope.unwrap_or_default().to_owned(),
        },
    );
    let mut labels = vec![(USER_LABEL.to_owned(), request.user.to_owned())];
    if request.kind != TokenKind::Api {
        labels.push((KIND_LABEL.to_owned(), request.kind.as_str().to_owned()));
    }
    token.metadata.labels = Some(labels.into_iter().collect());
    token
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lives_are_cut_and_never_grow() {
        const DAY: i64 = 24 * 60;
        let day_ms = DAY * MINUTE_MS;
        let table = [
            (0, DAY, 90 * DAY, day_ms),
            (1, DAY, 90 * DAY, 1),
            (100 * day_ms, DAY, 90 * DAY, 90 * day_ms),
            (0, 0, 90 * DAY, 90 * day_ms),
            (0, 0, 0, 0),
            (5, 0, 0, 5),
            (i64::MAX, DAY, 90 * DAY, 90 * day_ms),
            (0, i64::MAX, 90 * DAY, 90 * day_ms),
            (7, DAY, -1, 7),
        ];
        for (wanted, default, max, expected) in table {
            assert_eq!(lifetime(wanted, default, max), Ok(expected), "{wanted} {default} {max}");
        }
        assert_eq!(lifetime(-1, DAY, DAY), Err(NegativeTtl));
    }
}
