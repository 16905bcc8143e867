//! Whether users reach a cluster's API server: a probe on their own path every 15 seconds, kept in memory.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use cattle_proto::id::ClusterId;
use jiff::Timestamp;
use parking_lot::RwLock;
use tokio::sync::broadcast;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::clusters::{Bearer, ProbeError};
use crate::context::Context;

/// Between two probes.
pub const PROBE_INTERVAL: Duration = Duration::from_secs(15);
/// One probe takes at most so long.
pub const PROBE_TIMEOUT: Duration = Duration::from_secs(5);
/// After a failed probe the next one comes sooner, so that a cluster that is back is seen to be back.
const PROBE_AGAIN: Duration = Duration::from_secs(3);

/// Changes that a listener may be behind before it has to look at everything.
const CHANGES: usize = 1024;

/// A credential that is refused is replaced at most this often.
const GIVE_UP_AGAIN: Duration = Duration::from_secs(60);

/// The last probe of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// How it ended.
    pub outcome: Result<(), ProbeError>,
    /// When the outcome last changed between success and failure.
    pub since: Timestamp,
}

/// The health of every cluster whose unit runs. Clones are the same.
#[derive(Clone, Default)]
pub struct HealthBook(Arc<Book>);

struct Book {
    clusters: RwLock<HashMap<ClusterId, Health>>,
    changed: broadcast::Sender<ClusterId>,
}

impl Default for Book {
    fn default() -> Self {
        Self { clusters: RwLock::default(), changed: broadcast::Sender::new(CHANGES) }
    }
}

impl HealthBook {
    /// The last probe; `None` when there was none since the cluster connected.
    #[must_use]
    pub fn of(&self, cluster: &ClusterId) -> Option<Health> {
        self.0.clusters.read().get(cluster).cloned()
    }

    /// The clusters whose health has turned, or is not known any more. Whoever falls behind has to look at all of them.
    #[must_use]
    pub fn changed(&self) -> broadcast::Receiver<ClusterId> {
        self.0.changed.subscribe()
    }

    pub(crate) fn forget(&self, cluster: &ClusterId) {
        if self.0.clusters.write().remove(cluster).is_some() {
            self.tell(cluster);
        }
    }

    fn record(&self, cluster: &ClusterId, outcome: Result<(), ProbeError>, now: Timestamp) {
        let mut book = self.0.clusters.write();
        let before = book.get(cluster);
        let unchanged = before.is_some_and(|health| health.outcome == outcome);
        let same = before.filter(|health| health.outcome.is_ok() == outcome.is_ok());
        let since = same.map_or(now, |health| health.since);
        if same.is_none() {
            match &outcome {
                Ok(()) => tracing::info!("users reach the cluster's API server"),
                Err(error) => tracing::warn!(%error, "users do not reach the cluster's API server"),
            }
        }
        book.insert(cluster.clone(), Health { outcome, since });
        drop(book);
        if !unchanged {
            self.tell(cluster);
        }
    }

    fn tell(&self, cluster: &ClusterId) {
        // Nobody may be listening.
        let _ = self.0.changed.send(cluster.clone());
    }
}

/// The task of one unit. Cancel-safe.
pub(crate) async fn keep(
    context: &Context,
    cluster: &ClusterId,
    bearer: &Bearer,
    book: &HealthBook,
    stop: &CancellationToken,
) {
    let mut given_up: Option<Instant> = None;
    loop {
        let probe = async {
            let late = || Err(ProbeError::Unreachable("no answer in time".to_owned()));
            let answer = tokio::time::timeout(PROBE_TIMEOUT, context.clusters.probe(cluster, bearer)).await;
            answer.unwrap_or_else(|_| late())
        };
        let outcome = tokio::select! { () = stop.cancelled() => return, outcome = probe => outcome };
        // A token of an account that was made anew is refused long before it ends. Another one is worth one question a minute.
        if outcome == Err(ProbeError::Unauthorized) && given_up.is_none_or(|at| at.elapsed() > GIVE_UP_AGAIN) {
            given_up = Some(Instant::now());
            bearer.replace(None);
        }
        let pause = if outcome.is_ok() { PROBE_INTERVAL } else { PROBE_AGAIN };
        book.record(cluster, outcome, Timestamp::now());
        tokio::select! { () = stop.cancelled() => return, () = tokio::time::sleep(pause) => {} }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_moves_when_the_outcome_turns() {
        let (book, cluster): (_, ClusterId) = (HealthBook::default(), "c-abcde".parse().unwrap());
        let at = |second| Timestamp::from_second(second).unwrap();
        let fail = || Err(ProbeError::NotReady { status: 500 });
        for (second, outcome, since) in
            [(1, Ok(()), 1), (2, Ok(()), 1), (3, fail(), 3), (4, Err(ProbeError::Unauthorized), 3), (5, Ok(()), 5)]
        {
            book.record(&cluster, outcome.clone(), at(second));
            assert_eq!(book.of(&cluster), Some(Health { outcome, since: at(since) }));
        }
        book.forget(&cluster);
        assert_eq!(book.of(&cluster), None);
    }
}
