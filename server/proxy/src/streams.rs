//! Everything that runs through the proxy at the moment, so that it can be ended.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use cattle_auth::{TokenName, UserInfo};
use cattle_proto::id::ClusterId;
use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Which running requests are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    /// Those that a token has opened: it was revoked.
    Token(TokenName),
    /// Those of a user, by name: it was disabled or deleted.
    User(String),
    /// Those in a cluster: it was deleted.
    Cluster(ClusterId),
    /// Those of a user in a cluster: the membership was removed.
    Member(String, ClusterId),
    /// All: the server stops.
    All,
}

impl Selector {
    fn matches(&self, user: &UserInfo, cluster: &ClusterId) -> bool {
        match self {
            Self::Token(token) => token == user.token(),
            Self::User(name) => name == user.name(),
            Self::Cluster(id) => id == cluster,
            Self::Member(name, id) => name == user.name() && id == cluster,
            Self::All => true,
        }
    }
}

/// The running requests of this process. Cheap to clone; all clones are one registry.
///
/// Closing looks at every entry. Revocations are rare and entries are bounded by [`Limits`](crate::Limits), while an index for
/// each selector would cost every request.
#[derive(Clone, Debug, Default)]
pub struct Streams {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    epoch: u64,
    next: u64,
    running: HashMap<u64, Entry>,
}

#[derive(Debug)]
struct Entry {
    user: UserInfo,
    cluster: ClusterId,
    end: CancellationToken,
}

/// A moment in the life of a [`Streams`]: another one after each revocation.
///
/// Put into a request's extensions *before* it is authenticated, it closes the gap between authentication and registration: a
/// revocation in between would find nothing to close, so the request is refused and has to come again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Epoch(u64);

/// One running request. It is in the registry until this is dropped.
#[derive(Debug)]
pub(crate) struct StreamGuard {
    streams: Streams,
    id: u64,
    end: CancellationToken,
    expires: Option<Instant>,
}

impl Streams {
    /// Ends all matching requests and says how many there were. Each sees it at once: a watch ends between two events, an upgraded
    /// connection and any other answer is cut off.
    pub fn close(&self, selector: &Selector) -> usize {
        self.close_where(|user, cluster| selector.matches(user, cluster))
    }

    /// Like [`close`](Self::close), for whatever the caller knows about users and clusters.
    pub fn close_where(&self, ends: impl Fn(&UserInfo, &ClusterId) -> bool) -> usize {
        let mut inner = self.inner.lock();
        inner.epoch += 1;
        let matching = inner.running.values().filter(|entry| ends(&entry.user, &entry.cluster));
        matching.map(|entry| entry.end.cancel()).count()
    }

    /// The moment before a request is authenticated; see [`Epoch`].
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        Epoch(self.inner.lock().epoch)
    }

    /// How many requests run.
    #[must_use]
    pub fn len(&self) -> usize {
        self.inner.lock().running.len()
    }

    /// Whether nothing runs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn open(&self, user: &UserInfo, cluster: &ClusterId) -> StreamGuard {
        let end = CancellationToken::new();
        let entry = Entry { user: user.clone(), cluster: cluster.clone(), end: end.clone() };
        let mut inner = self.inner.lock();
        let id = inner.next;
        inner.next += 1;
        inner.running.insert(id, entry);
        let expires = user.expires_at().map(|at| {
            let left = SystemTime::from(at).duration_since(SystemTime::now()).unwrap_or(Duration::ZERO);
            Instant::now() + left
        });
        StreamGuard { streams: self.clone(), id, end, expires }
    }
}

impl StreamGuard {
    /// Resolves when the request must end: it was closed, or the token that opened it has expired.
    pub(crate) fn ended(&self) -> impl Future<Output = ()> + Send + 'static {
        let (end, expires) = (self.end.clone(), self.expires);
        async move {
            match expires {
                Some(at) => drop(tokio::time::timeout_at(at, end.cancelled()).await),
                None => end.cancelled().await,
            }
        }
    }
}

impl Drop for StreamGuard {
    fn drop(&mut self) {
        self.streams.inner.lock().running.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[test]
    fn each_selector_ends_its_own() {
        let (one, two): (ClusterId, ClusterId) = ("c-aaaaa".parse().unwrap(), "c-bbbbb".parse().unwrap());
        let ann = UserInfo::for_test("u-aaaaa", "ann").with_token("token-1");
        let other = UserInfo::for_test("u-aaaaa", "ann").with_token("token-2");
        let bob = UserInfo::for_test("u-bbbbb", "bob").with_token("token-3");
        let table = [
            (Selector::Token(ann.token().clone()), [true, true, false, false]),
            (Selector::User("u-aaaaa".to_owned()), [true, true, true, false]),
            (Selector::Cluster(one.clone()), [true, false, true, true]),
            (Selector::Member("u-aaaaa".to_owned(), one.clone()), [true, false, true, false]),
            (Selector::All, [true; 4]),
        ];
        for (selector, expected) in table {
            let streams = Streams::default();
            let guards = [(&ann, &one), (&ann, &two), (&other, &one), (&bob, &one)]
                .map(|(user, cluster)| streams.open(user, cluster));
            assert_eq!(streams.close(&selector), expected.iter().filter(|end| **end).count());
            let ended = guards.each_ref().map(|guard| guard.ended().now_or_never().is_some());
            assert_eq!(ended, expected, "{selector:?}");
            drop(guards);
            assert!(streams.is_empty());
        }
    }
}
