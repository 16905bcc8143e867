//! A stand-in for an API server, for answers that a real one never gives.
//!
//! It speaks TLS with a certificate of its own, keeps the exact bytes of every request head and body that reach it, and answers
//! with whatever bytes a test wants, as slowly as it wants. What a real API server does is tested against a real one.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// The name that all fakes have, as all API servers have the same.
pub(crate) const NAME: &str = "kubernetes.default.svc";

/// One request that reached the API server.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) head: String,
}

impl Seen {
    /// Values of a header, in order.
    pub(crate) fn values(&self, name: &str) -> Vec<&str> {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect()
    }

    pub(crate) fn request_line(&self) -> &str {
        self.head.lines().next().unwrap_or_default()
    }
}

/// The API server's end of a connection.
pub(crate) struct Connection {
    io: TlsStream<TcpStream>,
    buffer: Vec<u8>,
}

impl Connection {
    pub(crate) async fn write(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.io.write_all(bytes.as_ref()).await.is_ok() && self.io.flush().await.is_ok()
    }

    /// Resolves when the proxy has closed the connection; panics if it sends anything instead.
    pub(crate) async fn closed(&mut self) {
        assert!(self.buffer.is_empty(), "unexpected bytes: {:?}", String::from_utf8_lossy(&self.buffer));
        let mut byte = [0; 64];
        match self.io.read(&mut byte).await {
            Ok(0) | Err(_) => {}
            Ok(read) => panic!("unexpected bytes: {:?}", String::from_utf8_lossy(&byte[..read])),
        }
    }

    /// Whatever comes next, or nothing at the end.
    pub(crate) async fn read_some(&mut self) -> Vec<u8> {
        if self.buffer.is_empty() {
            let mut chunk = vec![0; 16 * 1024];
            let read = self.io.read(&mut chunk).await.unwrap_or(0);
            chunk.truncate(read);
            return chunk;
        }
        std::mem::take(&mut self.buffer)
    }

    /// The body that a head announces, decoded.
    pub(crate) async fn read_body(&mut self, head: &Seen) -> Vec<u8> {
        if let [length] = head.values("content-length")[..] {
            return self.take(length.parse().unwrap()).await;
        }
        let mut body = Vec::new();
        if head.values("transfer-encoding") == ["chunked"] {
            loop {
                let size = self.take_line().await;
                let size = usize::from_str_radix(size.trim(), 16).unwrap();
                let chunk = self.take(size).await;
                self.take_line().await;
                if size == 0 {
                    break;
                }
                body.extend(chunk);
            }
        }
        body
    }

    /// Reads and forgets a body, and says how long it was.
    pub(crate) async fn drain_body(&mut self, head: &Seen) -> usize {
        let [length] = head.values("content-length")[..] else { return self.read_body(head).await.len() };
        let length: usize = length.parse().unwrap();
        let mut read = 0;
        while read < length {
            let some = self.read_some().await.len();
            if some == 0 {
                break;
            }
            read += some;
        }
        read
    }

    async fn take(&mut self, length: usize) -> Vec<u8> {
        while self.buffer.len() < length && self.fill().await {}
        let length = length.min(self.buffer.len());
        self.buffer.drain(..length).collect()
    }

    async fn take_line(&mut self) -> String {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                return String::from_utf8(self.buffer.drain(..=end).collect()).unwrap();
            }
            assert!(self.fill().await, "ended inside a line");
        }
    }

    async fn read_head(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                let head: Vec<u8> = self.buffer.drain(..end + 4).collect();
                return Some(String::from_utf8_lossy(&head).into_owned());
            }
            if !self.fill().await {
                return None;
            }
        }
    }

    async fn fill(&mut self) -> bool {
        let mut chunk = vec![0; 16 * 1024];
        let read = self.io.read(&mut chunk).await.unwrap_or(0);
        self.buffer.extend_from_slice(&chunk[..read]);
        read > 0
    }
}

/// Answers one request; gives the connection back to keep it alive.
pub(crate) type Handler = Arc<dyn Fn(Connection, Seen) -> BoxFuture<'static, Option<Connection>> + Send + Sync>;

/// Makes a handler of an async closure.
pub(crate) fn handler<F>(answer: impl Fn(Connection, Seen) -> F + Send + Sync + 'static) -> Handler
where
    F: Future<Output = Option<Connection>> + Send + 'static,
{
    Arc::new(move |connection, seen| Box::pin(answer(connection, seen)))
}

/// Reads the body and answers with these bytes.
pub(crate) fn always(answer: impl Into<Vec<u8>>) -> Handler {
    let answer: Arc<[u8]> = answer.into().into();
    handler(move |mut connection, seen| {
        let answer = Arc::clone(&answer);
        async move {
            connection.read_body(&seen).await;
            connection.write(answer).await.then_some(connection)
        }
    })
}

/// A 200 with this text.
pub(crate) fn ok(text: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{text}", text.len())
        .into_bytes()
}

/// A running fake.
pub(crate) struct Fake {
    pub(crate) address: SocketAddr,
    pub(crate) ca_pem: String,
    pub(crate) seen: Arc<Mutex<Vec<Seen>>>,
    pub(crate) connections: Arc<AtomicUsize>,
    handler: Arc<Mutex<Handler>>,
    _tasks: JoinSet<()>,
}

impl Fake {
    pub(crate) async fn start(handler: Handler) -> Self {
        let key = rcgen::generate_simple_self_signed([NAME.to_owned()]).unwrap();
        let private = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.signing_key.serialize_der()));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config =
            rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let mut config = config.with_no_client_auth().with_single_cert(vec![key.cert.der().clone()], private).unwrap();
        // A real one offers h2 as well; the proxy has to choose.
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (seen, connections, handler) = (Arc::default(), Arc::default(), Arc::new(Mutex::new(handler)));
        let mut tasks = JoinSet::new();
        let address = listener.local_addr().unwrap();
        tasks.spawn(accept(listener, acceptor, Arc::clone(&seen), Arc::clone(&connections), Arc::clone(&handler)));
        Self { address, ca_pem: key.cert.pem(), seen, connections, handler, _tasks: tasks }
    }

    /// Answers otherwise from now on.
    pub(crate) fn answer(&self, handler: Handler) {
        *self.handler.lock() = handler;
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().clone()
    }

    pub(crate) fn opened(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

async fn accept(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    seen: Arc<Mutex<Vec<Seen>>>,
    connections: Arc<AtomicUsize>,
    handler: Arc<Mutex<Handler>>,
) {
    let mut tasks = JoinSet::new();
    while let Ok((io, _)) = listener.accept().await {
        connections.fetch_add(1, Ordering::SeqCst);
        let (acceptor, seen, handler) = (acceptor.clone(), Arc::clone(&seen), Arc::clone(&handler));
        tasks.spawn(async move {
            let Ok(io) = acceptor.accept(io).await else { return };
            assert_eq!(io.get_ref().1.alpn_protocol(), Some(b"http/1.1".as_slice()));
            let mut connection = Connection { io, buffer: Vec::new() };
            while let Some(head) = connection.read_head().await {
                let request = Seen { head };
                seen.lock().push(request.clone());
                let answer = { Arc::clone(&handler.lock()) };
                match answer(connection, request).await {
                    Some(kept) => connection = kept,
                    None => return,
                }
            }
        });
    }
}
