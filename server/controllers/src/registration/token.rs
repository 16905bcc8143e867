//! Checking a registration token.

use cattle_api::Secret;
use cattle_api::management::{Cluster, ClusterRegistrationToken};
use cattle_api::sealed::REGISTRATION_TOKEN_HASH;
use cattle_proto::id::ClusterId;
use cattle_store::{Store, StoreError, Typed};
use jiff::Timestamp;
use kube::ResourceExt;
use std::sync::Arc;

/// Compares a presented token with what is sealed of one, in the same time for every token: cluster, presented, sealed.
pub type TokenMatch = fn(&str, &Secret, &Secret) -> bool;

/// Why a token is not good. Strangers get one answer for all of them; the log gets the difference.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenRefused {
    /// There is no such cluster, or it is being deleted.
    #[error("there is no such cluster")]
    NoCluster,
    /// The cluster is being deleted: agents may be told, they have shown a token of it.
    #[error("the cluster is being deleted")]
    Deleted,
    /// No token of the cluster is this one.
    #[error("no token of this cluster")]
    Unknown,
    /// It was one.
    #[error("the token has expired")]
    Expired,
    /// It cannot be said now.
    #[error("tokens cannot be checked now")]
    Store(#[source] StoreError),
}

/// Checks a token of a cluster and answers when it was made. Every token of the cluster is compared, so the time says nothing about which one it was.
pub(crate) async fn check(
    store: &Arc<dyn Store>,
    cluster: &ClusterId,
    presented: &Secret,
    matches: TokenMatch,
    now: Timestamp,
) -> Result<Timestamp, TokenRefused> {
    let record =
        Typed::<Cluster>::new(Arc::clone(store)).get(None, cluster.as_str()).await.map_err(TokenRefused::Store)?;
    let tokens = Typed::<ClusterRegistrationToken>::new(Arc::clone(store));
    let (list, _) = tokens.list(Some(cluster.as_str())).await.map_err(TokenRefused::Store)?;
    let mut found = None;
    for token in &list {
        let sealed = tokens.unseal(Some(cluster.as_str()), &token.name_any(), REGISTRATION_TOKEN_HASH).await;
        if sealed.map_err(TokenRefused::Store)?.is_some_and(|sealed| matches(cluster.as_str(), presented, &sealed)) {
            found = Some(token);
        }
    }
    let token = match (&record, found) {
        (None, _) => return Err(TokenRefused::NoCluster),
        (Some(_), None) => return Err(TokenRefused::Unknown),
        (Some(_), Some(token)) => token,
    };
    if record.is_some_and(|record| record.metadata.deletion_timestamp.is_some()) {
        return Err(TokenRefused::Deleted);
    }
    if !is_live(token, now) {
        return Err(TokenRefused::Expired);
    }
    // One without a time was not made by this server; it is older than any binding.
    Ok(token.metadata.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |made| made.0))
}

/// A token without an end was not made by this server and is not good.
fn is_live(token: &ClusterRegistrationToken, now: Timestamp) -> bool {
    let ends = token.status.as_ref().and_then(|status| status.expires_at.as_ref());
    token.metadata.deletion_timestamp.is_none() && ends.is_some_and(|ends| now < ends.0)
}
