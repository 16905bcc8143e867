//! The record of attempts to sign in, and of what is done to passwords and sessions: who, from where, and how it ended.
//!
//! Anybody may try to sign in, as often as they like: such an attempt has one line, when it is over. It is safe on disk before a
//! token is given out, and bounded when it failed ([`Denials`]). Other changes here need an account, and have a line before they
//! happen and one after.

use std::{net::IpAddr, sync::Arc};

use axum::body::Body;
use cattle_audit::{Actor, Asked, AuditError, AuditId, AuditSink, Denials, Event, RequestInfo};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use prometheus_client::{
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};
use serde::Deserialize;

use crate::status;

/// The largest body that is looked at for the name, in bytes; the routes refuse larger ones as well.
const MAX_BODY: usize = 16 * 1024;
/// The longest name that is recorded, in characters.
const MAX_NAME: usize = 253;
/// Whoever has not said who they are.
pub(crate) const NOBODY: &str = "system:unauthenticated";

/// Writes attempts to sign in to the audit log.
pub struct SignInAudit {
    sink: Arc<dyn AuditSink>,
    denials: Arc<Denials>,
    outcomes: SignIns,
}

/// Attempts to sign in by outcome. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct SignIns(Family<[(&'static str, &'static str); 1], Counter>);

impl SignIns {
    /// Registers them as `cattle_server_sign_ins_total`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("cattle_server_sign_ins", "Attempts to sign in, by outcome", self.0.clone());
    }

    fn count(&self, code: StatusCode) {
        let outcome = match code {
            code if code.is_success() => "accepted",
            StatusCode::TOO_MANY_REQUESTS => "throttled",
            code if code.is_server_error() => "unavailable",
            _ => "refused",
        };
        self.0.get_or_create(&[("outcome", outcome)]).inc();
    }
}

/// An attempt, to be completed with its outcome.
pub struct Attempt(Recorded);

enum Recorded {
    /// It changes nothing.
    Nothing,
    /// Its beginning stands in the log.
    Announced(Event),
    /// It has no line yet.
    Unannounced(Event, IpAddr),
}

#[derive(Deserialize)]
struct Name {
    #[serde(default)]
    username: String,
}

impl SignInAudit {
    /// Into this log.
    #[must_use]
    pub fn new(sink: Arc<dyn AuditSink>, denials: Arc<Denials>, outcomes: SignIns) -> Self {
        Self { sink, denials, outcomes }
    }

    /// Begins the record of a request from `address`: an attempt to sign in, or something that `account` does. Requests that change
    /// nothing pass unrecorded.
    ///
    /// # Errors
    /// The answer to give instead, when nothing can be recorded or the body not be read.
    pub async fn begin(
        &self,
        request: Request<Body>,
        address: IpAddr,
        account: Option<Actor>,
    ) -> Result<(Request<Body>, Attempt), Box<Response<Body>>> {
        if request.method() != Method::POST {
            return Ok((request, Attempt(Recorded::Nothing)));
        }
        let asked = Asked::of(&request, Some(address));
        let (head, body) = request.into_parts();
        let collected = Limited::new(body, MAX_BODY).collect().await.map_err(|_| {
            Box::new(status::failure(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge", "the body is too large"))
        })?;
        let body = collected.to_bytes();
        let recorded = match account {
            Some(account) => {
                let event = asked.event(AuditId::new(), account, &asked.own_info());
                self.sink.record(&event).await.map_err(|error| Box::new(unrecorded(&error)))?;
                Recorded::Announced(event)
            }
            None => {
                let login = RequestInfo::non_resource("login");
                Recorded::Unannounced(asked.event(AuditId::new(), Actor::named(name(&body)), &login), address)
            }
        };
        Ok((Request::from_parts(head, Body::from(body)), Attempt(recorded)))
    }

    /// Records how it ended, and gives the answer back that may be sent now.
    pub async fn end(&self, attempt: Attempt, response: Response<Body>) -> Response<Body> {
        let code = response.status();
        if matches!(attempt.0, Recorded::Unannounced(..)) {
            self.outcomes.count(code);
        }
        match attempt.0 {
            Recorded::Nothing => {}
            Recorded::Announced(event) => self.sink.note(&event.completed(code.as_u16())),
            Recorded::Unannounced(event, _) if code.is_success() => {
                if let Err(error) = self.sink.record(&event.completed(code.as_u16())).await {
                    // The token that was made is known to nobody.
                    return unrecorded(&error);
                }
            }
            Recorded::Unannounced(event, address) => {
                self.denials.of_stranger(address, event.completed(code.as_u16()));
            }
        }
        response
    }
}

fn name(body: &[u8]) -> String {
    let name = serde_json::from_slice::<Name>(body).map(|name| name.username).unwrap_or_default();
    if name.is_empty() { NOBODY.to_owned() } else { name.chars().take(MAX_NAME).collect() }
}

fn unrecorded(error: &AuditError) -> Response<Body> {
    status::failure(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", error.sentence())
}

#[cfg(test)]
mod tests {
    use cattle_audit::MemorySink;

    use super::*;

    const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));

    fn audit() -> (Arc<MemorySink>, SignInAudit) {
        let sink = Arc::new(MemorySink::default());
        (sink.clone(), SignInAudit::new(sink.clone(), Denials::new(sink), SignIns::default()))
    }

    async fn attempt(audit: &SignInAudit, account: Option<&str>, code: u16) -> u16 {
        let body = r#"{"username":"ann","password":"hunter2hunter2"}"#;
        let request = Request::post("/v3-public/localProviders/local?action=login").body(Body::from(body)).unwrap();
        let (request, attempt) = match audit.begin(request, ADDRESS, account.map(Actor::named)).await {
            Ok(begun) => begun,
            Err(response) => return response.status().as_u16(),
        };
        assert_eq!(request.into_body().collect().await.unwrap().to_bytes(), body, "the body goes on whole");
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::from_u16(code).unwrap();
        audit.end(attempt, response).await.status().as_u16()
    }

    #[tokio::test]
    async fn a_sign_in_has_one_line_that_is_safe_before_the_answer() {
        let (sink, audit) = audit();
        assert_eq!(attempt(&audit, None, 201).await, 201);
        let lines = sink.lines();
        assert_eq!(lines.len(), 1);
        assert_eq!((&lines[0]["user"]["username"], &lines[0]["responseStatus"]["code"]), (&"ann".into(), &201.into()));
        assert_eq!((&lines[0]["sourceIPs"][0], &lines[0]["verb"]), (&"192.0.2.7".into(), &"login".into()));
        assert!(!lines[0].to_string().contains("hunter2"));
        sink.set_full(true);
        assert_eq!(attempt(&audit, None, 201).await, 503, "no line, no token");
    }

    #[tokio::test]
    async fn guesses_are_in_the_log_and_have_a_bound() {
        let (sink, audit) = audit();
        for _ in 0..1000 {
            assert_eq!(attempt(&audit, None, 401).await, 401);
        }
        let lines = sink.lines();
        assert_eq!((&lines[0]["user"]["username"], &lines[0]["responseStatus"]["code"]), (&"ann".into(), &401.into()));
        assert!(lines.len() < 10, "{}", lines.len());
        drop(audit);
        let more = sink.lines().last().unwrap()["annotations"][cattle_audit::MORE].as_str().unwrap().parse::<usize>();
        assert_eq!(more.unwrap() + 1 + lines.len(), 1000);
    }

    #[tokio::test]
    async fn a_change_of_an_account_has_its_line_first() {
        let (sink, audit) = audit();
        assert_eq!(attempt(&audit, Some("u-alice"), 200).await, 200);
        let stages: Vec<_> = sink.lines().iter().map(|line| line["stage"].as_str().unwrap().to_owned()).collect();
        assert_eq!(stages, ["RequestReceived", "ResponseComplete"]);
        assert_eq!(sink.lines()[0]["user"]["username"], "u-alice");
        sink.set_full(true);
        assert_eq!(attempt(&audit, Some("u-alice"), 200).await, 503);
    }
}
