//! The WebSocket upgrade of an HTTP request (RFC 6455 §4.2), by hand: the HTTP stack answers, the tunnel's WebSocket takes
//! over.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use cattle_proto::version::{SUBPROTOCOLS, choose_subprotocol};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode, Version};
use http_body_util::Full;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::accept::PeerInfo;
use crate::gateway::Gateway;

/// Time for the connection to become ours after the 101.
const UPGRADE_TIME: Duration = Duration::from_secs(10);

/// Why a request is not upgraded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpgradeRefusal {
    /// Not `GET`.
    #[error("the method must be GET")]
    Method,
    /// Not HTTP/1.1.
    #[error("agents connect over HTTP/1.1")]
    HttpVersion,
    /// No WebSocket upgrade, or one without its key.
    #[error("this address is for agents: a WebSocket upgrade is required")]
    NoUpgrade,
    /// Another version of the WebSocket protocol.
    #[error("the WebSocket version must be 13")]
    WebSocketVersion,
    /// A browser: no page may use its user's network to play an agent.
    #[error("browsers may not connect")]
    Browser,
    /// No subprotocol that is spoken here.
    #[error("no subprotocol in common: this server speaks {}", SUBPROTOCOLS[0])]
    Subprotocol,
    /// Too many peers wait for their answers, or the server is stopping.
    #[error("the server is busy")]
    Busy,
}

impl UpgradeRefusal {
    /// The status that says so.
    #[must_use]
    pub const fn status(self) -> StatusCode {
        match self {
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::HttpVersion | Self::NoUpgrade | Self::Subprotocol => StatusCode::BAD_REQUEST,
            Self::WebSocketVersion => StatusCode::UPGRADE_REQUIRED,
            Self::Browser => StatusCode::FORBIDDEN,
            Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

impl Gateway {
    /// Answers a request for [`CONNECT_PATH`](cattle_proto::version::CONNECT_PATH) and, when it is an upgrade, runs the
    /// session in a task of the gateway. The server has to be serving the connection with upgrades.
    #[must_use]
    pub fn upgrade<B>(&self, mut request: Request<B>, peer: Option<SocketAddr>) -> Response<Full<Bytes>> {
        let accepted = match check(&request) {
            Ok(accepted) => accepted,
            Err(refusal) => return refuse(refusal),
        };
        let Some(place) = self.half_open() else {
            return refuse(UpgradeRefusal::Busy);
        };
        let upgrade = hyper::upgrade::on(&mut request);
        let gateway = self.clone();
        self.inner.tasks.spawn(async move {
            match tokio::time::timeout(UPGRADE_TIME, upgrade).await {
                Ok(Ok(io)) => gateway.accept_in(TokioIo::new(io), PeerInfo { address: peer }, Some(place)).await,
                Ok(Err(error)) => tracing::debug!(%error, "a connection was not upgraded"),
                Err(_) => tracing::debug!("a connection was not upgraded in time"),
            }
        });
        let mut response = Response::new(Full::default());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accepted.key);
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(accepted.subprotocol));
        response
    }
}

/// What the 101 says.
struct Accepted {
    key: HeaderValue,
    subprotocol: &'static str,
}

fn check<B>(request: &Request<B>) -> Result<Accepted, UpgradeRefusal> {
    let headers = request.headers();
    if headers.contains_key(header::ORIGIN) {
        return Err(UpgradeRefusal::Browser);
    }
    if request.method() != Method::GET {
        return Err(UpgradeRefusal::Method);
    }
    if request.version() != Version::HTTP_11 {
        return Err(UpgradeRefusal::HttpVersion);
    }
    if !lists(headers, header::CONNECTION, "upgrade") || !lists(headers, header::UPGRADE, "websocket") {
        return Err(UpgradeRefusal::NoUpgrade);
    }
    if headers.get(header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        return Err(UpgradeRefusal::WebSocketVersion);
    }
    let key = headers.get(header::SEC_WEBSOCKET_KEY).filter(|key| is_key(key)).ok_or(UpgradeRefusal::NoUpgrade)?;
    let offers = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|offer| offer.to_str().ok());
    let subprotocol = choose_subprotocol(offers).ok_or(UpgradeRefusal::Subprotocol)?;
    let key = HeaderValue::try_from(derive_accept_key(key.as_bytes())).map_err(|_| UpgradeRefusal::NoUpgrade)?;
    Ok(Accepted { key, subprotocol })
}

/// Whether a comma-separated header has `token`, in any case.
fn lists(headers: &HeaderMap, name: HeaderName, token: &str) -> bool {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|value| value.trim().eq_ignore_ascii_case(token))
}

/// Whether it is base64 of 16 bytes.
fn is_key(key: &HeaderValue) -> bool {
    let key = key.as_bytes();
    key.len() == 24 && key.ends_with(b"==") && key[..22].iter().all(|b| b.is_ascii_alphanumeric() || b"+/".contains(b))
}

fn refuse(refusal: UpgradeRefusal) -> Response<Full<Bytes>> {
    tracing::debug!(%refusal, "no upgrade");
    let mut response = Response::new(Full::from(format!("{refusal}\n")));
    *response.status_mut() = refusal.status();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    match refusal {
        UpgradeRefusal::Busy => {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
        }
        UpgradeRefusal::WebSocketVersion => {
            headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        }
        UpgradeRefusal::Method => {
            headers.insert(header::ALLOW, HeaderValue::from_static("GET"));
        }
        UpgradeRefusal::Subprotocol => {
            // An agent of another age learns that it is the version, not something in between.
            if let Ok(spoken) = HeaderValue::from_str(&SUBPROTOCOLS.join(", ")) {
                headers.insert(header::SEC_WEBSOCKET_PROTOCOL, spoken);
            }
        }
        UpgradeRefusal::HttpVersion | UpgradeRefusal::NoUpgrade | UpgradeRefusal::Browser => {}
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Request<()> {
        Request::builder()
            .version(Version::HTTP_11)
            .header("connection", "keep-alive, Upgrade")
            .header("upgrade", "WebSocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
            .header("sec-websocket-protocol", "cattle.v9, cattle.v1")
            .body(())
            .unwrap()
    }

    #[test]
    fn the_accept_key_is_the_one_of_the_rfc() {
        let accepted = check(&good()).ok().unwrap();
        assert_eq!(accepted.key, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(accepted.subprotocol, "cattle.v1");
    }

    #[test]
    fn every_refusal_has_its_status() {
        type Change = fn(&mut Request<()>);
        let cases: [(Change, UpgradeRefusal, u16); 10] = [
            (|r| *r.method_mut() = Method::POST, UpgradeRefusal::Method, 405),
            (|r| *r.version_mut() = Version::HTTP_2, UpgradeRefusal::HttpVersion, 400),
            (|r| drop(r.headers_mut().remove("connection")), UpgradeRefusal::NoUpgrade, 400),
            (|r| set(r, "upgrade", "h2c"), UpgradeRefusal::NoUpgrade, 400),
            (|r| set(r, "sec-websocket-key", "short"), UpgradeRefusal::NoUpgrade, 400),
            (|r| set(r, "sec-websocket-version", "8"), UpgradeRefusal::WebSocketVersion, 426),
            (|r| set(r, "origin", "https://example.com"), UpgradeRefusal::Browser, 403),
            (|r| set(r, "origin", "null"), UpgradeRefusal::Browser, 403),
            (|r| set(r, "sec-websocket-protocol", "chat"), UpgradeRefusal::Subprotocol, 400),
            (|r| drop(r.headers_mut().remove("sec-websocket-protocol")), UpgradeRefusal::Subprotocol, 400),
        ];
        for (change, refusal, status) in cases {
            let mut request = good();
            change(&mut request);
            assert_eq!(check(&request).err(), Some(refusal));
            assert_eq!(refuse(refusal).status(), status);
        }
        assert_eq!(refuse(UpgradeRefusal::Busy).headers()["retry-after"], "5");
        assert_eq!(refuse(UpgradeRefusal::Subprotocol).headers()["sec-websocket-protocol"], "cattle.v1");
    }

    fn set(request: &mut Request<()>, name: &'static str, value: &'static str) {
        request.headers_mut().insert(name, HeaderValue::from_static(value));
    }
}
