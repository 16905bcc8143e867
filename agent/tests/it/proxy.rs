//! Through an HTTP proxy, and around it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use cattle_agent::connect::{ConnectError, Deadlines, Logged, Stage};
use cattle_agent::credential::CredentialKind;
use cattle_agent::proxy::ProxySettings;
use cattle_proto::handshake::Phase;
use cattle_tunnel::SessionConfig;
use cattle_tunnel::testing::welcome;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::pki::Ca;
use crate::server::{Answer, Server, header, read_head};
use crate::support::{FakeCluster, Files, checksum, dialer_with, patient, soon};

/// A name that only the proxy knows.
const NAME: &str = "cattle.internal.test";

/// What the proxy says to `CONNECT`.
#[derive(Clone, Copy)]
enum Says {
    Connected,
    Head(&'static str),
    Nothing,
}

/// A proxy that connects everybody to one server and keeps what it was asked.
struct Proxy {
    address: SocketAddr,
    requests: mpsc::Receiver<String>,
    _task: JoinSet<()>,
}

impl Proxy {
    async fn start(server: SocketAddr, says: Says) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (asked, requests) = mpsc::channel(16);
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut serving = JoinSet::new();
            loop {
                let (mut client, _) = listener.accept().await.unwrap();
                let asked = asked.clone();
                serving.spawn(async move {
                    let Some(head) = read_head(&mut client).await else { return };
                    asked.send(head).await.ok();
                    match says {
                        Says::Connected => {
                            let mut server = TcpStream::connect(server).await.unwrap();
                            client.write_all(b"HTTP/1.1 200 OK\r\nX-Proxy: test\r\n\r\n").await.unwrap();
                            copy_bidirectional(&mut client, &mut server).await.ok();
                        }
                        Says::Head(head) => {
                            client.write_all(head.as_bytes()).await.unwrap();
                        }
                        Says::Nothing => {
                            client.read_to_end(&mut Vec::new()).await.ok();
                        }
                    }
                });
            }
        });
        Self { address, requests, _task: task }
    }

    fn settings(&self, user: &str, no_proxy: &str) -> ProxySettings {
        ProxySettings {
            https_proxy: Some(format!("http://{user}{}", self.address).parse().unwrap()),
            no_proxy: no_proxy.parse().unwrap(),
        }
    }
}

fn url(server: &Server) -> String {
    format!("https://{NAME}:{}", server.address.port())
}

async fn fail(url: &str, settings: ProxySettings, deadlines: Deadlines) -> ConnectError {
    let dialer = dialer_with(url, checksum("any"), settings, deadlines);
    let identity = Files::new().identity(Arc::new(FakeCluster::default()));
    match soon(dialer.connect(&identity, CredentialKind::ServiceAccount, &mut Logged)).await {
        Ok(_) => panic!("the attempt must fail"),
        Err(error) => error,
    }
}

#[tokio::test]
async fn a_session_through_a_proxy_that_wants_a_password() {
    let (ca, files) = (Ca::new("Cattle CA"), Files::new());
    let mut server = Server::start(ca.server(&[NAME]), ca.pem(), Answer::Upgrade).await;
    let mut proxy = Proxy::start(server.address, Says::Connected).await;
    let authority = format!("{NAME}:{}", server.address.port());
    let dialer = dialer_with(&url(&server), checksum(&ca.pem()), proxy.settings("user:p%40ss@", ""), patient());
    let identity = files.identity(Arc::new(FakeCluster::default()));
    let serve = async {
        let greeting = server.greeting().await;
        greeting.welcome(welcome(Phase::Serving), SessionConfig::default()).await.unwrap()
    };
    let mut observer = Logged;
    let dial = Box::pin(dialer.connect(&identity, CredentialKind::ServiceAccount, &mut observer));
    let (connected, _end) = tokio::join!(soon(dial), Box::pin(serve));
    assert!(connected.is_ok());
    for _ in 0..2 {
        let head = proxy.requests.try_recv().expect("one CONNECT for the CA, one for the session");
        assert!(head.starts_with(&format!("CONNECT {authority} HTTP/1.1\r\n")), "{head}");
        assert_eq!(header(&head, "host"), Some(authority.as_str()));
        assert_eq!(header(&head, "proxy-authorization"), Some("Basic dXNlcjpwQHNz"));
    }
    assert!(server.heads().iter().all(|head| !head.to_lowercase().contains("proxy-")), "the server sees no password");
}

#[tokio::test]
async fn what_a_proxy_says_is_named() {
    let ca = Ca::new("Cattle CA");
    let server = Server::start(ca.server(&[NAME]), ca.pem(), Answer::Upgrade).await;
    let quick = Deadlines { proxy: Duration::from_millis(200), ..patient() };
    for (says, code, deadlines) in [
        (Says::Head("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"), "proxy_authentication", patient()),
        (Says::Head("HTTP/1.1 403 Forbidden\r\n\r\n"), "proxy_forbidden", patient()),
        (Says::Head("HTTP/1.0 502 Bad Gateway\r\n\r\n"), "proxy_status", patient()),
        (Says::Head("\u{1}\u{2}\r\n\r\n"), "proxy_not_http", patient()),
        (Says::Head("HTTP/1.1 200"), "proxy_closed", patient()),
        (Says::Nothing, "proxy_timeout", quick),
    ] {
        let proxy = Proxy::start(server.address, says).await;
        let error = fail(&url(&server), proxy.settings("", ""), deadlines).await;
        assert_eq!((error.stage(), error.code()), (Stage::Proxy, code));
    }
}

#[tokio::test]
async fn no_proxy_goes_around_it() {
    let ca = Ca::new("Cattle CA");
    let server = Server::start(ca.server(&[NAME]), ca.pem(), Answer::Upgrade).await;
    let mut proxy = Proxy::start(server.address, Says::Connected).await;
    let deadlines = Deadlines { dns: Duration::from_secs(5), ..patient() };
    let error = fail(&url(&server), proxy.settings("", "other.example,.internal.test"), deadlines).await;
    // Nobody but the proxy knows the name, so going around it ends at the first stage.
    assert_eq!(error.stage(), Stage::Dns);
    assert!(proxy.requests.try_recv().is_err(), "the proxy was not asked");
}
