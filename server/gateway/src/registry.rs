//! Who is connected: cluster by cluster, the sessions of all its agents.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cattle_proto::capability::Capabilities;
use cattle_proto::handshake::{AgentKind, RejectCode};
use cattle_proto::id::{ClusterId, InstanceId, NodeName, SessionId, Software};
use cattle_tunnel::{CloseReason, Session};
use parking_lot::Mutex;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::{broadcast, mpsc, watch};
use tokio::time::Instant;

mod member;
mod numbers;

pub(crate) use self::member::Command;
use self::member::State;
pub use self::member::{Member, Seen};
pub(crate) use self::numbers::ClusterNumbers;
use crate::authority::AgentIdentity;
use crate::health::{Evidence, Record};
use crate::metrics::DialOutcome;
use crate::route::{self, Candidate};

/// Most clusters that are remembered without a session. Who knocks under invented names must not fill the memory.
const REMEMBERED: usize = 10_000;

/// Sessions of one pod that carry streams at once. A pod is one process; a few more are those of containers before it, which
/// the keepalive is about to end. Whoever has a pod's token cannot fill the memory with them.
const SESSIONS_PER_POD: usize = 4;

/// Changes that a listener may be behind before it has to look at everything.
const CHANGES: usize = 1024;

/// Commands to one session's control stream that may wait.
const COMMANDS: usize = 4;

/// The sessions of all clusters.
#[derive(Debug)]
pub struct Registry {
    clusters: Mutex<HashMap<ClusterId, Entry>>,
    generations: AtomicU64,
    changes: watch::Sender<u64>,
    changed: broadcast::Sender<ClusterId>,
    failing: Failing,
}

/// Counts sessions that do not reach their target.
type Failing = Gauge<i64, AtomicI64>;

#[derive(Debug, Default)]
struct Entry {
    members: Vec<Arc<Member>>,
    /// Sessions that take no new streams and let the old ones end.
    retired: Vec<Arc<Member>>,
    /// When the first of the present sessions, or the last of the former ones, came or went.
    since: Option<u64>,
    last_reject: Option<LastReject>,
    /// Names of the nodes that run the control plane.
    control_plane: BTreeSet<String>,
    numbers: ClusterNumbers,
}

impl Entry {
    fn is_control_plane(&self, node: Option<&NodeName>) -> bool {
        node.is_some_and(|node| self.control_plane.contains(node.as_str()))
    }

    /// Takes `member` out of those that carry streams; whether it was one of them.
    fn leave(&mut self, member: &Arc<Member>) -> bool {
        let before = self.members.len();
        self.members.retain(|other| !Arc::ptr_eq(other, member));
        if before > 0 && self.members.is_empty() {
            self.since = Some(unix_now());
        }
        before != self.members.len()
    }
}

/// Whether a cluster is connected: the server's own evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// At least one session is there.
    Connected {
        /// Since when there has been one without a gap; seconds since 1970-01-01 UTC.
        since: u64,
        /// How many there are.
        sessions: usize,
    },
    /// None is.
    Disconnected {
        /// When the last one ended; `None` when there was none since the server started.
        since: Option<u64>,
        /// The last refusal of an agent of this cluster after that.
        last_reject: Option<LastReject>,
    },
}

/// A refusal of an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastReject {
    /// The reason.
    pub code: RejectCode,
    /// When; seconds since 1970-01-01 UTC.
    pub at: u64,
}

/// A session's place in the registry; dropped with the session.
#[derive(Debug)]
pub(crate) struct Place {
    registry: Arc<Registry>,
    pub(crate) member: Arc<Member>,
}

impl Place {
    /// The session carries no new streams from here on, and counts as gone.
    pub(crate) fn retire(&self) {
        self.member.session.handle().refuse_streams();
        self.registry.retire(&self.member);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.registry.remove(&self.member);
    }
}

impl Registry {
    pub(crate) fn new(failing: Failing) -> Arc<Self> {
        let (generations, changes) = (AtomicU64::new(0), watch::Sender::new(0));
        let changed = broadcast::Sender::new(CHANGES);
        Arc::new(Self { clusters: Mutex::default(), generations, changes, changed, failing })
    }

    /// Whether the cluster is connected.
    #[must_use]
    pub fn link(&self, cluster: &ClusterId) -> Link {
        match self.clusters.lock().get(cluster) {
            Some(entry) if !entry.members.is_empty() => {
                Link::Connected { since: entry.since.unwrap_or_default(), sessions: entry.members.len() }
            }
            Some(entry) => Link::Disconnected { since: entry.since, last_reject: entry.last_reject },
            None => Link::Disconnected { since: None, last_reject: None },
        }
    }

    /// The cluster's sessions, best route first; those that take no streams are left out.
    #[must_use]
    pub fn routes(&self, cluster: &ClusterId) -> Vec<Arc<Member>> {
        let members = self.members(cluster);
        let candidates: Vec<Candidate> = members.iter().map(|member| member.candidate()).collect();
        route::order(&candidates).into_iter().map(|at| Arc::clone(&members[at])).collect()
    }

    /// All of the cluster's sessions in the order in which new streams try them, each with its place in that order, from 1.
    /// Those that take no new streams have none and come last.
    #[must_use]
    pub fn ranked(&self, cluster: &ClusterId) -> Vec<(Option<usize>, Arc<Member>)> {
        let (members, retired) = match self.clusters.lock().get(cluster) {
            Some(entry) => (entry.members.clone(), entry.retired.clone()),
            None => return Vec::new(),
        };
        let candidates: Vec<Candidate> = members.iter().map(|member| member.candidate()).collect();
        let order = route::order(&candidates);
        let last = (0..members.len()).filter(|at| !order.contains(at)).map(|at| (None, Arc::clone(&members[at])));
        let first = order.iter().zip(1..).map(|(at, rank)| (Some(rank), Arc::clone(&members[*at])));
        first.chain(last).chain(retired.into_iter().map(|member| (None, member))).collect()
    }

    /// All of the cluster's sessions.
    #[must_use]
    pub fn members(&self, cluster: &ClusterId) -> Vec<Arc<Member>> {
        self.clusters.lock().get(cluster).map(|entry| entry.members.clone()).unwrap_or_default()
    }

    /// The clusters that are connected.
    #[must_use]
    pub fn connected(&self) -> Vec<ClusterId> {
        let clusters = self.clusters.lock();
        clusters.iter().filter(|(_, entry)| !entry.members.is_empty()).map(|(id, _)| id.clone()).collect()
    }

    /// Counts up whenever a link or a last refusal changes; read the registry again then.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// The clusters whose link, sessions or last refusal have changed. Whoever falls behind has to look at all of them.
    #[must_use]
    pub fn changed(&self) -> broadcast::Receiver<ClusterId> {
        self.changed.subscribe()
    }

    /// Takes in what was seen of one session: of a probe through it, or of a dial.
    pub fn observe(&self, cluster: &ClusterId, session: SessionId, evidence: Evidence) {
        let Some(member) = self.members(cluster).into_iter().find(|member| member.id() == session) else { return };
        if member.state.observe(evidence) {
            tracing::info!(%cluster, %session, pod = %member.identity.pod, health = ?member.health(), "route");
            self.tell(cluster);
        }
    }

    /// Takes down how a dial came out, and how long it took.
    pub(crate) fn dialed(&self, cluster: &ClusterId, outcome: DialOutcome, time: Duration) {
        // Who asks for a cluster that has no agent, or that there is not, leaves nothing here.
        if let Some(entry) = self.clusters.lock().get_mut(cluster) {
            entry.numbers.dialed(outcome, time);
        }
    }

    /// Takes down why a session has ended.
    pub(crate) fn ended(&self, cluster: &ClusterId, reason: &CloseReason) {
        if let Some(entry) = self.clusters.lock().get_mut(cluster) {
            entry.numbers.ended(reason);
        }
    }

    /// The numbers and the sessions of every cluster.
    pub(crate) fn numbers(&self) -> Vec<(ClusterId, ClusterNumbers, Vec<Arc<Member>>)> {
        let clusters = self.clusters.lock();
        clusters.iter().map(|(id, entry)| (id.clone(), entry.numbers.clone(), entry.members.clone())).collect()
    }

    /// Takes in which nodes of the cluster run its control plane: their agents stand in first.
    pub fn set_control_plane(&self, cluster: &ClusterId, nodes: BTreeSet<String>) {
        {
            let mut clusters = self.clusters.lock();
            let Some(entry) = clusters.get_mut(cluster).filter(|entry| entry.control_plane != nodes) else { return };
            entry.control_plane = nodes;
            for member in &entry.members {
                member.set_control_plane(entry.is_control_plane(member.node()));
            }
        }
        self.tell(cluster);
    }

    /// Takes in on which node the pod of an agent runs, whose token does not say it. The cluster's word, found by the pod's UID.
    pub fn place(&self, cluster: &ClusterId, pod_uid: &str, node: &NodeName) {
        let mut placed = false;
        if let Some(entry) = self.clusters.lock().get(cluster) {
            let members = entry.members.iter().chain(&entry.retired);
            for member in members.filter(|member| member.identity.pod_uid == pod_uid) {
                placed |= member.place(node);
                member.set_control_plane(entry.is_control_plane(member.node()));
            }
        }
        if placed {
            self.tell(cluster);
        }
    }

    /// Ends all sessions of a cluster at once and forgets it: it was deleted.
    pub fn forget(&self, cluster: &ClusterId) {
        let entry = self.clusters.lock().remove(cluster);
        for member in entry.into_iter().flat_map(|entry| entry.members.into_iter().chain(entry.retired)) {
            member.session.handle().close();
        }
        self.tell(cluster);
    }

    pub(crate) fn request_credential(&self, cluster: &ClusterId) -> bool {
        let mut routes = self.routes(cluster).into_iter().filter(|m| m.identity.kind == AgentKind::ClusterAgent);
        routes.any(|member| member.commands.try_send(Command::RequestCredential).is_ok())
    }

    pub(crate) fn rejected(&self, cluster: &ClusterId, code: RejectCode) {
        let mut clusters = self.clusters.lock();
        // There is no record that it could be shown on.
        let known = clusters.contains_key(cluster);
        if !known && (code == RejectCode::ClusterDeleted || clusters.len() >= REMEMBERED) {
            return;
        }
        let last = &mut clusters.entry(cluster.clone()).or_default().last_reject;
        let news = last.is_none_or(|last| last.code != code);
        *last = Some(LastReject { code, at: unix_now() });
        drop(clusters);
        // Agents knock for ever, and anybody may: that wakes nobody.
        if news {
            self.tell(cluster);
        }
    }

    /// Enters a session. An older one of the same process is superseded: it has a moment to finish its streams.
    pub(crate) fn insert(
        self: &Arc<Self>,
        session: Session,
        identity: AgentIdentity,
        instance: InstanceId,
        software: Software,
        capabilities: Capabilities,
    ) -> (Place, mpsc::Receiver<Command>) {
        let (commands, receiver) = mpsc::channel(COMMANDS);
        let mut clusters = self.clusters.lock();
        let entry = clusters.entry(identity.cluster.clone()).or_default();
        let present: Vec<_> = entry.members.iter().map(|other| (other.identity.kind, other.health())).collect();
        let recovers = route::has_to_recover(identity.kind, &present);
        let record = if recovers { Record::recovering(Instant::now()) } else { Record::default() };
        let state = State::new(record, self.failing.clone(), entry.is_control_plane(identity.node.as_ref()));
        let member = Arc::new(Member {
            session,
            identity,
            instance,
            software,
            capabilities,
            since: unix_now(),
            generation: self.generations.fetch_add(1, Ordering::Relaxed),
            state: Arc::new(state),
            commands,
        });
        entry.numbers.sessions += 1;
        if entry.members.is_empty() {
            entry.since = Some(member.since);
            entry.last_reject = None;
        }
        let surplus = surplus(&entry.members, &member);
        let (older, mut others): (Vec<_>, Vec<_>) = entry
            .members
            .drain(..)
            .partition(|other| other.instance == instance || surplus.contains(&other.generation));
        for older in &older {
            older.supersede();
        }
        others.push(Arc::clone(&member));
        entry.members = others;
        entry.retired.extend(older);
        drop(clusters);
        self.tell(&member.identity.cluster);
        (Place { registry: Arc::clone(self), member }, receiver)
    }

    fn retire(&self, member: &Arc<Member>) {
        if let Some(entry) = self.clusters.lock().get_mut(&member.identity.cluster)
            && entry.leave(member)
        {
            entry.retired.push(Arc::clone(member));
        }
        self.tell(&member.identity.cluster);
    }

    fn remove(&self, member: &Arc<Member>) {
        if let Some(entry) = self.clusters.lock().get_mut(&member.identity.cluster) {
            entry.leave(member);
            entry.retired.retain(|other| !Arc::ptr_eq(other, member));
        }
        self.tell(&member.identity.cluster);
    }

    fn tell(&self, cluster: &ClusterId) {
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
        // Nobody may be listening.
        let _ = self.changed.send(cluster.clone());
    }
}

/// The sessions, by generation, that `member`'s pod has too many of when it gets this one: the oldest.
fn surplus(members: &[Arc<Member>], member: &Member) -> Vec<u64> {
    let same = |other: &&Arc<Member>| {
        (other.identity.kind, &other.identity.pod) == (member.identity.kind, &member.identity.pod)
            && other.instance != member.instance
    };
    let mut generations: Vec<u64> = members.iter().filter(same).map(|other| other.generation).collect();
    generations.sort_unstable();
    generations.truncate(generations.len().saturating_sub(SESSIONS_PER_POD - 1));
    generations
}

/// Seconds since 1970-01-01 UTC.
pub(crate) fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
