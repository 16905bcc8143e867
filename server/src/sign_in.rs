//! The record of attempts to sign in: who, from where, and how it ended.

use std::{net::IpAddr, sync::Arc};

use axum::body::Body;
use cattle_audit::{Actor, AuditId, AuditSink, Event};
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use serde::Deserialize;

use crate::status;

/// The largest body that is looked at for the name, in bytes; the routes refuse larger ones as well.
const MAX_BODY: usize = 16 * 1024;
/// The longest name that is recorded, in characters.
const MAX_NAME: usize = 253;

/// Writes attempts to sign in to the audit log.
pub struct SignInAudit {
    sink: Arc<dyn AuditSink>,
}

/// An attempt that was recorded, to be completed with its outcome. `None` inside: not an attempt.
pub struct Attempt(Option<Event>);

#[derive(Deserialize)]
struct Name {
    #[serde(default)]
    username: String,
}

impl SignInAudit {
    /// Into this log.
    #[must_use]
    pub fn new(sink: Arc<dyn AuditSink>) -> Self {
        Self { sink }
    }

    /// Records the attempt before anything is checked. Requests that change nothing pass unrecorded.
    ///
    /// # Errors
    /// The answer to give instead, when the attempt cannot be recorded or its body not be read.
    pub async fn begin(
        &self,
        request: Request<Body>,
        address: IpAddr,
    ) -> Result<(Request<Body>, Attempt), Box<Response<Body>>> {
        if request.method() != Method::POST {
            return Ok((request, Attempt(None)));
        }
        let (head, body) = request.into_parts();
        let collected = Limited::new(body, MAX_BODY).collect().await.map_err(|_| {
            Box::new(status::failure(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge", "the body is too large"))
        })?;
        let body = collected.to_bytes();
        let name = serde_json::from_slice::<Name>(&body).map(|name| name.username).unwrap_or_default();
        let name: String = name.chars().take(MAX_NAME).collect();
        let actor = Actor::named(if name.is_empty() { "system:unauthenticated".to_owned() } else { name });
        let mut event = Event::sign_in(AuditId::new(), actor, head.uri.path()).from_address(address);
        if let Some(agent) = head.headers.get(header::USER_AGENT) {
            event = event.user_agent(&String::from_utf8_lossy(agent.as_bytes()));
        }
        self.sink.record(&event).await.map_err(|error| {
            Box::new(status::failure(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", error.sentence()))
        })?;
        Ok((Request::from_parts(head, Body::from(body)), Attempt(Some(event))))
    }

    /// Records how it ended.
    pub fn end(&self, attempt: Attempt, code: StatusCode) {
        if let Attempt(Some(event)) = attempt {
            self.sink.note(&event.completed(code.as_u16()));
        }
    }
}
