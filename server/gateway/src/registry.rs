//! Who is connected: cluster by cluster, the sessions of all its agents.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use cattle_proto::capability::Capabilities;
use cattle_proto::control::Heartbeat;
use cattle_proto::handshake::{AgentKind, RejectCode};
use cattle_proto::id::{ClusterId, InstanceId, SessionId, Software};
use cattle_tunnel::Session;
use parking_lot::Mutex;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::authority::{AgentIdentity, SessionDialer};
use crate::health::{Evidence, Health, Record};
use crate::route::{self, Candidate};

/// Most clusters that are remembered without a session. Who knocks under invented names must not fill the memory.
const REMEMBERED: usize = 10_000;

/// Sessions of one pod that carry streams at once. A pod is one process; a few more are those of containers before it, which
/// the keepalive is about to end. Whoever has a pod's token cannot fill the memory with them.
const SESSIONS_PER_POD: usize = 4;

/// Commands to one session's control stream that may wait.
const COMMANDS: usize = 4;

/// The sessions of all clusters.
#[derive(Debug)]
pub struct Registry {
    clusters: Mutex<HashMap<ClusterId, Entry>>,
    generations: AtomicU64,
    changes: watch::Sender<u64>,
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
}

impl Entry {
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

/// What is known about one session, to be shown.
#[derive(Clone, Debug)]
pub struct Member {
    /// The session, to open streams in.
    pub session: Session,
    /// Who is at its other end.
    pub identity: AgentIdentity,
    /// The agent's process.
    pub instance: InstanceId,
    /// The agent's software, for people.
    pub software: Software,
    /// What the agent and this server can do.
    pub capabilities: Capabilities,
    /// When it was connected; seconds since 1970-01-01 UTC.
    pub since: u64,
    generation: u64,
    state: Arc<State>,
    commands: mpsc::Sender<Command>,
}

#[derive(Debug)]
struct State {
    health: Mutex<Record>,
    failing: Failing,
    heartbeat: Mutex<Option<(Heartbeat, u64)>>,
    superseded: CancellationToken,
}

impl State {
    /// Takes in what was seen of the session; whether that changes how it is.
    fn observe(&self, evidence: Evidence) -> bool {
        let mut record = self.health.lock();
        let before = record.health();
        record.observe(evidence, Instant::now());
        let after = record.health();
        self.failing.inc_by(i64::from(after == Health::Bad) - i64::from(before == Health::Bad));
        before != after
    }
}

impl Drop for State {
    fn drop(&mut self) {
        self.failing.dec_by(i64::from(self.health.get_mut().health() == Health::Bad));
    }
}

/// What the server wants of one agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    RequestCredential,
}

impl Member {
    /// The session's id.
    #[must_use]
    pub fn id(&self) -> SessionId {
        self.session.handle().id()
    }

    /// The last heartbeat and when it came; seconds since 1970-01-01 UTC.
    #[must_use]
    pub fn heartbeat(&self) -> Option<(Heartbeat, u64)> {
        *self.state.heartbeat.lock()
    }

    /// What the server's own evidence says of this session.
    #[must_use]
    pub fn health(&self) -> Health {
        self.state.health.lock().health()
    }

    /// Opens streams through this session and no other, to look whether it works.
    #[must_use]
    pub fn dialer(&self) -> SessionDialer {
        SessionDialer::new(self.session.clone())
    }

    pub(crate) fn heard(&self, heartbeat: Heartbeat) {
        *self.state.heartbeat.lock() = Some((heartbeat, unix_now()));
    }

    pub(crate) async fn superseded(&self) {
        self.state.superseded.cancelled().await;
    }

    fn candidate(&self) -> Candidate {
        let handle = self.session.handle();
        Candidate {
            kind: self.identity.kind,
            health: self.health(),
            open: self.capabilities.contains(Capabilities::KUBE_APISERVER)
                && !handle.is_draining()
                && handle.close_reason().is_none(),
            streams: handle.streams(),
            generation: self.generation,
        }
    }
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
        Arc::new(Self { clusters: Mutex::default(), generations, changes, failing })
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

    /// Takes in what was seen of one session: of a probe through it, or of a dial.
    pub fn observe(&self, cluster: &ClusterId, session: SessionId, evidence: Evidence) {
        let Some(member) = self.members(cluster).into_iter().find(|member| member.id() == session) else { return };
        if member.state.observe(evidence) {
            tracing::info!(%cluster, %session, pod = %member.identity.pod, health = ?member.health(), "route");
            self.changed();
        }
    }

    /// Ends all sessions of a cluster at once and forgets it: it was deleted.
    pub fn forget(&self, cluster: &ClusterId) {
        let entry = self.clusters.lock().remove(cluster);
        for member in entry.into_iter().flat_map(|entry| entry.members.into_iter().chain(entry.retired)) {
            member.session.handle().close();
        }
        self.changed();
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
            self.changed();
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
        let state = State {
            health: Mutex::new(record),
            failing: self.failing.clone(),
            heartbeat: Mutex::default(),
            superseded: CancellationToken::new(),
        };
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
            older.session.handle().refuse_streams();
            older.state.superseded.cancel();
        }
        others.push(Arc::clone(&member));
        entry.members = others;
        entry.retired.extend(older);
        drop(clusters);
        self.changed();
        (Place { registry: Arc::clone(self), member }, receiver)
    }

    fn retire(&self, member: &Arc<Member>) {
        if let Some(entry) = self.clusters.lock().get_mut(&member.identity.cluster)
            && entry.leave(member)
        {
            entry.retired.push(Arc::clone(member));
        }
        self.changed();
    }

    fn remove(&self, member: &Arc<Member>) {
        if let Some(entry) = self.clusters.lock().get_mut(&member.identity.cluster) {
            entry.leave(member);
            entry.retired.retain(|other| !Arc::ptr_eq(other, member));
        }
        self.changed();
    }

    fn changed(&self) {
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
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
