//! The server's own credential for a cluster: a token for ServiceAccount `cattle-system/cattle`.
//!
//! At most 24 hours long, renewed at half-life by the server itself, sealed beside the Cluster object. The first one, and one
//! after the cluster was away for longer than it lives, comes from the cluster agent. [`plan`] decides what is next.

use std::time::Duration;

use cattle_api::Secret;
use cattle_api::sealed::SERVER_CREDENTIAL;
use cattle_manifest::names;
use cattle_proto::id::ClusterId;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::PostParams;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::clusters::{AskError, Bearer};
use crate::context::Context;
use cattle_api::management::Cluster;
use cattle_store::{StoreError, Typed};

/// The life that the server asks for, in seconds, and the longest that it uses whatever the API server grants.
pub const LIFE_SECONDS: i64 = 24 * 60 * 60;
/// A token that ends sooner than this is not used any more.
const MARGIN: SignedDuration = SignedDuration::from_secs(60);
/// After a failed renewal.
const RETRY: Duration = Duration::from_secs(30);
/// After a failed question to the agent: users are waiting.
const ASK_AGAIN: Duration = Duration::from_secs(5);

/// A token of the server's account, and its life.
#[derive(Clone)]
pub struct ServerCredential {
    /// The token.
    pub token: Secret,
    /// When it was made, or when the server got it.
    pub issued_at: Timestamp,
    /// When it ends.
    pub expires_at: Timestamp,
}

impl ServerCredential {
    /// A token with its life. One that lives longer than [`LIFE_SECONDS`] is treated as if it did not.
    #[must_use]
    pub fn new(token: Secret, issued_at: Timestamp, expires_at: Timestamp) -> Self {
        let longest = issued_at.checked_add(SignedDuration::from_secs(LIFE_SECONDS)).unwrap_or(expires_at);
        Self { token, issued_at, expires_at: expires_at.min(longest) }
    }

    /// As it is sealed beside the Cluster object, in field [`SERVER_CREDENTIAL`].
    #[must_use]
    pub fn seal(&self) -> Secret {
        let token = self.token.expose_str().unwrap_or_default().to_owned();
        let sealed = Sealed { token, issued_at: self.issued_at, expires_at: self.expires_at };
        Secret::new(serde_json::to_vec(&sealed).unwrap_or_default())
    }

    /// Reads what [`seal`](Self::seal) wrote; `None` for anything else.
    #[must_use]
    pub fn unseal(sealed: &Secret) -> Option<Self> {
        let Sealed { token, issued_at, expires_at } = serde_json::from_slice(sealed.expose()).ok()?;
        Some(Self::new(Secret::from(token), issued_at, expires_at))
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sealed {
    token: String,
    issued_at: Timestamp,
    expires_at: Timestamp,
}

/// What is next for a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    /// Nothing until then.
    Wait(Timestamp),
    /// It is past half of its life: request the next one with it.
    Renew,
    /// There is none, or it has ended: only an agent can help.
    Ask,
}

/// Decides what is next, from the life of the credential (issued, expires).
#[must_use]
pub fn plan(life: Option<(Timestamp, Timestamp)>, now: Timestamp) -> Plan {
    let Some((issued, expires)) = life else { return Plan::Ask };
    if now.checked_add(MARGIN).map_or(true, |soon| soon >= expires) {
        return Plan::Ask;
    }
    let half = issued.checked_add(expires.duration_since(issued) / 2).unwrap_or(now);
    if now >= half { Plan::Renew } else { Plan::Wait(half) }
}

/// Why there is no new credential.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// The API server refused or could not be reached.
    #[error("the cluster's API server made no token for the server's account")]
    Request(#[source] kube::Error),
    /// The API server answered without a token.
    #[error("the API server's answer has no token")]
    Empty,
    /// The agent did not give one.
    #[error("the agent gave no credential")]
    Agent(#[source] AskError),
    /// It could not be stored. It is used all the same until the process ends.
    #[error("the new credential cannot be stored")]
    Store(#[source] StoreError),
}

/// Requests the next token with the present one.
///
/// # Errors
/// [`CredentialError::Request`], [`CredentialError::Empty`].
pub async fn renew(client: &kube::Client, now: Timestamp) -> Result<ServerCredential, CredentialError> {
    let accounts: kube::Api<ServiceAccount> = kube::Api::namespaced(client.clone(), names::NAMESPACE);
    let request = TokenRequest {
        spec: Some(TokenRequestSpec { expiration_seconds: Some(LIFE_SECONDS), ..TokenRequestSpec::default() }),
        ..TokenRequest::default()
    };
    let answer = accounts.create_token_request(names::SERVER_ACCOUNT, &PostParams::default(), &request).await;
    let status = answer.map_err(CredentialError::Request)?.status.ok_or(CredentialError::Empty)?;
    let token = status.token.filter(|token| !token.is_empty()).ok_or(CredentialError::Empty)?;
    let expires_at = status.expiration_timestamp.ok_or(CredentialError::Empty)?.0;
    Ok(ServerCredential::new(Secret::from(token), now, expires_at))
}

/// The task of one unit: keeps `bearer` valid while the cluster is connected. Cancel-safe.
pub(crate) async fn keep(context: &Context, cluster: &ClusterId, bearer: &Bearer, stop: &CancellationToken) {
    loop {
        let now = Timestamp::now();
        let pause = match plan(bearer.lifetime(), now) {
            Plan::Wait(until) => Duration::try_from(until.duration_since(now)).unwrap_or(RETRY),
            step @ (Plan::Renew | Plan::Ask) => match obtain(context, cluster, bearer, step).await {
                Ok(()) => Duration::ZERO,
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "no new credential for the cluster");
                    if step == Plan::Ask { ASK_AGAIN } else { RETRY }
                }
            },
        };
        tokio::select! {
            () = stop.cancelled() => return,
            // The API server does not take it any more: its account was made anew, or its key is gone.
            () = bearer.lost(), if bearer.lifetime().is_some() => {}
            // Wall clock and timers may drift apart: look again at least every hour.
            () = tokio::time::sleep(pause.min(Duration::from_secs(3600))) => {}
        }
    }
}

async fn obtain(context: &Context, cluster: &ClusterId, bearer: &Bearer, step: Plan) -> Result<(), CredentialError> {
    let credential = match (step, context.clusters.client(cluster, bearer)) {
        (Plan::Renew, Some(client)) => renew(&client, Timestamp::now()).await?,
        _ => context.clusters.request_credential(cluster).await.map_err(CredentialError::Agent)?,
    };
    let sealed = credential.seal();
    bearer.replace(Some(credential));
    let clusters = Typed::<Cluster>::new(context.store.clone());
    let stored = clusters.seal(None, cluster.as_str(), SERVER_CREDENTIAL, Some(sealed)).await;
    stored.map_err(CredentialError::Store)?;
    tracing::info!(how = ?step, "new credential for the cluster");
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use cattle_api::management::ClusterSpec;
    use cattle_proto::id::NodeName;
    use tokio::sync::watch;

    use super::*;
    use crate::clusters::{BoxFuture, Clusters, Link, ProbeError};
    use crate::nodes::HostBook;

    /// A connected agent that has a token for whoever asks.
    struct Agent;

    impl Clusters for Agent {
        fn client(&self, _: &ClusterId, _: &Bearer) -> Option<kube::Client> {
            None
        }

        fn probe<'a>(&'a self, _: &'a ClusterId, _: &'a Bearer) -> BoxFuture<'a, Result<(), ProbeError>> {
            Box::pin(async { Ok(()) })
        }

        fn link(&self, _: &ClusterId) -> Link {
            Link { connected: true, ..Link::default() }
        }

        fn changes(&self) -> watch::Receiver<u64> {
            watch::Sender::new(0).subscribe()
        }

        fn control_plane_nodes(&self, _: &ClusterId, _: BTreeSet<String>) {}

        fn place_agent(&self, _: &ClusterId, _: &str, _: &NodeName) {}

        fn request_credential<'a>(&'a self, _: &'a ClusterId) -> BoxFuture<'a, Result<ServerCredential, AskError>> {
            let now = Timestamp::now();
            let ends = now.checked_add(SignedDuration::from_hours(1)).unwrap();
            Box::pin(async move { Ok(ServerCredential::new(Secret::from("fresh".to_owned()), now, ends)) })
        }
    }

    #[tokio::test]
    async fn a_token_that_is_refused_is_replaced_and_sealed() {
        let context = Context {
            store: cattle_store::testing::memory(),
            clusters: Arc::new(Agent),
            hosts: HostBook::default(),
            audit: Arc::new(cattle_audit::MemorySink::default()),
        };
        let clusters = Typed::<Cluster>::new(Arc::clone(&context.store));
        let spec = ClusterSpec { display_name: "prod".into(), ..ClusterSpec::default() };
        clusters.create(&Cluster::new("c-abcde", spec), vec![]).await.unwrap();
        let now = Timestamp::now();
        let ends = now.checked_add(SignedDuration::from_hours(1)).unwrap();
        let bearer = Bearer::fixed(ServerCredential::new(Secret::from("stale".to_owned()), now, ends));
        let (stop, cluster) = (CancellationToken::new(), "c-abcde".parse().unwrap());
        let refuse = async {
            tokio::task::yield_now().await;
            bearer.replace(None);
            bearer.held().await;
            let sealed = async || clusters.unseal(None, "c-abcde", SERVER_CREDENTIAL).await.unwrap();
            while sealed().await.is_none() {
                tokio::task::yield_now().await;
            }
            stop.cancel();
            ServerCredential::unseal(&sealed().await.unwrap()).unwrap()
        };
        let both = async { tokio::join!(keep(&context, &cluster, &bearer, &stop), refuse).1 };
        let stored = tokio::time::timeout(Duration::from_secs(30), both).await.unwrap();
        assert_eq!(stored.token.expose(), b"fresh");
        assert_eq!(bearer.authorization().unwrap(), "Bearer fresh");
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn renewed_at_half_life_asked_for_when_it_has_ended() {
        let life = Some((at(1000), at(1000 + 3600)));
        assert_eq!(plan(None, at(0)), Plan::Ask);
        assert_eq!(plan(life, at(1000)), Plan::Wait(at(2800)));
        assert_eq!(plan(life, at(2799)), Plan::Wait(at(2800)));
        assert_eq!(plan(life, at(2800)), Plan::Renew);
        assert_eq!(plan(life, at(4539)), Plan::Renew);
        assert_eq!(plan(life, at(4540)), Plan::Ask);
        // A clock that was set back must not make a long wait.
        assert_eq!(plan(life, at(0)), Plan::Wait(at(2800)));
    }

    #[test]
    fn never_longer_than_a_day_and_the_same_after_sealing() {
        let credential = ServerCredential::new(Secret::from("t".to_owned()), at(0), at(10 * LIFE_SECONDS));
        assert_eq!(credential.expires_at, at(LIFE_SECONDS));
        let again = ServerCredential::unseal(&credential.seal()).unwrap();
        assert_eq!(again.token.expose(), b"t");
        assert_eq!((again.issued_at, again.expires_at), (at(0), at(LIFE_SECONDS)));
        assert!(ServerCredential::unseal(&Secret::from("{}".to_owned())).is_none());
    }
}
