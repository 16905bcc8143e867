//! Ends what runs when the right to run it is gone.

use cattle_auth::{Revocations, Revoked};
use cattle_proxy::{Selector, Streams};
use tokio::sync::broadcast::error::RecvError;

/// Closes the streams that a revocation concerns, as it comes. Never ends. Cancel safe.
///
/// When revocations were missed ([`Revoked::Unknown`], or this task fell behind) everything is closed: a client that may
/// still run comes back at once, and one that may not does not.
pub async fn close_streams(revocations: Revocations, streams: Streams) {
    let mut revoked = revocations.subscribe();
    loop {
        let revoked = match revoked.recv().await {
            Ok(revoked) => revoked,
            Err(RecvError::Lagged(_)) => Revoked::Unknown,
            Err(RecvError::Closed) => return std::future::pending().await,
        };
        let closed = match selector(&revoked) {
            Some(selector) => streams.close(&selector),
            None => streams.close_where(|user, cluster| revoked.concerns(user, Some(cluster.as_str()))),
        };
        if closed > 0 {
            tracing::info!(closed, "streams of revoked rights were closed");
        }
    }
}

/// What streams are indexed by; none for groups and for what nobody knows.
fn selector(revoked: &Revoked) -> Option<Selector> {
    match revoked {
        Revoked::Token(token) => Some(Selector::Token(token.clone())),
        Revoked::User(name) => Some(Selector::User(name.clone())),
        Revoked::UserInCluster { user, cluster } => Some(Selector::Member(user.clone(), cluster.parse().ok()?)),
        Revoked::Cluster(cluster) => Some(Selector::Cluster(cluster.parse().ok()?)),
        Revoked::Group(_) | Revoked::GroupInCluster { .. } | Revoked::Unknown => None,
    }
}
