//! The gateway with agents that connect over real sockets.
#![expect(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cattle_gateway::{
    AgentAuthority, AgentIdentity, DialError, DrainTime, Gateway, GatewayConfig, GatewayMetrics, Link, Registration,
    RegistrationPermit, SessionEvents,
    health::{Evidence, Health},
};
use cattle_proto::control::{
    AgentMessage, CredentialFailure, CredentialFailureCode, Facts, Heartbeat, ServerCredential, ServerMessage,
};
use cattle_proto::handshake::{AgentKind, ClusterClaim, Credential, Hello, Phase, RejectCode};
use cattle_proto::id::{ClusterId, InstanceId};
use cattle_proto::secret::Secret;
use cattle_proto::stream::RefusedCode;
use cattle_proto::version::{ProtocolVersion, VersionRange};
use cattle_tunnel::{AgentEnd, CloseReason, HandshakeError, SessionConfig, UpgradeError, WebSocket, connect};
use futures_util::future::BoxFuture;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

const TIME: Duration = Duration::from_secs(20);

/// Believes tokens `agent/<pod>/<seconds to live>`, and registers `c-new00` with `registration-token`. Tokens that begin
/// with `rotated` are signed by a key that is not known before `rotated`.
#[derive(Default)]
struct Authority {
    registered: Mutex<Vec<String>>,
    rotated: AtomicBool,
    unknown: AtomicUsize,
}

impl AgentAuthority for Authority {
    fn authenticate<'a>(
        &'a self,
        cluster: &'a ClusterId,
        token: &'a Secret,
    ) -> BoxFuture<'a, Result<AgentIdentity, RejectCode>> {
        Box::pin(async move {
            if cluster.as_str() == "c-slow0" {
                std::future::pending::<()>().await;
            }
            let mut parts = token.expose().split('/');
            let (Some(signer @ ("agent" | "node" | "rotated")), Some(pod), Some(lives)) =
                (parts.next(), parts.next(), parts.next())
            else {
                return Err(RejectCode::Unauthenticated);
            };
            if signer == "rotated" && !self.rotated.load(Ordering::SeqCst) {
                self.unknown.fetch_add(1, Ordering::SeqCst);
                return Err(RejectCode::UnknownSigningKey);
            }
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
            Ok(AgentIdentity {
                cluster: cluster.clone(),
                kind: if signer == "node" { AgentKind::NodeAgent } else { AgentKind::ClusterAgent },
                pod: pod.parse().unwrap(),
                pod_uid: format!("uid of {pod}"),
                node: None,
                expires_at: now.checked_add_signed(lives.parse().unwrap()).unwrap(),
            })
        })
    }

    fn begin_registration<'a>(
        &'a self,
        cluster: &'a ClusterId,
        registration_token: &'a Secret,
    ) -> BoxFuture<'a, Result<RegistrationPermit, RejectCode>> {
        let known = *registration_token == Secret::new("registration-token".to_owned());
        let permit = RegistrationPermit { cluster: cluster.clone(), token_made_at: 0 };
        Box::pin(async move { if known { Ok(permit) } else { Err(RejectCode::RegistrationTokenUnknown) } })
    }

    fn complete_registration(&self, registration: Registration) -> BoxFuture<'_, Result<(), RejectCode>> {
        Box::pin(async move {
            let Ok(mut stream) = registration.dialer.dial().await else {
                return Err(RejectCode::ApiServerUnreachable);
            };
            let mut uid = [0; 36];
            stream.read_exact(&mut uid).await.map_err(|_| RejectCode::ApiServerUnreachable)?;
            if uid != registration.claim.kube_system_uid.as_str().as_bytes() {
                return Err(RejectCode::ClaimMismatch);
            }
            self.registered.lock().push(registration.credential.token.expose().to_owned());
            Ok(())
        })
    }
}

#[derive(Default)]
struct Events(Mutex<Vec<String>>);

impl SessionEvents for Events {
    fn server_credential<'a>(&'a self, cluster: &'a ClusterId, credential: ServerCredential) -> BoxFuture<'a, ()> {
        self.0.lock().push(format!("{cluster} credential {}", credential.expires_at));
        Box::pin(async {})
    }

    fn server_credential_failed<'a>(&'a self, cluster: &'a ClusterId, failure: CredentialFailure) -> BoxFuture<'a, ()> {
        self.0.lock().push(format!("{cluster} {}", failure.code.name()));
        Box::pin(async {})
    }

    fn facts<'a>(&'a self, identity: &'a AgentIdentity, facts: Facts) -> BoxFuture<'a, ()> {
        self.0.lock().push(format!("{} {}", identity.pod, facts.as_str()));
        Box::pin(async {})
    }
}

struct Rig {
    gateway: Gateway,
    authority: Arc<Authority>,
    events: Arc<Events>,
    metrics: GatewayMetrics,
    address: SocketAddr,
    tasks: JoinSet<()>,
}

impl Rig {
    async fn new() -> Self {
        Self::with(GatewayConfig::default()).await
    }

    async fn with(config: GatewayConfig) -> Self {
        let (authority, events) = (Arc::new(Authority::default()), Arc::new(Events::default()));
        let metrics = config.metrics.clone();
        let gateway = Gateway::new(config, authority.clone(), events.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(listener, gateway.clone()));
        Self { gateway, authority, events, metrics, address, tasks }
    }

    async fn agent(&self, hello: &Hello) -> Result<AgentEnd<TcpStream>, HandshakeError> {
        let socket = self.socket().await.unwrap();
        connect(socket, hello, SessionConfig::default()).await
    }

    async fn socket(&self) -> Result<WebSocket<TcpStream>, UpgradeError> {
        let tcp = TcpStream::connect(self.address).await.unwrap();
        WebSocket::upgrade(tcp, &format!("ws://{}/v3/connect", self.address)).await
    }

    /// An agent that echoes every stream, connected and in the registry.
    async fn echo(&mut self, hello: &Hello) -> Echo {
        let mut end = self.agent(hello).await.unwrap();
        assert_eq!(end.welcome.phase, Phase::Serving);
        self.tasks.spawn(async move {
            let _ = end.driver.run().await;
        });
        end.control.send(&heartbeat(0)).await.unwrap();
        let mut incoming = end.incoming;
        self.tasks.spawn(async move {
            let mut streams = JoinSet::new();
            while let Some(pending) = incoming.accept().await {
                streams.spawn(async move {
                    let (mut reader, mut writer) = tokio::io::split(pending.accept().await.unwrap());
                    let _ = tokio::io::copy(&mut reader, &mut writer).await;
                    let _ = writer.shutdown().await;
                });
            }
        });
        let id = end.session.id();
        self.until(|rig| rig.gateway.registry().members(hello.credential.cluster()).iter().any(|m| m.id() == id)).await;
        Echo { session: end.session, control: end.control }
    }

    /// Waits for a condition that changes with the registry.
    async fn until(&self, condition: impl Fn(&Self) -> bool) {
        let mut changes = self.gateway.registry().changes();
        let waiting = async {
            while !condition(self) {
                changes.changed().await.unwrap();
            }
        };
        tokio::time::timeout(TIME, waiting).await.expect("the registry does not come to that");
    }

    /// Waits for a condition that nobody announces.
    async fn eventually(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        let waiting = async {
            while !condition(self) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(TIME, waiting).await.unwrap_or_else(|_| panic!("{what}"));
    }
}

struct Echo {
    session: cattle_tunnel::SessionHandle,
    control: cattle_tunnel::AgentControl,
}

async fn serve(listener: TcpListener, gateway: Gateway) {
    let mut connections = JoinSet::new();
    loop {
        let (tcp, peer) = listener.accept().await.unwrap();
        let gateway = gateway.clone();
        connections.spawn(async move {
            let service = service_fn(|request| {
                let response = gateway.upgrade(request, Some(peer));
                async move { Ok::<_, std::convert::Infallible>(response) }
            });
            let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(tcp), service);
            let _ = connection.with_upgrades().await;
        });
    }
}

/// The numbers of clusters and sessions, as Prometheus gets them.
fn scrape(gateway: &Gateway) -> String {
    let (mut registry, mut text) = (prometheus_client::registry::Registry::default(), String::new());
    registry.register_collector(Box::new(cattle_gateway::Sessions::new(gateway)));
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    text
}

fn heartbeat(sequence: u64) -> AgentMessage {
    AgentMessage::Heartbeat(Heartbeat { sequence, streams: 0 })
}

fn cluster(id: &str) -> ClusterId {
    id.parse().unwrap()
}

fn hello(id: &str, instance: u8, token: &str) -> Hello {
    let credential = Credential::ServiceAccount { cluster: cluster(id), token: Secret::new(token.to_owned()) };
    Hello { credential, instance: InstanceId::new([instance; 16]), ..cattle_tunnel::testing::hello() }
}

fn registration(token: &str) -> Hello {
    let credential = Credential::Registration {
        cluster: cluster("c-new00"),
        registration_token: Secret::new(token.to_owned()),
        claim: ClusterClaim {
            kube_system_uid: "8c6a9f0e-57a7-4a2e-9b3e-1d2c3b4a5f60".parse().unwrap(),
            ca_pem: "-----BEGIN CERTIFICATE-----\n".parse().unwrap(),
            server_name: "kubernetes.default.svc".parse().unwrap(),
        },
        token: Secret::new("agent/pod-1/3600".to_owned()),
    };
    Hello { credential, ..hello("c-new00", 1, "unused") }
}

fn node_agent(id: &str, instance: u8, token: &str) -> Hello {
    Hello { kind: AgentKind::NodeAgent, ..hello(id, instance, token) }
}

async fn echoes(rig: &Rig, id: &str) {
    let mut dialed = tokio::time::timeout(TIME, rig.gateway.dial(&cluster(id))).await.unwrap().unwrap();
    dialed.stream.write_all(b"hello").await.unwrap();
    dialed.stream.shutdown().await.unwrap();
    let mut back = Vec::new();
    dialed.stream.read_to_end(&mut back).await.unwrap();
    assert_eq!(back, b"hello");
}

#[tokio::test]
async fn an_agent_connects_and_streams_reach_it() {
    let mut rig = Rig::new().await;
    let id = cluster("c-abcde");
    assert_eq!(rig.gateway.registry().link(&id), Link::Disconnected { since: None, last_reject: None });
    assert_eq!(rig.gateway.dial(&id).await.unwrap_err(), DialError::NotConnected { since: None });
    let mut agent = rig.echo(&hello("c-abcde", 1, "agent/pod-1/3600")).await;
    assert!(matches!(rig.gateway.registry().link(&id), Link::Connected { sessions: 1, .. }));
    echoes(&rig, "c-abcde").await;
    assert_eq!(rig.gateway.dial(&cluster("c-other")).await.unwrap_err(), DialError::NotConnected { since: None });

    agent.control.send(&heartbeat(7)).await.unwrap();
    agent.control.send(&AgentMessage::Facts(Facts::try_from("{}".to_owned()).unwrap())).await.unwrap();
    assert!(rig.gateway.request_credential(&id));
    assert_eq!(agent.control.recv().await.unwrap(), Some(ServerMessage::CredentialRequest));
    let credential = ServerCredential { token: Secret::new("t".to_owned()), expires_at: 42 };
    agent.control.send(&AgentMessage::ServerCredential(credential)).await.unwrap();
    rig.eventually("events arrive", |rig| *rig.events.0.lock() == ["pod-1 {}", "c-abcde credential 42"]).await;
    let member = rig.gateway.registry().members(&id).remove(0);
    assert_eq!(member.heartbeat().unwrap().0.sequence, 7);

    let labels = r#"{cluster="c-abcde",agent="cluster-agent",pod="pod-1",node=""}"#;
    let cluster_labels = r#"{cluster="c-abcde"}"#;
    let shown = scrape(&rig.gateway);
    for line in [
        format!("cluster_connected{cluster_labels} 1"),
        format!("cluster_sessions_opened_total{cluster_labels} 1.0"),
        r#"cluster_dials_total{cluster="c-abcde",outcome="Opened"} 1.0"#.to_owned(),
        format!("session_healthy{labels} 1.0"),
        // The control stream and the one of the echo, whose five bytes went each way.
        format!("session_streams_opened_total{labels} 2"),
        format!("session_resets_received_total{labels} 0"),
    ] {
        assert!(shown.lines().any(|other| other == line), "no {line} in\n{shown}");
    }

    agent.session.close();
    rig.until(|rig| matches!(rig.gateway.registry().link(&id), Link::Disconnected { since: Some(_), .. })).await;
    assert!(matches!(rig.gateway.dial(&id).await.unwrap_err(), DialError::NotConnected { since: Some(_) }));
    let ended = r#"cluster_sessions_closed_total{cluster="c-abcde",reason="peer_closed"} 1.0"#;
    rig.eventually("the end is counted", |rig| scrape(&rig.gateway).lines().any(|line| line == ended)).await;
    let shown = scrape(&rig.gateway);
    assert!(shown.contains(&format!("cluster_connected{cluster_labels} 0\n")) && !shown.contains("pod-1"), "{shown}");
    assert!(shown.contains(r#"cluster_dials_total{cluster="c-abcde",outcome="NotConnected"} 1.0"#), "{shown}");
}

#[tokio::test]
async fn refusals_have_their_codes_and_are_remembered() {
    let rig = Rig::new().await;
    let newer = ProtocolVersion::try_from(9).unwrap();
    let versions = VersionRange::new(newer, newer).unwrap();
    let cases = [
        (hello("c-abcde", 1, "nonsense"), RejectCode::Unauthenticated),
        (Hello { versions, ..hello("c-abcde", 1, "agent/pod-1/3600") }, RejectCode::VersionUnsupported),
        (Hello { kind: AgentKind::NodeAgent, ..hello("c-abcde", 1, "agent/pod-1/3600") }, RejectCode::WrongKind),
        (registration("guess"), RejectCode::RegistrationTokenUnknown),
        (Hello { kind: AgentKind::NodeAgent, ..registration("registration-token") }, RejectCode::WrongKind),
    ];
    for (hello, code) in cases {
        let refused = rig.agent(&hello).await.map(drop).unwrap_err();
        assert!(matches!(refused, HandshakeError::Rejected(reject) if reject.code == code), "{code:?}: {refused:?}");
        let link = rig.gateway.registry().link(hello.credential.cluster());
        assert!(matches!(link, Link::Disconnected { last_reject: Some(last), .. } if last.code == code), "{link:?}");
    }
}

#[tokio::test]
async fn too_many_half_open_peers_are_turned_away_and_make_room_again() {
    let rig = Rig::with(GatewayConfig { half_open: 1, ..GatewayConfig::default() }).await;
    let silent = rig.socket().await.unwrap();
    let refused = rig.socket().await.map(drop).unwrap_err();
    assert!(matches!(refused, UpgradeError::Status { status: 503, retry_after: Some(5) }), "{refused:?}");
    drop(silent);
    let retry = async {
        while rig.socket().await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(TIME, retry).await.expect("the place is not given back");
}

#[tokio::test]
async fn a_registration_binds_through_its_own_session_and_carries_nothing_else() {
    let rig = Rig::new().await;
    for (answer, outcome) in [
        ("8c6a9f0e-57a7-4a2e-9b3e-1d2c3b4a5f60", ServerMessage::Registered),
        ("00000000-57a7-4a2e-9b3e-1d2c3b4a5f60", ServerMessage::RegistrationFailed { code: RejectCode::ClaimMismatch }),
    ] {
        let mut end = rig.agent(&registration("registration-token")).await.unwrap();
        assert_eq!(end.welcome.phase, Phase::Registration);
        let session = end.session.clone();
        let agent = async {
            end.control.send(&heartbeat(0)).await.unwrap();
            let credential = ServerCredential { token: Secret::new(answer.to_owned()), expires_at: 42 };
            end.control.send(&AgentMessage::ServerCredential(credential)).await.unwrap();
            let mut stream = end.incoming.accept().await.unwrap().accept().await.unwrap();
            assert!(rig.gateway.dial(&cluster("c-new00")).await.is_err(), "users must not reach it yet");
            stream.write_all(answer.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
            assert_eq!(end.control.recv().await.unwrap(), Some(outcome));
            if outcome == ServerMessage::Registered {
                let goaway = end.control.recv().await.unwrap();
                assert!(matches!(goaway, Some(ServerMessage::GoAway(goaway)) if goaway.reconnect_in().is_zero()));
            }
            session.close();
        };
        let (_, ()) = tokio::join!(Box::pin(end.driver.run()), Box::pin(agent));
    }
    assert_eq!(*rig.authority.registered.lock(), ["8c6a9f0e-57a7-4a2e-9b3e-1d2c3b4a5f60"]);
}

/// What a registration session ends with when the agent's first message is `message`.
async fn failed_registration(message: AgentMessage) -> Option<ServerMessage> {
    let rig = Rig::new().await;
    let mut end = rig.agent(&registration("registration-token")).await.unwrap();
    let session = end.session.clone();
    let agent = async {
        end.control.send(&message).await.unwrap();
        let outcome = end.control.recv().await.unwrap();
        session.close();
        outcome
    };
    tokio::join!(Box::pin(end.driver.run()), Box::pin(agent)).1
}

#[tokio::test]
async fn a_registration_without_a_credential_is_refused_by_name() {
    use CredentialFailureCode::{Forbidden, Internal, ServiceAccountMissing, Unreachable};
    for (failure, code) in [
        (Unreachable, RejectCode::ApiServerUnreachable),
        (Forbidden, RejectCode::CredentialRefused),
        (ServiceAccountMissing, RejectCode::CredentialRefused),
        (Internal, RejectCode::CredentialRefused),
    ] {
        let message = AgentMessage::ServerCredentialFailed(CredentialFailure { code: failure });
        let outcome = failed_registration(message).await;
        assert_eq!(outcome, Some(ServerMessage::RegistrationFailed { code }), "{failure:?}");
    }
    let outcome = failed_registration(AgentMessage::Leaving).await;
    assert_eq!(outcome, Some(ServerMessage::RegistrationFailed { code: RejectCode::Malformed }));
}

#[tokio::test]
async fn a_registration_that_a_stop_interrupts_is_to_be_tried_again() {
    let rig = Rig::new().await;
    let mut end = rig.agent(&registration("registration-token")).await.unwrap();
    let session = end.session.clone();
    let agent = async {
        end.control.send(&heartbeat(0)).await.unwrap();
        let stop = rig.gateway.shutdown(Duration::from_secs(60));
        let answer = async {
            let outcome = end.control.recv().await.unwrap();
            session.close();
            outcome
        };
        tokio::join!(stop, answer).1
    };
    let (_, outcome) = tokio::join!(Box::pin(end.driver.run()), Box::pin(agent));
    assert_eq!(outcome, Some(ServerMessage::RegistrationFailed { code: RejectCode::Busy }));
}

#[tokio::test]
async fn a_refusing_route_is_followed_by_the_next() {
    let mut rig = Rig::new().await;
    let _healthy = rig.echo(&hello("c-abcde", 1, "agent/pod-1/3600")).await;
    let mut sick = rig.agent(&hello("c-abcde", 2, "agent/pod-2/3600")).await.unwrap();
    sick.control.send(&heartbeat(0)).await.unwrap_or_else(|error| panic!("{error}"));
    let (mut incoming, session, asked) = (sick.incoming, sick.session.id(), Arc::new(Mutex::new(0)));
    rig.tasks.spawn(async move {
        let _ = sick.driver.run().await;
    });
    let counted = Arc::clone(&asked);
    rig.tasks.spawn(async move {
        while let Some(pending) = incoming.accept().await {
            *counted.lock() += 1;
            pending.refuse(RefusedCode::ConnectionRefused).await;
        }
    });
    rig.until(|rig| matches!(rig.gateway.registry().link(&cluster("c-abcde")), Link::Connected { sessions: 2, .. }))
        .await;
    for _ in 0..4 {
        echoes(&rig, "c-abcde").await;
    }
    assert_eq!(*asked.lock(), 1, "a session that does not reach its target is asked no more");
    let (id, registry) = (cluster("c-abcde"), rig.gateway.registry());
    let health = |session| {
        let members = registry.members(&id);
        members.into_iter().find(|member| member.id() == session).map(|member| member.health())
    };
    let failing = &rig.metrics.sessions_failing;
    assert_eq!((health(session), failing.get()), (Some(Health::Bad), 1));
    registry.observe(&id, session, Evidence::Passed);
    assert_eq!((health(session), failing.get()), (Some(Health::Recovering), 0));
    echoes(&rig, "c-abcde").await;
    assert_eq!(*asked.lock(), 1, "it has to be well for a while first");
    registry.observe(&id, session, Evidence::Failed);
    assert_eq!(failing.get(), 1);
    registry.forget(&id);
    rig.eventually("what has ended fails no more", |rig| rig.metrics.sessions_failing.get() == 0).await;
}

#[tokio::test]
async fn an_only_route_may_take_its_time_and_another_is_not_waited_for() {
    let mut rig = Rig::new().await;
    let mut slow = rig.agent(&hello("c-abcde", 1, "agent/pod-1/3600")).await.unwrap();
    slow.control.send(&heartbeat(0)).await.unwrap_or_else(|error| panic!("{error}"));
    let (mut incoming, session) = (slow.incoming, slow.session.id());
    rig.tasks.spawn(async move {
        let _ = slow.driver.run().await;
    });
    rig.tasks.spawn(async move {
        let mut streams = JoinSet::new();
        while let Some(pending) = incoming.accept().await {
            streams.spawn(async move {
                // Longer than a route has while there is another one.
                tokio::time::sleep(Duration::from_millis(2_500)).await;
                let Ok(stream) = pending.accept().await else { return };
                let (mut reader, mut writer) = tokio::io::split(stream);
                let _ = tokio::io::copy(&mut reader, &mut writer).await;
                let _ = writer.shutdown().await;
            });
        }
    });
    let id = cluster("c-abcde");
    rig.until(|rig| !rig.gateway.registry().members(&id).is_empty()).await;
    echoes(&rig, "c-abcde").await;
    assert_eq!(rig.gateway.registry().members(&id)[0].health(), Health::Good);
    // Of two, the newer one is tried first; the slow one becomes it when the other carries more.
    let fast = rig.echo(&hello("c-abcde", 2, "agent/pod-2/3600")).await;
    let busy = rig.gateway.dial(&id).await.unwrap();
    assert_eq!(busy.session, fast.session.id());
    let next = rig.gateway.dial(&id).await.unwrap();
    assert_eq!(next.session, fast.session.id());
    let health = rig.gateway.registry().members(&id).into_iter().find(|member| member.id() == session);
    assert_eq!(health.map(|member| member.health()), Some(Health::Bad));
}

#[tokio::test]
async fn a_node_agent_stands_in_while_no_cluster_agent_is_there() {
    let mut rig = Rig::new().await;
    let id = cluster("c-abcde");
    let node = rig.echo(&node_agent("c-abcde", 1, "node/pod-1/3600")).await;
    echoes(&rig, "c-abcde").await;
    assert!(!rig.gateway.request_credential(&id), "a node has no right to get one");
    let first = rig.echo(&hello("c-abcde", 2, "agent/pod-2/3600")).await;
    let carrier = async |rig: &Rig| rig.gateway.dial(&id).await.unwrap().session;
    assert_eq!(carrier(&rig).await, node.session.id(), "a cluster agent that comes back has to be well for a while");
    let second = rig.echo(&hello("c-abcde", 3, "agent/pod-3/3600")).await;
    assert_eq!(carrier(&rig).await, node.session.id(), "and so has every replica");
    rig.gateway.registry().observe(&id, second.session.id(), Evidence::Failed);
    rig.gateway.registry().observe(&id, first.session.id(), Evidence::Failed);
    assert_eq!(carrier(&rig).await, node.session.id(), "its agent does not reach the API server");
    rig.gateway.registry().observe(&id, node.session.id(), Evidence::Failed);
    let last = carrier(&rig).await;
    assert!([first.session.id(), second.session.id()].contains(&last), "nobody does");
    for agent in [node, first, second] {
        agent.session.close();
    }
    rig.until(|rig| matches!(rig.gateway.registry().link(&id), Link::Disconnected { .. })).await;
}

#[tokio::test]
async fn a_node_cannot_choose_the_servers_credential() {
    let mut rig = Rig::new().await;
    let id = cluster("c-abcde");
    let mut node = rig.echo(&node_agent("c-abcde", 1, "node/pod-1/3600")).await;
    let credential = ServerCredential { token: Secret::new("t".to_owned()), expires_at: 42 };
    node.control.send(&AgentMessage::ServerCredential(credential)).await.unwrap();
    rig.until(|rig| matches!(rig.gateway.registry().link(&id), Link::Disconnected { .. })).await;
    assert!(rig.events.0.lock().is_empty());
}

#[tokio::test]
async fn a_pod_has_a_few_sessions_at_most() {
    let mut rig = Rig::new().await;
    let other = rig.echo(&hello("c-abcde", 99, "agent/pod-2/3600")).await;
    let mut agents = Vec::new();
    for instance in 1..=6 {
        agents.push(rig.echo(&hello("c-abcde", instance, "agent/pod-1/3600")).await);
    }
    let mut present: Vec<_> =
        rig.gateway.registry().members(&cluster("c-abcde")).iter().map(|member| member.id()).collect();
    present.sort_unstable_by_key(|id| *id.as_bytes());
    let mut expected: Vec<_> = agents[2..].iter().chain([&other]).map(|agent| agent.session.id()).collect();
    expected.sort_unstable_by_key(|id| *id.as_bytes());
    assert_eq!(present, expected);
    for agent in &agents[..2] {
        tokio::time::timeout(TIME, agent.session.closed()).await.expect("the oldest ends");
    }
}

#[tokio::test]
async fn the_newest_session_of_a_process_wins_and_the_old_one_drains() {
    let mut rig = Rig::new().await;
    let old = rig.echo(&hello("c-abcde", 1, "agent/pod-1/3600")).await;
    let mut running = rig.gateway.dial(&cluster("c-abcde")).await.unwrap();
    let new = rig.echo(&hello("c-abcde", 1, "agent/pod-1/3600")).await;
    rig.until(|rig| {
        let routes = rig.gateway.registry().routes(&cluster("c-abcde"));
        routes.len() == 1 && routes[0].id() == new.session.id()
    })
    .await;
    echoes(&rig, "c-abcde").await;
    running.stream.write_all(b"still here").await.unwrap();
    running.stream.read_exact(&mut [0; 10]).await.unwrap();
    drop(running);
    let closed = tokio::time::timeout(TIME, old.session.closed()).await.expect("the old session does not end");
    assert_eq!(closed, CloseReason::PeerClosed);
    assert_eq!(new.session.close_reason(), None);
}

#[tokio::test]
async fn a_proof_that_ends_ends_the_session_and_a_new_one_keeps_it() {
    let mut rig = Rig::new().await;
    // The leeway is a minute: this proof is over in about two seconds.
    let mut kept = rig.echo(&hello("c-abcde", 1, "agent/pod-1/-58")).await;
    let lost = rig.echo(&hello("c-other", 2, "agent/pod-2/-58")).await;
    kept.control.send(&AgentMessage::Proof { token: Secret::new("agent/pod-1/3600".to_owned()) }).await.unwrap();
    tokio::time::timeout(TIME, lost.session.closed()).await.expect("the proof is over");
    rig.until(|rig| {
        let link = rig.gateway.registry().link(&cluster("c-other"));
        matches!(link, Link::Disconnected { last_reject: Some(last), .. } if last.code == RejectCode::TokenExpired)
    })
    .await;
    assert_eq!(kept.session.close_reason(), None);
    echoes(&rig, "c-abcde").await;
    // Another pod's token is no proof of this one's.
    kept.control.send(&AgentMessage::Proof { token: Secret::new("agent/pod-9/3600".to_owned()) }).await.unwrap();
    tokio::time::timeout(TIME, kept.session.closed()).await.expect("a foreign proof ends the session");
}

/// The cluster signs with a new key, which the server reads through this very session.
#[tokio::test]
async fn a_proof_of_a_new_key_is_judged_again_while_the_last_one_stands() {
    let mut rig = Rig::new().await;
    let mut kept = rig.echo(&hello("c-abcde", 1, "agent/pod-1/-45")).await;
    let lost = rig.echo(&hello("c-other", 2, "agent/pod-2/-45")).await;
    let proof = |pod: &str| AgentMessage::Proof { token: Secret::new(format!("rotated/{pod}/3600")) };
    kept.control.send(&proof("pod-1")).await.unwrap();
    rig.eventually("the proof is looked at", |rig| rig.authority.unknown.load(Ordering::SeqCst) > 0).await;
    rig.authority.rotated.store(true, Ordering::SeqCst);
    tokio::time::timeout(TIME, lost.session.closed()).await.expect("the proof is over");
    assert_eq!(kept.session.close_reason(), None);
    echoes(&rig, "c-abcde").await;
}

/// What an operator changes while agents are connected.
#[derive(Debug)]
struct Setting(Mutex<Duration>);

impl DrainTime for Setting {
    fn drain_time(&self) -> BoxFuture<'_, Duration> {
        let now = *self.0.lock();
        Box::pin(async move { now })
    }
}

#[tokio::test]
async fn the_time_of_a_drain_is_the_one_when_it_begins() {
    let setting = Arc::new(Setting(Mutex::new(Duration::from_secs(3600))));
    let mut rig = Rig::with(GatewayConfig { drain: setting.clone(), ..GatewayConfig::default() }).await;
    let mut agent = rig.echo(&hello("c-abcde", 1, "agent/pod-1/3600")).await;
    let _running = rig.gateway.dial(&cluster("c-abcde")).await.unwrap();
    *setting.0.lock() = Duration::ZERO;
    agent.control.send(&AgentMessage::Leaving).await.unwrap();
    tokio::time::timeout(TIME, agent.session.closed()).await.expect("the session goes on for the time of its start");
}

#[tokio::test]
async fn a_leaving_agent_gets_no_new_streams_and_keeps_the_old() {
    let mut rig = Rig::new().await;
    let mut agent = rig.echo(&hello("c-abcde", 1, "agent/pod-1/3600")).await;
    let mut running = rig.gateway.dial(&cluster("c-abcde")).await.unwrap();
    agent.control.send(&AgentMessage::Leaving).await.unwrap();
    rig.until(|rig| matches!(rig.gateway.registry().link(&cluster("c-abcde")), Link::Disconnected { .. })).await;
    assert!(rig.gateway.dial(&cluster("c-abcde")).await.is_err());
    running.stream.write_all(b"x").await.unwrap();
    running.stream.read_exact(&mut [0; 1]).await.unwrap();
    drop(running);
    tokio::time::timeout(TIME, agent.session.closed()).await.expect("the session ends with its last stream");
}

#[tokio::test]
async fn a_stop_says_goodbye_lets_streams_end_and_joins_everything() {
    let mut rig = Rig::new().await;
    let mut agent = rig.echo(&hello("c-abcde", 1, "agent/pod-1/3600")).await;
    let mut running = rig.gateway.dial(&cluster("c-abcde")).await.unwrap();
    let gateway = rig.gateway.clone();
    let stop = gateway.shutdown(Duration::from_secs(60));
    let use_it = async {
        let goaway = agent.control.recv().await.unwrap();
        assert!(matches!(goaway, Some(ServerMessage::GoAway(goaway)) if goaway.try_for() == Duration::from_secs(60)));
        assert!(rig.gateway.dial(&cluster("c-abcde")).await.is_err());
        assert!(matches!(rig.socket().await.map(drop), Err(UpgradeError::Status { status: 503, .. })));
        running.stream.write_all(b"x").await.unwrap();
        running.stream.read_exact(&mut [0; 1]).await.unwrap();
        drop(running);
    };
    tokio::time::timeout(TIME, async { tokio::join!(stop, use_it) }).await.expect("the gateway does not stop");
}

#[tokio::test]
async fn a_deleted_cluster_is_cut_at_once() {
    let mut rig = Rig::new().await;
    let agent = rig.echo(&hello("c-abcde", 1, "agent/pod-1/3600")).await;
    let mut running = rig.gateway.dial(&cluster("c-abcde")).await.unwrap();
    rig.gateway.registry().forget(&cluster("c-abcde"));
    tokio::time::timeout(TIME, agent.session.closed()).await.expect("the session is not cut");
    assert!(running.stream.read(&mut [0; 1]).await.is_err());
}

/// A peer that sends each byte of its handshake alone, and one whose authority never answers.
#[tokio::test(start_paused = true)]
async fn slow_peers_cost_their_ten_seconds_and_nothing_else() {
    let authority = Arc::new(Authority::default());
    let gateway = Gateway::new(GatewayConfig::default(), authority, Arc::new(Events::default()));
    let (near, far, _) = cattle_tunnel::testing::wire(64 * 1024, Duration::ZERO);
    let hello = hello("c-slow0", 1, "agent/pod-1/3600");
    let agent = async { connect(WebSocket::client(far).await, &hello, SessionConfig::default()).await.map(drop) };
    let (refused, ()) = tokio::join!(Box::pin(agent), gateway.accept(near, cattle_gateway::PeerInfo::default()));
    assert!(
        matches!(
            refused,
            Err(HandshakeError::Timeout)
                | Err(HandshakeError::Rejected(cattle_proto::handshake::Reject { code: RejectCode::Timeout, .. }))
        ),
        "{refused:?}"
    );
}
