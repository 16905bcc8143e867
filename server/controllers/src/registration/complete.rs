//! An attempt to register, from the first request downstream to the record.

use std::sync::Arc;
use std::time::Duration;

use cattle_api::management::cluster::{CLEANUP_FINALIZER, Refusal, RefusalReason, Registration};
use cattle_api::management::{Cluster, ClusterIdentity};
use cattle_api::sealed::SERVER_CREDENTIAL;
use cattle_api::{Secret, resource};
use cattle_audit::AuditSink;
use cattle_proto::handshake::ClusterClaim;
use cattle_proto::id::ClusterId;
use cattle_store::{Store, StoreError, Typed, Write};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::decide::{CaFingerprint, Claim, Decision, Token, decide};
use super::token::{self, TokenMatch, TokenRefused};
use crate::credential::ServerCredential;
use crate::deed::Deed;
use crate::facts::{self, IssuerKeys};
use crate::fetch::{self, FetchError};

/// Everything downstream together: four requests.
const DEADLINE: Duration = Duration::from_secs(30);
/// Attempts to write the record when others write it as well.
const WRITES: usize = 8;

/// What the server knows of tokens and of the way into a session, without this crate knowing gateway or proxy.
pub trait Trust: Send + Sync + 'static {
    /// Whether `token` is the projected token of an agent of `cluster`, signed with these keys: issuer, audience, life and
    /// subject, as at every later connection.
    fn is_agent_of(&self, cluster: &ClusterId, keys: &IssuerKeys, token: &Secret) -> bool;

    /// Which hop failed: [`RefusalReason::ApiServerUnreachable`] or [`RefusalReason::CertificateInvalid`].
    fn hop(&self, error: &kube::Error) -> RefusalReason;
}

/// One attempt.
pub struct Attempt<'a> {
    /// The record.
    pub cluster: &'a ClusterId,
    /// When the registration token was made.
    pub token_made_at: Timestamp,
    /// What the agent says.
    pub claim: &'a ClusterClaim,
    /// The token of the server's account that the agent requested.
    pub credential: ServerCredential,
    /// The agent's own projected token.
    pub agent_token: &'a Secret,
    /// A client over this very session, which verifies TLS against the claimed CA and name and sends the credential.
    pub client: kube::Client,
}

/// How the attempt ended well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// The record was bound.
    Now,
    /// It was bound to this cluster already, and nothing of it is new: another replica, or a retry.
    Again,
    /// It was bound to this cluster already; a fresh token replaced its keys, its name and the server's credential.
    Renewed,
    /// It has a new CA now.
    NewCa,
}

/// Why the attempt was refused. The reason is a code for the agent and the record; the message is for people.
#[derive(Debug, thiserror::Error)]
#[error("registration refused: {message}")]
pub struct RegistrationError {
    /// Why.
    pub reason: RefusalReason,
    /// The same with the next step.
    pub message: String,
}

impl RegistrationError {
    fn new(reason: RefusalReason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}

/// Registration tokens and attempts to register.
pub struct Registrations {
    store: Arc<dyn Store>,
    trust: Arc<dyn Trust>,
    matches: TokenMatch,
    audit: Arc<dyn AuditSink>,
}

impl Registrations {
    /// Registrations into this store, each in the audit log before it happens. `matches` compares tokens with what is sealed of
    /// them.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, trust: Arc<dyn Trust>, matches: TokenMatch, audit: Arc<dyn AuditSink>) -> Self {
        Self { store, trust, matches, audit }
    }

    /// Whether the token may register the cluster now, and when it was made. For the manifest and for agents' handshakes.
    /// Cancel-safe.
    ///
    /// # Errors
    /// See [`TokenRefused`]. To strangers all of them are one answer.
    pub async fn check(&self, cluster: &ClusterId, presented: &Secret) -> Result<Timestamp, TokenRefused> {
        token::check(&self.store, cluster, presented, self.matches, Timestamp::now()).await
    }

    /// Verifies an attempt and binds the record. The token was checked when the session began.
    ///
    /// Not cancel-safe at its end: dropped, it may or may not have bound the record; the agent's next attempt finds out.
    ///
    /// # Errors
    /// [`RegistrationError`]; it stands in the record's status as well, unless the same one does already.
    pub async fn complete(&self, attempt: Attempt<'_>) -> Result<Bound, RegistrationError> {
        let cluster = attempt.cluster;
        let result = match tokio::time::timeout(DEADLINE, self.verify(&attempt)).await {
            Ok(Ok((keys, ca))) => self.bind(&attempt, &keys, &ca).await,
            Ok(Err(error)) => Err(error),
            Err(_) => Err(unreachable("the API server did not answer in time")),
        };
        match &result {
            Ok(how) => tracing::info!(%cluster, ?how, "cluster registered"),
            Err(error) => {
                tracing::warn!(%cluster, reason = ?error.reason, message = error.message, "registration refused");
                match self.record(cluster, error).await {
                    Ok(true) => self.audit.note(&Deed::Refuse(error.reason).done(cluster)),
                    Ok(false) => {}
                    Err(failure) => {
                        tracing::warn!(%cluster, error = &failure as &dyn std::error::Error, "the refusal cannot be recorded");
                    }
                }
            }
        }
        result
    }

    async fn verify(&self, attempt: &Attempt<'_>) -> Result<(IssuerKeys, CaFingerprint), RegistrationError> {
        let invalid =
            || RegistrationError::new(RefusalReason::CertificateInvalid, "the claimed CA is not readable PEM");
        let ca = CaFingerprint::of(attempt.claim.ca_pem.as_str()).ok_or_else(invalid)?;
        let namespace: Namespace = fetch::json(&attempt.client, "/api/v1/namespaces/kube-system")
            .await
            .map_err(|error| self.refusal(&error))?;
        if namespace.metadata.uid.as_deref() != Some(attempt.claim.kube_system_uid.as_str()) {
            let message = "the API server names another UID of namespace kube-system than the agent claims";
            return Err(RegistrationError::new(RefusalReason::ClaimMismatch, message));
        }
        let keys = facts::issuer_keys(&attempt.client).await.map_err(|error| match self.refusal(&error) {
            RegistrationError { reason: RefusalReason::Internal, message } => {
                RegistrationError::new(RefusalReason::IssuerUnusable, message)
            }
            other => other,
        })?;
        if !self.trust.is_agent_of(attempt.cluster, &keys, attempt.agent_token) {
            let message = "the agent's own token does not verify with the keys of its cluster's API server";
            return Err(RegistrationError::new(RefusalReason::AgentTokenInvalid, message));
        }
        Ok((keys, ca))
    }

    fn refusal(&self, error: &FetchError) -> RegistrationError {
        match error {
            FetchError::Unreachable(source) if self.trust.hop(source) == RefusalReason::CertificateInvalid => {
                let message = "the API server's certificate does not fit the CA and the name that the agent claims";
                RegistrationError::new(RefusalReason::CertificateInvalid, message)
            }
            FetchError::Unreachable(_) => unreachable("the API server cannot be reached through the agent"),
            FetchError::Status(code @ (401 | 403)) => RegistrationError::new(
                RefusalReason::CredentialRefused,
                format!("the API server answered {code} to the server's account; apply the whole import manifest"),
            ),
            FetchError::Status(_) | FetchError::Body | FetchError::Malformed => {
                RegistrationError::new(RefusalReason::Internal, error.to_string())
            }
        }
    }

    async fn bind(
        &self,
        attempt: &Attempt<'_>,
        keys: &IssuerKeys,
        ca: &CaFingerprint,
    ) -> Result<Bound, RegistrationError> {
        // Whether and how is decided first: what is refused is no change. No change without its line.
        let shown = Shown { claim: attempt.claim, keys, ca };
        let mut record = self.live(attempt.cluster).await?;
        let before = record.clone();
        let how = enter(&mut record, &shown, attempt.token_made_at, Timestamp::now())?;
        if record == before {
            return Ok(how);
        }
        let event = Deed::Register(how).event(attempt.cluster);
        let recorded = self.audit.record(&event).await;
        recorded.map_err(|error| RegistrationError::new(RefusalReason::Internal, error.sentence()))?;
        let written = self.write(attempt, &shown).await;
        self.audit.note(&match &written {
            Ok(_) => event.completed(200),
            Err(error) => event.completed_because(500, format!("{:?}", error.reason)),
        });
        written
    }

    /// The record, if it is there to stay.
    async fn live(&self, cluster: &ClusterId) -> Result<Cluster, RegistrationError> {
        let clusters = Typed::<Cluster>::new(Arc::clone(&self.store));
        let record = clusters.get(None, cluster.as_str()).await.map_err(|error| internal(&error))?;
        let gone = || RegistrationError::new(RefusalReason::Internal, "the cluster was deleted");
        record.filter(|record| record.metadata.deletion_timestamp.is_none()).ok_or_else(gone)
    }

    async fn write(&self, attempt: &Attempt<'_>, shown: &Shown<'_>) -> Result<Bound, RegistrationError> {
        for _ in 0..WRITES {
            let mut record = self.live(attempt.cluster).await?;
            let before = record.clone();
            let how = enter(&mut record, shown, attempt.token_made_at, Timestamp::now())?;
            if record == before {
                return Ok(how);
            }
            let object = resource::encode(&record).map_err(|error| internal(&error))?;
            // Whoever only repeats itself replaces nothing, the credential included.
            let credential = (how != Bound::Again).then(|| (SERVER_CREDENTIAL.to_owned(), attempt.credential.seal()));
            let sealed = credential.into_iter().collect();
            match self.store.commit(Write::Update { object, sealed }.into()).await {
                Ok(_) => return Ok(how),
                Err(StoreError::Conflict(_)) => {}
                Err(error) => return Err(internal(&error)),
            }
        }
        Err(RegistrationError::new(
            RefusalReason::Internal,
            "the record is being changed by others; the agent tries again",
        ))
    }

    /// Writes only what is new, and says whether it was: agents try for ever, and must not write for ever.
    async fn record(&self, cluster: &ClusterId, error: &RegistrationError) -> Result<bool, StoreError> {
        if error.reason == RefusalReason::Internal {
            return Ok(false);
        }
        let clusters = Typed::<Cluster>::new(Arc::clone(&self.store));
        let (now, mut new) = (Timestamp::now(), false);
        clusters.modify(None, cluster.as_str(), |record| new = note(record, error, now)).await?;
        Ok(new)
    }
}

/// What an attempt has shown: the claim, verified, and what the API server itself said.
struct Shown<'a> {
    claim: &'a ClusterClaim,
    keys: &'a IssuerKeys,
    ca: &'a CaFingerprint,
}

impl Shown<'_> {
    /// The identity as it is recorded, with the CA as text and generation of the caller's choice.
    fn identity(&self, ca_cert: String, ca_generation: i64) -> ClusterIdentity {
        ClusterIdentity {
            kube_system_uid: self.claim.kube_system_uid.as_str().to_owned(),
            ca_cert,
            ca_generation,
            api_server_name: self.claim.server_name.as_str().to_owned(),
            issuer: self.keys.issuer.clone(),
            jwks: self.keys.jwks.clone(),
        }
    }
}

/// Changes the record as [`decide`] says.
fn enter(
    record: &mut Cluster,
    shown: &Shown<'_>,
    token_made_at: Timestamp,
    now: Timestamp,
) -> Result<Bound, RegistrationError> {
    let status = record.status.get_or_insert_default();
    let registration = status.registration.get_or_insert_default();
    let bound_at = registration.bound_at.as_ref().or(registration.registered_at.as_ref());
    let token = Token::of(token_made_at, bound_at.map(|at| at.0));
    let claim = Claim {
        uid: shown.claim.kube_system_uid.as_str(),
        ca: shown.ca,
        server_name: shown.claim.server_name.as_str(),
        keys: shown.keys,
    };
    let how = match decide(status.identity.as_ref(), record.spec.rebind.as_ref(), token, &claim) {
        Decision::Bind => Bound::Now,
        Decision::Repeat => Bound::Again,
        Decision::Refresh => Bound::Renewed,
        Decision::Rebind => Bound::NewCa,
        Decision::Refuse(reason, message) => return Err(RegistrationError { reason, message }),
    };
    registration.last_refusal = None;
    if how == Bound::Again {
        return Ok(how);
    }
    registration.registered_at.get_or_insert(Time(now));
    registration.bound_at = Some(Time(now));
    let before = status.identity.take();
    // Never a generation that any record of this name had before: connections are pooled by it.
    let fresh = before.as_ref().map_or(0, |before| before.ca_generation + 1).max(now.as_millisecond());
    let kept = before.filter(|_| how == Bound::Renewed).map(|before| (before.ca_cert, before.ca_generation));
    let (ca_cert, ca_generation) = kept.unwrap_or_else(|| (shown.claim.ca_pem.as_str().to_owned(), fresh));
    status.identity = Some(shown.identity(ca_cert, ca_generation));
    status.driver.get_or_insert_with(|| "imported".to_owned());
    if how == Bound::NewCa {
        record.spec.rebind = None;
    }
    // From now on there is something downstream that a deletion must remove.
    let finalizers = record.metadata.finalizers.get_or_insert_default();
    if !finalizers.iter().any(|finalizer| finalizer == CLEANUP_FINALIZER) {
        finalizers.push(CLEANUP_FINALIZER.to_owned());
    }
    Ok(how)
}

fn note(record: &mut Cluster, error: &RegistrationError, now: Timestamp) -> bool {
    let status = record.status.get_or_insert_default();
    let registration: &mut Registration = status.registration.get_or_insert_default();
    let known = registration.last_refusal.as_ref().is_some_and(|refusal| refusal.reason == error.reason);
    if !known {
        let refusal = Refusal { reason: error.reason, message: error.message.clone(), at: Time(now) };
        registration.last_refusal = Some(refusal);
    }
    !known
}

fn unreachable(message: &str) -> RegistrationError {
    RegistrationError::new(RefusalReason::ApiServerUnreachable, message)
}

fn internal(error: &dyn std::error::Error) -> RegistrationError {
    RegistrationError::new(RefusalReason::Internal, error.to_string())
}

#[cfg(test)]
mod tests;
