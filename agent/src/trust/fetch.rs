//! The one request that an agent makes before it trusts the server.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cattle_trust::Recorder;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Empty, LengthLimitError, Limited};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::trust::{CaChecksum, TrustError, provider, roots_from_pem};

/// Where the server shows its CA certificates.
pub(crate) const CACERTS_PATH: &str = "/v3/settings/cacerts";

/// Largest answer that is read: several bundles of the size that the protocol allows.
const ANSWER_LIMIT: usize = 256 * 1024;

/// Fetches the CA certificates over `io`, checks them against `checksum` and makes roots of them.
///
/// The request names a path and the host, nothing of the agent.
pub(crate) async fn fetch_ca_certificates<S>(
    io: S,
    authority: &str,
    checksum: CaChecksum,
    within: Duration,
) -> Result<RootCertStore, TrustError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let pem = tokio::time::timeout(within, get(io, authority)).await.map_err(|_| TrustError::Timeout)??;
    let found = CaChecksum::of(&pem);
    if found != checksum {
        return Err(TrustError::Checksum { expected: checksum, found });
    }
    roots_from_pem(&pem).map_err(TrustError::Pem)
}

/// The field of the setting that counts; the others are for its own API.
#[derive(Deserialize)]
struct Setting {
    #[serde(default)]
    value: String,
}

async fn get<S: AsyncRead + AsyncWrite + Unpin>(io: S, authority: &str) -> Result<String, TrustError> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(io)).await.map_err(TrustError::Request)?;
    let request = Request::get(CACERTS_PATH)
        .header(header::HOST, authority)
        .header(header::ACCEPT, "application/json")
        .body(Empty::<Bytes>::new())
        .map_err(|_| TrustError::Answer)?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(TrustError::Request)?;
        if response.status() != StatusCode::OK {
            return Err(TrustError::Status { status: response.status().as_u16() });
        }
        match Limited::new(response.into_body(), ANSWER_LIMIT).collect().await {
            Ok(body) => Ok(body.to_bytes()),
            Err(error) if error.is::<LengthLimitError>() => Err(TrustError::Answer),
            Err(error) => Err(error.downcast().map_or(TrustError::Answer, |error| TrustError::Request(*error))),
        }
    };
    let body = tokio::select! {
        body = exchange => body?,
        // The exchange sees the same end of the connection, with what was read before it.
        () = async { connection.await.ok(); std::future::pending().await } => return Err(TrustError::Answer),
    };
    let setting: Setting = serde_json::from_slice(&body).map_err(|_| TrustError::Answer)?;
    if setting.value.trim().is_empty() { Err(TrustError::NoCa) } else { Ok(setting.value) }
}

/// The TLS client for [`fetch_ca_certificates`], and only for it: any certificate is taken, since the checksum decides;
/// signatures are checked all the same.
pub(crate) fn first_contact() -> Result<ClientConfig, TrustError> {
    let provider = provider();
    let verifier = Arc::new(Recorder::first_contact(&provider));
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TrustError::Tls)?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // No ticket of an unverified session may serve a verified one; the two share no configuration either.
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}
