//! The HTTP routes of signing in and out. They stand beside the server's Kubernetes-style API.
//!
//! | request | does |
//! |---|---|
//! | `POST /v3-public/localProviders/local?action=login`, `POST /v1-public/login` | sign in |
//! | `GET /v3-public/authProviders`, `GET /v1-public/authproviders` | the one way to sign in |
//! | `POST /v3/tokens?action=logout`, `POST /v1/logout` | end the token of the request |
//! | `POST /v3/users?action=changepassword` | set one's own password |
//! | `POST /v3/users/<name>?action=setpassword` | set somebody's, as an administrator |
//!
//! The layer around them must put the client's [`Source`](crate::Source) into the request's extensions; without it a
//! sign-in is refused, since it could not be limited.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use http::header::{CACHE_CONTROL, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::login::wire::{ChangePasswordRequest, ErrorBody, LoginRequest, LoginResponse, SetPasswordRequest, wanted};
use crate::login::{Attempt, Login};
use crate::throttle::Source;

/// The largest body of any of these requests, in bytes.
const MAX_BODY: usize = 16 * 1024;

/// The routes.
pub fn routes(login: Arc<Login>) -> Router {
    Router::new()
        .route("/v3-public/localProviders/local", post(sign_in))
        .route("/v1-public/login", post(sign_in))
        .route("/v3-public/authProviders", get(providers))
        .route("/v1-public/authproviders", get(providers))
        .route("/v3/tokens", post(sign_out))
        .route("/v1/logout", post(sign_out))
        .route("/v3/users", post(change_password))
        .route("/v3/users/{name}", post(set_password))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(login)
}

#[derive(Default, Deserialize)]
struct Action {
    action: Option<String>,
}

impl Action {
    fn must_be(&self, wanted: &[&str]) -> Result<(), ErrorBody> {
        let given = self.action.as_deref().unwrap_or_default();
        wanted.contains(&given).then_some(()).ok_or_else(|| {
            let message = format!("no such action: {:?}", given.chars().take(64).collect::<String>());
            ErrorBody::new(StatusCode::NOT_FOUND, "ActionNotAvailable", message)
        })
    }
}

async fn sign_in(
    State(login): State<Arc<Login>>,
    Query(action): Query<Action>,
    source: Option<Extension<Source>>,
    body: Bytes,
) -> Result<Response, ErrorBody> {
    // `/v1-public/login` has no action; `/v3-public/…` must have the one there is.
    action.must_be(&["login", ""])?;
    let source = source.ok_or_else(no_source)?;
    let request: LoginRequest = parse(&body)?;
    let Some(wanted) = wanted(&request.response_type) else {
        return Err(invalid("responseType must be json, kubeconfig or kubeconfig_<cluster>"));
    };
    if request.ttl < 0 || request.description.len() > 1024 || request.username.len() > 253 {
        return Err(invalid("ttl must not be negative, username at most 253 and description at most 1024 bytes"));
    }
    let attempt = Attempt {
        username: &request.username,
        password: &request.password.0,
        description: &request.description,
        wanted,
        ttl_ms: request.ttl,
    };
    let signed_in = login.sign_in(&attempt, *source).await.map_err(|error| ErrorBody::from(&error))?;
    Ok(no_store((StatusCode::CREATED, Json(LoginResponse::new(&signed_in)))))
}

async fn sign_out(
    State(login): State<Arc<Login>>,
    Query(action): Query<Action>,
    headers: HeaderMap,
) -> Result<Response, ErrorBody> {
    action.must_be(&["logout", ""])?;
    login.sign_out(&headers).await.map_err(|error| ErrorBody::from(&error))?;
    Ok(no_store(Json(json!({}))))
}

async fn change_password(
    State(login): State<Arc<Login>>,
    Query(action): Query<Action>,
    source: Option<Extension<Source>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ErrorBody> {
    action.must_be(&["changepassword"])?;
    let source = source.ok_or_else(no_source)?;
    let request: ChangePasswordRequest = parse(&body)?;
    let done = login.change_password(&headers, &request.current_password.0, request.new_password.0, *source).await;
    done.map_err(|error| ErrorBody::from(&error))?;
    Ok(no_store(Json(json!({}))))
}

async fn set_password(
    State(login): State<Arc<Login>>,
    Path(name): Path<String>,
    Query(action): Query<Action>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ErrorBody> {
    action.must_be(&["setpassword"])?;
    let request: SetPasswordRequest = parse(&body)?;
    let done = login.set_password(&headers, &name, request.new_password.0, request.must_change_password).await;
    done.map_err(|error| ErrorBody::from(&error))?;
    Ok(no_store(Json(json!({ "id": name, "type": "user", "baseType": "user" }))))
}

async fn providers() -> Response {
    let provider = json!({ "id": "local", "type": "localProvider", "baseType": "authProvider" });
    Json(json!({ "type": "collection", "resourceType": "authProvider", "data": [provider] })).into_response()
}

/// The text of serde's error may quote the body, and the body has a password: it is not shown.
fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, ErrorBody> {
    serde_json::from_slice(body).map_err(|_| invalid("the body is not the JSON object that this request takes"))
}

fn invalid(message: &str) -> ErrorBody {
    ErrorBody::new(StatusCode::UNPROCESSABLE_ENTITY, "InvalidBodyContent", message)
}

fn no_source() -> ErrorBody {
    tracing::error!("a sign-in came without its source address: the listener does not set it");
    ErrorBody::new(StatusCode::INTERNAL_SERVER_ERROR, "ServerError", "the server is set up wrongly")
}

fn no_store(response: impl IntoResponse) -> Response {
    let mut response = response.into_response();
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

impl IntoResponse for ErrorBody {
    fn into_response(self) -> Response {
        let retry_after = self.retry_after;
        let mut response = no_store((self.status(), Json(self)));
        if let Some(seconds) = retry_after {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
