//! The agent's half of the control stream: heartbeats, proofs, the server's credential, and what the server asks for.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use cattle_proto::control::{
    AgentMessage, CredentialFailure, CredentialFailureCode, Facts, GoAway, Heartbeat, ServerCredential, ServerMessage,
};
use cattle_proto::handshake::{Phase, RejectCode};
use cattle_proto::limits;
use cattle_proto::secret::Secret;
use cattle_runtime::{ErrorChain as _, Shutdown};
use cattle_tunnel::{AgentControl, ControlReceiver, ControlSender, FrameError, SessionHandle};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::credential::TokenFile;
use crate::identity::{Role, ServerCredentialError};
use crate::link::Progress;

/// Time to get the server's credential from the API server.
const CREDENTIAL_TIME: Duration = Duration::from_secs(20);

/// What the server said that the supervisor has to know.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum ControlEvent {
    /// Reconnect; this session ends when its streams have.
    GoAway(GoAway),
    /// The cluster's record is bound.
    Registered,
    /// It is not.
    RegistrationFailed(RejectCode),
}

/// How often the control stream does what it does by itself.
#[derive(Clone, Copy, Debug)]
pub struct ControlTimes {
    /// Between two heartbeats.
    pub heartbeat: Duration,
    /// Between two looks at the token file.
    pub token_check: Duration,
}

impl Default for ControlTimes {
    fn default() -> Self {
        // The kubelet replaces a token at 80 % of its life, 12 minutes before the end of an hour.
        Self { heartbeat: limits::HEARTBEAT_INTERVAL, token_check: Duration::from_secs(30) }
    }
}

/// One session's control stream.
pub(crate) struct ControlLoop {
    pub(crate) session: SessionHandle,
    pub(crate) phase: Phase,
    pub(crate) token: TokenFile,
    /// The token that the server has seen last.
    pub(crate) proved: Secret,
    pub(crate) role: Role,
    pub(crate) events: mpsc::Sender<ControlEvent>,
    pub(crate) times: ControlTimes,
    pub(crate) progress: Progress,
    pub(crate) shutdown: Shutdown,
    /// Dropped once the server has been told that the agent leaves.
    pub(crate) farewell: Option<oneshot::Sender<()>>,
}

type CredentialAnswer = Pin<Box<dyn Future<Output = AgentMessage> + Send>>;

impl ControlLoop {
    /// Runs until the session ends, or the server closes its half, or breaks the protocol.
    pub(crate) async fn run(mut self, control: AgentControl) -> Result<(), FrameError> {
        let (mut sender, mut receiver) = control.split();
        let (mut heartbeat, mut token_check) = (interval(self.times.heartbeat), interval(self.times.token_check));
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        token_check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut sequence = 0;
        // The first message makes the stream exist at the other end.
        heartbeat.tick().await;
        self.heartbeat(&mut sender, &mut sequence).await?;
        let mut facts = self.role.facts();
        self.tell(&mut sender, facts.as_mut()).await?;
        // A registration begins with the server's credential, unasked.
        let mut answer = (self.phase == Phase::Registration).then(|| self.server_credential());
        loop {
            // Sends are not cancel safe, so they stand in the arms' bodies, never in their futures.
            tokio::select! {
                message = next(&mut receiver) => match message? {
                    None => return Ok(()),
                    Some(ServerMessage::CredentialRequest) if answer.is_none() => answer = Some(self.server_credential()),
                    Some(ServerMessage::CredentialRequest) => {}
                    Some(message) => self.report(message).await,
                },
                message = poll_answer(&mut answer), if answer.is_some() => {
                    answer = None;
                    sender.send(&message).await?;
                }
                () = changed(facts.as_mut()) => self.tell(&mut sender, facts.as_mut()).await?,
                _ = heartbeat.tick() => self.heartbeat(&mut sender, &mut sequence).await?,
                _ = token_check.tick() => self.prove(&mut sender).await?,
                () = self.shutdown.draining(), if self.farewell.is_some() => {
                    sender.send(&AgentMessage::Leaving).await?;
                    self.farewell = None;
                }
            }
        }
    }

    /// Tells the server what it does not know yet of the agent's host.
    async fn tell(
        &self,
        sender: &mut ControlSender<AgentMessage>,
        facts: Option<&mut watch::Receiver<Facts>>,
    ) -> Result<(), FrameError> {
        let Some(facts) = facts else { return Ok(()) };
        let facts = facts.borrow_and_update().clone();
        sender.send(&AgentMessage::Facts(facts)).await
    }

    async fn heartbeat(&self, sender: &mut ControlSender<AgentMessage>, sequence: &mut u64) -> Result<(), FrameError> {
        let streams = u32::try_from(self.session.streams()).unwrap_or(u32::MAX);
        sender.send(&AgentMessage::Heartbeat(Heartbeat { sequence: *sequence, streams })).await?;
        *sequence += 1;
        self.progress.made();
        Ok(())
    }

    /// Shows the server a token that it has not seen.
    async fn prove(&mut self, sender: &mut ControlSender<AgentMessage>) -> Result<(), FrameError> {
        let token = match self.token.read().await {
            Ok(token) if token == self.proved => return Ok(()),
            Ok(token) => token,
            Err(error) => {
                tracing::warn!(error = %error.chain(), "cannot renew the session's proof; it ends with the old token");
                return Ok(());
            }
        };
        sender.send(&AgentMessage::Proof { token: token.clone() }).await?;
        tracing::debug!("sent a new proof");
        self.proved = token;
        Ok(())
    }

    async fn report(&self, message: ServerMessage) {
        let event = match message {
            ServerMessage::GoAway(go_away) => ControlEvent::GoAway(go_away),
            ServerMessage::Registered => ControlEvent::Registered,
            ServerMessage::RegistrationFailed { code } => ControlEvent::RegistrationFailed(code),
            ServerMessage::CredentialRequest => return,
        };
        // Nobody listens any more once the session is retired: a second `GoAway` says nothing new.
        let _ = self.events.send(event).await;
    }

    fn server_credential(&self) -> CredentialAnswer {
        let failed = |code| AgentMessage::ServerCredentialFailed(CredentialFailure { code });
        let Role::ClusterAgent { cluster, .. } = &self.role else {
            return Box::pin(std::future::ready(failed(CredentialFailureCode::Forbidden)));
        };
        let cluster = Arc::clone(cluster);
        Box::pin(async move {
            match timeout(CREDENTIAL_TIME, cluster.server_credential()).await {
                Ok(Ok(ServerCredential { token, expires_at })) => {
                    AgentMessage::ServerCredential(ServerCredential { token, expires_at })
                }
                Ok(Err(ServerCredentialError { code, source })) => {
                    tracing::warn!(%code, error = %source.chain(), "cannot get the server's credential");
                    failed(code)
                }
                Err(_) => {
                    tracing::warn!(within = ?CREDENTIAL_TIME, "the API server does not answer the token request");
                    failed(CredentialFailureCode::Unreachable)
                }
            }
        })
    }
}

async fn next(receiver: &mut ControlReceiver<ServerMessage>) -> Result<Option<ServerMessage>, FrameError> {
    receiver.recv().await
}

/// Resolves when the facts have changed. Cancel safe.
async fn changed(facts: Option<&mut watch::Receiver<Facts>>) {
    // Whoever told them may tell no more: what was told stands.
    if let Some(facts) = facts
        && facts.changed().await.is_ok()
    {
        return;
    }
    std::future::pending().await
}

async fn poll_answer(answer: &mut Option<CredentialAnswer>) -> AgentMessage {
    match answer {
        Some(answer) => answer.await,
        None => std::future::pending().await,
    }
}
