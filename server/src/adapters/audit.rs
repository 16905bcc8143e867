//! The record that the server's API makes before a change.

use std::sync::Arc;

use cattle_apiserver::{AuditSink, AuditUnavailable, Change};
use cattle_audit::{Actor, AuditId, Event, RequestInfo};
use futures_util::future::BoxFuture;

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

fn event(change: &Change) -> Event {
    let method = match change.verb {
        "create" => "POST",
        "update" => "PUT",
        "patch" => "PATCH",
        _ => "DELETE",
    };
    let actor = Actor::named(change.user.name()).with(change.user.groups(), change.user.extra());
    let request = RequestInfo::parse(method, &change.path, None);
    Event::request(AuditId::new(), actor, &request, &change.path)
        .annotate("cattle.io/request", change.id.clone())
        .annotate("cattle.io/token", change.user.token().as_str())
        .annotate("cattle.io/dry-run", change.dry_run.to_string())
}
