//! A session that carries traffic: its control stream, its proof, its end.

use std::sync::Arc;
use std::time::Duration;

use cattle_proto::control::{AgentMessage, GoAway, ServerMessage};
use cattle_proto::handshake::{AgentKind, Hello, RejectCode};
use cattle_proto::limits;
use cattle_proto::secret::Secret;
use cattle_tunnel::{CloseReason, ControlReceiver, ControlSender, FrameError, ServerEnd, SessionHandle};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::accept::jitter;
use crate::authority::AgentIdentity;
use crate::gateway::Inner;
use crate::registry::{Command, Place, unix_now};

/// Time for the agent's first control message, and for one of ours to leave.
const CONTROL_TIME: Duration = Duration::from_secs(10);
/// Between two looks at a proof that cannot be judged yet.
const JUDGE_AGAIN: Duration = Duration::from_secs(5);

/// Why the server ends a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The connection is over, or the agent has closed its control stream.
    Gone,
    /// The agent sent what is no message, or nothing at all.
    Protocol,
    /// The proof has expired, or the new one is not good.
    Unproved(RejectCode),
    /// The agent is leaving.
    Leaving,
    /// The same process has a newer session.
    Superseded,
    /// The server stops; streams may go on for this long.
    Stopping(Duration),
}

/// Runs the session to its end.
pub(crate) async fn run<S>(inner: &Arc<Inner>, end: ServerEnd<S>, identity: AgentIdentity, hello: Hello)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let ServerEnd { session, control, driver, capabilities } = end;
    let (handle, cluster) = (session.handle().clone(), identity.cluster.clone());
    let serving = async {
        let Ok(Ok(control)) = timeout(CONTROL_TIME, control.arrive()).await else {
            handle.close();
            return End::Protocol;
        };
        let (sender, receiver) = control.split();
        let (place, commands) = inner.registry.insert(session, identity, hello.instance, hello.software, capabilities);
        inner.config.metrics.sessions.inc();
        tracing::info!(pod = %place.member.identity.pod, software = %place.member.software, "agent connected");
        let mut serving = Serving {
            inner,
            handle: &handle,
            expires_at: place.member.identity.expires_at,
            unjudged: None,
            stopping: inner.stopping.subscribe(),
            place,
            sender,
            receiver,
            commands,
        };
        let end = serving.control().await;
        serving.finish(end).await;
        inner.config.metrics.sessions.dec();
        end
    };
    let (reason, end) = tokio::join!(Box::pin(driver.run()), Box::pin(serving));
    inner.registry.ended(&cluster, &reason);
    if matches!(reason, CloseReason::Closed | CloseReason::PeerClosed) {
        tracing::info!(?end, %reason, "agent disconnected");
    } else {
        tracing::warn!(?end, %reason, "agent lost");
    }
}

struct Serving<'a> {
    inner: &'a Inner,
    handle: &'a SessionHandle,
    /// The session's place in the registry; given up when this is dropped.
    place: Place,
    expires_at: u64,
    /// A newer proof that cannot be judged yet, and when it is judged again.
    unjudged: Option<(Instant, Secret)>,
    stopping: watch::Receiver<Option<Duration>>,
    sender: ControlSender<ServerMessage>,
    receiver: ControlReceiver<AgentMessage>,
    commands: mpsc::Receiver<Command>,
}

impl Serving<'_> {
    /// Handles control messages until there is a reason to end.
    async fn control(&mut self) -> End {
        loop {
            let proof_left = proof_left(self.expires_at, unix_now());
            let judge_again = self.unjudged.as_ref().map_or_else(Instant::now, |(at, _)| *at);
            let end = tokio::select! {
                message = self.receiver.recv() => self.receive(message).await,
                () = sleep_until(judge_again), if self.unjudged.is_some() => self.judge_again().await,
                Some(command) = self.commands.recv() => self.obey(command).await,
                () = sleep(proof_left) => self.still_proved(),
                () = self.place.member.superseded() => Err(End::Superseded),
                grace = stopping(&mut self.stopping) => Err(End::Stopping(grace)),
            };
            if let Err(end) = end {
                return end;
            }
        }
    }

    async fn receive(&mut self, message: Result<Option<AgentMessage>, FrameError>) -> Result<(), End> {
        let events = &self.inner.events;
        let member = &self.place.member;
        let cluster = &member.identity.cluster;
        match message {
            // Only who may be asked for the server's credential may give one: a node must not choose the server's token.
            Ok(Some(AgentMessage::ServerCredential(_) | AgentMessage::ServerCredentialFailed(_)))
                if member.identity.kind != AgentKind::ClusterAgent =>
            {
                tracing::warn!("a node agent sent a credential");
                return Err(End::Protocol);
            }
            Ok(Some(AgentMessage::Heartbeat(heartbeat))) => member.heard(heartbeat),
            Ok(Some(AgentMessage::Facts(facts))) => events.facts(&member.identity, facts).await,
            Ok(Some(AgentMessage::ServerCredential(credential))) => {
                events.server_credential(cluster, credential).await;
            }
            Ok(Some(AgentMessage::ServerCredentialFailed(failure))) => {
                events.server_credential_failed(cluster, failure).await;
            }
            Ok(Some(AgentMessage::Proof { token })) => return self.prove(token).await,
            Ok(Some(AgentMessage::Leaving)) => return Err(End::Leaving),
            Ok(None) | Err(FrameError::Io(_)) => return Err(End::Gone),
            Err(error) => {
                tracing::warn!(%error, "the agent broke the protocol");
                return Err(End::Protocol);
            }
        }
        Ok(())
    }

    fn still_proved(&self) -> Result<(), End> {
        let over = proof_left(self.expires_at, unix_now()).is_zero();
        if over { Err(End::Unproved(RejectCode::TokenExpired)) } else { Ok(()) }
    }

    async fn judge_again(&mut self) -> Result<(), End> {
        match self.unjudged.take() {
            Some((_, token)) => self.prove(token).await,
            None => Ok(()),
        }
    }

    /// Takes a new token of the same agent as proof for longer. One that cannot be judged now changes nothing.
    ///
    /// A key that is not known may be one that the cluster has begun to sign with since its keys were read. They are read
    /// again through sessions, so this one stays until its last proof is over, and the token is judged again until then.
    async fn prove(&mut self, token: Secret) -> Result<(), End> {
        self.unjudged = None;
        let known = &self.place.member.identity;
        let judging = self.inner.authority.authenticate(&known.cluster, &token);
        match timeout(CONTROL_TIME, judging).await {
            Ok(Ok(new)) if new.pod == known.pod && new.kind == known.kind && new.cluster == known.cluster => {
                self.expires_at = self.expires_at.max(new.expires_at);
                Ok(())
            }
            Ok(Ok(_)) => Err(End::Unproved(RejectCode::WrongSubject)),
            Ok(Err(RejectCode::Internal | RejectCode::Busy | RejectCode::UnknownSigningKey)) | Err(_) => {
                tracing::warn!("a new proof cannot be judged yet; the last one stands");
                self.unjudged = Some((Instant::now() + JUDGE_AGAIN, token));
                Ok(())
            }
            Ok(Err(code)) => Err(End::Unproved(code)),
        }
    }

    async fn obey(&mut self, command: Command) -> Result<(), End> {
        match command {
            Command::RequestCredential => self.send(ServerMessage::CredentialRequest).await,
        }
    }

    async fn send(&mut self, message: ServerMessage) -> Result<(), End> {
        match timeout(CONTROL_TIME, self.sender.send(&message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(End::Gone),
        }
    }

    /// Ends the session as the reason for it asks.
    async fn finish(&mut self, end: End) {
        self.handle.refuse_streams();
        let grace = match end {
            End::Gone | End::Protocol => Duration::ZERO,
            End::Unproved(code) => {
                self.inner.registry.rejected(&self.place.member.identity.cluster, code);
                Duration::ZERO
            }
            End::Leaving | End::Superseded => self.inner.config.drain.drain_time().await,
            End::Stopping(grace) => {
                let spread = u32::try_from(self.inner.config.reconnect_spread.as_millis()).unwrap_or(u32::MAX);
                let goaway = GoAway::new(Duration::from_millis(jitter(spread).into()), grace);
                let _ = self.send(ServerMessage::GoAway(goaway)).await;
                grace
            }
        };
        self.place.retire();
        let drained = tokio::select! {
            drained = self.handle.drain(grace) => drained,
            grace = stopping(&mut self.stopping), if !matches!(end, End::Stopping(_)) => self.handle.drain(grace).await,
        };
        tracing::debug!(?drained, "session drained");
        self.handle.closed().await;
    }
}

/// Waits until the server stops, and says how long streams may go on.
async fn stopping(stopping: &mut watch::Receiver<Option<Duration>>) -> Duration {
    stopping.wait_for(Option::is_some).await.ok().and_then(|grace| *grace).unwrap_or_default()
}

/// Time until a proof that ends at `expires_at` is over, the leeway included.
fn proof_left(expires_at: u64, now: u64) -> Duration {
    let ends = expires_at.saturating_add(limits::CLOCK_LEEWAY.as_secs());
    // Long timers are set again when they fire: wall clocks and monotonic ones drift apart.
    Duration::from_secs(ends.saturating_sub(now)).min(Duration::from_secs(600))
}
