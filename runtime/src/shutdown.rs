//! Shutdown in two phases: the first signal drains, the second aborts.

use std::io::{self, IsTerminal as _};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The wish to end, shared by the whole process. Cheap to clone; all clones are the same.
///
/// It only ever moves forward: running → draining → aborting.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    drain: CancellationToken,
    abort: CancellationToken,
}

impl Shutdown {
    /// A shutdown that nobody has asked for yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks every task to stop accepting work and to finish what it has begun.
    pub fn drain(&self) {
        self.drain.cancel();
    }

    /// Asks for the end at once, whatever is unfinished.
    pub fn abort(&self) {
        self.drain.cancel();
        self.abort.cancel();
    }

    /// Whether draining (or aborting) has begun.
    pub fn is_draining(&self) -> bool {
        self.drain.is_cancelled()
    }

    /// Resolves when draining begins; at once if it already has.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropping the future loses nothing.
    pub async fn draining(&self) {
        self.drain.cancelled().await;
    }

    /// Resolves when aborting begins; at once if it already has. Cancel safe.
    pub async fn aborting(&self) {
        self.abort.cancelled().await;
    }

    /// The drain phase as a token, for components that take one. Cancelling a child does not drain the process;
    /// cancelling this very token does.
    pub fn drain_token(&self) -> CancellationToken {
        self.drain.clone()
    }
}

/// The process's termination signals, from the moment it is made: no signal is lost before [`Signals::watch`] runs.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    /// Takes over SIGTERM, SIGINT and SIGHUP. Needs a tokio runtime with I/O enabled.
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Turns the first signal into [`Shutdown::drain`] and the second into [`Shutdown::abort`], then ends.
    pub async fn watch(mut self, shutdown: Shutdown) {
        let name = self.next().await;
        tracing::info!(signal = name, "draining; a second signal aborts");
        shutdown.drain();
        let name = self.next().await;
        tracing::warn!(signal = name, "aborting");
        shutdown.abort();
    }

    /// The next wish to end. SIGHUP is one when the terminal goes; a service manager that sends it asks to reload, and would not
    /// expect the process to be gone.
    async fn next(&mut self) -> &'static str {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return "SIGTERM",
                _ = self.interrupt.recv() => return "SIGINT",
                _ = self.hangup.recv() => {
                    if io::stdin().is_terminal() {
                        return "SIGHUP";
                    }
                    tracing::info!(signal = "SIGHUP", "nothing to reload: files that may change are read again by themselves");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn clones_share_both_phases_and_abort_includes_drain() {
        let shutdown = Shutdown::new();
        let other = shutdown.clone();
        assert!(!other.is_draining());
        shutdown.drain();
        timeout(SOON, other.draining()).await.unwrap();
        assert!(timeout(Duration::ZERO, other.aborting()).await.is_err(), "drain alone aborts nothing");
        other.abort();
        timeout(SOON, shutdown.aborting()).await.unwrap();

        let aborted = Shutdown::new();
        aborted.abort();
        assert!(aborted.is_draining());
    }
}
