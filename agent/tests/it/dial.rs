//! One attempt: each stage, each way to fail.

use std::sync::Arc;
use std::time::Duration;

use cattle_agent::connect::{ConnectError, Connected, Deadlines, Logged, Stage};
use cattle_agent::credential::CredentialKind;
use cattle_agent::proxy::ProxySettings;
use cattle_agent::trust::Trust;
use cattle_agent::{Dialer, doctor};
use cattle_proto::handshake::{Phase, Reject, RejectCode};
use cattle_runtime::ErrorChain as _;
use cattle_tunnel::SessionConfig;
use cattle_tunnel::testing::welcome;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use crate::pki::Ca;
use crate::server::{Answer, Server};
use crate::support::{FakeCluster, Files, TOKEN, checksum, dialer, dialer_with, patient, soon};

const HERE: &[&str] = &["127.0.0.1", "localhost"];
const MOMENT: Duration = Duration::from_millis(200);

async fn dial(dialer: &Dialer, files: &Files) -> Result<Connected, ConnectError> {
    let identity = files.identity(Arc::new(FakeCluster::default()));
    soon(dialer.connect(&identity, CredentialKind::ServiceAccount, &mut Logged)).await
}

async fn fail(dialer: &Dialer) -> ConnectError {
    match dial(dialer, &Files::new()).await {
        Ok(_) => panic!("the attempt must fail"),
        Err(error) => error,
    }
}

#[tokio::test]
async fn a_pinned_server_is_trusted_and_told_who_the_agent_is() {
    let (ca, files) = (Ca::new("Cattle CA"), Files::new());
    let mut server = Server::start(ca.server(HERE), ca.pem(), Answer::Upgrade).await;
    let dialer = dialer(&server.url(), checksum(&ca.pem()));
    for attempt in 0..2 {
        let serve = async {
            let greeting = server.greeting().await;
            assert_eq!(greeting.hello().credential.cluster().as_str(), "c-test1");
            greeting.welcome(welcome(Phase::Serving), SessionConfig::default()).await.unwrap()
        };
        let (connected, _server_end) = tokio::join!(Box::pin(dial(&dialer, &files)), Box::pin(serve));
        assert_eq!(connected.unwrap().end.welcome.phase, Phase::Serving);
        let fetches = server.heads().iter().filter(|head| head.contains("cacerts")).count();
        assert_eq!(fetches, 1, "attempt {attempt}: verified roots are kept");
    }
}

#[tokio::test]
async fn another_checksum_gets_one_request_and_nothing_of_the_agent() {
    let ca = Ca::new("Cattle CA");
    let mut server = Server::start(ca.server(HERE), ca.pem(), Answer::Upgrade).await;
    let error = fail(&dialer(&server.url(), checksum("another"))).await;
    assert_eq!((error.stage(), error.code()), (Stage::Trust, "ca_checksum_mismatch"));
    assert_only_the_ca_was_asked_for(&mut server);
}

#[tokio::test]
async fn a_stranger_who_shows_the_right_ca_gets_nothing_more() {
    let (ca, strangers) = (Ca::new("Cattle CA"), Ca::new("Strangers' CA"));
    let mut server = Server::start(strangers.server(HERE), ca.pem(), Answer::Upgrade).await;
    let error = fail(&dialer(&server.url(), checksum(&ca.pem()))).await;
    assert_eq!((error.stage(), error.code()), (Stage::Tls, "tls_unknown_authority"));
    assert!(error.chain().to_string().contains("issued by CN=Strangers' CA"), "{}", error.chain());
    assert_only_the_ca_was_asked_for(&mut server);
}

fn assert_only_the_ca_was_asked_for(server: &mut Server) {
    let heads = server.heads();
    assert_eq!(heads.len(), 1, "{heads:?}");
    assert!(heads[0].starts_with("GET /v3/settings/cacerts HTTP/1.1\r\n"), "{heads:?}");
    for secret in [TOKEN, "authorization", "cookie", "c-test1"] {
        assert!(!heads[0].to_lowercase().contains(secret), "{secret} in {heads:?}");
    }
    assert!(server.agents.try_recv().is_err(), "nobody said Hello");
}

#[tokio::test]
async fn without_a_checksum_only_the_systems_roots_count() {
    let ca = Ca::new("Cattle CA");
    let mut server = Server::start(ca.server(HERE), ca.pem(), Answer::Upgrade).await;
    let error = fail(&dialer(&server.url(), Trust::System)).await;
    // A machine without roots says so before it dials.
    assert!(["tls_unknown_authority", "no_system_roots"].contains(&error.code()), "{}", error.chain());
    assert!(server.heads().is_empty() && server.agents.try_recv().is_err());
}

#[tokio::test]
async fn what_is_wrong_with_a_certificate_is_named() {
    let ca = Ca::new("Cattle CA");
    for (tls, code, told) in [
        (ca.expired(HERE), "tls_expired", "has expired"),
        (ca.future(HERE), "tls_not_yet_valid", "not valid yet"),
        (ca.server(&["cattle.example"]), "tls_name_mismatch", "for cattle.example"),
    ] {
        let server = Server::start(tls, ca.pem(), Answer::Upgrade).await;
        let error = fail(&dialer(&server.url(), checksum(&ca.pem()))).await;
        assert_eq!((error.stage(), error.code()), (Stage::Tls, code));
        assert!(error.chain().to_string().contains(told), "{}", error.chain());
        assert_eq!(server.heads().len(), 1, "{code}: only the CA was asked for");
    }
}

#[tokio::test]
async fn an_upgrade_that_is_refused_names_the_status() {
    let ca = Ca::new("Cattle CA");
    for (answer, code, retry_after) in [
        ("HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n", "upgrade_unauthorized", None),
        ("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", "upgrade_forbidden", None),
        ("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "upgrade_not_found", None),
        ("HTTP/1.1 503 Busy\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n", "upgrade_unavailable", Some(7)),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "upgrade_status", None),
        ("HTTP/1.1 101 Go\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", "upgrade_protocol", None),
        ("SSH-2.0-OpenSSH\r\n\r\n", "upgrade_protocol", None),
        ("", "upgrade_failed", None),
    ] {
        let mut server = Server::start(ca.server(HERE), ca.pem(), Answer::Head(answer)).await;
        let error = fail(&dialer(&server.url(), checksum(&ca.pem()))).await;
        assert_eq!((error.stage(), error.code()), (Stage::Upgrade, code), "{answer:?}: {}", error.chain());
        assert_eq!(error.retry_after(), retry_after.map(Duration::from_secs));
        assert!(server.agents.try_recv().is_err());
        assert!(server.heads().iter().all(|head| !head.contains(TOKEN)));
    }
}

#[tokio::test]
async fn a_server_of_another_protocol_is_told_from_a_proxy_in_between() {
    let ca = Ca::new("Cattle CA");
    let answer =
        "HTTP/1.1 400 Bad Request\r\nSec-WebSocket-Protocol: cattle.v7, cattle.v6\r\nContent-Length: 0\r\n\r\n";
    let server = Server::start(ca.server(HERE), ca.pem(), Answer::Head(answer)).await;
    let error = fail(&dialer(&server.url(), checksum(&ca.pem()))).await;
    assert_eq!((error.stage(), error.code()), (Stage::Version, "upgrade_version"));
    assert!(error.chain().to_string().contains("cattle.v7"), "{}", error.chain());
    assert!(error.next_step().contains("Upgrade the agent"), "{}", error.next_step());
}

#[tokio::test]
async fn a_server_that_falls_silent_is_given_up_at_its_stage() {
    let ca = Ca::new("Cattle CA");
    let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", mute.local_addr().unwrap());
    let deadlines = Deadlines { tls: MOMENT, ..patient() };
    let error = fail(&dialer_with(&url, checksum(&ca.pem()), ProxySettings::default(), deadlines)).await;
    assert_eq!((error.stage(), error.code()), (Stage::Tls, "tls_timeout"));

    for (path, deadlines, stage, code) in [
        ("/v3/settings", Deadlines { trust: MOMENT, ..patient() }, Stage::Trust, "ca_timeout"),
        ("/v3/connect", Deadlines { upgrade: MOMENT, ..patient() }, Stage::Upgrade, "upgrade_timeout"),
    ] {
        let server = Server::start(ca.server(HERE), ca.pem(), Answer::SilenceOn(path)).await;
        let dialer = dialer_with(&server.url(), checksum(&ca.pem()), ProxySettings::default(), deadlines);
        let error = fail(&dialer).await;
        assert_eq!((error.stage(), error.code()), (stage, code));
    }
}

#[tokio::test]
async fn a_closed_port_an_unknown_name_and_a_port_without_tls_are_named() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let error = {
        let speak = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
            stream
        };
        let dialer = dialer(&url, checksum("any"));
        tokio::join!(fail(&dialer), speak).0
    };
    assert_eq!((error.stage(), error.code()), (Stage::Tls, "tls_not_tls"), "{}", error.chain());

    drop(listener);
    let error = fail(&dialer(&url, checksum("any"))).await;
    assert_eq!((error.stage(), error.code()), (Stage::Tcp, "tcp_refused"));
    assert!(error.next_step().contains("listens"), "{}", error.next_step());

    let deadlines = Deadlines { dns: Duration::from_secs(5), ..patient() };
    let error =
        fail(&dialer_with("https://no-such-name.invalid", checksum("any"), ProxySettings::default(), deadlines)).await;
    assert_eq!(error.stage(), Stage::Dns);
}

#[tokio::test]
async fn a_setting_that_is_none_is_named() {
    let ca = Ca::new("Cattle CA");
    let server = Server::start(ca.server(HERE), String::new(), Answer::Upgrade).await;
    assert_eq!(fail(&dialer(&server.url(), checksum(""))).await.code(), "ca_absent");
    let server = Server::start(ca.server(HERE), "no certificate".to_owned(), Answer::Upgrade).await;
    assert_eq!(fail(&dialer(&server.url(), checksum("no certificate"))).await.code(), "ca_malformed");
    let huge = "x".repeat(300 * 1024);
    let server = Server::start(ca.server(HERE), huge.clone(), Answer::Upgrade).await;
    assert_eq!(fail(&dialer(&server.url(), checksum(&huge))).await.code(), "ca_answer");
}

#[tokio::test]
async fn a_refusal_keeps_its_code_and_its_wait() {
    let ca = Ca::new("Cattle CA");
    let mut server = Server::start(ca.server(HERE), ca.pem(), Answer::Upgrade).await;
    let dialer = dialer(&server.url(), checksum(&ca.pem()));
    let reject = async {
        let greeting = server.greeting().await;
        greeting.reject(Reject { code: RejectCode::ClusterDeleted, retry_after_seconds: 30 }).await;
    };
    let (error, ()) = tokio::join!(Box::pin(fail(&dialer)), reject);
    assert_eq!((error.stage(), error.code()), (Stage::Authentication, "ClusterDeleted"));
    assert_eq!(error.reject_code(), Some(RejectCode::ClusterDeleted));
    assert_eq!(error.retry_after(), Some(Duration::from_secs(30)));
}

#[tokio::test]
async fn the_doctor_shows_every_stage_up_to_the_one_that_fails() {
    let (ca, files) = (Ca::new("Cattle CA"), Files::new());
    std::fs::remove_file(files.token().path()).unwrap();
    let server = Server::start(ca.server(HERE), ca.pem(), Answer::Upgrade).await;
    let dialer = dialer(&server.url(), checksum(&ca.pem()));
    let mut report = doctor::Report::default();
    let identity = files.identity(Arc::new(FakeCluster::default()));
    soon(doctor::examine(&dialer, &identity, &mut report)).await;
    let stages: Vec<_> = report.lines().iter().map(|line| line.stage).collect();
    assert_eq!(stages, ["dns", "tcp", "trust", "dns", "tcp", "tls", "upgrade", "identity"]);
    let last = report.lines().last().unwrap();
    assert_eq!((last.result, last.code), (doctor::Outcome::Failed, Some("no_token")));
    assert!(report.to_string().contains("next step: Mount a projected service-account token"), "{report}");
}
