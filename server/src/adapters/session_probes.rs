//! Probes of a cluster's sessions one by one, so that users' streams keep to those that reach the API server.
//!
//! The probe of the cluster takes whichever warm connection is there, as users do, and says whether *they* get through. It
//! cannot say which of two agents is cut off from its API server. Here each session is asked on a connection of its own,
//! over the same verified TLS. No credential is sent: any answer that is no failure shows that the way is good.

use std::{sync::Arc, time::Duration};

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
use cattle_proto::id::ClusterId;
use cattle_proxy::Upstream;
use futures_util::future::join_all;
use http::{Request, StatusCode};
use tower::ServiceExt as _;

use super::{dialer::OneSession, downstream::Downstream};

/// Between two rounds while a session is not good.
const AGAIN: Duration = Duration::from_secs(5);

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
    loop {
        let members = registry.members(cluster);
        // With one session there is nothing to choose.
        if members.len() > 1
            && let Some(upstream) = downstream.upstream(cluster)
        {
            join_all(members.iter().map(|member| async {
                registry.observe(cluster, member.id(), probe(&upstream, member).await);
            }))
            .await;
        }
        let good = registry.members(cluster).iter().all(|member| member.health() == Health::Good);
        tokio::time::sleep(if good { PROBE_INTERVAL } else { AGAIN }).await;
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
    fn an_answer_shows_the_way_and_a_failing_api_server_does_not() {
        for (status, evidence) in
            [(200, Evidence::Passed), (401, Evidence::Passed), (403, Evidence::Passed), (500, Evidence::Failed)]
        {
            assert_eq!(judge(StatusCode::from_u16(status).unwrap()), evidence, "{status}");
        }
    }
}
