//! The loop: what an agent does when sessions begin, end, and are taken away.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use cattle_agent::backoff::Backoff;
use cattle_agent::control::ControlTimes;
use cattle_agent::{BoxFuture, Handler, Link, LinkWatch, Options, Supervisor};
use cattle_proto::control::{AgentMessage, CredentialFailureCode, GoAway, ServerMessage};
use cattle_proto::handshake::{Credential, Phase, Reject, RejectCode};
use cattle_proto::id::SessionId;
use cattle_proto::stream::{RefusedCode, StreamHeader, Target};
use cattle_runtime::Shutdown;
use cattle_tunnel::testing::welcome;
use cattle_tunnel::{CloseReason, OpenError, PendingStream, ServerControl, Session, SessionConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

use crate::pki::Ca;
use crate::server::{Agent, Answer, Server};
use crate::support::{FakeCluster, Files, REGISTRATION_TOKEN, SOON, TOKEN, UID, checksum, dialer, soon};

const APISERVER: StreamHeader = StreamHeader::to(Target::KubeApiserver);

/// Sends every stream's bytes back.
struct Echo;

impl Handler for Echo {
    fn handle(self: Arc<Self>, stream: PendingStream) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let Ok(stream) = stream.accept().await else { return };
            let (mut reader, mut writer) = tokio::io::split(stream);
            if tokio::io::copy(&mut reader, &mut writer).await.is_ok() {
                writer.shutdown().await.ok();
            }
        })
    }
}

/// An agent under supervision and the server that it wants.
struct World {
    server: Server,
    files: Files,
    cluster: Arc<FakeCluster>,
    link: LinkWatch,
    shutdown: Shutdown,
    agent: JoinSet<()>,
    sessions: u8,
}

/// One session, seen by the server.
struct Serving {
    session: Session,
    control: ServerControl,
    _driver: JoinSet<CloseReason>,
}

impl World {
    async fn start() -> Self {
        Self::with(Options::default()).await
    }

    /// Waits between attempts are shortened to nothing; everything else is as `options` say.
    async fn with(options: Options) -> Self {
        let (ca, files, cluster, shutdown) =
            (Ca::new("Cattle CA"), Files::new(), Arc::new(FakeCluster::default()), Shutdown::new());
        let server = Server::start(ca.server(&["127.0.0.1"]), ca.pem(), Answer::Upgrade).await;
        let dialer = dialer(&server.url(), checksum(&ca.pem()));
        let identity = files.identity(Arc::clone(&cluster) as _);
        let options = Options { backoff: Backoff::new(|| 0.001), ..options };
        let (supervisor, link) = Supervisor::new(dialer, identity, Arc::new(Echo), shutdown.clone(), options);
        let mut agent = JoinSet::new();
        agent.spawn(async move {
            let Ok(()) = supervisor.run().await;
        });
        Self { server, files, cluster, link, shutdown, agent, sessions: 0 }
    }

    async fn welcome(&mut self, phase: Phase) -> Serving {
        let greeting = self.server.greeting().await;
        self.welcome_greeting(greeting, phase).await
    }

    async fn welcome_greeting(&mut self, greeting: Agent, phase: Phase) -> Serving {
        self.sessions += 1;
        let mut welcome = welcome(phase);
        welcome.session = SessionId::new([self.sessions; 16]);
        let end = soon(greeting.welcome(welcome, SessionConfig::default())).await.unwrap();
        let mut driver = JoinSet::new();
        driver.spawn(end.driver.run());
        let mut control = soon(end.control.arrive()).await.unwrap();
        let first = soon(control.recv()).await.unwrap().unwrap();
        assert_eq!(first.name(), "Heartbeat", "the first message makes the stream exist");
        Serving { session: end.session, control, _driver: driver }
    }

    async fn reject(&mut self, code: RejectCode) {
        let greeting = self.server.greeting().await;
        greeting.reject(Reject { code, retry_after_seconds: 0 }).await;
    }

    /// Waits until the session that was welcomed last is up at the agent.
    async fn up(&mut self) {
        let wanted = SessionId::new([self.sessions; 16]);
        soon(self.link.wait_for(|link| matches!(link, Link::Up { session, .. } if *session == wanted))).await;
    }
}

impl Serving {
    async fn echo(&self, text: &str) {
        let mut stream = self.session.open(APISERVER, SOON).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut back = String::new();
        soon(stream.read_to_string(&mut back)).await.unwrap();
        assert_eq!(back, text);
    }

    /// The next message that is no heartbeat.
    async fn next(&mut self) -> AgentMessage {
        loop {
            let message = soon(self.control.recv()).await.unwrap().unwrap();
            if !matches!(message, AgentMessage::Heartbeat(_)) {
                return message;
            }
        }
    }
}

#[tokio::test]
async fn a_lost_session_is_replaced_whole() {
    let mut world = World::start().await;
    for round in 0..3 {
        let serving = world.welcome(Phase::Serving).await;
        world.up().await;
        assert_eq!(world.link.ready(), Ok(()));
        serving.echo(&format!("round {round}")).await;
        drop(serving);
        let lost = |link: &Link| !matches!(link, Link::Up { .. });
        soon(world.link.wait_for(lost)).await;
        assert!(world.link.ready().is_err());
        assert_eq!(world.link.alive(), Ok(()));
    }
}

#[tokio::test]
async fn an_agent_that_is_refused_tries_for_ever_and_stays_alive() {
    let mut world = World::start().await;
    for code in [RejectCode::ClusterDeleted, RejectCode::Unauthenticated, RejectCode::Busy] {
        world.reject(code).await;
        let refused = |link: &Link| matches!(link, Link::Waiting { why: cattle_agent::link::Why::Failed { code: seen, .. }, .. } if *seen == code.name());
        soon(world.link.wait_for(refused)).await;
        assert_eq!(world.link.alive(), Ok(()));
    }
    world.welcome(Phase::Serving).await;
}

#[tokio::test]
async fn a_registration_token_is_shown_only_to_who_asks_for_it() {
    let mut world = World::start().await;
    world.files.write_registration_token();
    for code in [RejectCode::NotRegistered, RejectCode::UnknownSigningKey, RejectCode::Unauthenticated] {
        let greeting = world.server.greeting().await;
        assert!(
            matches!(&greeting.hello().credential, Credential::ServiceAccount { token, .. } if token.expose() == TOKEN)
        );
        greeting.reject(Reject { code, retry_after_seconds: 0 }).await;
        let greeting = world.server.greeting().await;
        let Credential::Registration { registration_token, claim, token, .. } = &greeting.hello().credential else {
            panic!("{code:?} asks for a registration");
        };
        assert_eq!((registration_token.expose(), token.expose()), (REGISTRATION_TOKEN, TOKEN));
        assert_eq!(claim.kube_system_uid.as_str(), UID);
        greeting.reject(Reject { code: RejectCode::RegistrationTokenExpired, retry_after_seconds: 0 }).await;
    }
    world.reject(RejectCode::WrongAudience).await;
    let greeting = world.server.greeting().await;
    assert!(matches!(greeting.hello().credential, Credential::ServiceAccount { .. }));
}

#[tokio::test]
async fn a_registration_hands_over_the_servers_credential_and_then_serves() {
    let mut world = World::start().await;
    world.files.write_registration_token();
    world.reject(RejectCode::NotRegistered).await;
    let greeting = world.server.greeting().await;
    assert!(matches!(greeting.hello().credential, Credential::Registration { .. }));
    let mut registering = world.welcome_greeting(greeting, Phase::Registration).await;
    world.up().await;
    assert_eq!(world.link.ready(), Err("registering".into()));
    let AgentMessage::ServerCredential(credential) = registering.next().await else {
        panic!("the credential comes unasked");
    };
    assert_eq!((credential.token.expose(), credential.expires_at), ("server.token", 1_900_000_000));
    registering.echo("the server looks at the cluster through the session").await;
    registering.control.send(&ServerMessage::Registered).await.unwrap();
    registering.control.send(&ServerMessage::GoAway(GoAway::default())).await.unwrap();
    let greeting = world.server.greeting().await;
    assert!(matches!(greeting.hello().credential, Credential::ServiceAccount { .. }));
    world.welcome_greeting(greeting, Phase::Serving).await;
    world.up().await;
}

#[tokio::test]
async fn a_registration_that_fails_is_followed_by_the_projected_token() {
    let mut world = World::start().await;
    world.files.write_registration_token();
    world.reject(RejectCode::NotRegistered).await;
    let mut registering = world.welcome(Phase::Registration).await;
    let failed = ServerMessage::RegistrationFailed { code: RejectCode::IdentityMismatch };
    registering.control.send(&failed).await.unwrap();
    let greeting = world.server.greeting().await;
    assert!(matches!(greeting.hello().credential, Credential::ServiceAccount { .. }));
}

#[tokio::test]
async fn a_new_token_is_proved_in_the_running_session() {
    let control = ControlTimes { token_check: Duration::from_millis(10), ..ControlTimes::default() };
    let mut world = World::with(Options { control, ..Options::default() }).await;
    let mut serving = world.welcome(Phase::Serving).await;
    for token in ["projected.token.two", "projected.token.three"] {
        world.files.write_token(token);
        let AgentMessage::Proof { token: proved } = serving.next().await else { panic!("a proof is due") };
        assert_eq!(proved.expose(), token);
    }
    // A file that is gone for a while costs nothing, and the same token is not proved twice.
    std::fs::remove_file(world.files.token().path()).unwrap();
    world.files.write_token("projected.token.three");
    world.files.write_token("projected.token.four");
    let AgentMessage::Proof { token: proved } = serving.next().await else { panic!("a proof is due") };
    assert_eq!(proved.expose(), "projected.token.four");
}

#[tokio::test]
async fn the_server_gets_a_credential_or_the_reason_why_not() {
    let mut world = World::start().await;
    let mut serving = world.welcome(Phase::Serving).await;
    serving.control.send(&ServerMessage::CredentialRequest).await.unwrap();
    assert_eq!(serving.next().await.name(), "ServerCredential");
    world.cluster.forbidden.store(true, Ordering::Relaxed);
    serving.control.send(&ServerMessage::CredentialRequest).await.unwrap();
    let AgentMessage::ServerCredentialFailed(failure) = serving.next().await else { panic!("it is forbidden") };
    assert_eq!(failure.code, CredentialFailureCode::Forbidden);
}

#[tokio::test]
async fn a_retired_session_carries_its_streams_until_they_end() {
    let mut world = World::start().await;
    let mut old = world.welcome(Phase::Serving).await;
    let mut stream = old.session.open(APISERVER, SOON).await.unwrap();
    let go_away = GoAway::new(Duration::ZERO, Duration::from_secs(600));
    old.control.send(&ServerMessage::GoAway(go_away)).await.unwrap();
    let new = world.welcome(Phase::Serving).await;
    world.up().await;
    new.echo("the new one serves").await;
    stream.write_all(b"and the old one goes on").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut back = String::new();
    soon(stream.read_to_string(&mut back)).await.unwrap();
    assert_eq!(back, "and the old one goes on");
    old.session.handle().close();
    soon(old.session.handle().closed()).await;
    assert_eq!(world.link.ready(), Ok(()), "the end of the old session is not the end of the link");
}

#[tokio::test]
async fn more_streams_than_the_cap_are_refused_as_busy() {
    let mut world = World::with(Options { streams: 2, ..Options::default() }).await;
    let serving = world.welcome(Phase::Serving).await;
    let first = serving.session.open(APISERVER, SOON).await.unwrap();
    let _second = serving.session.open(APISERVER, SOON).await.unwrap();
    let refused = serving.session.open(APISERVER, SOON).await;
    assert_eq!(refused.err(), Some(OpenError::Refused(RefusedCode::Busy)));
    drop(first);
    let free = async {
        while serving.session.open(APISERVER, SOON).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    soon(free).await;
}

#[tokio::test]
async fn a_draining_agent_says_so_and_lets_streams_finish() {
    let mut world = World::start().await;
    let mut serving = world.welcome(Phase::Serving).await;
    let mut stream = serving.session.open(APISERVER, SOON).await.unwrap();
    world.shutdown.drain();
    assert_eq!(serving.next().await.name(), "Leaving");
    let refused = serving.session.open(APISERVER, SOON).await;
    assert_eq!(refused.err(), Some(OpenError::Refused(RefusedCode::Draining)));
    stream.write_all(b"finish").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut back = String::new();
    soon(stream.read_to_string(&mut back)).await.unwrap();
    assert_eq!(back, "finish");
    drop(stream);
    soon(world.agent.join_next()).await.unwrap().unwrap();
    assert_eq!(world.link.link(), Link::Stopped);
    assert_eq!(world.server.connections(), 2, "one for the CA, one for the session, none after the drain");
}
