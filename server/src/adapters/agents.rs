//! Whether an agent is believed.

use std::sync::Arc;

use cattle_api::{
    Secret,
    management::{Cluster, cluster::RefusalReason},
};
use cattle_controllers::{
    Bearer, IssuerKeys, ServerCredential,
    registration::{Attempt, Registrations, TokenRefused, Trust},
};
use cattle_gateway::{
    AgentAuthority, AgentIdentity, Registration, RegistrationPermit,
    token::{self, Claims, Expected, KeySet, TokenError},
};
use cattle_proto::{
    handshake::{AgentKind, RejectCode},
    id::ClusterId,
};
use cattle_proxy::{ApiServer, Metrics, Upstream, UpstreamError};
use cattle_store::{Store, Typed};
use futures_util::future::BoxFuture;
use jiff::Timestamp;

use super::{
    dialer::{OneSession, time},
    downstream::client,
    rebinding::Rebinding,
};

/// Agents are believed for what their cluster's keys say.
pub struct Agents {
    clusters: Typed<Cluster>,
    registrations: Arc<Registrations>,
    rebinding: Arc<Rebinding>,
    server_id: String,
}

impl Agents {
    /// Agents of this server's clusters.
    #[must_use]
    pub fn new(
        store: Arc<dyn Store>,
        registrations: Arc<Registrations>,
        rebinding: Arc<Rebinding>,
        server_id: String,
    ) -> Self {
        Self { clusters: Typed::new(store), registrations, rebinding, server_id }
    }

    async fn verify(
        &self,
        cluster: &ClusterId,
        token: &cattle_proto::secret::Secret,
    ) -> Result<AgentIdentity, RejectCode> {
        let record = self.clusters.get(None, cluster.as_str()).await.map_err(|error| {
            tracing::warn!(%cluster, error = &error as &dyn std::error::Error, "the cluster's record cannot be read");
            RejectCode::Internal
        })?;
        let record = record.ok_or(RejectCode::ClusterDeleted)?;
        if self.rebinding.is_due(cluster, &record) {
            return Err(RejectCode::NotRegistered);
        }
        let deleting = record.metadata.deletion_timestamp.is_some();
        let identity = record.status.and_then(|status| status.identity).ok_or(if deleting {
            RejectCode::ClusterDeleted
        } else {
            RejectCode::NotRegistered
        })?;
        let keys = IssuerKeys { issuer: identity.issuer, jwks: identity.jwks };
        let claims = verify(cluster, &self.server_id, &keys, token)?;
        Ok(AgentIdentity {
            cluster: cluster.clone(),
            kind: claims.kind,
            pod: claims.pod,
            pod_uid: claims.pod_uid,
            node: claims.node,
            expires_at: claims.expires_at,
        })
    }

    async fn complete(&self, registration: Registration) -> Result<(), RejectCode> {
        let Registration { permit, claim, credential, agent_token, dialer } = registration;
        let trust = ApiServer {
            ca_pem: claim.ca_pem.as_str().to_owned(),
            ca_generation: 0,
            server_name: claim.server_name.as_str().to_owned(),
        };
        let dialer = Arc::new(OneSession(dialer));
        let upstream = Upstream::new(permit.cluster.clone(), trust, dialer, Metrics::default())
            .map_err(|_| RejectCode::ApiServerUntrusted)?;
        let expires_at = time(credential.expires_at).ok_or(RejectCode::Malformed)?;
        let token = Secret::from(credential.token.expose().to_owned());
        let credential = ServerCredential::new(token, Timestamp::now(), expires_at);
        let bearer = Bearer::fixed(ServerCredential::new(credential.token.clone(), credential.issued_at, expires_at));
        let attempt = Attempt {
            cluster: &permit.cluster,
            token_made_at: time(permit.token_made_at).ok_or(RejectCode::Malformed)?,
            claim: &claim,
            credential,
            agent_token: &Secret::from(agent_token.expose().to_owned()),
            client: client(upstream, bearer),
        };
        self.registrations.complete(attempt).await.map(drop).map_err(|error| code(error.reason))
    }
}

impl AgentAuthority for Agents {
    fn authenticate<'a>(
        &'a self,
        cluster: &'a ClusterId,
        token: &'a cattle_proto::secret::Secret,
    ) -> BoxFuture<'a, Result<AgentIdentity, RejectCode>> {
        Box::pin(self.verify(cluster, token))
    }

    fn begin_registration<'a>(
        &'a self,
        cluster: &'a ClusterId,
        registration_token: &'a cattle_proto::secret::Secret,
    ) -> BoxFuture<'a, Result<RegistrationPermit, RejectCode>> {
        Box::pin(async move {
            let presented = Secret::from(registration_token.expose().to_owned());
            match self.registrations.check(cluster, &presented).await {
                Ok(made_at) => Ok(RegistrationPermit {
                    cluster: cluster.clone(),
                    token_made_at: u64::try_from(made_at.as_second()).unwrap_or_default(),
                }),
                Err(TokenRefused::Deleted) => Err(RejectCode::ClusterDeleted),
                Err(TokenRefused::Expired) => Err(RejectCode::RegistrationTokenExpired),
                Err(TokenRefused::Store(error)) => {
                    tracing::warn!(%cluster, error = &error as &dyn std::error::Error, "a registration token cannot be checked");
                    Err(RejectCode::Internal)
                }
                // Strangers are not told which clusters exist.
                Err(_) => Err(RejectCode::RegistrationTokenUnknown),
            }
        })
    }

    fn complete_registration(&self, registration: Registration) -> BoxFuture<'_, Result<(), RejectCode>> {
        Box::pin(self.complete(registration))
    }
}

/// What registrations need to know of tokens and of the way into a session.
pub struct AgentTrust {
    /// The server's install id.
    pub server_id: String,
}

impl Trust for AgentTrust {
    fn is_agent_of(&self, cluster: &ClusterId, keys: &IssuerKeys, token: &Secret) -> bool {
        let token = cattle_proto::secret::Secret::new(token.expose_str().unwrap_or_default().to_owned());
        let claims = verify(cluster, &self.server_id, keys, &token);
        claims.is_ok_and(|claims| claims.kind == AgentKind::ClusterAgent)
    }

    fn hop(&self, error: &kube::Error) -> RefusalReason {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
        while let Some(error) = cause {
            if matches!(error.downcast_ref(), Some(UpstreamError::Certificate(_))) {
                return RefusalReason::CertificateInvalid;
            }
            cause = error.source();
        }
        RefusalReason::ApiServerUnreachable
    }
}

fn verify(
    cluster: &ClusterId,
    server_id: &str,
    keys: &IssuerKeys,
    token: &cattle_proto::secret::Secret,
) -> Result<Claims, RejectCode> {
    let set = KeySet::parse(&keys.jwks).map_err(|_| RejectCode::UnknownSigningKey)?;
    let audience = token::audience(cluster.as_str(), server_id);
    let expected = Expected {
        issuer: &keys.issuer,
        audience: &audience,
        now: u64::try_from(Timestamp::now().as_second()).unwrap_or_default(),
    };
    token::verify(token, &set, &expected).map_err(|error: TokenError| {
        tracing::debug!(%cluster, %error, "an agent's token does not verify");
        RejectCode::from(error)
    })
}

fn code(reason: RefusalReason) -> RejectCode {
    match reason {
        RefusalReason::IdentityMismatch | RefusalReason::CertificateAuthorityChanged => RejectCode::IdentityMismatch,
        RefusalReason::RegistrationTokenSpent => RejectCode::RegistrationTokenSpent,
        RefusalReason::ClaimMismatch => RejectCode::ClaimMismatch,
        RefusalReason::ApiServerUnreachable => RejectCode::ApiServerUnreachable,
        RefusalReason::CertificateInvalid => RejectCode::ApiServerUntrusted,
        RefusalReason::CredentialRefused => RejectCode::CredentialRefused,
        RefusalReason::IssuerUnusable => RejectCode::UnknownSigningKey,
        RefusalReason::AgentTokenInvalid => RejectCode::Unauthenticated,
        // A reason that a newer server wrote is none that this one gives.
        RefusalReason::Internal | RefusalReason::Unknown | _ => RejectCode::Internal,
    }
}

#[cfg(test)]
mod tests;
