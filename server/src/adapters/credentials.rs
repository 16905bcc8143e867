//! The server's credentials for clusters: who asks for one waits here for what an agent sends.

use std::{collections::HashMap, sync::Arc, time::Duration};

use cattle_api::Secret;
use cattle_controllers::{AskError, ServerCredential, nodes::HostBook};
use cattle_gateway::{AgentIdentity, Gateway, SessionEvents};
use cattle_proto::{
    control::{CredentialFailure, Facts},
    id::ClusterId,
};
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::broadcast;

/// An agent has this long to answer.
const ANSWER_DEADLINE: Duration = Duration::from_secs(20);

type Answer = Result<Received, AskError>;

/// What an agent sent, shareable among all who asked.
#[derive(Clone)]
struct Received {
    token: Secret,
    expires_at: Timestamp,
}

/// Questions to agents that wait for an answer.
pub struct Credentials {
    waiting: Mutex<HashMap<ClusterId, broadcast::Sender<Answer>>>,
    hosts: HostBook,
}

impl Credentials {
    /// Nobody waits. What agents say of their hosts goes into `hosts`.
    #[must_use]
    pub fn new(hosts: HostBook) -> Arc<Self> {
        Arc::new(Self { waiting: Mutex::default(), hosts })
    }

    /// Asks a connected agent of the cluster for a token of the server's account and waits for the answer. Cancel safe.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn ask(&self, gateway: &Gateway, cluster: &ClusterId) -> Result<ServerCredential, AskError> {
        let mut answers = self.listen(cluster);
        if !gateway.request_credential(cluster) {
            return Err(AskError::NotConnected);
        }
        let answer = tokio::time::timeout(ANSWER_DEADLINE, answers.recv()).await;
        let received = answer.map_err(|_| AskError::Timeout)?.map_err(|_| AskError::NotConnected)??;
        Ok(ServerCredential::new(received.token, Timestamp::now(), received.expires_at))
    }

    fn listen(&self, cluster: &ClusterId) -> broadcast::Receiver<Answer> {
        let mut waiting = self.waiting.lock();
        waiting.retain(|_, sender| sender.receiver_count() > 0);
        waiting.entry(cluster.clone()).or_insert_with(|| broadcast::Sender::new(1)).subscribe()
    }

    fn answer(&self, cluster: &ClusterId, answer: Answer) {
        if let Some(sender) = self.waiting.lock().remove(cluster) {
            // Whoever asked may have given up.
            let _ = sender.send(answer);
        }
    }
}

impl SessionEvents for Credentials {
    fn server_credential<'a>(
        &'a self,
        cluster: &'a ClusterId,
        credential: cattle_proto::control::ServerCredential,
    ) -> BoxFuture<'a, ()> {
        let received = super::dialer::time(credential.expires_at)
            .map(|expires_at| Received { token: Secret::from(credential.token.expose().to_owned()), expires_at });
        self.answer(cluster, received.ok_or(AskError::Refused));
        Box::pin(std::future::ready(()))
    }

    fn server_credential_failed<'a>(&'a self, cluster: &'a ClusterId, failure: CredentialFailure) -> BoxFuture<'a, ()> {
        tracing::warn!(%cluster, code = ?failure.code, "the agent could not get a token for the server's account");
        self.answer(cluster, Err(AskError::Refused));
        Box::pin(std::future::ready(()))
    }

    fn facts<'a>(&'a self, identity: &'a AgentIdentity, facts: Facts) -> BoxFuture<'a, ()> {
        super::hosts::take_down(&self.hosts, identity, &facts);
        Box::pin(std::future::ready(()))
    }
}
