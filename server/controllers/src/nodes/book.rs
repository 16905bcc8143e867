//! What node agents have said of their hosts and nobody has written down yet.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use cattle_api::management::node::Host;
use cattle_proto::id::ClusterId;
use parking_lot::Mutex;
use tokio::sync::watch;

/// The words that wait, the newest of each node. Only nodes with a verified session get here, so it is bounded by them. Clones
/// are the same.
#[derive(Clone, Default)]
pub struct HostBook(Arc<Book>);

#[derive(Default)]
struct Book {
    waiting: Mutex<HashMap<ClusterId, BTreeMap<String, Host>>>,
    changes: watch::Sender<u64>,
}

impl HostBook {
    /// Takes down what the agent on `node` says of its host.
    pub fn tell(&self, cluster: &ClusterId, node: String, host: Host) {
        self.0.waiting.lock().entry(cluster.clone()).or_default().insert(node, host);
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
    pub(crate) fn take(&self, cluster: &ClusterId) -> BTreeMap<String, Host> {
        self.0.waiting.lock().remove(cluster).unwrap_or_default()
    }

    /// What could not be written down waits again, unless the node has said something newer.
    pub(crate) fn put_back(&self, cluster: &ClusterId, node: String, host: Host) {
        self.0.waiting.lock().entry(cluster.clone()).or_default().entry(node).or_insert(host);
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
        book.tell(&cluster, "one".into(), host(1));
        book.tell(&cluster, "one".into(), host(2));
        assert!(changes.has_changed().unwrap());
        let taken = book.take(&cluster);
        assert_eq!(taken, BTreeMap::from([("one".to_owned(), host(2))]));
        assert!(book.take(&cluster).is_empty());
        book.tell(&cluster, "one".into(), host(3));
        book.put_back(&cluster, "one".into(), host(2));
        assert_eq!(book.take(&cluster)["one"], host(3));
        book.tell(&cluster, "one".into(), host(4));
        book.forget(&cluster);
        assert!(book.take(&cluster).is_empty());
    }
}
