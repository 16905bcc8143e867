//! Where requests meet the impersonators: tokens in memory, and a bell for the ones that are missing.
//!
//! A unit's worker is the only writer downstream, one turn at a time for each user. Fifty first requests of a new user ring
//! fifty times and wait for one turn: the work is done once without any lock.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use cattle_api::Secret;
use cattle_auth::UserInfo;
use cattle_proto::id::ClusterId;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::identity::{Identity, IdentityError};
use crate::queue::Queue;
use crate::unit::Work;

/// How long a request waits for its impersonator.
pub const WAIT: Duration = Duration::from_secs(10);
/// API servers answer from RBAC caches that lag behind a write by up to so long.
pub const CACHE_LAG: Duration = Duration::from_secs(10);

/// A user's token that the API server refuses is replaced at most so often: it may refuse the next one as well.
const REPLACE_AGAIN: Duration = Duration::from_secs(60);

/// A user's way into a cluster.
#[derive(Clone)]
pub struct Granted {
    /// The impersonator's bearer token.
    pub token: Secret,
    /// When something of this impersonator was last written; see [`CACHE_LAG`].
    pub written: Option<Instant>,
}

/// Why there is no token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ImpersonationError {
    /// The user cannot be impersonated at all.
    #[error("this user cannot be impersonated")]
    Identity(#[source] IdentityError),
    /// The cluster's controllers do not run here: no agent is connected, or the cluster is being removed.
    #[error("the cluster is not connected")]
    NotConnected,
    /// The objects could not be made. The text names the object and says why; it may be shown to the user.
    #[error("the user's impersonator is not ready: {0}")]
    NotReady(String),
}

/// Every cluster's impersonators. Clones are the same.
#[derive(Clone, Default)]
pub struct Impersonators {
    desks: Arc<Mutex<HashMap<ClusterId, Arc<Desk>>>>,
}

impl Impersonators {
    /// The token with which this user's requests go into the cluster.
    ///
    /// From memory when everything is in place. Else it asks for the missing objects and waits for at most [`WAIT`].
    /// The caller has decided that the user may enter. Cancel-safe.
    ///
    /// # Errors
    /// See [`ImpersonationError`].
    pub async fn token(&self, cluster: &ClusterId, user: &UserInfo) -> Result<Granted, ImpersonationError> {
        let identity = Identity::of(user).map_err(ImpersonationError::Identity)?;
        let desk = self.desk(cluster).ok_or(ImpersonationError::NotConnected)?;
        desk.token(identity).await
    }

    /// Whether something of the user's impersonator was written so recently that an API server may not know of it yet.
    #[must_use]
    pub fn recently_written(&self, cluster: &ClusterId, user: &str) -> bool {
        let written = self.desk(cluster).and_then(|desk| desk.written(user));
        written.is_some_and(|at| at.elapsed() < CACHE_LAG)
    }

    /// To be called when the cluster's API server answers 401 to a token of ours. Either its Secret was removed by hand and
    /// the watch that would tell is behind, or the key that signed it is gone and the Secret has to be made anew.
    pub fn token_refused(&self, cluster: &ClusterId, user: &str) {
        if let Some(desk) = self.desk(cluster) {
            desk.token_refused(user);
        }
    }

    /// To be called when the cluster's API server refuses an impersonator: something was changed by hand, and the watch
    /// that would tell is behind. The next [`token`](Self::token) reads live.
    pub fn distrust(&self, cluster: &ClusterId, user: &str) {
        if let Some(desk) = self.desk(cluster) {
            desk.distrust(user);
        }
    }

    pub(crate) fn open(&self, cluster: &ClusterId, desk: Arc<Desk>) {
        self.desks.lock().insert(cluster.clone(), desk);
    }

    pub(crate) fn close(&self, cluster: &ClusterId) {
        self.desks.lock().remove(cluster);
    }

    fn desk(&self, cluster: &ClusterId) -> Option<Arc<Desk>> {
        self.desks.lock().get(cluster).cloned()
    }
}

/// One cluster's impersonators, as long as its unit runs.
pub(crate) struct Desk {
    people: Mutex<BTreeMap<String, Person>>,
    queue: Arc<Queue<Work>>,
}

struct Person {
    wanted: Option<Identity>,
    distrusted: bool,
    /// The token that the API server refused last.
    refused: Option<Secret>,
    replaced: Option<Instant>,
    written: Option<Instant>,
    turns: u64,
    state: watch::Sender<State>,
}

impl Default for Person {
    fn default() -> Self {
        Self {
            wanted: None,
            distrusted: false,
            refused: None,
            replaced: None,
            written: None,
            turns: 0,
            state: watch::Sender::new(State::Missing),
        }
    }
}

/// What the worker last found.
#[derive(Clone)]
pub(crate) enum State {
    /// Nobody has looked yet, or there is nothing.
    Missing,
    /// In place for exactly this identity.
    Ready(Identity, Secret),
    /// Not in place. Trying again may help, or not (`hopeless`).
    Failed { turn: u64, why: String, hopeless: bool },
}

impl Desk {
    pub(crate) fn new(queue: Arc<Queue<Work>>) -> Self {
        Self { people: Mutex::default(), queue }
    }

    /// Whom the last request of this user asked for.
    pub(crate) fn wanted(&self, user: &str) -> Option<Identity> {
        self.people.lock().get(user)?.wanted.clone()
    }

    /// To be called before each write, so that no request can see the write without its time.
    pub(crate) fn writing(&self, user: &str) {
        self.people.lock().entry(user.to_owned()).or_default().written = Some(Instant::now());
    }

    pub(crate) fn ready(&self, identity: Identity, token: Secret) {
        let mut people = self.people.lock();
        let person = people.entry(identity.user().to_owned()).or_default();
        person.turns += 1;
        person.distrusted = false;
        person.state.send_replace(State::Ready(identity, token));
    }

    /// Whether a token that the watches show may be published. After a repair they may still show the old one.
    pub(crate) fn believes(&self, user: &str, token: Option<&[u8]>) -> bool {
        let people = self.people.lock();
        let Some(person) = people.get(user) else { return true };
        let known = match (&*person.state.borrow(), token) {
            (State::Ready(_, published), Some(token)) => published.expose() == token,
            (State::Ready(..) | State::Missing | State::Failed { .. }, _) => true,
        };
        known && !person.distrusted
    }

    /// Whether this token is to be replaced although its Secret is as it should be. Says so once, then not for a while.
    ///
    /// A token that was written a moment ago may be one that this API server does not know yet.
    pub(crate) fn replaces(&self, user: &str, token: &[u8]) -> bool {
        let mut people = self.people.lock();
        let Some(person) = people.get_mut(user) else { return false };
        let refused = person.refused.as_ref().is_some_and(|refused| refused.expose() == token);
        let settled = person.written.is_none_or(|at| at.elapsed() >= CACHE_LAG);
        let due = person.replaced.is_none_or(|at| at.elapsed() >= REPLACE_AGAIN);
        if refused && settled && due {
            (person.replaced, person.refused) = (Some(Instant::now()), None);
        }
        refused && settled && due
    }

    fn token_refused(&self, user: &str) {
        if let Some(person) = self.people.lock().get_mut(user) {
            let given_out = match &*person.state.borrow() {
                State::Ready(_, token) => Some(token.clone()),
                State::Missing | State::Failed { .. } => None,
            };
            person.refused = given_out.or_else(|| person.refused.take());
        }
        self.distrust(user);
    }

    fn distrust(&self, user: &str) {
        if let Some(person) = self.people.lock().get_mut(user) {
            person.distrusted = true;
            person.state.send_replace(State::Missing);
        }
        self.queue.add(Work::User(user.to_owned()), true);
    }

    pub(crate) fn failed(&self, user: &str, why: String, hopeless: bool) {
        let mut people = self.people.lock();
        let person = people.entry(user.to_owned()).or_default();
        person.turns += 1;
        let turn = person.turns;
        person.state.send_replace(State::Failed { turn, why, hopeless });
    }

    /// The user has no impersonator any more: nothing of theirs is kept in memory, unless a request waits for them. It may
    /// know of a membership that the controllers have not seen yet.
    pub(crate) fn gone(&self, user: &str) {
        let mut people = self.people.lock();
        let waiting = people.get(user).is_some_and(|person| person.state.receiver_count() > 0);
        if !waiting {
            people.remove(user);
            return;
        }
        drop(people);
        self.failed(user, "the user may not enter the cluster".to_owned(), false);
    }

    fn written(&self, user: &str) -> Option<Instant> {
        self.people.lock().get(user)?.written
    }

    async fn token(&self, identity: Identity) -> Result<Granted, ImpersonationError> {
        let user = identity.user().to_owned();
        let (mut state, turn) = {
            let mut people = self.people.lock();
            let person = people.entry(user.clone()).or_default();
            if let Some(token) = ready(&person.state.borrow(), &identity) {
                return Ok(Granted { token, written: person.written });
            }
            person.wanted = Some(identity.clone());
            (person.state.subscribe(), person.turns)
        };
        self.queue.add(Work::User(user.clone()), true);
        let mut last = "it is being made".to_owned();
        let waited = tokio::time::timeout(WAIT, async {
            loop {
                if let Some(token) = ready(&state.borrow_and_update(), &identity) {
                    return Ok(token);
                }
                if let State::Failed { turn: failed, why, hopeless } = &*state.borrow()
                    && *failed > turn
                {
                    last.clone_from(why);
                    if *hopeless {
                        return Err(ImpersonationError::NotReady(why.clone()));
                    }
                }
                if state.changed().await.is_err() {
                    return Err(ImpersonationError::NotConnected);
                }
            }
        });
        let token = match waited.await {
            Ok(result) => result?,
            Err(_) => return Err(ImpersonationError::NotReady(last)),
        };
        Ok(Granted { token, written: self.written(&user) })
    }
}

fn ready(state: &State, identity: &Identity) -> Option<Secret> {
    match state {
        State::Ready(have, token) if have == identity => Some(token.clone()),
        State::Ready(..) | State::Missing | State::Failed { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;

    use super::*;

    fn cluster() -> ClusterId {
        "c-abcde".parse().unwrap()
    }

    fn open() -> (Impersonators, Arc<Desk>, Arc<Queue<Work>>) {
        let queue = Arc::new(Queue::new());
        let desk = Arc::new(Desk::new(Arc::clone(&queue)));
        let impersonators = Impersonators::default();
        impersonators.open(&cluster(), Arc::clone(&desk));
        (impersonators, desk, queue)
    }

    fn secret(text: &str) -> Secret {
        Secret::from(text.to_owned())
    }

    #[tokio::test(start_paused = true)]
    async fn fifty_first_requests_are_one_turn() {
        let (impersonators, desk, queue) = open();
        let user = UserInfo::for_test("u-alice", "alice");
        let cluster = cluster();
        let requests = join_all((0..50).map(|_| impersonators.token(&cluster, &user)));
        let worker = async {
            let key = queue.next().await;
            assert_eq!(key, Work::User("u-alice".into()));
            desk.writing("u-alice");
            // Everybody rings while the worker is at it.
            tokio::time::sleep(Duration::from_millis(50)).await;
            desk.ready(desk.wanted("u-alice").unwrap(), secret("token"));
            queue.done(&key, crate::queue::Outcome::Done);
        };
        let (granted, ()) = tokio::join!(requests, worker);
        assert!(granted.iter().all(|granted| granted.as_ref().is_ok_and(|granted| granted.token.expose() == b"token")));
        assert!(impersonators.recently_written(&cluster, "u-alice"));
        tokio::time::advance(CACHE_LAG).await;
        assert!(!impersonators.recently_written(&cluster, "u-alice"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_of_other_groups_is_not_used() {
        let (impersonators, desk, queue) = open();
        let cluster = cluster();
        let user = UserInfo::for_test("u-alice", "alice");
        desk.ready(Identity::of(&user).unwrap(), secret("old"));
        assert!(impersonators.token(&cluster, &user).await.is_ok());
        let more = user.with_groups(&["okta://ops"]);
        let worker = async {
            queue.next().await;
            desk.ready(desk.wanted("u-alice").unwrap(), secret("new"));
        };
        let (granted, ()) = tokio::join!(impersonators.token(&cluster, &more), worker);
        assert_eq!(granted.unwrap_or_else(|error| panic!("{error}")).token.expose(), b"new");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_missing_is_named() {
        let (impersonators, desk, _queue) = open();
        let cluster = cluster();
        let user = UserInfo::for_test("u-alice", "alice");
        // A failure that may pass is waited for until the end; a hopeless one is not. An old one says nothing.
        desk.failed("u-alice", "an old one".into(), true);
        let report = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            desk.failed("u-alice", "Secret x has no token yet".into(), false);
        };
        let (refused, ()) = tokio::join!(impersonators.token(&cluster, &user), report);
        assert_eq!(refused.err(), Some(ImpersonationError::NotReady("Secret x has no token yet".into())));
        let report = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            desk.failed("u-alice", "ClusterRole y is not ours".into(), true);
        };
        let started = Instant::now();
        let (refused, ()) = tokio::join!(impersonators.token(&cluster, &user), report);
        assert_eq!(refused.err(), Some(ImpersonationError::NotReady("ClusterRole y is not ours".into())));
        assert!(started.elapsed() < WAIT);
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_that_was_refused_is_not_given_out_again() {
        let (impersonators, desk, queue) = open();
        let cluster = cluster();
        let user = UserInfo::for_test("u-alice", "alice");
        desk.ready(Identity::of(&user).unwrap(), secret("old"));
        assert!(desk.believes("u-alice", Some(b"old")) && !desk.believes("u-alice", Some(b"older")));
        impersonators.distrust(&cluster, "u-alice");
        assert!(!desk.believes("u-alice", Some(b"old")));
        let worker = async {
            queue.next().await;
            desk.ready(desk.wanted("u-alice").unwrap_or_else(|| Identity::of(&user).unwrap()), secret("new"));
        };
        let (granted, ()) = tokio::join!(impersonators.token(&cluster, &user), worker);
        assert_eq!(granted.unwrap_or_else(|error| panic!("{error}")).token.expose(), b"new");
        assert!(desk.believes("u-alice", Some(b"new")));
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_that_stays_refused_is_replaced_and_not_at_every_request() {
        let (impersonators, desk, _queue) = open();
        let (cluster, user) = (cluster(), UserInfo::for_test("u-alice", "alice"));
        let ready = |text: &str| desk.ready(Identity::of(&user).unwrap(), secret(text));
        ready("old");
        assert!(!desk.replaces("u-alice", b"old"), "nobody refused it");
        impersonators.distrust(&cluster, "u-alice");
        assert!(!desk.replaces("u-alice", b"old"), "the right was refused, not the token");
        ready("old");
        desk.writing("u-alice");
        impersonators.token_refused(&cluster, "u-alice");
        assert!(!desk.replaces("u-alice", b"old"), "it was written a moment ago");
        tokio::time::advance(CACHE_LAG).await;
        assert!(!desk.replaces("u-alice", b"new"), "another one was refused");
        assert!(desk.replaces("u-alice", b"old"));
        ready("new");
        impersonators.token_refused(&cluster, "u-alice");
        assert!(!desk.replaces("u-alice", b"new"), "the API server refuses whatever it gets");
        tokio::time::advance(REPLACE_AGAIN).await;
        assert!(desk.replaces("u-alice", b"new"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_cluster_that_is_away_is_said_to_be() {
        let (impersonators, _desk, _queue) = open();
        let user = UserInfo::for_test("u-alice", "alice");
        impersonators.close(&cluster());
        let refused = impersonators.token(&cluster(), &user).await;
        assert_eq!(refused.err(), Some(ImpersonationError::NotConnected));
    }
}
