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
    idle: Mutex<Option<Vec<(Instant, Lease)>>>,
}

impl Pool {
    pub(super) fn new() -> Self {
        Self { idle: Mutex::new(Some(Vec::new())) }
    }

    /// The warmest usable connection.
    pub(super) fn take(&self) -> Option<Lease> {
        let mut idle = self.idle.lock();
        let idle = idle.as_mut()?;
        while let Some((since, lease)) = idle.pop() {
            if since.elapsed() < IDLE_LIMIT && lease.is_ready() {
                return Some(lease);
            }
        }
        None
    }

    /// Keeps a connection, or says that it is not wanted.
    pub(super) fn put(&self, lease: Lease) -> bool {
        let mut idle = self.idle.lock();
        match idle.as_mut() {
            Some(idle) if idle.len() < MAX_IDLE => {
                idle.push((Instant::now(), lease));
                true
            }
            _ => false,
        }
    }

    /// Closes what has waited too long or was closed by the other end.
    pub(super) fn evict(&self) {
        if let Some(idle) = self.idle.lock().as_mut() {
            idle.retain(|(since, lease)| since.elapsed() < IDLE_LIMIT && lease.is_ready());
        }
    }

    /// Closes all and keeps none from now on.
    pub(super) fn close(&self) {
        *self.idle.lock() = None;
    }
}
