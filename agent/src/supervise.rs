//! The loop that keeps an agent connected, for ever.
//!
//! ```text
//!             ┌──────────────── wait (back-off) ◄───────────────┐
//!             ▼                                                 │
//!  start ─► Connecting ── failed ───────────────────────────────┤
//!             │ session                                         │
//!             ▼                                                 │
//!            Up ── lost ────────────────────────────────────────┤
//!             └── GoAway: the session is retired and goes on ───┘
//!                 until its streams have ended
//! ```
//!
//! A session is one task that owns everything under it. A lost one is dropped whole and a new one is built; nothing is
//! ever repaired. No refusal is final: an agent of a deleted cluster stays at the capped back-off, since whoever deleted
//! the cluster may be the one who cannot reach it any more.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cattle_proto::control::GoAway;
use cattle_proto::handshake::{Phase, RejectCode, Welcome};
use cattle_proto::limits;
use cattle_runtime::{ErrorChain as _, Shutdown};
use cattle_tunnel::{AgentEnd, CloseReason, SessionHandle};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::backoff::Backoff;
use crate::connect::{ConnectError, Connected, Dialer, Logged};
use crate::control::{ControlEvent, ControlLoop, ControlTimes};
use crate::credential::CredentialKind;
use crate::identity::Identity;
use crate::link::{Link, LinkWatch, LinkWriter, Why};
use crate::metrics::Metrics;
use crate::serve::{Handler, serve};

/// Events of one session that may wait for the supervisor, which does nothing else meanwhile.
const EVENTS: usize = 8;
/// Sessions at once: the one in use and retired ones. A server that sends one `GoAway` after the other gets no more.
const MAX_SESSIONS: usize = 4;
/// Longest life of a retired session, whatever its `GoAway` says.
const LONGEST_RETIREMENT: Duration = Duration::from_secs(3600);
/// What a retired session gets beyond the server's own deadline: the server is the one to end it.
const RETIREMENT_SLACK: Duration = Duration::from_secs(15);
/// Time to tell the server that the agent leaves.
const FAREWELL_TIME: Duration = Duration::from_secs(2);
/// A failure that stays the same is repeated in the log at this interval.
const REMINDER: Duration = Duration::from_secs(600);

/// What may be chosen about a supervisor.
#[derive(Debug)]
pub struct Options {
    /// The waits between attempts.
    pub backoff: Backoff,
    /// The control stream's times.
    pub control: ControlTimes,
    /// How long running streams may go on once the agent is asked to end.
    pub drain: Duration,
    /// Streams served at once in one session.
    pub streams: usize,
    /// Where numbers go.
    pub metrics: Metrics,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            backoff: Backoff::from_system(),
            control: ControlTimes::default(),
            // Below the 30 s that Kubernetes gives a pod.
            drain: Duration::from_secs(25),
            streams: limits::STREAMS_PER_SESSION,
            metrics: Metrics::default(),
        }
    }
}

/// Keeps an agent connected; see the [module](self).
pub struct Supervisor {
    dialer: Dialer,
    identity: Identity,
    handler: Arc<dyn Handler>,
    options: Options,
    shutdown: Shutdown,
    link: LinkWriter,
    last_warning: Option<(&'static str, Instant)>,
}

impl Supervisor {
    /// A supervisor that has not begun, and the view of what it will do.
    pub fn new(
        dialer: Dialer,
        identity: Identity,
        handler: Arc<dyn Handler>,
        shutdown: Shutdown,
        options: Options,
    ) -> (Self, LinkWatch) {
        let (link, watch) = LinkWriter::new();
        (Self { dialer, identity, handler, options, shutdown, link, last_warning: None }, watch)
    }

    /// Runs until the process drains, then until its sessions have drained.
    ///
    /// # Cancel safety
    /// Dropping it ends every session at once.
    pub async fn run(mut self) -> Result<(), Infallible> {
        let mut sessions = JoinSet::new();
        let mut kind = CredentialKind::default();
        loop {
            self.link.publish(Link::Connecting { since: Instant::now() });
            let mut observer = Logged;
            let attempt = tokio::select! {
                biased;
                () = self.shutdown.draining() => break,
                attempt = Box::pin(self.dialer.connect(&self.identity, kind, &mut observer)) => attempt,
            };
            let (wait, why) = match attempt {
                Err(error) => {
                    kind = self.next_kind(kind, error.reject_code()).await;
                    self.failed(&error)
                }
                Ok(connected) => {
                    let since = self.connected(&connected.end.welcome);
                    let held = self.hold(connected, &mut sessions).await;
                    self.options.metrics.up.set(0);
                    match held {
                        Held::Stopping => break,
                        Held::Failed(code) => {
                            kind = self.next_kind(kind, Some(code)).await;
                            let wait = self.options.backoff.failed(Instant::now(), None);
                            (wait, Why::Failed { stage: crate::connect::Stage::Authentication, code: code.name() })
                        }
                        Held::Over(reason) => {
                            kind = CredentialKind::default();
                            tracing::warn!(reason = reason.name(), error = %reason.chain(), "session lost");
                            (self.options.backoff.lost(since, Instant::now()), Why::Lost(reason.name()))
                        }
                        Held::GoAway(go_away) => {
                            kind = CredentialKind::default();
                            let (wait, try_for) = (go_away.reconnect_in(), go_away.try_for());
                            (self.options.backoff.go_away(Instant::now(), wait, try_for), Why::GoAway)
                        }
                    }
                }
            };
            if self.wait(wait, why, &mut sessions).await.is_stopping() {
                break;
            }
        }
        self.link.publish(Link::Stopped);
        // Each session drains by itself, within its own deadline.
        while sessions.join_next().await.is_some() {}
        Ok(())
    }

    async fn next_kind(&self, kind: CredentialKind, code: Option<RejectCode>) -> CredentialKind {
        match code {
            Some(code) => kind.after_reject(code, self.identity.holds_registration_token().await),
            // Nothing was judged: the same credential again.
            None => kind,
        }
    }

    /// Waits before the next attempt, while retired sessions end.
    async fn wait(&self, wait: Duration, why: Why, sessions: &mut JoinSet<CloseReason>) -> Next {
        let until = Instant::now() + wait;
        self.link.publish(Link::Waiting { until, why });
        loop {
            tokio::select! {
                biased;
                () = self.shutdown.draining() => return Next::Stop,
                () = sleep_until(until) => return Next::Attempt,
                Some(_) = sessions.join_next() => {}
            }
        }
    }

    /// Stays with a session until there is a reason for another one.
    async fn hold(&self, connected: Connected, sessions: &mut JoinSet<CloseReason>) -> Held {
        let (events, mut said) = mpsc::channel(EVENTS);
        let (retire, retired) = oneshot::channel();
        let current = sessions.spawn(self.session(connected, events, retired)).id();
        loop {
            tokio::select! {
                biased;
                Some(event) = said.recv() => match event {
                    ControlEvent::Registered => tracing::info!("the cluster is registered"),
                    ControlEvent::RegistrationFailed(code) => {
                        tracing::warn!(code = code.name(), error = %code, "the server could not register the cluster");
                        return Held::Failed(code);
                    }
                    ControlEvent::GoAway(go_away) => {
                        let room = sessions.len() < MAX_SESSIONS;
                        let rest = if room { go_away.try_for().min(LONGEST_RETIREMENT) } else { Duration::ZERO };
                        tracing::info!(reconnect_in = ?go_away.reconnect_in(), "the server asks to reconnect");
                        // The session may just have ended by itself.
                        let _ = retire.send(rest);
                        return Held::GoAway(go_away);
                    }
                },
                Some(ended) = sessions.join_next_with_id() => match ended {
                    Ok((id, reason)) if id == current => return Held::Over(reason),
                    Err(error) if error.id() == current => {
                        tracing::error!(error = %error.chain(), "the session's task failed");
                        return Held::Over(CloseReason::Aborted);
                    }
                    Ok(_) | Err(_) => {}
                },
                () = self.shutdown.draining() => return Held::Stopping,
            }
        }
    }

    /// The task of one session: everything that lives and ends with it.
    fn session(
        &self,
        connected: Connected,
        events: mpsc::Sender<ControlEvent>,
        retired: oneshot::Receiver<Duration>,
    ) -> impl Future<Output = CloseReason> + Send + 'static {
        let Connected { end, token } = connected;
        let AgentEnd { welcome, session, incoming, control, driver, .. } = end;
        let (farewell, said_farewell) = oneshot::channel();
        let control_loop = ControlLoop {
            session: session.clone(),
            phase: welcome.phase,
            token: self.identity.token().clone(),
            proved: token,
            role: self.identity.role().clone(),
            events,
            times: self.options.control,
            progress: self.link.progress(),
            shutdown: self.shutdown.clone(),
            farewell: Some(farewell),
        };
        let (metrics, drain) = (self.options.metrics.clone(), self.options.drain);
        let serving = serve(incoming, session.clone(), Arc::clone(&self.handler), self.options.streams, metrics);
        let ending = end_in_time(session.clone(), self.shutdown.clone(), drain, retired, said_farewell);
        Box::pin(async move {
            let controlling = async {
                if let Err(error) = control_loop.run(control).await {
                    tracing::debug!(error = %error.chain(), "the control stream failed");
                }
                // Without its control stream a session is nothing.
                session.close();
            };
            let (reason, (), (), ()) = tokio::join!(driver.run(), serving, controlling, ending);
            reason
        })
    }

    fn connected(&mut self, welcome: &Welcome) -> Instant {
        let now = Instant::now();
        self.options.backoff.connected();
        self.options.metrics.attempt("connected");
        self.options.metrics.up.set(i64::from(welcome.phase == Phase::Serving));
        self.last_warning = None;
        let Welcome { session, phase, version, .. } = *welcome;
        tracing::info!(server = %self.dialer.server(), %session, ?phase, %version, "session up");
        let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let difference = clock.abs_diff(Duration::from_secs(welcome.server_time));
        if difference > limits::CLOCK_LEEWAY {
            tracing::warn!(?difference, "the clocks of agent and server differ: tokens will be refused");
        }
        self.link.publish(Link::Up { session, phase, since: now });
        now
    }

    fn failed(&mut self, error: &ConnectError) -> (Duration, Why) {
        let (now, stage, code) = (Instant::now(), error.stage(), error.code());
        self.options.metrics.attempt(code);
        let wait = self.options.backoff.failed(now, error.retry_after());
        let known = self.last_warning.is_some_and(|(last, at)| last == code && now - at < REMINDER);
        if known {
            tracing::debug!(stage = stage.name(), code, ?wait, error = %error.chain(), "no session");
        } else {
            self.last_warning = Some((code, now));
            let next_step = error.next_step();
            tracing::warn!(stage = stage.name(), code, ?wait, error = %error.chain(), next_step, "no session");
        }
        (wait, Why::Failed { stage, code })
    }
}

/// Why the supervisor left a session.
enum Held {
    /// The session is over.
    Over(CloseReason),
    /// The session goes on without it; a new one is wanted.
    GoAway(GoAway),
    /// The registration that the session was for failed.
    Failed(RejectCode),
    /// The process drains.
    Stopping,
}

/// What follows a wait.
enum Next {
    Attempt,
    Stop,
}

impl Next {
    fn is_stopping(&self) -> bool {
        matches!(self, Self::Stop)
    }
}

/// Ends a session that nobody needs any more: when the process drains, once its streams have ended or `drain` is over;
/// when it is retired, after the time that it was given. Until then, and when it ends by itself, does nothing.
async fn end_in_time(
    session: SessionHandle,
    shutdown: Shutdown,
    drain: Duration,
    retired: oneshot::Receiver<Duration>,
    farewell: oneshot::Receiver<()>,
) {
    let retirement = async {
        match retired.await {
            Ok(rest) => sleep(rest + RETIREMENT_SLACK).await,
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = session.closed() => {}
        () = retirement => session.close(),
        () = shutdown.draining() => {
            // The server hears it first, so that it opens no stream in a session that is about to go.
            let _ = timeout(FAREWELL_TIME, farewell).await;
            session.drain(drain).await;
        }
    }
}
