//! Which part answers which path. Downstream APIs and the server's own get a [`UserInfo`]; there is no other way in.
//!
//! | path | answers | needs |
//! |---|---|---|
//! | `/ping`, `/healthz`, `/v3/settings/cacerts` | this module | nothing |
//! | `/v3/import/<token>_<cluster>.yaml` | [`Import`] | a registration token |
//! | `/v3/connect` | the gateway | an agent's own proof, in its handshake |
//! | `/v3-public/…`, `/v1-public/…`, `/v3/tokens`, `/v3/users`, `/v1/logout` | signing in and out | what each says |
//! | `/k8s/clusters/<cluster>/…` | the proxy | a user |
//! | `/api`, `/apis/…`, `/openapi/…`, `/version` | the server's own API | a user |

use std::{net::SocketAddr, sync::Arc, task::Poll};

use axum::body::Body;
use cattle_api::management::setting::known;
use cattle_apiserver::ApiServer;
use cattle_audit::{Actor, Asked, AuditId, Denials, Event};
use cattle_auth::{AuthenticateError, Authenticator, Revocations, Source, UserInfo};
use cattle_gateway::Gateway;
use cattle_proto::version::CONNECT_PATH;
use cattle_proxy::{Epoch, Proxy};
use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::{Body as _, Incoming};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::{
    import::{self, Import},
    listen::Answer,
    sign_in::{NOBODY, SignInAudit},
    status,
};

/// How often a request is authenticated again because rights were revoked in the meantime, anybody's.
const AUTHENTICATIONS: usize = 10;

/// What the paths lead to.
pub struct Router {
    /// Signing in and out.
    pub login: axum::Router,
    /// The record of attempts to sign in.
    pub sign_in_audit: SignInAudit,
    /// The record of denied requests.
    pub denials: Arc<Denials>,
    /// Import manifests.
    pub import: Import,
    /// What agents and users trust, PEM.
    pub ca_certs: String,
    /// Who a request comes from.
    pub authenticator: Arc<Authenticator>,
    /// The server's own API.
    pub api: ApiServer,
    /// Ends watches of the server's own API with the right that opened them.
    pub revocations: Revocations,
    /// Cancelled when the server stops: ends watches of the server's own API.
    pub draining: CancellationToken,
    /// Downstream APIs.
    pub proxy: Arc<Proxy>,
    /// Agents.
    pub gateway: Gateway,
}

/// Why a request's body breaks off.
#[derive(Debug, thiserror::Error)]
#[error("access has ended")]
struct AccessEnded;

impl Answer for Router {
    async fn answer(&self, request: Request<Incoming>, peer: SocketAddr) -> Response<Body> {
        let path = request.uri().path();
        if path.starts_with("/k8s/clusters/") {
            return self.downstream(request, peer).await;
        }
        if ApiServer::routes(path) {
            return self.own_api(request, peer).await;
        }
        match path {
            CONNECT_PATH => self.gateway.upgrade(request, Some(peer)).map(Body::new),
            "/ping" => get(request.method(), || status::text(StatusCode::OK, "text/plain", "pong")),
            "/healthz" => get(request.method(), || status::text(StatusCode::OK, "text/plain", "ok")),
            "/v3/settings/cacerts" => get(request.method(), || self.ca_certs()),
            path if path.starts_with(import::PREFIX) => self.import(&request).await,
            path if path.starts_with("/v3") || path.starts_with("/v1") => self.sign_in(request, peer).await,
            _ => status::not_found(),
        }
    }
}

impl Router {
    async fn downstream(&self, mut request: Request<Incoming>, peer: SocketAddr) -> Response<Body> {
        let (user, epoch) = match self.authenticated_now(request.headers()).await {
            Ok(authenticated) => authenticated,
            Err(response) => return self.unauthenticated(&request, peer, *response),
        };
        request.extensions_mut().insert(epoch);
        request.extensions_mut().insert(cattle_proxy::ClientAddress(peer.ip()));
        Box::pin(self.proxy.serve(request, user)).await.map(Body::new)
    }

    /// A user, and the moment before this user was authenticated: what is revoked from then on ends the request, even if it was
    /// checked just before. Somebody's revocation during the check means another look, not a refusal.
    async fn authenticated_now(&self, headers: &HeaderMap) -> Result<(UserInfo, Epoch), Box<Response<Body>>> {
        let mut epoch = self.proxy.streams().epoch();
        for _ in 0..AUTHENTICATIONS {
            let user = self.authenticated(headers).await?;
            let now = self.proxy.streams().epoch();
            if now == epoch {
                return Ok((user, epoch));
            }
            epoch = now;
        }
        let message = "rights are being changed faster than this request could be checked; try again";
        Err(Box::new(status::failure(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", message)))
    }

    async fn own_api(&self, mut request: Request<Incoming>, peer: SocketAddr) -> Response<Body> {
        let user = match self.authenticated(request.headers()).await {
            Ok(user) => user,
            Err(response) => return self.unauthenticated(&request, peer, *response),
        };
        let asked = Asked::of(&request, Some(peer.ip()));
        let response = match impersonation(request.headers()) {
            Some(refused) => refused,
            None => {
                request.extensions_mut().insert(cattle_apiserver::ClientAddress(peer.ip()));
                // A body that comes slowly is a change long after the check: what is revoked by then does not come whole.
                let request = request.map(|body| self.while_allowed(Body::new(body), user.clone()));
                Box::pin(self.api.serve(request, user.clone())).await
            }
        };
        if response.status() == StatusCode::FORBIDDEN {
            self.denials.of_user(user.name(), denied(&asked, &user, &response));
        }
        response.map(|body| self.until_ended(body, user))
    }

    /// The answer to somebody without a good credential, noted.
    fn unauthenticated<B>(&self, request: &Request<B>, peer: SocketAddr, response: Response<Body>) -> Response<Body> {
        if matches!(response.status(), StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            let asked = Asked::of(request, Some(peer.ip()));
            let event = asked.event(AuditId::new(), Actor::named(NOBODY), &asked.own_info());
            self.denials.of_stranger(peer.ip(), event.completed(response.status().as_u16()));
        }
        response
    }

    /// A watch is checked once and runs for hours: it ends with the right that opened it, or when the server stops. What has no known
    /// end is one, however it was asked for; it comes one event at a time, so it ends between two of them.
    fn until_ended(&self, body: Body, user: UserInfo) -> Body {
        if body.size_hint().exact().is_some() {
            return body;
        }
        let (revoked, draining) = (self.revoked(user), self.draining.clone());
        let ended = async move {
            tokio::select! { () = revoked => {}, () = draining.cancelled() => {} }
        };
        Body::from_stream(body.into_data_stream().take_until(ended.boxed()))
    }

    /// A body that fails when the right to send it ends. What has arrived already costs no look.
    fn while_allowed(&self, body: Body, user: UserInfo) -> Body {
        if body.is_end_stream() {
            return body;
        }
        let (mut data, mut revoked) = (body.into_data_stream(), self.revoked(user).fuse());
        Body::from_stream(stream::poll_fn(move |context| match data.poll_next_unpin(context) {
            Poll::Pending => revoked.poll_unpin(context).map(|()| Some(Err(axum::Error::new(AccessEnded)))),
            arrived => arrived,
        }))
    }

    fn revoked(&self, user: UserInfo) -> BoxFuture<'static, ()> {
        let revocations = self.revocations.clone();
        async move { drop(revocations.ended(&user, None).await) }.boxed()
    }

    async fn authenticated(&self, headers: &HeaderMap) -> Result<UserInfo, Box<Response<Body>>> {
        self.authenticator.authenticate(headers).await.map_err(|error| Box::new(refusal(&error)))
    }

    async fn import(&self, request: &Request<Incoming>) -> Response<Body> {
        if request.method() != Method::GET {
            return method_not_allowed();
        }
        let rest = request.uri().path().strip_prefix(import::PREFIX).unwrap_or_default();
        self.import.answer(rest).await
    }

    async fn sign_in(&self, request: Request<Incoming>, peer: SocketAddr) -> Response<Body> {
        if let Some(refused) = impersonation(request.headers()) {
            return refused;
        }
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(Source::new(peer.ip()));
        let public = request.uri().path().split('/').nth(1).is_some_and(|root| root.ends_with("-public"));
        let account = if public { None } else { self.account(request.headers()).await };
        let (request, attempt) = match self.sign_in_audit.begin(request, peer.ip(), account).await {
            Ok(begun) => begun,
            Err(response) => return *response,
        };
        let response = match self.login.clone().oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
        self.sign_in_audit.end(attempt, response).await
    }

    /// Whose password or session a request is about, if it comes with a credential that is good for that.
    async fn account(&self, headers: &HeaderMap) -> Option<Actor> {
        match self.authenticator.authenticate(headers).await {
            Ok(user) => Some(Actor::named(user.name()).with(user.groups(), user.extra())),
            // Good for setting a password; whose, is not told.
            Err(AuthenticateError::PasswordChangeRequired) => Some(Actor::named(NOBODY)),
            Err(AuthenticateError::Credential(_) | AuthenticateError::Refused | AuthenticateError::Unavailable(_)) => {
                None
            }
        }
    }

    /// The form of Rancher's setting, which agents and documented commands read.
    fn ca_certs(&self) -> Response<Body> {
        let setting =
            json!({ "id": known::CA_CERTS, "type": "setting", "name": known::CA_CERTS, "value": self.ca_certs });
        status::text(StatusCode::OK, "application/json", setting.to_string())
    }
}

/// The refusal of a request to act as somebody else. Served as its sender's own, it would do what was meant to be tried out.
fn impersonation(headers: &HeaderMap) -> Option<Response<Body>> {
    let refused = cattle_proxy::refuse_impersonation(headers).err()?;
    Some(status::failure(StatusCode::FORBIDDEN, "Forbidden", &refused.to_string()))
}

fn get(method: &Method, answer: impl FnOnce() -> Response<Body>) -> Response<Body> {
    if matches!(*method, Method::GET | Method::HEAD) { answer() } else { method_not_allowed() }
}

/// The event of a request to the server's own API that its user may not make.
fn denied(asked: &Asked, user: &UserInfo, response: &Response<Body>) -> Event {
    let id = response.headers().get("audit-id").and_then(|id| AuditId::parse(id.to_str().ok()?));
    let actor = Actor::named(user.name()).with(user.groups(), user.extra());
    let event = asked.event(id.unwrap_or_else(AuditId::new), actor, &asked.own_info());
    event
        .completed(response.status().as_u16())
        .annotate("cattle.io/token", user.token().as_str())
        .annotate("authorization.k8s.io/decision", "forbid")
}

fn method_not_allowed() -> Response<Body> {
    let message = "the server does not allow this method on the requested resource";
    status::failure(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message)
}

fn refusal(error: &AuthenticateError) -> Response<Body> {
    let (reason, message) = match error {
        AuthenticateError::PasswordChangeRequired => {
            ("Forbidden", "the password must be changed before anything else: run `cattle login` again")
        }
        AuthenticateError::Unavailable(_) => {
            tracing::warn!(error = error as &dyn std::error::Error, "credentials cannot be checked");
            ("ServiceUnavailable", "credentials cannot be checked now; try again")
        }
        AuthenticateError::Credential(_) | AuthenticateError::Refused => ("Unauthorized", "Unauthorized"),
    };
    let mut response = status::failure(error.status(), reason, message);
    if error.status() == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"cattle\""));
    }
    response
}
