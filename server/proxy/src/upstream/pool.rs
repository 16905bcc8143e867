//! Warm connections that wait for the next request.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::connection::Lease;

/// Connections that may wait. More than these run at the same time without harm; they are closed when they finish.
const MAX_IDLE: usize = 32;
/// Shorter than any API server or load balancer waits (Go's default is 90 s, some balancers' 60 s), so that a request rarely
/// meets a connection that the other end is just closing.
const IDLE_LIMIT: Duration = Duration::from_secs(30);

/// Idle connections of one upstream, the most recently used last.
pub(super) struct Pool {
    state: Mutex<State>,
}

struct State {
    idle: Vec<(Instant, Lease)>,
    /// Connections that were opened in an earlier one are not kept.
    generation: u64,
    open: bool,
}

impl Pool {
    pub(super) fn new() -> Self {
        Self { state: Mutex::new(State { idle: Vec::new(), generation: 0, open: true }) }
    }

    /// What a connection that is about to be opened belongs to.
    pub(super) fn generation(&self) -> u64 {
        self.state.lock().generation
    }

    /// The warmest usable connection.
    pub(super) fn take(&self) -> Option<Lease> {
        let mut state = self.state.lock();
        while let Some((since, lease)) = state.idle.pop() {
            if since.elapsed() < IDLE_LIMIT && lease.is_ready() {
                return Some(lease);
            }
        }
        None
    }

    /// Whether a usable connection waits.
    pub(super) fn is_warm(&self) -> bool {
        let state = self.state.lock();
        state.idle.iter().any(|(since, lease)| since.elapsed() < IDLE_LIMIT && lease.is_ready())
    }

    /// Keeps a connection, or says that it is not wanted.
    pub(super) fn put(&self, lease: Lease) -> bool {
        let mut state = self.state.lock();
        let wanted = state.open && lease.generation() == state.generation && state.idle.len() < MAX_IDLE;
        if wanted {
            state.idle.push((Instant::now(), lease));
        }
        wanted
    }

    /// Closes what has waited too long or was closed by the other end.
    pub(super) fn evict(&self) {
        self.state.lock().idle.retain(|(since, lease)| since.elapsed() < IDLE_LIMIT && lease.is_ready());
    }

    /// Closes what waits, and whatever runs when it is done. What is opened from now on is kept.
    pub(super) fn renew(&self) {
        let mut state = self.state.lock();
        state.generation += 1;
        state.idle.clear();
    }

    /// Closes all and keeps none from now on.
    pub(super) fn close(&self) {
        self.renew();
        self.state.lock().open = false;
    }
}
