//! The numbers of each cluster and of each session, read when somebody asks for them: there are as many as there are agents, and
//! they go with them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Weak};

use cattle_proto::handshake::AgentKind;
use cattle_tunnel::SessionNumbers;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::gateway::Gateway;
use crate::health::Health;
use crate::registry::{ClusterNumbers, Member, Registry};

/// Shows a gateway's clusters and sessions; it does not keep the gateway alive.
#[derive(Debug)]
pub struct Sessions(Weak<Registry>);

impl Sessions {
    /// Of this gateway.
    #[must_use]
    pub fn new(gateway: &Gateway) -> Self {
        Self(Arc::downgrade(gateway.registry()))
    }
}

/// One cluster at the time of the scrape.
struct Cluster {
    id: String,
    numbers: ClusterNumbers,
    sessions: Vec<(SessionLabels, Arc<Member>)>,
}

/// Whose a session is. A pod's name is another after each update, and there are no more of them than pods.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SessionLabels {
    cluster: String,
    agent: &'static str,
    pod: String,
    node: String,
}

type Labels = Vec<(&'static str, String)>;

impl Collector for Sessions {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Some(registry) = self.0.upgrade() else { return Ok(()) };
        let clusters: Vec<Cluster> = registry.numbers().into_iter().map(cluster).collect();
        of_clusters(&mut encoder, &clusters)?;
        of_sessions(&mut encoder, &clusters)
    }
}

fn of_clusters(encoder: &mut DescriptorEncoder<'_>, clusters: &[Cluster]) -> Result<(), fmt::Error> {
    let mut connected = encoder.encode_descriptor(
        "cluster_connected",
        "1 while an agent of the cluster is connected",
        None,
        MetricType::Gauge,
    )?;
    for cluster in clusters {
        let value = i64::from(!cluster.sessions.is_empty());
        ConstGauge::new(value).encode(connected.encode_family(&[("cluster", cluster.id.as_str())])?)?;
    }
    let series = |of: fn(&Cluster) -> Vec<(Labels, f64)>| clusters.iter().flat_map(of).collect::<Vec<_>>();
    let help = "Sessions of the cluster that were let in";
    count(
        encoder,
        "cluster_sessions_opened",
        help,
        &series(|cluster| vec![(vec![("cluster", cluster.id.clone())], cluster.numbers.sessions as f64)]),
    )?;
    let help = "Sessions of the cluster that ended, by reason";
    count(
        encoder,
        "cluster_sessions_closed",
        help,
        &series(|cluster| {
            let one = |(reason, count): (&&'static str, &u64)| {
                (vec![("cluster", cluster.id.clone()), ("reason", (*reason).to_owned())], *count as f64)
            };
            cluster.numbers.ended.iter().map(one).collect()
        }),
    )?;
    let help = "Dials into the cluster by outcome";
    count(
        encoder,
        "cluster_dials",
        help,
        &series(|cluster| {
            let one = |(outcome, count): (&crate::DialOutcome, &u64)| {
                (vec![("cluster", cluster.id.clone()), ("outcome", format!("{outcome:?}"))], *count as f64)
            };
            cluster.numbers.dials.iter().map(one).collect()
        }),
    )?;
    let help = "Seconds that the cluster's successful dials took, in all";
    count(
        encoder,
        "cluster_dial_seconds",
        help,
        &series(|cluster| vec![(vec![("cluster", cluster.id.clone())], cluster.numbers.dial_seconds)]),
    )
}

fn of_sessions(encoder: &mut DescriptorEncoder<'_>, clusters: &[Cluster]) -> Result<(), fmt::Error> {
    let sessions = || clusters.iter().flat_map(|cluster| &cluster.sessions);
    let mut gauge = |name: &str, help: &str, of: fn(&Member) -> Option<f64>| {
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, member) in sessions() {
            if let Some(value) = of(member) {
                ConstGauge::new(value).encode(metric.encode_family(labels)?)?;
            }
        }
        Ok(())
    };
    gauge("session_healthy", "1 while the agent reaches its API server", |member| {
        Some(if member.health() == Health::Bad { 0.0 } else { 1.0 })
    })?;
    gauge("session_start_seconds", "When the session began, Unix time", |member| Some(member.since as f64))?;
    gauge("session_streams", "Streams that are open", |member| Some(member.session.handle().streams() as f64))?;
    gauge("session_round_trip_seconds", "Time that the agent took to answer the last ping", |member| {
        member.session.handle().round_trip().map(|time| time.as_secs_f64())
    })?;
    let mut counter = |name: &str, help: &str, of: fn(&SessionNumbers) -> u64| {
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, member) in sessions() {
            let value = of(&member.session.handle().numbers());
            ConstCounter::new(value).encode(metric.encode_family(labels)?)?;
        }
        Ok(())
    };
    counter("session_streams_opened", "Streams made", |numbers| numbers.streams_opened)?;
    counter("session_streams_closed", "Streams dropped", |numbers| numbers.streams_closed)?;
    counter("session_bytes_read", "Bytes that the agent sent in streams", |numbers| numbers.bytes_read)?;
    counter("session_bytes_written", "Bytes that the agent was sent in streams", |numbers| numbers.bytes_written)?;
    counter("session_resets_sent", "Streams that the server reset", |numbers| numbers.resets_sent)?;
    counter("session_resets_received", "Streams that the agent reset", |numbers| numbers.resets_received)?;
    counter("session_stalls", "Times that the server waited for a reader behind the agent", |numbers| numbers.stalls)
}

fn count(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    series: &[(Labels, f64)],
) -> Result<(), fmt::Error> {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (labels, value) in series {
        ConstCounter::new(*value).encode(metric.encode_family(&labels.as_slice())?)?;
    }
    Ok(())
}

/// One session for each pod, the newest: the others are about to end.
fn cluster((id, numbers, members): (cattle_proto::id::ClusterId, ClusterNumbers, Vec<Arc<Member>>)) -> Cluster {
    let mut sessions = BTreeMap::new();
    for member in members {
        let agent = match member.identity.kind {
            AgentKind::ClusterAgent => "cluster-agent",
            AgentKind::NodeAgent => "node-agent",
        };
        let pod = member.identity.pod.to_string();
        let node = member.node().map(ToString::to_string).unwrap_or_default();
        let labels = SessionLabels { cluster: id.to_string(), agent, pod: pod.clone(), node };
        // They come in the order in which they were let in.
        sessions.insert((agent, pod), (labels, member));
    }
    Cluster { id: id.to_string(), numbers, sessions: sessions.into_values().collect() }
}
