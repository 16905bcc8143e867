//! The server's REST API, as far as the commands need it.

use std::time::Duration;

use reqwest::header::{
    ACCEPT, AUTHORIZATION, CONNECTION, CONTENT_TYPE, HeaderValue, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use reqwest::{Method, RequestBuilder, Response, StatusCode, redirect};
use rustls::ClientConfig;
use serde_json::Value;
use url::Url;
use zeroize::Zeroizing;

use crate::console::clean;
use crate::exit::Exit;

/// How long a connection may take to be made, and an answer to come.
const CONNECT: Duration = Duration::from_secs(10);
const ANSWER: Duration = Duration::from_secs(60);
/// The largest answer that is read, in bytes.
const MAX_ANSWER: usize = 64 * 1024 * 1024;
/// The largest part of an error that is shown, in characters.
const MAX_MESSAGE: usize = 2000;

/// One server, as one user.
pub struct Client {
    http: reqwest::Client,
    server: Url,
    bearer: Option<HeaderValue>,
}

/// Why the server could not be asked, or refused.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The server's certificate does not fit what is trusted.
    #[error("the certificate of {server} is not trusted: {reason}")]
    Certificate {
        /// Which server.
        server: String,
        /// In TLS's words.
        reason: String,
    },
    /// No connection.
    #[error("{server} cannot be reached: {reason}")]
    Unreachable {
        /// Which server.
        server: String,
        /// The innermost cause.
        reason: String,
    },
    /// No answer in time.
    #[error("{server} did not answer in time")]
    Timeout {
        /// Which server.
        server: String,
    },
    /// The server answered with an error.
    #[error("{message}")]
    Status {
        /// The HTTP status.
        status: u16,
        /// `reason` of a Kubernetes status, or Rancher's `code`; empty when there is none.
        reason: String,
        /// In the server's words, cleaned.
        message: String,
    },
    /// The answer is not JSON, or too large.
    #[error("the answer of {server} cannot be read")]
    Answer {
        /// Which server.
        server: String,
    },
    /// A client cannot be built, or a token cannot stand in a header.
    #[error("the request cannot be made")]
    Setup,
}

impl ApiError {
    /// The exit code.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Certificate { .. } | Self::Unreachable { .. } => Exit::Unreachable,
            Self::Timeout { .. } => Exit::NotReady,
            Self::Status { status: 401 | 403, .. } => Exit::Denied,
            Self::Status { status: 404, .. } => Exit::NotFound,
            Self::Status { status: 408 | 429 | 502..=504, .. } => Exit::NotReady,
            Self::Status { .. } | Self::Answer { .. } | Self::Setup => Exit::Failure,
        }
    }

    /// What the person can do now.
    #[must_use]
    pub fn next_step(&self) -> Option<String> {
        let text = match self {
            Self::Certificate { .. } => {
                "if the server has a new CA, compare its checksum and run `cattle login` again with --ca-checksum"
            }
            Self::Unreachable { .. } => "check the address, the network, and HTTPS_PROXY",
            Self::Status { status: 401, .. } => "sign in again: cattle login",
            Self::Status { status: 403, .. } => "cattle whoami shows who you are",
            Self::Status { status: 409, .. } => "somebody else was faster, or it exists already: look and try again",
            Self::Status { status: 429 | 502..=504, .. } | Self::Timeout { .. } => "try again in a moment",
            Self::Status { status: 404, .. } => "look at the name: the list commands show what there is",
            Self::Status { status: 400 | 422, .. } => "change what the message names, and try again",
            Self::Status { status: 500.., .. } => "the server's log says more; tell whoever runs it",
            Self::Status { .. } | Self::Answer { .. } => {
                "check that this is the address of a cattle-server: cattle whoami shows it, and its version"
            }
            Self::Setup => "sign in again: cattle login",
        };
        Some(text.to_owned())
    }

    /// Whether the object does not exist.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Status { status: 404, .. })
    }

    /// Whether the user may not do it, or may not know.
    #[must_use]
    pub fn is_forbidden(&self) -> bool {
        matches!(self, Self::Status { status: 403, .. })
    }
}

impl Client {
    /// A client without a credential.
    ///
    /// # Errors
    /// [`ApiError::Setup`].
    pub fn anonymous(server: Url, tls: ClientConfig) -> Result<Self, ApiError> {
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .tls_info(true)
            .https_only(true)
            // A redirect could carry the request to a server that nobody trusted.
            .redirect(redirect::Policy::none())
            .connect_timeout(CONNECT)
            .timeout(ANSWER)
            .user_agent(concat!("cattle/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|_| ApiError::Setup)?;
        Ok(Self { http, server, bearer: None })
    }

    /// The same client with a token.
    ///
    /// # Errors
    /// [`ApiError::Setup`] when the token cannot stand in a header.
    pub fn with_token(mut self, token: &str) -> Result<Self, ApiError> {
        self.bearer = Some(bearer(token)?);
        Ok(self)
    }

    /// The server.
    #[must_use]
    pub fn server(&self) -> &Url {
        &self.server
    }

    /// GET, as JSON.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub async fn get(&self, path: &str) -> Result<Value, ApiError> {
        self.json(self.request(Method::GET, path)).await
    }

    /// POST JSON.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value, ApiError> {
        self.json(self.request(Method::POST, path).json(body)).await
    }

    /// POST JSON as another user than this client's: right after a sign-in.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub async fn post_with_token(&self, path: &str, body: &Value, token: &str) -> Result<Value, ApiError> {
        self.json(self.request(Method::POST, path).header(AUTHORIZATION, bearer(token)?).json(body)).await
    }

    /// A JSON merge patch (RFC 7396).
    ///
    /// # Errors
    /// See [`ApiError`].
    pub async fn patch(&self, path: &str, body: &Value) -> Result<Value, ApiError> {
        let request = self.request(Method::PATCH, path).body(body.to_string());
        self.json(request.header(CONTENT_TYPE, "application/merge-patch+json")).await
    }

    /// DELETE.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub async fn delete(&self, path: &str) -> Result<Value, ApiError> {
        self.json(self.request(Method::DELETE, path)).await
    }

    /// GET, as text.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub async fn text(&self, path: &str) -> Result<String, ApiError> {
        let response = self.send(self.request(Method::GET, path).header(ACCEPT, "*/*")).await?;
        String::from_utf8(self.body(response).await?).map_err(|_| self.answer())
    }

    /// The certificate that the server shows, verified by the handshake of this very request (DER).
    ///
    /// # Errors
    /// See [`ApiError`].
    pub async fn certificate(&self) -> Result<Vec<u8>, ApiError> {
        let response = self.send(self.request(Method::GET, "/ping")).await?;
        let info = response.extensions().get::<reqwest::tls::TlsInfo>();
        info.and_then(|info| info.peer_certificate()).map(<[u8]>::to_vec).ok_or_else(|| self.answer())
    }

    /// Asks for a WebSocket where agents connect, with a subprotocol that nobody speaks: the server refuses it and names
    /// those that it speaks. `None` when what came to the server was no upgrade any more.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub async fn offered_subprotocols(&self) -> Result<Option<String>, ApiError> {
        // Any sixteen bytes: no connection follows.
        const KEY: &str = "AAAAAAAAAAAAAAAAAAAAAA==";
        let mut url = self.server.clone();
        url.set_path("/v3/connect");
        let request = self.http.get(url).header(CONNECTION, "Upgrade").header(UPGRADE, "websocket");
        let request = request.header(SEC_WEBSOCKET_VERSION, "13").header(SEC_WEBSOCKET_KEY, KEY);
        let request = request.header(SEC_WEBSOCKET_PROTOCOL, "doctor");
        let response = request.send().await.map_err(|error| self.failure(&error))?;
        let spoken = response.headers().get(SEC_WEBSOCKET_PROTOCOL).and_then(|spoken| spoken.to_str().ok());
        Ok(spoken.map(clean))
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let mut url = self.server.clone();
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        url.set_path(path);
        url.set_query((!query.is_empty()).then_some(query));
        let request = self.http.request(method, url);
        match &self.bearer {
            Some(bearer) => request.header(AUTHORIZATION, bearer.clone()),
            None => request,
        }
    }

    async fn json(&self, request: RequestBuilder) -> Result<Value, ApiError> {
        let response = self.send(request.header(ACCEPT, "application/json")).await?;
        let body = self.body(response).await?;
        if body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&body).map_err(|_| self.answer())
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, ApiError> {
        let response = request.send().await.map_err(|error| self.failure(&error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = self.body(response).await.unwrap_or_default();
        Err(refusal(status, &body))
    }

    async fn body(&self, mut response: Response) -> Result<Vec<u8>, ApiError> {
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.failure(&error))? {
            if body.len() + chunk.len() > MAX_ANSWER {
                return Err(self.answer());
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    fn answer(&self) -> ApiError {
        ApiError::Answer { server: self.server.to_string() }
    }

    fn failure(&self, error: &reqwest::Error) -> ApiError {
        let server = self.server.origin().ascii_serialization();
        if let Some(reason) = certificate_error(error) {
            return ApiError::Certificate { server, reason };
        }
        if error.is_timeout() {
            return ApiError::Timeout { server };
        }
        let mut cause: &dyn std::error::Error = error;
        while let Some(source) = cause.source() {
            cause = source;
        }
        // reqwest's own text repeats the URL, and a URL can hold a registration token.
        ApiError::Unreachable { server, reason: clean(&cause.to_string()) }
    }
}

/// One segment of a path, escaped: a name can never lead to another path.
#[must_use]
pub fn segment(name: &str) -> String {
    let mut url = Url::parse("https://x/").expect("a constant URL");
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.clear().push(name);
    }
    let escaped = url.path().trim_start_matches('/');
    // `.` and `..` are not escaped by URL rules; no object has such a name.
    if escaped.is_empty() { "%20".to_owned() } else { escaped.to_owned() }
}

fn bearer(token: &str) -> Result<HeaderValue, ApiError> {
    let text = Zeroizing::new(format!("Bearer {token}"));
    let mut value = HeaderValue::from_str(&text).map_err(|_| ApiError::Setup)?;
    value.set_sensitive(true);
    Ok(value)
}

/// What TLS has against the certificate, if that is why. `source` of an I/O error skips what it wraps, so that is looked
/// into as well.
fn certificate_error(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    if let Some(tls) = error.downcast_ref::<rustls::Error>() {
        return Some(clean(&tls.to_string()));
    }
    let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    let inner = wrapped.map(|inner| inner as &(dyn std::error::Error + 'static)).or_else(|| error.source())?;
    certificate_error(inner)
}

fn refusal(status: StatusCode, body: &[u8]) -> ApiError {
    let parsed: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |field: &str| parsed[field].as_str().unwrap_or_default();
    let reason = if text("reason").is_empty() { text("code") } else { text("reason") };
    let message = match text("message") {
        "" if status.is_redirection() => "the server answers with a redirect: use the address that it has itself",
        "" => status.canonical_reason().unwrap_or("the server answered with an error"),
        message => message,
    };
    let message = clean(&message.chars().take(MAX_MESSAGE).collect::<String>());
    ApiError::Status { status: status.as_u16(), reason: clean(reason), message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_its_exit_code() {
        let exit = |status| ApiError::Status { status, reason: String::new(), message: String::new() }.exit();
        let table = [
            (400, Exit::Failure),
            (401, Exit::Denied),
            (403, Exit::Denied),
            (404, Exit::NotFound),
            (409, Exit::Failure),
            (422, Exit::Failure),
            (429, Exit::NotReady),
            (500, Exit::Failure),
            (502, Exit::NotReady),
            (503, Exit::NotReady),
            (504, Exit::NotReady),
        ];
        for (status, expected) in table {
            assert_eq!(exit(status), expected, "{status}");
        }
    }

    #[test]
    fn a_name_is_one_segment() {
        assert_eq!(segment("c-abcde"), "c-abcde");
        assert_eq!(segment("a/b?c#d"), "a%2Fb%3Fc%23d");
        assert_eq!(segment("ä b"), "%C3%A4%20b");
        for tricky in ["", ".", ".."] {
            assert!(!matches!(segment(tricky).as_str(), "" | "." | ".."), "{tricky:?}");
        }
    }

    #[test]
    fn what_a_server_says_is_cleaned_and_cut() {
        let body = serde_json::json!({ "message": format!("no\u{1b}[2J{}", "x".repeat(5000)), "reason": "Forbidden" });
        let ApiError::Status { message, reason, .. } = refusal(StatusCode::FORBIDDEN, body.to_string().as_bytes())
        else {
            panic!("a status");
        };
        assert!(message.starts_with("no\u{fffd}[2Jxxx") && message.chars().count() == MAX_MESSAGE);
        assert_eq!(reason, "Forbidden");
        let ApiError::Status { message, .. } = refusal(StatusCode::BAD_GATEWAY, b"<html>") else { panic!("a status") };
        assert_eq!(message, "Bad Gateway");
    }
}
