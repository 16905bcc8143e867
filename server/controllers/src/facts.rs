//! What a cluster's API server says of itself: token issuer, signing keys, version. Read over CA-verified TLS only.

use std::time::Duration;

use cattle_api::management::Cluster;
use cattle_api::management::cluster::KubernetesVersion;
use cattle_proto::id::ClusterId;
use cattle_store::{StoreError, Typed};
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::fetch::{self, FetchError};

/// Agents renew their tokens at four fifths of an hour, and the last proof stands until then: a new key is known in that time.
const REFRESH: Duration = Duration::from_secs(5 * 60);
const RETRY: Duration = Duration::from_secs(30);
const DEADLINE: Duration = Duration::from_secs(20);

/// Who signs a cluster's service-account tokens, and with which keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuerKeys {
    /// The issuer, as tokens name it.
    pub issuer: String,
    /// A JSON Web Key Set (RFC 7517), as text. It parses as JSON and holds at least one key.
    pub jwks: String,
}

/// Reads issuer and keys. The document's own `jwks_uri` is not followed: it may point anywhere.
pub(crate) async fn issuer_keys(client: &kube::Client) -> Result<IssuerKeys, FetchError> {
    #[derive(Deserialize)]
    struct Discovery {
        issuer: String,
    }
    #[derive(Deserialize)]
    struct Keys {
        keys: Vec<serde_json::Value>,
    }
    let discovery: Discovery = fetch::json(client, "/.well-known/openid-configuration").await?;
    let text = String::from_utf8(fetch::get(client, "/openid/v1/jwks").await?).map_err(|_| FetchError::Malformed)?;
    let keys: Keys = serde_json::from_str(&text).map_err(|_| FetchError::Malformed)?;
    if discovery.issuer.is_empty() || keys.keys.is_empty() {
        return Err(FetchError::Malformed);
    }
    Ok(IssuerKeys { issuer: discovery.issuer, jwks: text })
}

/// Reads the version.
pub(crate) async fn version(client: &kube::Client) -> Result<KubernetesVersion, FetchError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Version {
        git_version: String,
        platform: Option<String>,
    }
    let Version { git_version, platform } = fetch::json(client, "/version").await?;
    Ok(KubernetesVersion { git_version: cut(git_version), platform: platform.map(cut) })
}

/// What comes from a cluster and is shown to people has a limit.
fn cut(text: String) -> String {
    text.chars().filter(|c| !c.is_control()).take(128).collect()
}

/// The distribution, as far as the version tells it.
pub(crate) fn provider(version: &KubernetesVersion) -> Option<String> {
    ["k3s", "rke2"].into_iter().find(|name| version.git_version.contains(&format!("+{name}"))).map(str::to_owned)
}

/// The task of one unit: keeps the record's keys and version as the cluster has them. Cancel-safe.
pub(crate) async fn keep(context: &Context, cluster: &ClusterId, client: &kube::Client, stop: &CancellationToken) {
    loop {
        let pause = match tokio::time::timeout(DEADLINE, refresh(context, cluster, client)).await {
            Ok(Ok(())) => REFRESH,
            Ok(Err(error)) => {
                tracing::debug!(
                    error = &error as &dyn std::error::Error,
                    "cannot refresh what the cluster says of itself"
                );
                RETRY
            }
            Err(_) => RETRY,
        };
        tokio::select! { () = stop.cancelled() => return, () = tokio::time::sleep(pause) => {} }
    }
}

#[derive(Debug, thiserror::Error)]
enum RefreshError {
    #[error("the cluster did not answer")]
    Fetch(#[from] FetchError),
    #[error("the record cannot be changed")]
    Store(#[from] StoreError),
}

async fn refresh(context: &Context, cluster: &ClusterId, client: &kube::Client) -> Result<(), RefreshError> {
    let (keys, version) = futures_util::try_join!(issuer_keys(client), version(client))?;
    let clusters = Typed::<Cluster>::new(context.store.clone());
    // The store writes nothing when nothing changes.
    let record = |record: &mut Cluster| {
        let Some(status) = &mut record.status else { return };
        let Some(identity) = &mut status.identity else { return };
        identity.issuer.clone_from(&keys.issuer);
        identity.jwks.clone_from(&keys.jwks);
        status.provider = provider(&version);
        status.version = Some(version.clone());
    };
    clusters.modify(None, cluster.as_str(), record).await?;
    Ok(())
}
