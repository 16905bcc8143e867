//! How much one user, and all users of one cluster, may have running at a time.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use cattle_proto::id::ClusterId;
use parking_lot::Mutex;

/// Requests that may run at the same time, long ones (watches, logs, sessions) included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Of one user, over all clusters.
    pub per_user: usize,
    /// In one cluster, of all users. Stays below the streams that the cluster's sessions may carry.
    pub per_cluster: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { per_user: 2_000, per_cluster: 5_000 }
    }
}

/// Which limit was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Limited {
    #[error("you have as many requests running as one user may")]
    User,
    #[error("the cluster has as many requests running as one cluster may")]
    Cluster,
}

/// Counts what runs.
#[derive(Debug)]
pub(crate) struct Limiter {
    limits: Limits,
    running: Mutex<Running>,
}

#[derive(Debug, Default)]
struct Running {
    users: HashMap<String, usize>,
    clusters: HashMap<ClusterId, usize>,
}

/// The right to run one request; given back when dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    limiter: Arc<Limiter>,
    user: String,
    cluster: ClusterId,
}

impl Limiter {
    pub(crate) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self { limits, running: Mutex::default() })
    }

    /// Takes a permit, or says which limit is reached. Never waits: a client that is told so can back off, one that
    /// waits here holds a connection.
    pub(crate) fn acquire(self: &Arc<Self>, user: &str, cluster: &ClusterId) -> Result<Permit, Limited> {
        let mut running = self.running.lock();
        if running.users.get(user).copied().unwrap_or(0) >= self.limits.per_user {
            return Err(Limited::User);
        }
        if running.clusters.get(cluster).copied().unwrap_or(0) >= self.limits.per_cluster {
            return Err(Limited::Cluster);
        }
        *running.users.entry(user.to_owned()).or_default() += 1;
        *running.clusters.entry(cluster.clone()).or_default() += 1;
        Ok(Permit { limiter: Arc::clone(self), user: user.to_owned(), cluster: cluster.clone() })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut running = self.limiter.running.lock();
        release(&mut running.users, &self.user);
        release(&mut running.clusters, &self.cluster);
    }
}

/// Entries at zero go, so that the map is never larger than what runs.
fn release<K: Hash + Eq>(counts: &mut HashMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permits_are_counted_and_come_back() {
        let limiter = Limiter::new(Limits { per_user: 2, per_cluster: 3 });
        let (one, two): (ClusterId, ClusterId) = ("c-aaaaa".parse().unwrap(), "c-bbbbb".parse().unwrap());
        let a = limiter.acquire("ann", &one).unwrap();
        let b = limiter.acquire("ann", &two).unwrap();
        assert_eq!(limiter.acquire("ann", &one).unwrap_err(), Limited::User);
        let c = limiter.acquire("bob", &one).unwrap();
        let d = limiter.acquire("eve", &one).unwrap();
        assert_eq!(limiter.acquire("bob", &one).unwrap_err(), Limited::Cluster);
        drop((a, b, c, d));
        let running = limiter.running.lock();
        assert!(running.users.is_empty() && running.clusters.is_empty());
    }
}
