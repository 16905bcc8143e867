//! Keeps warm connections on routes that are there to stay.
//!
//! A session that drains takes no new streams, but connections that were opened through it and wait in the proxy's pool
//! would go on carrying requests until the session is cut. When a session leaves, or no longer reaches its API server while
//! another does, the pool of its cluster is given up: the next requests take a new route, and what runs finishes where it is.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use cattle_gateway::{Gateway, health::Health};
use cattle_proto::id::{ClusterId, SessionId};
use cattle_proxy::Proxy;

/// Follows the gateway's sessions. Never ends. Cancel safe.
pub async fn renew_connections(gateway: Gateway, proxy: Arc<Proxy>) {
    let registry = gateway.registry();
    let mut changes = registry.changes();
    let mut known = Sessions::default();
    loop {
        let present = registry.connected().into_iter().map(|cluster| {
            let sessions = registry.members(&cluster).iter().map(|member| (member.id(), member.health())).collect();
            (cluster, usable(sessions))
        });
        for cluster in known.replace(present.collect()) {
            proxy.renew_connections(&cluster);
        }
        if changes.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

/// The sessions that new streams take: those that are not bad, or all when there is no better one.
fn usable(sessions: Vec<(SessionId, Health)>) -> HashSet<SessionId> {
    let all_bad = sessions.iter().all(|(_, health)| *health == Health::Bad);
    sessions.into_iter().filter(|(_, health)| all_bad || *health != Health::Bad).map(|(session, _)| session).collect()
}

/// The usable sessions of each cluster when somebody last looked.
#[derive(Default)]
struct Sessions(HashMap<ClusterId, HashSet<SessionId>>);

impl Sessions {
    /// Takes what is there now and answers with the clusters that lost a session.
    fn replace(&mut self, now: HashMap<ClusterId, HashSet<SessionId>>) -> Vec<ClusterId> {
        let before = std::mem::replace(&mut self.0, now);
        let lost = |(cluster, sessions): &(ClusterId, HashSet<SessionId>)| {
            self.0.get(cluster).is_none_or(|present| !sessions.is_subset(present))
        };
        before.into_iter().filter(lost).map(|(cluster, _)| cluster).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_that_fails_is_left_only_for_a_better_one() {
        let session = |number| SessionId::new([number; 16]);
        let of = |healths: &[Health]| {
            let sessions = healths.iter().zip(1..).map(|(health, number)| (session(number), *health)).collect();
            let mut usable: Vec<_> = usable(sessions).into_iter().map(|id| id.as_bytes()[0]).collect();
            usable.sort_unstable();
            usable
        };
        assert_eq!(of(&[Health::Good, Health::Bad, Health::Recovering]), [1, 3]);
        assert_eq!(of(&[Health::Bad, Health::Bad]), [1, 2]);
        assert_eq!(of(&[Health::Bad]), [1]);
        assert!(of(&[]).is_empty());
    }

    #[test]
    fn a_cluster_that_lost_a_session_is_named_and_no_other() {
        let cluster = |name: &str| name.parse::<ClusterId>().unwrap();
        let session = |number| SessionId::new([number; 16]);
        let now = |entries: &[(&str, &[u8])]| {
            let entries = entries.iter();
            entries.map(|(name, ids)| (cluster(name), ids.iter().map(|id| session(*id)).collect())).collect()
        };
        let mut sessions = Sessions::default();
        assert!(sessions.replace(now(&[("c-aaaaa", &[1, 2]), ("c-bbbbb", &[3])])).is_empty());
        assert!(sessions.replace(now(&[("c-aaaaa", &[1, 2, 4]), ("c-bbbbb", &[3])])).is_empty());
        assert_eq!(sessions.replace(now(&[("c-aaaaa", &[2, 4]), ("c-bbbbb", &[3])])), [cluster("c-aaaaa")]);
        assert_eq!(sessions.replace(now(&[("c-aaaaa", &[2, 4])])), [cluster("c-bbbbb")]);
    }
}
