//! Keeps warm connections on routes that are there to stay.
//!
//! A session that drains takes no new streams, but connections that were opened through it and wait in the proxy's pool
//! would go on carrying requests until the session is cut. When a session leaves, or is no longer among those that new streams
//! prefer (it does not reach its API server while another does, or it is a node agent's and a cluster agent is well again), the
//! pool of its cluster is given up: the next requests take a new route, and what runs finishes where it is.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use cattle_gateway::{
    Gateway,
    health::Health,
    route::{Rank, preferred},
};
use cattle_proto::id::{ClusterId, SessionId};
use cattle_proxy::Proxy;

/// Follows the gateway's sessions. Never ends. Cancel safe.
pub async fn renew_connections(gateway: Gateway, proxy: Arc<Proxy>) {
    let registry = gateway.registry();
    let mut changes = registry.changes();
    let mut known = Sessions::default();
    loop {
        let present = registry.connected().into_iter().map(|cluster| {
            let members = registry.members(&cluster);
            let sessions: Vec<_> = members.iter().map(|m| (m.id(), m.rank(), m.health())).collect();
            (cluster, usable(&sessions))
        });
        for cluster in known.replace(present.collect()) {
            proxy.renew_connections(&cluster);
        }
        if changes.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

/// The sessions whose connections may go on carrying requests: those that are preferred, and what is of their rank and not
/// bad. A replica that is coming back is no reason to leave it.
fn usable(sessions: &[(SessionId, Rank, Health)]) -> HashSet<SessionId> {
    let mut usable: HashSet<_> = preferred(sessions).into_iter().collect();
    let ranks: Vec<_> = sessions.iter().filter(|(id, ..)| usable.contains(id)).map(|(_, rank, _)| *rank).collect();
    let well = sessions.iter().filter(|(_, rank, health)| ranks.contains(rank) && *health != Health::Bad);
    usable.extend(well.map(|(session, ..)| *session));
    usable
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
        let of = |sessions: &[(Rank, Health)]| {
            let sessions: Vec<_> =
                sessions.iter().zip(1..).map(|((kind, health), number)| (session(number), *kind, *health)).collect();
            let mut usable: Vec<_> = usable(&sessions).into_iter().map(|id| id.as_bytes()[0]).collect();
            usable.sort_unstable();
            usable
        };
        let (agent, node) = (|health| (Rank::ClusterAgent, health), |health| (Rank::Node, health));
        assert_eq!(of(&[agent(Health::Good), agent(Health::Bad), agent(Health::Recovering)]), [1, 3]);
        assert_eq!(of(&[agent(Health::Bad), agent(Health::Bad)]), [1, 2]);
        assert_eq!(of(&[agent(Health::Bad)]), [1]);
        assert_eq!(of(&[agent(Health::Good), node(Health::Good)]), [1]);
        assert_eq!(of(&[agent(Health::Bad), node(Health::Good), node(Health::Recovering)]), [2, 3]);
        assert_eq!(of(&[agent(Health::Recovering), node(Health::Good)]), [2], "until it has been well for a while");
        assert_eq!(of(&[agent(Health::Bad), node(Health::Bad)]), [1]);
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
