//! Everything that can go wrong, and the one place that turns it into an answer.
//!
//! The answer is a `metav1.Status`, so that kubectl prints it as a sentence. The sentence names the hop that failed and says
//! nothing about the inside of the server; the cause goes to the log.

use cattle_audit::AuditError;
use cattle_proto::id::ClusterId;
use http::header::{self, HeaderValue};
use http::{Response, StatusCode};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::body::ProxyBody;
use crate::directory::{DialError, ImpersonatorError};
use crate::headers::HeaderError;
use crate::impersonate::IdentityError;
use crate::limits::Limited;
use crate::path::PathError;
use crate::upstream::{ApiServerError, Hop, UpstreamError};

/// Seconds after which a client may try again what is not there at the moment.
const RETRY_SOON: u32 = 1;
/// A cluster whose last session ended so recently is expected back, whether the session was lost or said goodbye: agents
/// connect again at once, and a drained one names the time. Others do not come back while somebody waits. kubectl obeys
/// `Retry-After` ten times before it shows the sentence, so advice to try again is given only where it helps.
const RECONNECTING: SignedDuration = SignedDuration::from_secs(10);

/// Why a request was not answered by the cluster's API server.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProxyError {
    #[error("the request target is refused")]
    Path(#[from] PathError),
    #[error("CONNECT is not supported")]
    Connect,
    /// There is no such cluster, or it is none of this user's business: the answer is the same.
    #[error("no such cluster for this user")]
    NoSuchCluster(ClusterId),
    #[error("the request's headers are refused")]
    Header(#[from] HeaderError),
    #[error("a request to switch protocols has a body")]
    UpgradeBody,
    #[error("too many requests")]
    Limited(#[from] Limited),
    #[error("the audit log does not take the event")]
    Audit(#[source] AuditError),
    #[error("the user's identity cannot be sent")]
    Identity(#[from] IdentityError),
    #[error("the outgoing head does not carry exactly the user's identity")]
    IdentityLost,
    #[error("no impersonator token")]
    Impersonator(ClusterId, #[source] ImpersonatorError),
    #[error("what is recorded about the API server cannot be used")]
    ApiServer(ClusterId, #[source] ApiServerError),
    #[error("the API server did not answer")]
    Upstream(ClusterId, #[source] UpstreamError),
    #[error("the API server's answer is refused: {1}")]
    Answer(ClusterId, &'static str),
    /// The API server refuses the impersonator, not the user.
    #[error("the API server refused the impersonator")]
    ImpersonatorRefused(ClusterId, Option<String>),
    #[error("the user's access ended")]
    Revoked,
    /// Somebody's access ended while this request was on its way in: it may be this user's.
    #[error("a revocation came between authentication and registration")]
    Overtaken,
    /// A watch that would hold up the server's stop.
    #[error("the server stops")]
    Stopping,
}

/// Which side an error is to be blamed on, for the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Client,
    Server,
    Cluster,
}

impl Source {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
            Self::Cluster => "cluster",
        }
    }
}

/// What the client is told.
struct Answer {
    code: StatusCode,
    reason: &'static str,
    message: String,
    /// More exact than a reason of Kubernetes, for programs: the cause in the details.
    cause: Option<&'static str>,
    retry_after: Option<u32>,
}

impl ProxyError {
    /// Whose fault it is.
    pub(crate) fn source_side(&self) -> Source {
        match self {
            Self::Path(_)
            | Self::Connect
            | Self::NoSuchCluster(_)
            | Self::Header(_)
            | Self::UpgradeBody
            | Self::Limited(_)
            | Self::Overtaken
            | Self::Revoked => Source::Client,
            Self::Audit(_) | Self::Identity(_) | Self::IdentityLost | Self::ApiServer(..) | Self::Stopping => {
                Source::Server
            }
            Self::Impersonator(..) | Self::Upstream(..) | Self::Answer(..) | Self::ImpersonatorRefused(..) => {
                Source::Cluster
            }
        }
    }

    /// Whether somebody was kept from what they are not allowed, before anything was announced to the audit log.
    pub(crate) fn is_denial(&self) -> bool {
        matches!(self, Self::NoSuchCluster(_) | Self::Header(HeaderError::Impersonation(_)))
    }

    /// The status of the answer.
    pub(crate) fn status(&self) -> StatusCode {
        self.answer().code
    }

    /// The answer as a `metav1.Status`.
    pub(crate) fn into_response(self) -> Response<ProxyBody> {
        let Answer { code, reason, message, cause, retry_after } = self.answer();
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": message, "reason": reason, "code": code.as_u16(),
        });
        if let Some(seconds) = retry_after {
            status["details"]["retryAfterSeconds"] = json!(seconds);
        }
        if let Some(cause) = cause {
            status["details"]["causes"] = json!([{ "reason": cause, "message": status["message"] }]);
        }
        let mut response = Response::new(ProxyBody::fixed(status.to_string()));
        *response.status_mut() = code;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
        if let Some(seconds) = retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        crate::response::harden(headers);
        response
    }

    fn answer(&self) -> Answer {
        match self {
            Self::Path(error) => path_answer(*error),
            Self::Connect => {
                Answer::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", "CONNECT is not supported")
            }
            Self::NoSuchCluster(cluster) => Answer::new(
                StatusCode::NOT_FOUND,
                "NotFound",
                format!("clusters.management.cattle.io \"{cluster}\" not found"),
            ),
            Self::Header(error @ HeaderError::Impersonation(_)) => {
                Answer::new(StatusCode::FORBIDDEN, "Forbidden", error.to_string())
            }
            Self::Header(error) => Answer::new(StatusCode::BAD_REQUEST, "BadRequest", error.to_string()),
            Self::UpgradeBody => Answer::new(StatusCode::BAD_REQUEST, "BadRequest", self.to_string()),
            Self::Limited(limited) => {
                Answer::new(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", limited.to_string()).retry(RETRY_SOON)
            }
            // No advice to try again: a disk does not empty itself while a person waits for the sentence.
            Self::Audit(error) => Answer::unavailable(error.sentence()),
            Self::Identity(_) | Self::IdentityLost => Answer::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "InternalError",
                "the server cannot represent your identity downstream, so it forwarded nothing",
            ),
            Self::Impersonator(cluster, error) => impersonator_answer(cluster, error),
            Self::ApiServer(cluster, _) => Answer::bad_gateway(format!(
                "what is recorded about the API server of cluster {cluster} cannot be used; an administrator must bind it again"
            )),
            Self::Upstream(cluster, error) => upstream_answer(cluster, error),
            Self::Answer(cluster, what) => Answer::bad_gateway(format!("the API server of cluster {cluster} {what}")),
            Self::ImpersonatorRefused(cluster, missing) => {
                let why = missing.as_ref().map_or_else(|| "its rights are being written".to_owned(), String::clone);
                Answer::unavailable(format!(
                    "the API server of cluster {cluster} does not accept your impersonator yet: {why}"
                ))
                .retry(RETRY_SOON)
            }
            Self::Overtaken => {
                Answer::unavailable("rights changed while the request was on its way; send it again").retry(RETRY_SOON)
            }
            Self::Stopping => Answer::unavailable("the server is stopping; watch again").retry(RETRY_SOON),
            Self::Revoked => {
                Answer::new(StatusCode::UNAUTHORIZED, "Unauthorized", "your access ended while the request ran")
            }
        }
    }
}

impl Answer {
    fn new(code: StatusCode, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), cause: None, retry_after: None }
    }

    fn unavailable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", message)
    }

    fn bad_gateway(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_GATEWAY, "BadGateway", message)
    }

    fn timeout(message: impl Into<String>) -> Self {
        Self::new(StatusCode::GATEWAY_TIMEOUT, "Timeout", message)
    }

    fn because(mut self, cause: &'static str) -> Self {
        self.cause = Some(cause);
        self
    }

    fn retry(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }
}

fn path_answer(error: PathError) -> Answer {
    let message = error.to_string();
    match error {
        PathError::NotOurs => Answer::new(StatusCode::NOT_FOUND, "NotFound", message),
        // Word for word what an unknown cluster gets is not possible without its name; this one cannot exist.
        PathError::NoSuchCluster => Answer::new(StatusCode::NOT_FOUND, "NotFound", message),
        PathError::TooLong => Answer::new(StatusCode::URI_TOO_LONG, "RequestURITooLong", message),
        PathError::Ambiguous(_) => Answer::new(StatusCode::BAD_REQUEST, "BadRequest", message),
    }
}

fn dial_answer(cluster: &ClusterId, error: DialError) -> Answer {
    match error {
        DialError::NotConnected { since: Some(since) } => {
            let answer = Answer::unavailable(format!(
                "cluster {cluster} is not connected: no agent of it has been since {since:.0}"
            ));
            let away = Timestamp::now().duration_since(since);
            if away < RECONNECTING { answer.retry(RETRY_SOON) } else { answer }
        }
        DialError::NotConnected { since: None } => Answer::unavailable(format!(
            "cluster {cluster} is not connected: no agent of it has connected since the server started"
        )),
        DialError::ApiServerUnreachable => {
            Answer::bad_gateway(format!("the agent of cluster {cluster} cannot reach its API server"))
        }
        DialError::TimedOut => {
            Answer::timeout(format!("no agent of cluster {cluster} opened a stream to its API server in time"))
        }
        DialError::Busy => {
            Answer::unavailable(format!("the sessions of cluster {cluster} carry as many streams as they may"))
                .retry(RETRY_SOON)
        }
        DialError::Broken => {
            Answer::unavailable(format!("the session with the agent of cluster {cluster} ended")).retry(RETRY_SOON)
        }
    }
}

fn impersonator_answer(cluster: &ClusterId, error: &ImpersonatorError) -> Answer {
    match error {
        // The way to the API server was tried and is open, so this is the moment after connecting, or before the end.
        ImpersonatorError::Away => Answer::unavailable(format!(
            "cluster {cluster} has just connected, or is being removed: nobody can be impersonated there yet"
        ))
        .retry(RETRY_SOON),
        ImpersonatorError::Missing(sentence) => {
            // The request has waited for as long as it is worth: nothing is there a second later that was not now.
            Answer::unavailable(format!("you cannot be impersonated in cluster {cluster}: {sentence}"))
        }
        ImpersonatorError::TimedOut => {
            Answer::timeout(format!("your impersonator in cluster {cluster} was not ready in time"))
        }
    }
}

fn upstream_answer(cluster: &ClusterId, error: &UpstreamError) -> Answer {
    match error {
        UpstreamError::Dial(error) => dial_answer(cluster, *error),
        UpstreamError::Certificate(_) => Answer::bad_gateway(format!(
            "the API server of cluster {cluster} does not prove itself: its certificate does not fit the CA and name that are recorded \
             for the cluster. If its CA was replaced on purpose, an administrator consents with `cattle cluster rebind`"
        ))
        .because("CertificateMismatch"),
        UpstreamError::Tls(_) => {
            Answer::bad_gateway(format!("the TLS handshake with the API server of cluster {cluster} failed"))
        }
        UpstreamError::Http(_) => {
            Answer::bad_gateway(format!("the API server of cluster {cluster} ended the connection before it answered"))
        }
        UpstreamError::Unknown(_) => Answer::bad_gateway(format!(
            "the API server of cluster {cluster} ended the connection after the request was sent and before it answered: whether the \
             change was made is not known. Look before you send it again"
        ))
        .because("OutcomeUnknown"),
        UpstreamError::TimedOut(Hop::Dial) => dial_answer(cluster, DialError::TimedOut),
        UpstreamError::TimedOut(Hop::Tls) => {
            Answer::timeout(format!("the API server of cluster {cluster} did not finish the TLS handshake in time"))
        }
        UpstreamError::TimedOut(Hop::Answer) => {
            Answer::timeout(format!(
                "the API server of cluster {cluster} did not begin its answer in time; if the request was a change, whether it was made \
                 is not known"
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(error: ProxyError) -> (u16, String, Option<String>) {
        let answer = error.answer();
        let retry = error.into_response().headers().get("retry-after").map(|v| v.to_str().unwrap().to_owned());
        (answer.code.as_u16(), answer.message, retry)
    }

    fn dial(error: DialError) -> ProxyError {
        ProxyError::Upstream("c-abcde".parse().unwrap(), UpstreamError::Dial(error))
    }

    #[test]
    fn the_sentence_names_the_hop() {
        let since = "2020-11-23T01:02:03.456Z".parse().unwrap();
        let (code, message, retry) = shown(dial(DialError::NotConnected { since: Some(since) }));
        assert_eq!((code, retry), (503, None));
        assert_eq!(message, "cluster c-abcde is not connected: no agent of it has been since 2020-11-23T01:02:03Z");
        let (_, _, retry) = shown(dial(DialError::NotConnected { since: Some(Timestamp::now()) }));
        assert_eq!(retry.as_deref(), Some("1"));
        assert_eq!(shown(dial(DialError::NotConnected { since: None })).2, None);
        assert_eq!(shown(dial(DialError::ApiServerUnreachable)).0, 502);
        assert_eq!(shown(dial(DialError::TimedOut)).0, 504);
        assert_eq!(shown(dial(DialError::Busy)).0, 503);
        let (code, message, _) = shown(ProxyError::NoSuchCluster("c-abcde".parse().unwrap()));
        assert_eq!((code, message.as_str()), (404, "clusters.management.cattle.io \"c-abcde\" not found"));
        let full = AuditError::Full { path: "/srv/secret-place/audit.log".into() };
        let (code, message, _) = shown(ProxyError::Audit(full));
        assert_eq!(code, 503);
        assert!(message.contains("audit log is full") && !message.contains("secret-place"), "{message}");
    }
}
