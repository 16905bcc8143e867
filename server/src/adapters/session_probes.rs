//! Probes of a cluster's sessions one by one, so that users' streams keep to those that reach the API server.
//!
//! The probe of the cluster takes whichever warm connection is there, as users do, and says whether *they* get through. It
//! cannot say which of two agents is cut off from its API server. Here each session is asked on a connection of its own,
//! over the same verified TLS. No credential is sent: any answer that is no failure shows that the way is good.

use std::{collections::HashMap, sync::Arc, time::Duration};

use axum::body::Body;
use cattle_controllers::{
    clusters::BoxFuture,
    health::{PROBE_INTERVAL, PROBE_TIMEOUT},
    unit::{ClusterUnit, UnitTask},
};
use cattle_gateway::{
    Gateway, Member,
    health::{Evidence, Health},
};
use cattle_proto::{
    handshake::AgentKind,
    id::{ClusterId, SessionId},
};
use cattle_proxy::Upstream;
use futures_util::stream::{self, StreamExt as _};
use http::{Request, StatusCode};
use tokio::time::Instant;
use tower::ServiceExt as _;

use super::{dialer::OneSession, downstream::Downstream};

/// Between two rounds while a session is not good.
const AGAIN: Duration = Duration::from_secs(5);
/// Between two probes of a node agent while a cluster agent is well. A cluster has many; each is to stay idle.
const STANDBY: Duration = Duration::from_secs(600);
/// Probes of one cluster at once.
const AT_ONCE: usize = 16;

/// A task of every connected cluster's unit.
pub struct SessionProbes {
    gateway: Gateway,
    downstream: Arc<Downstream>,
}

impl SessionProbes {
    /// Probes over the gateway's sessions.
    #[must_use]
    pub fn new(gateway: Gateway, downstream: Arc<Downstream>) -> Self {
        Self { gateway, downstream }
    }
}

impl UnitTask for SessionProbes {
    fn name(&self) -> &'static str {
        "session-probes"
    }

    fn run(&self, unit: ClusterUnit) -> BoxFuture<'static, ()> {
        let (gateway, downstream) = (self.gateway.clone(), Arc::clone(&self.downstream));
        Box::pin(async move {
            let probing = keep(&gateway, &downstream, &unit.cluster);
            tokio::select! { () = unit.stop.cancelled() => {}, () = probing => {} }
        })
    }
}

/// Never ends. Cancel safe.
async fn keep(gateway: &Gateway, downstream: &Downstream, cluster: &ClusterId) {
    let registry = gateway.registry();
    let mut probed: HashMap<SessionId, Instant> = HashMap::new();
    loop {
        let members = registry.members(cluster);
        probed.retain(|session, _| members.iter().any(|member| member.id() == *session));
        // With one session there is nothing to choose.
        if members.len() > 1
            && let Some(upstream) = downstream.upstream(cluster)
        {
            let agent_well = is_agent_well(&members);
            let due = members.iter().filter(|member| {
                let since = probed.get(&member.id()).map(Instant::elapsed);
                is_due(member.identity.kind, member.health(), agent_well, since)
            });
            let due: Vec<_> = due.collect();
            probed.extend(due.iter().map(|member| (member.id(), Instant::now())));
            stream::iter(due)
                .for_each_concurrent(AT_ONCE, async |member| {
                    registry.observe(cluster, member.id(), probe(&upstream, member).await);
                })
                .await;
        }
        let members = registry.members(cluster);
        let waits = members.iter().any(|member| member.health() != Health::Good && is_carrier(member, &members));
        tokio::time::sleep(if waits { AGAIN } else { PROBE_INTERVAL }).await;
    }
}

fn is_agent_well(members: &[Arc<Member>]) -> bool {
    members.iter().any(|member| member.identity.kind == AgentKind::ClusterAgent && member.health() == Health::Good)
}

/// Whether the state of this session matters now: a cluster agent's does, and a node agent's while it may have to stand in.
fn is_carrier(member: &Member, members: &[Arc<Member>]) -> bool {
    member.identity.kind == AgentKind::ClusterAgent || !is_agent_well(members)
}

/// Whether a session is probed in this round. `since` is the time since its last probe.
fn is_due(kind: AgentKind, health: Health, agent_well: bool, since: Option<Duration>) -> bool {
    let standing_by = kind == AgentKind::NodeAgent && agent_well;
    match since {
        Some(since) if standing_by && health == Health::Good => since >= STANDBY,
        Some(since) if standing_by => since >= STANDBY / 10,
        Some(_) | None => true,
    }
}

async fn probe(upstream: &Upstream, member: &Member) -> Evidence {
    let own = upstream.over(Arc::new(OneSession(member.dialer())));
    let Ok(request) = Request::get("/readyz").body(Body::empty()) else { return Evidence::Failed };
    match tokio::time::timeout(PROBE_TIMEOUT, own.oneshot(request)).await {
        Ok(Ok(response)) => judge(response.status()),
        Ok(Err(error)) => {
            tracing::debug!(session = %member.id(), error = &error as &dyn std::error::Error, "probe of a session");
            Evidence::Failed
        }
        Err(_) => Evidence::Failed,
    }
}

/// An API server that refuses strangers has answered all the same.
fn judge(status: StatusCode) -> Evidence {
    if status.is_server_error() { Evidence::Failed } else { Evidence::Passed }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_stands_by_is_left_in_peace() {
        use AgentKind::{ClusterAgent, NodeAgent};
        use Health::{Bad, Good};
        let soon = Some(PROBE_INTERVAL);
        for (kind, health, agent_well, since, due) in [
            (ClusterAgent, Good, true, soon, true),
            (ClusterAgent, Bad, false, soon, true),
            (NodeAgent, Good, true, None, true),
            (NodeAgent, Good, true, soon, false),
            (NodeAgent, Good, true, Some(STANDBY), true),
            (NodeAgent, Bad, true, soon, false),
            (NodeAgent, Bad, true, Some(STANDBY / 10), true),
            (NodeAgent, Good, false, soon, true),
            (NodeAgent, Bad, false, soon, true),
        ] {
            assert_eq!(is_due(kind, health, agent_well, since), due, "{kind:?} {health:?} {agent_well} {since:?}");
        }
    }

    #[test]
    fn an_answer_shows_the_way_and_a_failing_api_server_does_not() {
        for (status, evidence) in
            [(200, Evidence::Passed), (401, Evidence::Passed), (403, Evidence::Passed), (500, Evidence::Failed)]
        {
            assert_eq!(judge(StatusCode::from_u16(status).unwrap()), evidence, "{status}");
        }
    }
}
