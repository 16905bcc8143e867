//! A session whose one purpose is to bind a cluster's record.

use std::sync::Arc;
use std::time::Duration;

use cattle_proto::control::{AgentMessage, CredentialFailureCode, GoAway, ServerCredential, ServerMessage};
use cattle_proto::handshake::{Credential, Hello, RejectCode};
use cattle_proto::limits;
use cattle_tunnel::{FrameError, ServerControl, ServerEnd, Session};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout, timeout_at};

use crate::authority::{Registration, RegistrationPermit, SessionDialer};
use crate::gateway::Inner;

/// Time for the agent to take the outcome and leave.
const FAREWELL_TIME: Duration = Duration::from_secs(5);

/// Runs the session to its end.
pub(crate) async fn run<S>(inner: &Arc<Inner>, end: ServerEnd<S>, permit: RegistrationPermit, hello: Hello)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let ServerEnd { session, control, driver, .. } = end;
    let handle = session.handle().clone();
    let registering = async {
        let cluster = permit.cluster.clone();
        let deadline = Instant::now() + limits::REGISTRATION_TIME;
        let Ok(Ok(mut control)) = timeout_at(deadline, control.arrive()).await else {
            handle.close();
            return;
        };
        let mut stopping = inner.stopping.subscribe();
        let outcome = tokio::select! {
            outcome = register(inner, session, &mut control, permit, hello, deadline) => outcome,
            _ = stopping.wait_for(Option::is_some) => Err(RejectCode::Busy),
            _ = handle.closed() => Err(RejectCode::Internal),
        };
        match outcome {
            Ok(()) => tracing::info!("cluster registered"),
            Err(code) => {
                inner.registry.rejected(&cluster, code);
                tracing::info!(code = code.name(), "registration refused");
            }
        }
        // An agent that has gone learns the outcome when it comes back.
        let _ = timeout(FAREWELL_TIME, farewell(&mut control, outcome)).await;
        let _ = timeout(FAREWELL_TIME, handle.closed()).await;
        handle.close();
    };
    let (reason, ()) = tokio::join!(Box::pin(driver.run()), Box::pin(registering));
    tracing::debug!(%reason, "registration session ended");
}

async fn register(
    inner: &Inner,
    session: Session,
    control: &mut ServerControl,
    permit: RegistrationPermit,
    hello: Hello,
    deadline: Instant,
) -> Result<(), RejectCode> {
    let Credential::Registration { claim, token, .. } = hello.credential else {
        return Err(RejectCode::Malformed);
    };
    let binding = async {
        let credential = credential(control).await?;
        let dialer = SessionDialer::new(session);
        let registration = Registration { permit, claim, credential, agent_token: token, dialer };
        inner.authority.complete_registration(registration).await
    };
    timeout_at(deadline, binding).await.unwrap_or(Err(RejectCode::Timeout))
}

/// Waits for the server's credential.
async fn credential(control: &mut ServerControl) -> Result<ServerCredential, RejectCode> {
    loop {
        match control.recv().await {
            Ok(Some(AgentMessage::ServerCredential(credential))) => return Ok(credential),
            Ok(Some(AgentMessage::ServerCredentialFailed(failure))) => return Err(failed(failure.code)),
            Ok(Some(AgentMessage::Heartbeat(_) | AgentMessage::Facts(_))) => {}
            Ok(Some(AgentMessage::Proof { .. } | AgentMessage::Leaving) | None) => return Err(RejectCode::Malformed),
            Err(FrameError::Io(_)) => return Err(RejectCode::Internal),
            Err(_) => return Err(RejectCode::Malformed),
        }
    }
}

fn failed(code: CredentialFailureCode) -> RejectCode {
    if code == CredentialFailureCode::Unreachable {
        RejectCode::ApiServerUnreachable
    } else {
        RejectCode::CredentialRefused
    }
}

async fn farewell(control: &mut ServerControl, outcome: Result<(), RejectCode>) -> Result<(), FrameError> {
    match outcome {
        Ok(()) => {
            control.send(&ServerMessage::Registered).await?;
            control.send(&ServerMessage::GoAway(GoAway::new(Duration::ZERO, FAREWELL_TIME))).await
        }
        Err(code) => control.send(&ServerMessage::RegistrationFailed { code }).await,
    }
}
