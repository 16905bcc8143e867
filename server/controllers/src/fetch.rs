//! A GET downstream whose answer has a limit.
//!
//! kube reads whole bodies. These answers may come from an API server that only its own claim vouches for yet.

use http_body_util::{BodyExt, Limited};
use kube::client::Body;

/// The largest answer that is read.
const MAX_BYTES: usize = 1024 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    /// The request failed on its way.
    #[error("the cluster's API server cannot be reached")]
    Unreachable(#[source] Box<kube::Error>),
    /// The API server refused.
    #[error("the cluster's API server answered {0}")]
    Status(u16),
    /// The answer is too large or broke off.
    #[error("the answer of the cluster's API server is too large or incomplete")]
    Body,
    /// The answer is not what it should be.
    #[error("the answer of the cluster's API server cannot be read")]
    Malformed,
}

/// The body of a GET. The caller has the deadline. Cancel-safe.
pub(crate) async fn get(client: &kube::Client, path: &'static str) -> Result<Vec<u8>, FetchError> {
    // No `Accept`: the key set has a media type of its own, and to name another one is answered with 406.
    let request = http::Request::get(path).body(Body::empty());
    let request = request.map_err(|_| FetchError::Malformed)?;
    let answer = client.send(request).await.map_err(|error| FetchError::Unreachable(Box::new(error)))?;
    if !answer.status().is_success() {
        return Err(FetchError::Status(answer.status().as_u16()));
    }
    let body = Limited::new(answer.into_body(), MAX_BYTES).collect().await.map_err(|_| FetchError::Body)?;
    Ok(body.to_bytes().to_vec())
}

/// The JSON of a GET.
pub(crate) async fn json<T: serde::de::DeserializeOwned>(
    client: &kube::Client,
    path: &'static str,
) -> Result<T, FetchError> {
    serde_json::from_slice(&get(client, path).await?).map_err(|_| FetchError::Malformed)
}
