//! The record that the server's API makes before a change, and the log's own numbers.

use std::{
    fmt,
    sync::{Arc, Weak},
};

use cattle_apiserver::{AuditSink, AuditUnavailable, Change};
use cattle_audit::{Actor, AuditId, Denials, Event, RequestInfo};
use futures_util::future::BoxFuture;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};

/// Changes of the server's own objects go to the audit log.
pub struct ApiAudit(pub Arc<dyn cattle_audit::AuditSink>);

impl AuditSink for ApiAudit {
    fn before<'a>(&'a self, change: &'a Change) -> BoxFuture<'a, Result<(), AuditUnavailable>> {
        Box::pin(async move {
            let recorded = self.0.record(&event(change)).await;
            recorded.map_err(|error| AuditUnavailable { sentence: error.sentence().to_owned() })
        })
    }

    fn after(&self, change: &Change, code: u16) {
        self.0.note(&event(change).completed(code));
    }
}

/// What an operator can see of the audit log. Metrics must not keep the file open longer than the server's parts do.
#[derive(Debug)]
pub struct AuditNumbers {
    /// The log.
    pub sink: Weak<dyn cattle_audit::AuditSink>,
    /// Denied requests.
    pub denials: Weak<Denials>,
}

impl Collector for AuditNumbers {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let sink = self.sink.upgrade();
        let (available, lost) = sink.map_or((false, 0), |sink| (sink.available(), sink.lost()));
        let metric = encoder.encode_descriptor(
            "cattle_audit_available",
            "1 while the audit log can be written; without it nothing is changed",
            None,
            MetricType::Gauge,
        )?;
        ConstGauge::new(i64::from(available)).encode(metric)?;
        let metric = encoder.encode_descriptor(
            "cattle_audit_lost",
            "Lines about what had happened already that could not be written",
            None,
            MetricType::Counter,
        )?;
        ConstCounter::new(lost).encode(metric)?;
        let (strangers, users) = self.denials.upgrade().map_or((0, 0), |denials| denials.seen());
        let mut metric = encoder.encode_descriptor(
            "cattle_audit_denied",
            "Requests refused with 401 or 403, and those of strangers to a cluster",
            None,
            MetricType::Counter,
        )?;
        for (who, seen) in [("stranger", strangers), ("user", users)] {
            ConstCounter::new(seen).encode(metric.encode_family(&[("who", who)])?)?;
        }
        Ok(())
    }
}

fn event(change: &Change) -> Event {
    let method = match change.verb {
        "create" => "POST",
        "update" => "PUT",
        "patch" => "PATCH",
        _ => "DELETE",
    };
    let actor = Actor::named(change.user.name()).with(change.user.groups(), change.user.extra());
    let request = RequestInfo::parse(method, &change.path, None);
    // The id that the client got.
    let id = AuditId::parse(&change.id).unwrap_or_else(AuditId::new);
    let mut event = Event::request(id, actor, &request, &change.path)
        .user_agent(&change.user_agent)
        .annotate("cattle.io/token", change.user.token().as_str())
        .annotate("cattle.io/dry-run", change.dry_run.to_string());
    if let Some(address) = change.address {
        event = event.from_address(address);
    }
    event
}

#[cfg(test)]
mod tests {
    use cattle_audit::MemorySink;
    use cattle_auth::UserInfo;

    use super::*;

    #[tokio::test]
    async fn both_lines_of_a_change_have_the_id_that_the_client_got() {
        let sink = Arc::new(MemorySink::default());
        let audit = ApiAudit(sink.clone());
        let change = Change {
            id: AuditId::new().to_string(),
            user: UserInfo::for_test("u-alice", "alice"),
            verb: "delete",
            group: "management.cattle.io",
            version: "v3",
            resource: "clusters",
            subresource: None,
            namespace: None,
            name: Some("c-abcde".to_owned()),
            path: "/apis/management.cattle.io/v3/clusters/c-abcde".to_owned(),
            address: Some([192, 0, 2, 7].into()),
            user_agent: "kubectl/v1".to_owned(),
            dry_run: false,
        };
        audit.before(&change).await.unwrap();
        audit.after(&change, 200);
        let lines = sink.lines();
        assert_eq!(lines.len(), 2);
        for line in lines {
            assert_eq!(line["auditID"], change.id);
            assert_eq!((&line["sourceIPs"][0], &line["userAgent"]), (&"192.0.2.7".into(), &"kubectl/v1".into()));
            assert_eq!((&line["verb"], &line["objectRef"]["name"]), (&"delete".into(), &"c-abcde".into()));
        }
    }
}
