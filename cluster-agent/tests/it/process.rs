//! The binary as a process: connected, relaying, draining, and telling what is wrong.

use std::net::SocketAddr;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use cattle_agent::trust::CaChecksum;
use cattle_proto::control::{AgentMessage, GoAway, ServerMessage};
use cattle_proto::handshake::{Credential, Phase, Reject, RejectCode};
use cattle_proto::stream::{RefusedCode, StreamHeader, Target};
use cattle_tunnel::testing::welcome;
use cattle_tunnel::{CloseReason, OpenError, ServerControl, Session, SessionConfig};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, ChildStderr, Command};
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use crate::api_server::{ApiServer, UID};
use crate::pki::Ca;
use crate::server::{Agent, Answer, Server, header, read_head};
use crate::support::{SOON, soon};

const NAME: &str = "kubernetes.default.svc";
/// A name of the server that only a proxy knows: loopback never goes through one.
const PROXIED: &str = "cattle.internal.test";
const APISERVER: StreamHeader = StreamHeader::to(Target::KubeApiserver);
/// Largest resident memory of an idle agent. The design's figure is for a release build; a debug build is larger in code,
/// so the figure here is of the memory that is its own.
const IDLE_BYTES: u64 = 20 * 1024 * 1024;

/// A cluster and a management server, with the files of an agent between them.
struct World {
    kubernetes_ca: Ca,
    api_server: ApiServer,
    ca: Ca,
    server: Server,
    files: TempDir,
}

impl World {
    async fn start() -> Self {
        let (kubernetes_ca, ca, files) = (Ca::new("kubernetes"), Ca::new("Cattle CA"), tempfile::tempdir().unwrap());
        let api_server = ApiServer::start(kubernetes_ca.server(&[NAME]), 0).await;
        let server = Server::start(ca.server(&["127.0.0.1", PROXIED]), ca.pem(), Answer::Upgrade).await;
        for (name, text) in
            [("ca.crt", kubernetes_ca.pem()), ("sa-token", "sa.token".into()), ("agent-token", "agent.token".into())]
        {
            std::fs::write(files.path().join(name), text).unwrap();
        }
        Self { kubernetes_ca, api_server, ca, server, files }
    }

    /// The binary with this world's arguments and an otherwise empty environment.
    fn command(&self) -> Command {
        let path = |name: &str| self.files.path().join(name);
        let mut command = Command::new(env!("CARGO_BIN_EXE_cattle-cluster-agent"));
        command
            .env_clear()
            .env("CATTLE_SERVER", self.server.url())
            .env("CATTLE_CA_CHECKSUM", CaChecksum::of(&self.ca.pem()).to_string())
            .env("CATTLE_CLUSTER_ID", "c-test1")
            .env("CATTLE_SERVER_ID", "0b6a7a5e")
            .env("CATTLE_TOKEN_FILE", path("agent-token"))
            .env("CATTLE_CREDENTIALS_DIR", self.files.path())
            .env("CATTLE_KUBERNETES_ADDRESS", self.api_server.address.to_string())
            .env("CATTLE_KUBERNETES_CA_FILE", path("ca.crt"))
            .env("CATTLE_SERVICE_ACCOUNT_TOKEN_FILE", path("sa-token"))
            .env("CATTLE_LOG_FORMAT", "json")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    async fn agent(&self) -> Process {
        Process::start(self.command()).await
    }

    async fn welcome(&mut self, phase: Phase) -> Serving {
        let greeting = self.server.greeting().await;
        Serving::welcome(greeting, phase).await
    }
}

/// A running agent.
struct Process {
    child: Child,
    log: Lines<BufReader<ChildStderr>>,
    admin: SocketAddr,
}

impl Process {
    async fn start(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        let admin = loop {
            let line =
                soon(log.next_line()).await.unwrap().expect("the agent ended before its admin listener was there");
            let line: serde_json::Value = serde_json::from_str(&line).unwrap();
            if line["message"] == "admin listener" {
                break line["admin"].as_str().unwrap().parse().unwrap();
            }
        };
        Self { child, log, admin }
    }

    async fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.admin).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.admin);
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut response = String::new();
        soon(stream.read_to_string(&mut response)).await.unwrap();
        response
    }

    async fn ready(&self, wanted: bool) -> String {
        let status = if wanted { "HTTP/1.1 200 " } else { "HTTP/1.1 503 " };
        let waiting = async {
            loop {
                let response = self.get("/readyz?verbose").await;
                if response.starts_with(status) {
                    return response;
                }
                tokio::task::yield_now().await;
            }
        };
        soon(waiting).await
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().unwrap().cast_signed()), signal).unwrap();
    }

    /// Its end, and the rest of its log.
    async fn ended(mut self) -> (ExitStatus, String) {
        let mut log = String::new();
        while let Some(line) = soon(self.log.next_line()).await.unwrap() {
            log += &line;
            log.push('\n');
        }
        (soon(self.child.wait()).await.unwrap(), log)
    }
}

/// A session with the agent, seen by the server.
struct Serving {
    session: Session,
    control: ServerControl,
    _driver: JoinSet<CloseReason>,
}

impl Serving {
    async fn welcome(greeting: Agent, phase: Phase) -> Self {
        let end = soon(greeting.welcome(welcome(phase), SessionConfig::default())).await.unwrap();
        let mut driver = JoinSet::new();
        driver.spawn(end.driver.run());
        let control = soon(end.control.arrive()).await.unwrap();
        Self { session: end.session, control, _driver: driver }
    }

    async fn next(&mut self) -> AgentMessage {
        loop {
            let message = soon(self.control.recv()).await.unwrap().unwrap();
            if !matches!(message, AgentMessage::Heartbeat(_)) {
                return message;
            }
        }
    }

    /// One request to the API server, over TLS through the tunnel.
    async fn get(&self, ca: &Ca, path: &str) -> String {
        let stream = self.session.open(APISERVER, SOON).await.unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(ca.pem().as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from(NAME).unwrap();
        let mut tls = soon(TlsConnector::from(Arc::new(config)).connect(name, stream)).await.unwrap();
        tls.write_all(format!("GET {path} HTTP/1.1\r\nHost: {NAME}\r\n\r\n").as_bytes()).await.unwrap();
        tls.shutdown().await.unwrap();
        let mut answer = Vec::new();
        // The API server of these tests hangs up without a TLS farewell.
        soon(tls.read_to_end(&mut answer)).await.ok();
        String::from_utf8(answer).unwrap()
    }
}

#[tokio::test]
async fn it_registers_serves_and_drains() {
    let mut world = World::start().await;
    std::fs::write(world.files.path().join("token"), "registration-token\n").unwrap();
    let agent = world.agent().await;
    let response = agent.ready(false).await;
    assert!(response.contains("[-] session: "), "{response}");

    let greeting = world.server.greeting().await;
    greeting.reject(Reject { code: RejectCode::NotRegistered, retry_after_seconds: 0 }).await;
    let greeting = world.server.greeting().await;
    let Credential::Registration { claim, registration_token, .. } = &greeting.hello().credential else {
        panic!("a registration is due");
    };
    assert_eq!((claim.kube_system_uid.as_str(), registration_token.expose()), (UID, "registration-token"));
    assert_eq!(claim.ca_pem.as_str(), world.kubernetes_ca.pem());
    let mut registering = Serving::welcome(greeting, Phase::Registration).await;
    let AgentMessage::ServerCredential(credential) = registering.next().await else { panic!("a credential is due") };
    assert_eq!(credential.token.expose(), "header.payload.signature");
    registering.control.send(&ServerMessage::Registered).await.unwrap();
    registering.control.send(&ServerMessage::GoAway(GoAway::default())).await.unwrap();

    let mut serving = world.welcome(Phase::Serving).await;
    let response = agent.ready(true).await;
    assert!(response.contains("[+] session: ok"), "{response}");
    let answer = serving.get(&world.kubernetes_ca, "/api/v1/namespaces/kube-system").await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains(UID), "{answer}");
    assert!(agent.get("/healthz").await.starts_with("HTTP/1.1 200 "));
    let metrics = agent.get("/metrics").await;
    assert!(
        metrics.contains("cattle_agent_up 1") && metrics.contains("cattle_tunnel_sessions_opened_total"),
        "{metrics}"
    );

    agent.signal(Signal::SIGTERM);
    assert_eq!(serving.next().await.name(), "Leaving");
    let (status, log) = agent.ended().await;
    assert!(status.success(), "{status}: {log}");
    for secret in ["registration-token", "agent.token", "sa.token", "header.payload"] {
        assert!(!log.contains(secret), "{secret} in {log}");
    }
}

#[tokio::test]
async fn a_second_signal_aborts_a_drain() {
    let mut world = World::start().await;
    let agent = world.agent().await;
    let mut serving = world.welcome(Phase::Serving).await;
    let _running = serving.session.open(APISERVER, SOON).await.unwrap();
    agent.signal(Signal::SIGTERM);
    assert_eq!(serving.next().await.name(), "Leaving");
    let response = agent.ready(false).await;
    assert!(response.contains("[-] shutdown: draining"), "{response}");
    agent.signal(Signal::SIGINT);
    let (status, log) = agent.ended().await;
    assert_eq!(status.code(), Some(1), "{log}");
}

#[tokio::test]
async fn an_api_server_that_is_away_is_a_refusal_with_a_reason() {
    let mut world = World::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = listener.local_addr().unwrap();
    drop(listener);
    let mut command = world.command();
    command.env("CATTLE_KUBERNETES_ADDRESS", closed.to_string());
    let _agent = Process::start(command).await;
    let serving = world.welcome(Phase::Serving).await;
    let refused = serving.session.open(APISERVER, SOON).await;
    assert_eq!(refused.err(), Some(OpenError::Refused(RefusedCode::ConnectionRefused)));
}

#[tokio::test]
async fn what_nobody_waits_for_ends_at_an_api_server_that_does_not_read() {
    let mut world = World::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut command = world.command();
    command.env("CATTLE_KUBERNETES_ADDRESS", listener.local_addr().unwrap().to_string());
    let agent = Process::start(command).await;
    let serving = world.welcome(Phase::Serving).await;
    let mut stream = serving.session.open(APISERVER, SOON).await.unwrap();
    let _silent = soon(listener.accept()).await.unwrap();
    // Until sockets and windows are full and the agent is busy writing.
    let chunk = [0; 64 * 1024];
    while let Ok(written) = tokio::time::timeout(Duration::from_secs(2), stream.write_all(&chunk)).await {
        written.unwrap();
    }
    drop(stream);
    let counter = |metrics: &str, name: &str| -> u64 {
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{metrics}"));
        line.trim().parse().unwrap()
    };
    let ended = async {
        loop {
            let metrics = agent.get("/metrics").await;
            let opened = counter(&metrics, "cattle_tunnel_streams_opened_total ");
            // The control stream is the one that stays.
            if opened == counter(&metrics, "cattle_tunnel_streams_closed_total ") + 1 {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    soon(ended).await;
}

#[tokio::test]
async fn the_password_of_a_proxy_goes_to_the_proxy_and_into_no_log() {
    let mut world = World::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (proxy, server) = (listener.local_addr().unwrap(), world.server.address);
    let (asked, mut heads) = tokio::sync::mpsc::channel(16);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut serving = JoinSet::new();
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            let asked = asked.clone();
            serving.spawn(async move {
                let Some(head) = read_head(&mut client).await else { return };
                let mut server = TcpStream::connect(server).await.unwrap();
                client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
                asked.send(head).await.ok();
                tokio::io::copy_bidirectional(&mut client, &mut server).await.ok();
            });
        }
    });
    let mut command = world.command();
    command
        .env("CATTLE_SERVER", format!("https://{PROXIED}:{}", server.port()))
        .env("HTTPS_PROXY", format!("http://user:hunter2@{proxy}"))
        .env("CATTLE_LOG_LEVEL", "trace");
    let Process { mut child, mut log, .. } = Process::start(command).await;
    // Read all the time: an agent whose log nobody takes stands still.
    let mut logs = JoinSet::new();
    logs.spawn(async move {
        let mut text = String::new();
        while let Some(line) = log.next_line().await.unwrap() {
            text += &line;
            text.push('\n');
        }
        text
    });
    let mut serving = world.welcome(Phase::Serving).await;
    let head = soon(heads.recv()).await.unwrap();
    // `user:hunter2`
    assert_eq!(header(&head, "proxy-authorization"), Some("Basic dXNlcjpodW50ZXIy"));
    kill(Pid::from_raw(child.id().unwrap().cast_signed()), Signal::SIGTERM).unwrap();
    assert_eq!(serving.next().await.name(), "Leaving");
    let (status, log) = (soon(child.wait()).await.unwrap(), soon(logs.join_next()).await.unwrap().unwrap());
    assert!(status.success() && log.contains("proxy"), "{status}: {log}");
    for secret in ["hunter2", "dXNlcjpodW50ZXIy"] {
        assert!(!log.contains(secret), "{log}");
    }
}

#[tokio::test]
async fn an_idle_agent_is_small() {
    let mut world = World::start().await;
    let agent = world.agent().await;
    let serving = world.welcome(Phase::Serving).await;
    agent.ready(true).await;
    serving.get(&world.kubernetes_ca, "/api/v1/namespaces/kube-system").await;
    let status = std::fs::read_to_string(format!("/proc/{}/status", agent.child.id().unwrap())).unwrap();
    let anonymous = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    let kilobytes: u64 = anonymous.split_whitespace().next().unwrap().parse().unwrap();
    assert!(kilobytes * 1024 <= IDLE_BYTES, "{kilobytes} kB\n{status}");
}

#[tokio::test]
async fn the_doctor_prints_a_table_or_json_and_fails_with_what_fails() {
    let mut world = World::start().await;
    let mut command = world.command();
    let examining = command.args(["doctor", "-o", "json"]).output();
    let welcoming =
        async { world.server.greeting().await.welcome(welcome(Phase::Serving), SessionConfig::default()).await };
    let (output, end) = tokio::join!(soon(examining), Box::pin(welcoming));
    drop(end);
    let output = output.unwrap();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let lines = report["lines"].as_array().unwrap();
    let stages: Vec<_> = lines.iter().map(|line| line["stage"].as_str().unwrap()).collect();
    let expected =
        ["dns", "tcp", "trust", "dns", "tcp", "tls", "upgrade", "identity", "authentication", "cluster", "credential"];
    assert_eq!(stages, expected, "{report}");
    assert!(output.status.success() && lines.iter().all(|line| line["result"] == "ok"), "{report}");

    let mut command = world.command();
    command.env("CATTLE_CA_CHECKSUM", "00".repeat(32)).env("CATTLE_KUBERNETES_SERVER_NAME", "another.example");
    let output = soon(command.arg("doctor").output()).await.unwrap();
    let table = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{table}");
    for told in [
        "trust       FAILED",
        "code: ca_checksum_mismatch",
        "next step: Nothing secret was sent.",
        "cluster     FAILED",
    ] {
        assert!(table.contains(told), "{told} in\n{table}");
    }
}

#[tokio::test]
async fn what_cannot_be_used_is_an_error_without_secrets() {
    let world = World::start().await;
    for (name, value, told) in [
        ("CATTLE_SERVER", "http://user:hunter2@cattle.example", "must begin with https://"),
        ("CATTLE_CA_CHECKSUM", "abc", "64 hexadecimal digits"),
        ("CATTLE_CLUSTER_ID", "../etc", "not a cluster id"),
        ("HTTPS_PROXY", "socks5://user:hunter2@proxy", "must begin with http://"),
        ("CATTLE_LOG_LEVEL", "loud=very=much", "invalid value"),
        ("CATTLE_KUBERNETES_ADDRESS", "127.0.0.1", "HOST:PORT"),
    ] {
        let output = soon(world.command().env(name, value).output()).await.unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && error.contains(told), "{name}: {error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}
