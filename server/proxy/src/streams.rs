//! Everything that runs through the proxy at the moment, so that it can be ended.

use std::borrow::Borrow;
use std::collections::{HashMap, HashSet};
use std::hash::Hash;
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
/// They are indexed by token, user and cluster, so that a revocation costs what it ends, not what runs.
#[derive(Clone, Debug, Default)]
pub struct Streams {
    inner: Arc<Mutex<Inner>>,
    draining: CancellationToken,
}

/// Why a request that runs has to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Access has ended: it was revoked, or the token has expired.
    Revoked,
    /// The server stops, and this request would never end by itself.
    Draining,
}

#[derive(Debug, Default)]
struct Inner {
    epoch: u64,
    next: u64,
    running: HashMap<u64, Entry>,
    tokens: Index<TokenName>,
    users: Index<String>,
    clusters: Index<ClusterId>,
}

/// Which requests have something in common.
#[derive(Debug)]
struct Index<K>(HashMap<K, HashSet<u64>>);

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
        let mut inner = self.inner.lock();
        inner.epoch += 1;
        let found = match selector {
            Selector::Token(token) => inner.tokens.of(token),
            Selector::User(name) | Selector::Member(name, _) => inner.users.of(name),
            Selector::Cluster(cluster) => inner.clusters.of(cluster),
            Selector::All => inner.running.keys().copied().collect(),
        };
        let entries = found.iter().filter_map(|id| inner.running.get(id));
        let matching = entries.filter(|entry| selector.matches(&entry.user, &entry.cluster));
        matching.map(|entry| entry.end.cancel()).count()
    }

    /// Like [`close`](Self::close), for what has no index. Looks at everything.
    pub fn close_where(&self, ends: impl Fn(&UserInfo, &ClusterId) -> bool) -> usize {
        let mut inner = self.inner.lock();
        inner.epoch += 1;
        let matching = inner.running.values().filter(|entry| ends(&entry.user, &entry.cluster));
        matching.map(|entry| entry.end.cancel()).count()
    }

    /// The server stops: watches end, each between two events, and new ones are refused. Everything else goes on to its own end.
    pub fn drain(&self) {
        self.draining.cancel();
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
        inner.tokens.insert(user.token().clone(), id);
        inner.users.insert(user.name().to_owned(), id);
        inner.clusters.insert(cluster.clone(), id);
        inner.running.insert(id, entry);
        let expires = user.expires_at().map(|at| {
            let left = SystemTime::from(at).duration_since(SystemTime::now()).unwrap_or(Duration::ZERO);
            Instant::now() + left
        });
        StreamGuard { streams: self.clone(), id, end, expires }
    }
}

impl StreamGuard {
    /// Resolves when the request must end: it was closed, the token that opened it has expired or, for a watch, the server stops.
    pub(crate) fn ending(&self, watch: bool) -> impl Future<Output = Ending> + Send + 'static {
        let (end, expires, draining) = (self.end.clone(), self.expires, self.streams.draining.clone());
        async move {
            let revoked = async {
                match expires {
                    Some(at) => drop(tokio::time::timeout_at(at, end.cancelled()).await),
                    None => end.cancelled().await,
                }
            };
            tokio::select! {
                biased;
                () = revoked => Ending::Revoked,
                () = draining.cancelled(), if watch => Ending::Draining,
            }
        }
    }
}

impl Drop for StreamGuard {
    fn drop(&mut self) {
        let mut inner = self.streams.inner.lock();
        if let Some(Entry { user, cluster, .. }) = inner.running.remove(&self.id) {
            inner.tokens.remove(user.token(), self.id);
            inner.users.remove(user.name(), self.id);
            inner.clusters.remove(&cluster, self.id);
        }
    }
}

impl<K> Default for Index<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Eq + Hash> Index<K> {
    fn insert(&mut self, key: K, id: u64) {
        self.0.entry(key).or_default().insert(id);
    }

    fn remove<Q: Eq + Hash + ?Sized>(&mut self, key: &Q, id: u64)
    where
        K: Borrow<Q>,
    {
        if let Some(ids) = self.0.get_mut(key) {
            ids.remove(&id);
            if ids.is_empty() {
                self.0.remove(key);
            }
        }
    }

    fn of<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Vec<u64>
    where
        K: Borrow<Q>,
    {
        self.0.get(key).into_iter().flatten().copied().collect()
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
            let ended = guards.each_ref().map(|guard| guard.ending(false).now_or_never().is_some());
            assert_eq!(ended, expected, "{selector:?}");
            drop(guards);
            let inner = streams.inner.lock();
            assert!(inner.running.is_empty() && inner.tokens.0.is_empty());
            assert!(inner.users.0.is_empty() && inner.clusters.0.is_empty(), "an index keeps what has ended");
        }
    }

    /// A token ends what it opened in the moment in which it ends itself, not within some time of it.
    #[tokio::test(start_paused = true)]
    async fn an_expired_token_ends_its_requests_at_once() {
        let end = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1);
        let ann = UserInfo::for_test("u-aaaaa", "ann").with_expiry(end);
        let streams = Streams::default();
        let guard = streams.open(&ann, &"c-aaaaa".parse().unwrap());
        let ended = guard.ending(false);
        tokio::pin!(ended);
        let early = tokio::time::timeout(Duration::from_secs(3_500), ended.as_mut()).await;
        assert!(early.is_err(), "it ended early");
        // The clock of the machine has gone on by what this test took so far.
        tokio::time::timeout(Duration::from_secs(100), ended).await.expect("it ends with its token");
    }

    #[test]
    fn a_drain_ends_watches_only_and_revocation_counts_more() {
        let (cluster, ann) = ("c-aaaaa".parse().unwrap(), UserInfo::for_test("u-aaaaa", "ann"));
        let streams = Streams::default();
        let guard = streams.open(&ann, &cluster);
        assert_eq!(guard.ending(true).now_or_never(), None);
        streams.drain();
        assert_eq!(guard.ending(true).now_or_never(), Some(Ending::Draining));
        assert_eq!(guard.ending(false).now_or_never(), None);
        assert_eq!(streams.open(&ann, &cluster).ending(true).now_or_never(), Some(Ending::Draining));
        streams.close(&Selector::All);
        assert_eq!(guard.ending(true).now_or_never(), Some(Ending::Revoked));
    }
}
