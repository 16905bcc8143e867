use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsConnector;

use tokio::{net::TcpStream, time::timeout};

use super::*;
use crate::certificates::{Authority, LeafKey, ServingCertificate};

const SOON: Duration = Duration::from_secs(60);

struct Hello;

impl Answer for Hello {
    async fn answer(&self, _: Request<Incoming>, _: SocketAddr) -> Response<Body> {
        Response::new(Body::from("hello"))
    }
}

/// A running listener; it ends when this is dropped.
struct Rig {
    address: SocketAddr,
    metrics: ListenMetrics,
    authority: Authority,
    _task: JoinSet<()>,
}

impl Rig {
    async fn start(limits: Limits, deadline: Duration) -> Self {
        let now = jiff::Timestamp::now();
        let (authority, key) = (Authority::generate(now).unwrap(), LeafKey::generate().unwrap());
        let leaf = authority.issue("localhost", &key, now).unwrap();
        let certificate = ServingCertificate::new(authority.certified(&leaf, &key).unwrap());
        let metrics = ListenMetrics::default();
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut listener = Listener::new(tcp, certificate, limits, metrics.clone()).unwrap();
        listener.deadlines = Deadlines { handshake: deadline, first_request: deadline };
        let address = listener.address();
        let mut task = JoinSet::new();
        task.spawn(listener.serve(Arc::new(Hello), CancellationToken::new()));
        Self { address, metrics, authority, _task: task }
    }

    async fn connect(&self, alpn: &[u8]) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        let authority = CertificateDer::from_pem_slice(self.authority.certificate_pem().as_bytes()).unwrap();
        roots.add(authority).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let mut config = config.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![alpn.to_vec()];
        let tcp = TcpStream::connect(self.address).await?;
        TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("localhost").unwrap(), tcp).await
    }

    fn refused(&self) -> String {
        let mut registry = prometheus_client::registry::Registry::default();
        self.metrics.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        text
    }
}

/// Resolves when the other end has closed; panics if it says anything.
async fn closed(mut io: impl tokio::io::AsyncRead + Unpin, what: &str) {
    let mut bytes = Vec::new();
    let read = timeout(SOON, io.read_to_end(&mut bytes)).await;
    assert!(read.is_ok(), "{what}: still open");
}

#[tokio::test]
async fn a_peer_that_says_nothing_is_closed_whatever_the_protocol() {
    let rig = Rig::start(Limits::default(), Duration::from_millis(300)).await;
    closed(TcpStream::connect(rig.address).await.unwrap(), "no handshake").await;
    closed(rig.connect(b"http/1.1").await.unwrap(), "HTTP/1.1").await;
    closed(rig.connect(b"h2").await.unwrap(), "HTTP/2").await;
    // One byte of a header at a time is not a request either.
    let mut slow = rig.connect(b"http/1.1").await.unwrap();
    let dribbled = timeout(SOON, async {
        while slow.write_all(b"G").await.is_ok() && slow.flush().await.is_ok() {
            sleep(Duration::from_millis(20)).await;
        }
    });
    assert!(dribbled.await.is_ok(), "still open");
    let text = rig.refused();
    assert!(text.contains("refused_total{reason=\"handshake\"} 1"), "{text}");
    assert!(text.contains("refused_total{reason=\"no_request\"} 3"), "{text}");
}

#[tokio::test]
async fn one_address_cannot_take_every_connection() {
    let limits = Limits { connections_per_address: 1, ..Limits::default() };
    let rig = Rig::start(limits, SOON).await;
    let mut first = rig.connect(b"http/1.1").await.unwrap();
    assert!(timeout(SOON, rig.connect(b"http/1.1")).await.unwrap().is_err(), "the second one is closed");
    assert!(rig.refused().contains("refused_total{reason=\"connections_per_address\"} 1"), "{}", rig.refused());
    // The one that is there goes on, and makes room when it ends.
    first.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    timeout(SOON, first.read_to_end(&mut answer)).await.unwrap().unwrap();
    assert!(answer.ends_with(b"hello"), "{}", String::from_utf8_lossy(&answer));
    drop(first);
    let again = timeout(SOON, async {
        while rig.connect(b"http/1.1").await.is_err() {
            sleep(Duration::from_millis(10)).await;
        }
    });
    assert!(again.await.is_ok(), "no room again");
}

#[tokio::test]
async fn a_connection_is_kept_for_as_long_as_clients_keep_theirs() {
    let rig = Rig::start(Limits::default(), SOON).await;
    let mut connection = rig.connect(b"http/1.1").await.unwrap();
    let mut ask = async || {
        connection.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"hello") {
            let read = timeout(SOON, connection.read_buf(&mut answer)).await.unwrap().unwrap();
            assert!(read > 0, "closed after {}", String::from_utf8_lossy(&answer));
        }
    };
    ask().await;
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(90)).await;
    tokio::time::resume();
    ask().await;
}
