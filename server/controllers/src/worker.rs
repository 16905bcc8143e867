//! The one writer downstream of a unit: takes keys from the queue, a few at a time, each key in one turn at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use cattle_api::Secret;
use cattle_proto::id::ClusterId;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use kube::Client;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::controllers::Shared;
use crate::identity::Identity;
use crate::impersonation::{self, Desk, Downstream, Impersonator, Next, ReconcileError, Settled};
use crate::members::Membership;
use crate::mirror::{Mirror, Seen, Tell};
use crate::queue::{Outcome, Queue};
use crate::unit::Work;

/// Turns at once: enough to bring 500 users up within seconds, too few to be felt by an API server.
const AT_ONCE: usize = 8;
/// The watches' first lists are waited for so long; after that, turns read live. A watch that is refused (somebody deleted
/// our rights in the namespace) must not keep the repair from running.
const FIRST_LISTS: Duration = Duration::from_secs(5);
/// One turn takes at most so long.
const TURN: Duration = Duration::from_secs(30);

pub(crate) struct Worker {
    shared: Arc<Shared>,
    cluster: ClusterId,
    queue: Arc<Queue<Work>>,
    desk: Arc<Desk>,
    people: Mutex<People>,
    conflicts: Mutex<BTreeSet<String>>,
}

/// Who may enter, and who of them has signed in.
#[derive(Default)]
struct People {
    entrants: BTreeSet<String>,
    signed_in: BTreeMap<String, Identity>,
}

/// What a turn works with.
struct Tools {
    mirror: Mirror,
    listed: bool,
    downstream: Downstream,
    client: Client,
}

impl Worker {
    pub(crate) fn new(shared: Arc<Shared>, cluster: ClusterId) -> Self {
        let queue = Arc::new(Queue::new());
        let desk = Arc::new(Desk::new(Arc::clone(&queue)));
        Self { shared, cluster, queue, desk, people: Mutex::default(), conflicts: Mutex::default() }
    }

    pub(crate) fn desk(&self) -> Arc<Desk> {
        Arc::clone(&self.desk)
    }

    /// Works until `stop`. A turn that is under way then is dropped; the next unit does it again.
    pub(crate) async fn run(&self, client: &Client, stop: &CancellationToken) {
        let lists = watch::Sender::new(());
        let (mut relisted, mut changes) = (lists.subscribe(), self.shared.directory.changes());
        let queue = Arc::clone(&self.queue);
        let tell: Tell = Arc::new(move |seen| match seen {
            Seen::One(work) => queue.add(work, false),
            Seen::All => lists.send_replace(()),
        });
        let mut watches = JoinSet::new();
        let mirror = Mirror::start(client, &tell, &mut watches);
        let listed = tokio::select! {
            () = stop.cancelled() => return,
            listed = tokio::time::timeout(FIRST_LISTS, mirror.listed()) => listed.unwrap_or(false),
        };
        let mut tools = Tools { mirror, listed, downstream: Downstream::new(client), client: client.clone() };
        if !tools.listed {
            tracing::warn!("not every watch in the cluster has its first list; going on without");
        }
        self.look_around();
        self.look_at_everything(&tools.mirror);
        while !stop.is_cancelled() {
            if !tools.listed {
                // Once every watch has its list, turns can be decided from memory.
                tools.listed = futures_util::FutureExt::now_or_never(tools.mirror.listed()).unwrap_or(false);
            }
            self.round(&tools, &mut relisted, &mut changes, stop).await;
        }
        watches.shutdown().await;
    }

    /// Takes turns until the watches have new lists, the server's objects change, or `stop`.
    async fn round(
        &self,
        tools: &Tools,
        relisted: &mut watch::Receiver<()>,
        changes: &mut watch::Receiver<u64>,
        stop: &CancellationToken,
    ) {
        let mut turns = FuturesUnordered::new();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                Some((work, outcome)) = turns.next(), if !turns.is_empty() => self.queue.done(&work, outcome),
                Ok(()) = changes.changed() => self.look_around(),
                Ok(()) = relisted.changed() => {
                    self.look_at_everything(&tools.mirror);
                    if !tools.listed {
                        break;
                    }
                }
                work = self.queue.next(), if turns.len() < AT_ONCE => turns.push(self.turn(tools, work)),
            }
        }
        let rest = async {
            while let Some((work, outcome)) = turns.next().await {
                self.queue.done(&work, outcome);
            }
        };
        tokio::select! { () = stop.cancelled() => {}, () = rest => {} }
    }

    /// The server's objects have changed: whoever is touched by it is looked at again.
    fn look_around(&self) {
        let new = {
            let world = self.shared.directory.read();
            let entrants = world.entrants(self.cluster.as_str());
            People { signed_in: world.signed_in(&entrants), entrants }
        };
        let mut people = self.people.lock();
        let gone = people.entrants.difference(&new.entrants);
        let come = new.entrants.difference(&people.entrants);
        let changed = new.signed_in.iter().filter(|(user, identity)| people.signed_in.get(*user) != Some(identity));
        let out = people.signed_in.keys().filter(|user| !new.signed_in.contains_key(*user));
        for user in gone.chain(come).chain(changed.map(|(user, _)| user)).chain(out) {
            self.queue.add(Work::User(user.clone()), false);
        }
        *people = new;
        self.queue.add(Work::Members, false);
    }

    fn look_at_everything(&self, mirror: &Mirror) {
        let wanted: Vec<String> = self.people.lock().signed_in.keys().cloned().collect();
        for user in wanted.into_iter().chain(impersonation::users_in(mirror)) {
            self.queue.add(Work::User(user), false);
        }
        self.queue.add(Work::Members, false);
    }

    async fn turn(&self, tools: &Tools, work: Work) -> (Work, Outcome) {
        let turn = async {
            match &work {
                Work::User(user) => self.user(tools, user).await,
                Work::Members => self.members(tools).await,
            }
        };
        let outcome = tokio::time::timeout(TURN, turn).await.unwrap_or_else(|_| {
            if let Work::User(user) = &work {
                self.desk.failed(user, "the cluster's API server does not answer".to_owned(), false);
            }
            Outcome::Failed
        });
        (work, outcome)
    }

    async fn user(&self, tools: &Tools, user: &str) -> Outcome {
        let identity = self.identity(user);
        let desired = identity.clone().map(Impersonator::new);
        let settled = match impersonation::decide(desired.as_ref(), &impersonation::observed_in(&tools.mirror, user)) {
            Next::Done(token) if tools.listed && self.desk.believes(user, token.as_deref()) => Ok(Settled::Done(token)),
            Next::Done(_) | Next::Do(_) | Next::Wait(_) | Next::Conflict(_) => {
                self.settle(tools, user, desired.as_ref()).await
            }
        };
        match (settled, identity) {
            (Ok(Settled::Done(Some(token))), Some(identity)) => {
                self.desk.ready(identity, Secret::new(token));
                Outcome::Done
            }
            (Ok(Settled::Done(_)), _) => {
                self.desk.gone(user);
                Outcome::Done
            }
            (Ok(Settled::Waiting(why)), _) => {
                self.desk.failed(user, why.to_owned(), false);
                Outcome::Waiting
            }
            (Err(error), _) => {
                tracing::debug!(user, error = &error as &dyn std::error::Error, "impersonator");
                self.desk.failed(user, why(&error), matches!(error, ReconcileError::Conflict(_)));
                Outcome::Failed
            }
        }
    }

    /// Looks live, and replaces a token that is in place but refused.
    async fn settle(
        &self,
        tools: &Tools,
        user: &str,
        desired: Option<&Impersonator>,
    ) -> Result<Settled, ReconcileError> {
        let writing = || self.desk.writing(user);
        let settled = tools.downstream.settle(user, desired, writing).await?;
        match &settled {
            Settled::Done(Some(token)) if self.desk.replaces(user, token) => {
                tracing::info!(user, "the API server refuses the impersonator's token; another one is made");
                writing();
                tools.downstream.discard(user, token).await?;
                tools.downstream.settle(user, desired, writing).await
            }
            Settled::Done(_) | Settled::Waiting(_) => Ok(settled),
        }
    }

    /// Whom the user's impersonator is to speak for; `None` when there must be none.
    fn identity(&self, user: &str) -> Option<Identity> {
        let people = self.people.lock();
        if !people.entrants.contains(user) {
            return None;
        }
        self.desk.wanted(user).or_else(|| people.signed_in.get(user).cloned())
    }

    async fn members(&self, tools: &Tools) -> Outcome {
        let membership = Membership::of(&self.shared.directory.read(), self.cluster.as_str());
        if tools.listed && membership.is_settled(&tools.mirror) {
            return Outcome::Done;
        }
        match membership.settle(&tools.client).await {
            Ok(conflicts) => {
                let mut known = self.conflicts.lock();
                for name in conflicts.difference(&known) {
                    tracing::warn!(
                        name,
                        "a role or binding of this name exists in the cluster and is not ours; it is left alone"
                    );
                }
                *known = conflicts;
                Outcome::Done
            }
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "members' roles and bindings are not up to date"
                );
                Outcome::Failed
            }
        }
    }
}

fn why(error: &ReconcileError) -> String {
    match error {
        ReconcileError::Apply(error) => error.sentence(),
        ReconcileError::Conflict(conflict) => conflict.to_string(),
        ReconcileError::Fight => error.to_string(),
    }
}
