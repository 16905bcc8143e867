//! The conditions of a cluster, computed when somebody reads them. Nothing here is stored, so nothing can be stale.

use cattle_api::condition::{Condition, ConditionStatus, ConditionType, Reason};
use cattle_api::management::Cluster;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::clusters::{Link, ProbeError};
use crate::deletion::Progress;
use crate::health::Health;

/// `Registered`, `Connected` and `Ready`, and `Removed` for a cluster that is being deleted.
///
/// `health` counts only while the cluster is connected; `removal` only once it is being deleted. `started` is when this
/// server began to look: what is as it is since before then has that time, the same at each reading.
#[must_use]
pub fn conditions(
    cluster: &Cluster,
    link: Link,
    health: Option<&Health>,
    removal: Option<&Progress>,
    started: Timestamp,
) -> Vec<Condition> {
    let mut conditions =
        vec![registered(cluster, started), connected(cluster, link, started), ready(cluster, link, health, started)];
    if let Some(since) = &cluster.metadata.deletion_timestamp {
        let waits = !link.connected && is_bound(cluster);
        let (reason, message) = match removal {
            _ if waits => (
                Reason::RemovalWaitsForCluster,
                "what was made in the cluster is removed when it connects; delete with --forget to drop the record now"
                    .to_owned(),
            ),
            Some(progress) => (Reason::Removing, progress.to_string()),
            None => (Reason::Removing, "removal begins".to_owned()),
        };
        let condition = Condition::new(ConditionType::Removed, false, reason, message, since.clone());
        conditions.push(condition);
    }
    conditions
}

fn is_bound(cluster: &Cluster) -> bool {
    cluster.status.as_ref().is_some_and(|status| status.identity.is_some())
}

fn registered(cluster: &Cluster, started: Timestamp) -> Condition {
    let registration = cluster.status.as_ref().and_then(|status| status.registration.as_ref());
    let refusal = registration.and_then(|registration| registration.last_refusal.as_ref());
    if is_bound(cluster) {
        let at = registration.and_then(|registration| registration.registered_at.clone()).unwrap_or(Time(started));
        let message = refusal.map(|refusal| format!("an attempt to register was refused since: {}", refusal.message));
        return Condition::new(ConditionType::Registered, true, Reason::Registered, message.unwrap_or_default(), at);
    }
    match refusal {
        Some(refusal) => Condition::new(
            ConditionType::Registered,
            false,
            Reason::RegistrationRefused,
            refusal.message.clone(),
            refusal.at.clone(),
        ),
        None => {
            let at = cluster.metadata.creation_timestamp.clone().unwrap_or(Time(started));
            let message = "apply the import manifest in the cluster";
            Condition::new(ConditionType::Registered, false, Reason::WaitingForRegistration, message, at)
        }
    }
}

fn connected(cluster: &Cluster, link: Link, started: Timestamp) -> Condition {
    let since = Time(link.since.unwrap_or_else(|| looked_at_since(cluster, started)));
    if link.connected {
        return Condition::new(ConditionType::Connected, true, Reason::AgentConnected, "", since);
    }
    let never = link.since.is_none() && !is_bound(cluster);
    let (reason, state) = if never {
        (Reason::NeverConnected, "no agent was ever connected")
    } else {
        (Reason::Disconnected, "no agent has a session")
    };
    let logs = "the log of Deployment cattle-system/cattle-cluster-agent says what to do";
    let message = match link.refused {
        Some(code) => format!("{state}; the last attempt was refused with {}: {logs}", code.name()),
        None if never => state.to_owned(),
        None => format!("{state}; {logs}"),
    };
    Condition::new(ConditionType::Connected, false, reason, message, since)
}

fn ready(cluster: &Cluster, link: Link, health: Option<&Health>, started: Timestamp) -> Condition {
    let not_ready = |status: ConditionStatus, reason, message: String, since| {
        Condition::new(ConditionType::Ready, status, reason, message, Time(since))
    };
    if !is_bound(cluster) {
        let since = cluster.metadata.creation_timestamp.as_ref().map_or(started, |time| time.0);
        return not_ready(
            ConditionStatus::False,
            Reason::WaitingForRegistration,
            "not registered yet".to_owned(),
            since,
        );
    }
    if !link.connected {
        let since = link.since.unwrap_or_else(|| looked_at_since(cluster, started));
        return not_ready(ConditionStatus::False, Reason::Disconnected, "no agent is connected".to_owned(), since);
    }
    let Some(health) = health else {
        let since = link.since.unwrap_or_else(|| looked_at_since(cluster, started));
        return not_ready(
            ConditionStatus::Unknown,
            Reason::ProbePending,
            "the first probe has not ended yet".to_owned(),
            since,
        );
    };
    match &health.outcome {
        Ok(()) => Condition::new(ConditionType::Ready, true, Reason::ProbeSucceeded, "", Time(health.since)),
        Err(error) => not_ready(ConditionStatus::False, reason(error), error.to_string(), health.since),
    }
}

fn looked_at_since(cluster: &Cluster, started: Timestamp) -> Timestamp {
    cluster.metadata.creation_timestamp.as_ref().map_or(started, |created| created.0.max(started))
}

fn reason(error: &ProbeError) -> Reason {
    match error {
        ProbeError::NotReady { .. } => Reason::ApiServerNotReady,
        ProbeError::Unauthorized => Reason::CredentialInvalid,
        ProbeError::Unreachable(_) => Reason::ApiServerUnreachable,
        ProbeError::Certificate(_) => Reason::CertificateMismatch,
    }
}

#[cfg(test)]
mod tests {
    use cattle_api::condition::find;
    use cattle_api::management::cluster::{Refusal, RefusalReason, Registration};
    use cattle_api::management::{ClusterIdentity, ClusterSpec, ClusterStatus};
    use cattle_proto::handshake::RejectCode;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn cluster(bound: bool) -> Cluster {
        let mut cluster = Cluster::new("c-abcde", ClusterSpec::default());
        cluster.metadata.creation_timestamp = Some(Time(at(1)));
        let identity = bound.then(|| ClusterIdentity {
            kube_system_uid: "uid".into(),
            ca_cert: "pem".into(),
            ca_generation: 1,
            api_server_name: "kubernetes.default.svc".into(),
            issuer: "https://kubernetes.default.svc".into(),
            jwks: "{}".into(),
        });
        let registration = bound.then(|| Registration { registered_at: Some(Time(at(5))), ..Registration::default() });
        cluster.status = Some(ClusterStatus { identity, registration, ..ClusterStatus::default() });
        cluster
    }

    fn up() -> Link {
        Link { connected: true, since: Some(at(10)), refused: None }
    }

    fn health(outcome: Result<(), ProbeError>) -> Health {
        Health { outcome, since: at(12) }
    }

    fn read(cluster: &Cluster, link: Link, health: Option<&Health>) -> [(ConditionStatus, Reason, i64); 3] {
        let all = conditions(cluster, link, health, None, at(9));
        [ConditionType::Registered, ConditionType::Connected, ConditionType::Ready].map(|kind| {
            let found = find(&all, kind).unwrap();
            (found.status, found.reason, found.last_transition_time.0.as_second())
        })
    }

    #[test]
    fn from_new_to_ready_and_away() {
        use ConditionStatus::{False, True, Unknown};
        use Reason::{
            AgentConnected, Disconnected, NeverConnected, ProbePending, ProbeSucceeded, Registered,
            WaitingForRegistration,
        };
        assert_eq!(
            read(&cluster(false), Link::default(), None),
            [(False, WaitingForRegistration, 1), (False, NeverConnected, 9), (False, WaitingForRegistration, 1),]
        );
        assert_eq!(
            read(&cluster(true), up(), None),
            [(True, Registered, 5), (True, AgentConnected, 10), (Unknown, ProbePending, 10)]
        );
        let good = health(Ok(()));
        assert_eq!(read(&cluster(true), up(), Some(&good))[2], (True, ProbeSucceeded, 12));
        // A probe from before does not make a cluster ready that is away.
        let away = Link { connected: false, since: Some(at(20)), refused: None };
        assert_eq!(
            read(&cluster(true), away, Some(&good)),
            [(True, Registered, 5), (False, Disconnected, 20), (False, Disconnected, 20)]
        );
    }

    #[test]
    fn an_agent_that_is_refused_is_named() {
        let refused = Link { refused: Some(RejectCode::ClockSkew), ..Link::default() };
        for bound in [false, true] {
            let all = conditions(&cluster(bound), refused, None, None, at(9));
            let connected = find(&all, ConditionType::Connected).unwrap();
            assert!(connected.message.contains("ClockSkew"), "{}", connected.message);
        }
        let back = Link { refused: Some(RejectCode::ClockSkew), ..up() };
        let all = conditions(&cluster(true), back, None, None, at(9));
        assert_eq!(find(&all, ConditionType::Connected).unwrap().message, "");
    }

    #[test]
    fn a_failed_probe_says_which_hop() {
        let cases = [
            (ProbeError::NotReady { status: 500 }, Reason::ApiServerNotReady),
            (ProbeError::Unauthorized, Reason::CredentialInvalid),
            (ProbeError::Unreachable("refused".into()), Reason::ApiServerUnreachable),
            (ProbeError::Certificate("expired".into()), Reason::CertificateMismatch),
        ];
        for (error, reason) in cases {
            let found = read(&cluster(true), up(), Some(&health(Err(error))))[2];
            assert_eq!(found, (ConditionStatus::False, reason, 12));
        }
    }

    #[test]
    fn a_refusal_is_named_before_and_after_the_binding() {
        for bound in [false, true] {
            let mut cluster = cluster(bound);
            let refusal =
                Refusal { reason: RefusalReason::IdentityMismatch, message: "another cluster".into(), at: Time(at(7)) };
            cluster.status.as_mut().unwrap().registration.get_or_insert_default().last_refusal = Some(refusal);
            let all = conditions(&cluster, up(), None, None, at(9));
            let registered = find(&all, ConditionType::Registered).unwrap();
            assert_eq!(registered.status, bound.into());
            assert!(registered.message.contains("another cluster"));
        }
    }

    #[test]
    fn removal_is_said_to_wait_for_a_cluster_that_is_away() {
        let mut cluster = cluster(true);
        assert!(find(&conditions(&cluster, up(), None, None, at(9)), ConditionType::Removed).is_none());
        cluster.metadata.deletion_timestamp = Some(Time(at(30)));
        let reason =
            |link| find(&conditions(&cluster, link, None, None, at(9)), ConditionType::Removed).unwrap().reason;
        assert_eq!(reason(Link::default()), Reason::RemovalWaitsForCluster);
        assert_eq!(reason(up()), Reason::Removing);
    }
}
