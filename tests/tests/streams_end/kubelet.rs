//! What an API server sees of a kubelet, as far as streams go: exec that echoes, logs that stand still, and logs that never
//! stop. It counts what runs.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::ensure;
use cattle_harness::{Authority, wait_for};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// The container that says one line.
pub(crate) const QUIET: &str = "quiet";
/// The one that never stops.
pub(crate) const NOISY: &str = "noisy";
/// The line.
pub(crate) const LINE: &[u8] = b"a line and no more";

/// Streams that run: exec, logs that stand still, logs that never stop.
pub(crate) type Live = [usize; 3];

#[derive(Default)]
struct Counts {
    running: [AtomicUsize; 3],
    written: AtomicUsize,
}

pub(crate) struct Kubelet {
    port: u16,
    counts: Arc<Counts>,
    _tasks: JoinSet<()>,
}

impl Kubelet {
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let identity = Authority::new("kubelet")?.server("node", &["127.0.0.1".to_owned()])?;
        let certificate = CertificateDer::from_pem_slice(identity.certificate.as_bytes())?;
        let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes())?;
        let mut config = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate], key)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let counts = Arc::new(Counts::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, TlsAcceptor::from(Arc::new(config)), Arc::clone(&counts)));
        Ok(Self { port, counts, _tasks: tasks })
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn running(&self) -> Live {
        self.counts.running.each_ref().map(|count| count.load(Ordering::SeqCst))
    }

    /// Until nobody takes more of what is written.
    pub(crate) async fn stalled(&self) -> anyhow::Result<()> {
        wait_for("the writer to stand still", Duration::from_secs(60), async || {
            let written = self.counts.written.load(Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(300)).await;
            let now = self.counts.written.load(Ordering::SeqCst);
            ensure!(now > 0 && now == written, "{now}");
            Ok(())
        })
        .await
    }
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, counts: Arc<Counts>) {
    let mut connections = JoinSet::new();
    while let Ok((socket, _)) = listener.accept().await {
        let (acceptor, counts) = (acceptor.clone(), Arc::clone(&counts));
        connections.spawn(async move {
            // How a stream ends is the matter of the other side.
            let _ = serve(socket, acceptor, &counts).await;
        });
    }
}

struct Running<'a>(&'a AtomicUsize);

impl<'a> Running<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn serve(socket: TcpStream, acceptor: TlsAcceptor, counts: &Counts) -> io::Result<()> {
    let mut tls = acceptor.accept(socket).await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(tls.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let path = head.split(' ').nth(1).unwrap_or_default();
    let [exec, quiet, noisy] = &counts.running;
    if path.starts_with("/exec/") {
        let _running = Running::new(exec);
        let switch = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\
                      X-Stream-Protocol-Version: v4.channel.k8s.io\r\n\r\n";
        tls.write_all(switch.as_bytes()).await?;
        return echo(tls).await;
    }
    tls.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n").await?;
    let is_noisy = path.contains(NOISY);
    let _running = Running::new(if is_noisy { noisy } else { quiet });
    if is_noisy { talk(tls, counts).await } else { say(tls).await }
}

async fn echo(mut tls: TlsStream<TcpStream>) -> io::Result<()> {
    let mut bytes = [0; 4096];
    loop {
        tls.flush().await?;
        match tls.read(&mut bytes).await? {
            0 => return Ok(()),
            count => tls.write_all(&bytes[..count]).await?,
        }
    }
}

async fn say(mut tls: TlsStream<TcpStream>) -> io::Result<()> {
    tls.write_all(&chunk(LINE)).await?;
    tls.flush().await?;
    tls.read_u8().await.map(drop)
}

/// Until it is told to stop, or nobody is there any more.
async fn talk(tls: TlsStream<TcpStream>, counts: &Counts) -> io::Result<()> {
    let chunk = chunk(&[b'x'; 32 * 1024]);
    let (mut read, mut write) = tokio::io::split(tls);
    tokio::select! {
        ended = read.read_u8() => ended.map(drop),
        failed = pour(&mut write, &chunk, counts) => failed,
    }
}

async fn pour(write: &mut (impl AsyncWrite + Unpin), chunk: &[u8], counts: &Counts) -> io::Result<()> {
    loop {
        write.write_all(chunk).await?;
        counts.written.fetch_add(chunk.len(), Ordering::SeqCst);
    }
}

fn chunk(bytes: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}
