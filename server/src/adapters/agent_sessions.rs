//! The agents' sessions as clusters and nodes show them, from the gateway's own evidence.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use cattle_api::management::{AgentSession, LastProbe, SessionState};
use cattle_gateway::{
    Gateway, Member,
    health::{Evidence, Health},
    route::preferred,
};
use cattle_proto::{
    handshake::AgentKind,
    id::{ClusterId, SessionId},
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use parking_lot::Mutex;

use super::dialer::time;

/// A cluster's order is worked out again after so long, or when its sessions have changed: whoever lists a thousand nodes asks
/// a thousand times.
const FRESH: Duration = Duration::from_secs(1);

/// The agents' sessions, to be shown.
pub struct AgentSessions {
    gateway: Gateway,
    orders: Mutex<HashMap<ClusterId, Arc<Order>>>,
}

/// The sessions of one cluster in the order in which they are tried.
struct Order {
    at: Instant,
    change: u64,
    all: Vec<(Option<usize>, Arc<Member>)>,
    of_nodes: HashMap<String, usize>,
    in_use: HashSet<SessionId>,
}

impl AgentSessions {
    /// As the gateway has them.
    #[must_use]
    pub fn new(gateway: Gateway) -> Self {
        Self { gateway, orders: Mutex::default() }
    }

    /// Those of a cluster's cluster agents, best first.
    #[must_use]
    pub fn of_cluster(&self, cluster: &ClusterId) -> Vec<AgentSession> {
        let order = self.order(cluster);
        let agents = order.all.iter().filter(|(_, member)| member.identity.kind == AgentKind::ClusterAgent);
        agents.map(|(rank, member)| session(*rank, member, order.in_use.contains(&member.id()))).collect()
    }

    /// That of the agent on one node, the best one if it has several.
    #[must_use]
    pub fn of_node(&self, cluster: &ClusterId, node: &str) -> Option<AgentSession> {
        let order = self.order(cluster);
        let (rank, member) = order.all.get(*order.of_nodes.get(node)?)?;
        Some(session(*rank, member, order.in_use.contains(&member.id())))
    }

    fn order(&self, cluster: &ClusterId) -> Arc<Order> {
        let change = *self.gateway.registry().changes().borrow();
        let mut orders = self.orders.lock();
        if let Some(order) = orders.get(cluster).filter(|order| order.change == change && order.at.elapsed() < FRESH) {
            return Arc::clone(order);
        }
        let order = Arc::new(Order::new(self.gateway.registry().ranked(cluster), change));
        orders.retain(|_, order| order.at.elapsed() < FRESH);
        orders.insert(cluster.clone(), Arc::clone(&order));
        order
    }
}

impl Order {
    fn new(all: Vec<(Option<usize>, Arc<Member>)>, change: u64) -> Self {
        let open = all.iter().filter(|(rank, _)| rank.is_some());
        let open: Vec<_> = open.map(|(_, member)| (member.id(), member.rank(), member.health())).collect();
        let mut of_nodes = HashMap::new();
        for (at, (_, member)) in all.iter().enumerate() {
            if let (AgentKind::NodeAgent, Some(node)) = (member.identity.kind, member.node()) {
                of_nodes.entry(node.to_string()).or_insert(at);
            }
        }
        Self { at: Instant::now(), change, of_nodes, in_use: preferred(&open).into_iter().collect(), all }
    }
}

fn session(rank: Option<usize>, member: &Member, in_use: bool) -> AgentSession {
    let (state, message) = state(rank.is_some(), member.health(), in_use);
    let handle = member.session.handle();
    let seen = member.last_seen();
    AgentSession {
        pod: member.identity.pod.to_string(),
        node: member.node().map(ToString::to_string),
        software: member.software.to_string(),
        since: at(member.since),
        state,
        message: message.to_owned(),
        rank: rank.map(number),
        streams: number(handle.streams()),
        round_trip_microseconds: handle.round_trip().map(|time| i64::try_from(time.as_micros()).unwrap_or(i64::MAX)),
        last_probe: seen.map(|seen| LastProbe { at: at(seen.at), passed: seen.evidence == Evidence::Passed }),
    }
}

/// What a session is used for and, in other states than in use, why.
fn state(takes_streams: bool, health: Health, in_use: bool) -> (SessionState, &'static str) {
    match (takes_streams, health, in_use) {
        (false, ..) => (SessionState::Draining, "takes no new requests and ends with the last that runs"),
        (_, Health::Bad, _) => (SessionState::Unreachable, "does not reach the cluster's API server"),
        (.., true) => (SessionState::InUse, ""),
        (_, Health::Recovering, _) => (SessionState::Recovering, "was away or failed less than half a minute ago"),
        (_, Health::Good, _) => (SessionState::Standby, "takes over when no better one is well"),
    }
}

fn at(second: u64) -> Time {
    Time(time(second).unwrap_or(Timestamp::UNIX_EPOCH))
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_in_use_or_says_why_not() {
        for (takes_streams, health, in_use, wanted) in [
            (true, Health::Good, true, SessionState::InUse),
            (true, Health::Good, false, SessionState::Standby),
            (true, Health::Recovering, true, SessionState::InUse),
            (true, Health::Recovering, false, SessionState::Recovering),
            (true, Health::Bad, true, SessionState::Unreachable),
            (false, Health::Good, false, SessionState::Draining),
        ] {
            let (state, message) = state(takes_streams, health, in_use);
            assert_eq!((state, message.is_empty()), (wanted, wanted == SessionState::InUse));
        }
    }
}
