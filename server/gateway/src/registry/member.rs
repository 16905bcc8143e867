//! One session in the registry.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use cattle_proto::capability::Capabilities;
use cattle_proto::control::Heartbeat;
use cattle_proto::id::{InstanceId, NodeName, SessionId, Software};
use cattle_tunnel::Session;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Failing, unix_now};
use crate::authority::{AgentIdentity, SessionDialer};
use crate::health::{Evidence, Health, Record};
use crate::route::{Candidate, Rank};

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
    pub(super) generation: u64,
    pub(super) state: Arc<State>,
    pub(super) commands: mpsc::Sender<Command>,
}

/// What changes about a session.
#[derive(Debug)]
pub(super) struct State {
    health: Mutex<Record>,
    failing: Failing,
    seen: Mutex<Option<Seen>>,
    control_plane: AtomicBool,
    /// Where its pod was found, if its token does not say it.
    placed: OnceLock<NodeName>,
    heartbeat: Mutex<Option<(Heartbeat, u64)>>,
    superseded: CancellationToken,
}

/// The last look at the way through a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// What it showed.
    pub evidence: Evidence,
    /// When; seconds since 1970-01-01 UTC.
    pub at: u64,
}

impl State {
    pub(super) fn new(record: Record, failing: Failing, control_plane: bool) -> Self {
        Self {
            health: Mutex::new(record),
            failing,
            seen: Mutex::default(),
            control_plane: AtomicBool::new(control_plane),
            placed: OnceLock::new(),
            heartbeat: Mutex::default(),
            superseded: CancellationToken::new(),
        }
    }

    /// Takes in what was seen of the session; whether that changes how it is.
    pub(super) fn observe(&self, evidence: Evidence) -> bool {
        *self.seen.lock() = Some(Seen { evidence, at: unix_now() });
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

    /// The node of its pod: as its token says, else as its cluster did.
    #[must_use]
    pub fn node(&self) -> Option<&NodeName> {
        self.identity.node.as_ref().or_else(|| self.state.placed.get())
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

    /// Among which routes it is tried.
    #[must_use]
    pub fn rank(&self) -> Rank {
        Rank::of(self.identity.kind, self.state.control_plane.load(Ordering::Relaxed))
    }

    /// The last probe or dial through this session; `None` when there was none. A session of a cluster that has no other is
    /// not probed by itself: there is nothing to choose.
    #[must_use]
    pub fn last_seen(&self) -> Option<Seen> {
        *self.state.seen.lock()
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

    /// A newer session of the same process, or of the same pod, takes its place.
    pub(super) fn supersede(&self) {
        self.session.handle().refuse_streams();
        self.state.superseded.cancel();
    }

    /// Whether that is news.
    pub(super) fn place(&self, node: &NodeName) -> bool {
        self.identity.node.is_none() && self.state.placed.set(node.clone()).is_ok()
    }

    pub(super) fn set_control_plane(&self, control_plane: bool) {
        self.state.control_plane.store(control_plane, Ordering::Relaxed);
    }

    pub(super) fn candidate(&self) -> Candidate {
        let handle = self.session.handle();
        Candidate {
            rank: self.rank(),
            health: self.health(),
            open: self.capabilities.contains(Capabilities::KUBE_APISERVER)
                && !handle.is_draining()
                && handle.close_reason().is_none(),
            streams: handle.streams(),
            generation: self.generation,
        }
    }
}
