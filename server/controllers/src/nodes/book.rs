//! What node agents have said of their hosts and nobody has written down yet.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use cattle_api::management::node::Host;
use cattle_proto::id::ClusterId;
use parking_lot::Mutex;
use tokio::sync::watch;

/// Whose words they are, as far as the session proves it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Teller {
    /// The agent on the node of this name.
    Node(String),
    /// The agent in this pod, whose token does not say its node: the cluster knows it (Kubernetes before 1.32).
    Pod(AgentPod),
}

/// The pod of an agent.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AgentPod {
    /// Its name.
    pub name: String,
    /// Its UID: a pod that only has the same name is another.
    pub uid: String,
}

/// The words that wait, the newest of each node. Only nodes with a verified session get here, so it is bounded by them. Clones
/// are the same.
#[derive(Clone, Default)]
pub struct HostBook(Arc<Book>);

#[derive(Default)]
struct Book {
    waiting: Mutex<HashMap<ClusterId, BTreeMap<Teller, Host>>>,
    changes: watch::Sender<u64>,
}

impl HostBook {
    /// Takes down what an agent says of its host.
    pub fn tell(&self, cluster: &ClusterId, teller: Teller, host: Host) {
        self.0.waiting.lock().entry(cluster.clone()).or_default().insert(teller, host);
        self.0.changes.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Forgets what waits for a cluster: it was deleted.
    pub(crate) fn forget(&self, cluster: &ClusterId) {
        self.0.waiting.lock().remove(cluster);
    }

    /// Wakes whenever somebody has said something. The number means nothing.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    /// All that waits for a cluster.
    pub(crate) fn take(&self, cluster: &ClusterId) -> BTreeMap<Teller, Host> {
        self.0.waiting.lock().remove(cluster).unwrap_or_default()
    }

    /// What could not be written down waits again, unless the agent has said something newer.
    pub(crate) fn put_back(&self, cluster: &ClusterId, words: impl IntoIterator<Item = (Teller, Host)>) {
        let mut waiting = self.0.waiting.lock();
        let waiting = waiting.entry(cluster.clone()).or_default();
        for (teller, host) in words {
            waiting.entry(teller).or_insert(host);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_words_wait_until_they_are_taken() {
        let (book, cluster): (_, ClusterId) = (HostBook::default(), "c-abcde".parse().unwrap());
        let host = |cpus| Host { cpus, ..Host::default() };
        let changes = book.changes();
        let one = || Teller::Node("one".to_owned());
        book.tell(&cluster, one(), host(1));
        book.tell(&cluster, one(), host(2));
        assert!(changes.has_changed().unwrap());
        let taken = book.take(&cluster);
        assert_eq!(taken, BTreeMap::from([(one(), host(2))]));
        assert!(book.take(&cluster).is_empty());
        book.tell(&cluster, one(), host(3));
        book.put_back(&cluster, taken);
        assert_eq!(book.take(&cluster)[&one()], host(3));
        book.tell(&cluster, one(), host(4));
        book.forget(&cluster);
        assert!(book.take(&cluster).is_empty());
    }
}
