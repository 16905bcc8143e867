//! Whether the agent is connected, for everybody who asks: probes, metrics, logs.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cattle_proto::handshake::Phase;
use cattle_proto::id::SessionId;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::connect::Stage;

/// Silence of the agent's own loop after which it counts as stuck: far above the longest wait between attempts and the
/// interval of heartbeats.
pub const STUCK_AFTER: Duration = Duration::from_secs(300);

/// State of an agent's connection.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Link {
    /// An attempt is under way.
    Connecting {
        /// Since when.
        since: Instant,
    },
    /// A session is up.
    Up {
        /// Which.
        session: SessionId,
        /// What for.
        phase: Phase,
        /// Since when.
        since: Instant,
    },
    /// The next attempt comes later.
    Waiting {
        /// When.
        until: Instant,
        /// Why there is no session.
        why: Why,
    },
    /// The agent is ending.
    Stopped,
}

/// Why an agent waits.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Why {
    /// An attempt failed.
    Failed {
        /// At which stage.
        stage: Stage,
        /// The error's code, see `ConnectError::code`.
        code: &'static str,
    },
    /// A session was lost; the name of its close reason.
    Lost(&'static str),
    /// The server asked for it.
    GoAway,
}

/// Reads a link's state; clones read the same one.
#[derive(Clone, Debug)]
pub struct LinkWatch {
    link: watch::Receiver<Link>,
    progress: Progress,
}

impl LinkWatch {
    /// The state now.
    pub fn link(&self) -> Link {
        self.link.borrow().clone()
    }

    /// Waits until the state is one that `wanted` accepts, and returns it. Cancel safe. Once the agent is gone, the
    /// state is what it was last.
    pub async fn wait_for(&mut self, wanted: impl FnMut(&Link) -> bool) -> Link {
        // The value that was accepted, even if a newer one has come since.
        let accepted = self.link.wait_for(wanted).await.map(|link| link.clone());
        accepted.unwrap_or_else(|_| self.link())
    }

    /// Ready is a live session that carries traffic.
    pub fn ready(&self) -> Result<(), Cow<'static, str>> {
        match &*self.link.borrow() {
            Link::Up { phase: Phase::Serving, .. } => Ok(()),
            Link::Up { phase: Phase::Registration, .. } => Err("registering".into()),
            Link::Connecting { .. } => Err("connecting".into()),
            Link::Waiting { why: Why::Failed { stage, code }, .. } => {
                Err(format!("no session: {} ({code})", stage.name()).into())
            }
            Link::Waiting { why: Why::Lost(reason), .. } => Err(format!("session lost: {reason}").into()),
            Link::Waiting { why: Why::GoAway, .. } => Err("the server asked to reconnect".into()),
            Link::Stopped => Err("stopped".into()),
        }
    }

    /// Alive unless the agent's own loop has done nothing for [`STUCK_AFTER`]: neither an attempt nor a heartbeat.
    /// Whatever the server does or does not do, an agent that tries is alive.
    pub fn alive(&self) -> Result<(), Cow<'static, str>> {
        alive_after(self.progress.silence())
    }
}

fn alive_after(silence: Duration) -> Result<(), Cow<'static, str>> {
    if silence < STUCK_AFTER { Ok(()) } else { Err(format!("no attempt for {}s", silence.as_secs()).into()) }
}

/// The writing end of a [`LinkWatch`].
#[derive(Debug)]
pub(crate) struct LinkWriter {
    link: watch::Sender<Link>,
    progress: Progress,
}

impl LinkWriter {
    pub(crate) fn new() -> (Self, LinkWatch) {
        let progress = Progress::begin();
        let (sender, receiver) = watch::channel(Link::Connecting { since: Instant::now() });
        (Self { link: sender, progress: progress.clone() }, LinkWatch { link: receiver, progress })
    }

    pub(crate) fn publish(&self, link: Link) {
        self.progress.made();
        self.link.send_replace(link);
    }

    pub(crate) fn progress(&self) -> Progress {
        self.progress.clone()
    }
}

/// When the agent's loop last did something.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    start: Instant,
    /// Milliseconds since `start`.
    last: Arc<AtomicU64>,
}

impl Progress {
    fn begin() -> Self {
        Self { start: Instant::now(), last: Arc::default() }
    }

    pub(crate) fn made(&self) {
        let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(now, Ordering::Relaxed);
    }

    fn silence(&self) -> Duration {
        self.start.elapsed().saturating_sub(Duration::from_millis(self.last.load(Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_serving_session_is_ready_and_every_other_state_says_why_not() {
        let (writer, watch) = LinkWriter::new();
        let now = Instant::now();
        let session = SessionId::new([1; 16]);
        let why = Why::Failed { stage: Stage::Tls, code: "tls_expired" };
        for (link, expected) in [
            (Link::Up { session, phase: Phase::Serving, since: now }, Ok(())),
            (Link::Up { session, phase: Phase::Registration, since: now }, Err("registering".into())),
            (Link::Waiting { until: now, why }, Err("no session: tls (tls_expired)".into())),
            (Link::Waiting { until: now, why: Why::Lost("silent") }, Err("session lost: silent".into())),
            (Link::Stopped, Err("stopped".into())),
        ] {
            writer.publish(link);
            assert_eq!(watch.ready(), expected);
            assert_eq!(watch.alive(), Ok(()));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_loop_that_is_stuck_is_not_alive_whatever_it_was_doing_and_one_that_goes_on_is() {
        let now = Instant::now();
        let session = SessionId::new([1; 16]);
        let refused = Why::Failed { stage: Stage::Authentication, code: "ClusterDeleted" };
        for link in [
            Link::Connecting { since: now },
            Link::Waiting { until: now, why: refused },
            Link::Up { session, phase: Phase::Serving, since: now },
        ] {
            let (writer, watch) = LinkWriter::new();
            // A day of refusals, or of heartbeats, at the longest wait that there is.
            for _ in 0..600 {
                writer.publish(link.clone());
                tokio::time::advance(crate::backoff::LONGEST_DEMAND + crate::backoff::CAP).await;
                assert_eq!(watch.alive(), Ok(()), "{link:?}");
            }
            writer.progress().made();
            tokio::time::advance(STUCK_AFTER).await;
            assert_eq!(watch.alive(), Err("no attempt for 300s".into()), "{link:?}");
            writer.progress().made();
            assert_eq!(watch.alive(), Ok(()), "{link:?}");
        }
    }

    #[test]
    fn alive_until_nothing_happened_for_five_minutes() {
        assert_eq!(alive_after(STUCK_AFTER - Duration::from_secs(1)), Ok(()));
        assert_eq!(alive_after(STUCK_AFTER), Err("no attempt for 300s".into()));
        assert!(crate::backoff::LONGEST_DEMAND + crate::backoff::CAP < STUCK_AFTER);
    }
}
