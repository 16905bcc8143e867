//! What has been taken away, told to whoever runs something on the strength of it.
//!
//! A request is checked once; a watch, a `logs -f` or an `exec` then runs for hours. [`Revocations`] tells when the token,
//! the user, the membership or the cluster behind it is gone. It is fed by the [`AccessWatcher`](crate::AccessWatcher).

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use crate::access::Access;
use crate::authenticate::Authenticator;
use crate::user::{TokenName, UserInfo};

/// Revocations that a slow listener may be behind before it is told to look for itself.
const BACKLOG: usize = 1024;
/// How long to wait before an unreadable store is asked again, and how often.
const RETRY: Duration = Duration::from_millis(250);
const RETRIES: usize = 12;

/// Something was taken away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Revoked {
    /// A token was deleted, disabled, or has expired.
    Token(TokenName),
    /// A user was deleted, disabled, must change the password, or is no administrator any more.
    User(String),
    /// A group is no administrator any more.
    Group(String),
    /// A user lost a role in a cluster.
    UserInCluster {
        /// Who.
        user: String,
        /// Where.
        cluster: String,
    },
    /// A group lost a role in a cluster.
    GroupInCluster {
        /// Who.
        group: String,
        /// Where.
        cluster: String,
    },
    /// A cluster was deleted.
    Cluster(String),
    /// Some of the above were not told: everything must be checked again.
    Unknown,
}

impl Revoked {
    /// Whether something that runs for `user`, in `cluster` or at the server's own API, must end. For
    /// [`Revoked::Unknown`] the answer is yes; [`Revocations::ended`] looks before it says so.
    #[must_use]
    pub fn concerns(&self, user: &UserInfo, cluster: Option<&str>) -> bool {
        let member = |group: &String| user.groups().contains(group);
        let here = |other: &String| cluster == Some(other.as_str());
        match self {
            Self::Token(token) => token == user.token(),
            Self::User(name) => name == user.name(),
            Self::Group(group) => member(group),
            Self::UserInCluster { user: name, cluster } => name == user.name() && here(cluster),
            Self::GroupInCluster { group, cluster } => member(group) && here(cluster),
            Self::Cluster(cluster) => here(cluster),
            Self::Unknown => true,
        }
    }
}

/// The stream of revocations. Clones are the same stream.
#[derive(Clone)]
pub struct Revocations {
    sender: broadcast::Sender<Revoked>,
    access: Access,
    authenticator: Arc<Authenticator>,
}

impl Revocations {
    /// A stream that an [`AccessWatcher`](crate::AccessWatcher) is to feed.
    #[must_use]
    pub fn new(access: Access, authenticator: Arc<Authenticator>) -> Self {
        Self { sender: broadcast::Sender::new(BACKLOG), access, authenticator }
    }

    /// Everything from now on. A receiver that lags must treat it as [`Revoked::Unknown`].
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<Revoked> {
        self.sender.subscribe()
    }

    /// Resolves when something that runs for this user must end: start it beside the stream and end the stream with it. Any
    /// revocation since the user was authenticated counts, also one from before this call. Cancel safe.
    pub async fn ended(&self, user: &UserInfo, cluster: Option<&str>) -> Revoked {
        let mut revocations = self.sender.subscribe();
        // Whatever happened between the request's check and the line above has been missed.
        if let Some(already) = self.look(user, cluster).await {
            return already;
        }
        loop {
            match revocations.recv().await {
                Ok(Revoked::Unknown) | Err(RecvError::Lagged(_)) => {
                    if let Some(ended) = self.look(user, cluster).await {
                        return ended;
                    }
                }
                Ok(revoked) if revoked.concerns(user, cluster) => return revoked,
                Ok(_) => {}
                Err(RecvError::Closed) => return Revoked::Unknown,
            }
        }
    }

    pub(crate) fn tell(&self, revoked: Revoked) {
        tracing::debug!(?revoked, "revoked");
        // Nobody listens: nothing runs.
        let _ = self.sender.send(revoked);
    }

    /// Whether the right to run is gone, by the state of things. What cannot be read for three seconds is gone.
    async fn look(&self, user: &UserInfo, cluster: Option<&str>) -> Option<Revoked> {
        for _ in 0..RETRIES {
            match self.authenticator.check_again(user).await {
                Err(crate::AuthenticateError::Unavailable(_)) => {}
                Err(_) => return Some(Revoked::Token(user.token().clone())),
                Ok(()) if !self.access.is_synced() => {}
                Ok(()) => {
                    let lost = cluster.filter(|cluster| !self.access.may_enter(user, cluster));
                    return lost.map(|cluster| Revoked::UserInCluster {
                        user: user.name().to_owned(),
                        cluster: cluster.to_owned(),
                    });
                }
            }
            tokio::time::sleep(RETRY).await;
        }
        Some(Revoked::Unknown)
    }
}

#[cfg(test)]
mod tests {
    use cattle_api::{Resource, Secret};
    use cattle_store::{Committed, Key, Listing, Page, Revision, Store, StoreError, Transaction, WatchStream};
    use futures_util::future::{BoxFuture, ready};
    use kube::core::DynamicObject;

    use super::*;

    /// A store that has nothing to say.
    struct Dead;

    impl Store for Dead {
        fn get<'a>(&'a self, _: &'a Key) -> BoxFuture<'a, Result<Option<DynamicObject>, StoreError>> {
            Box::pin(ready(Err(StoreError::Closed)))
        }

        fn list<'a>(
            &'a self,
            _: &'static Resource,
            _: Option<&'a str>,
            _: Page,
        ) -> BoxFuture<'a, Result<Listing, StoreError>> {
            Box::pin(ready(Err(StoreError::Closed)))
        }

        fn commit(&self, _: Transaction) -> BoxFuture<'_, Result<Committed, StoreError>> {
            Box::pin(ready(Err(StoreError::Closed)))
        }

        fn watch<'a>(
            &'a self,
            _: &'static Resource,
            _: Option<&'a str>,
            _: Revision,
        ) -> BoxFuture<'a, Result<WatchStream, StoreError>> {
            Box::pin(ready(Err(StoreError::Closed)))
        }

        fn unseal<'a>(&'a self, _: &'a Key, _: &'a str) -> BoxFuture<'a, Result<Option<Secret>, StoreError>> {
            Box::pin(ready(Err(StoreError::Closed)))
        }

        fn revision(&self) -> Revision {
            Revision(1)
        }
    }

    /// Five seconds after a right is gone nothing runs on it any more, also when nobody can be asked.
    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_looked_up_ends_within_the_bound() {
        let store: Arc<dyn Store> = Arc::new(Dead);
        let revocations = Revocations::new(Access::new(), Arc::new(Authenticator::new(store)));
        let ann = UserInfo::for_test("u-ann", "ann");
        let ended = tokio::time::timeout(Duration::from_secs(5), revocations.ended(&ann, None)).await;
        assert_eq!(ended, Ok(Revoked::Unknown));
    }

    #[test]
    fn a_revocation_ends_what_it_is_about_and_nothing_else() {
        let ann = UserInfo::for_test("u-ann", "ann").with_groups(&["ops"]).with_token("token-aaaaa");
        let user_in = |user: &str, cluster: &str| Revoked::UserInCluster { user: user.into(), cluster: cluster.into() };
        let group_in =
            |group: &str, cluster: &str| Revoked::GroupInCluster { group: group.into(), cluster: cluster.into() };
        let token = |name: &str| Revoked::Token(TokenName::parse(name).unwrap());
        let table = [
            (token("token-aaaaa"), true, true),
            (token("token-bbbbb"), false, false),
            (Revoked::User("u-ann".into()), true, true),
            (Revoked::User("u-bob".into()), false, false),
            (Revoked::Group("ops".into()), true, true),
            (Revoked::Group("dev".into()), false, false),
            (user_in("u-ann", "c-one"), true, false),
            (user_in("u-ann", "c-two"), false, false),
            (user_in("u-bob", "c-one"), false, false),
            (group_in("ops", "c-one"), true, false),
            (group_in("dev", "c-one"), false, false),
            (Revoked::Cluster("c-one".into()), true, false),
            (Revoked::Cluster("c-two".into()), false, false),
            (Revoked::Unknown, true, true),
        ];
        for (revoked, in_one, at_server) in table {
            assert_eq!(revoked.concerns(&ann, Some("c-one")), in_one, "{revoked:?}");
            assert_eq!(revoked.concerns(&ann, None), at_server, "{revoked:?}");
        }
    }
}
