//! A client that opens a stream and then does what a test wants: nothing, for a while.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const PATIENCE: Duration = Duration::from_secs(60);

/// Where to connect.
pub(crate) struct Wire {
    address: String,
    connector: TlsConnector,
}

/// A stream whose answer has begun.
pub(crate) struct Stream {
    tls: TlsStream<TcpStream>,
    received: Vec<u8>,
}

impl Wire {
    pub(crate) fn new(url: &str, ca_pem: &str) -> anyhow::Result<Self> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(ca_pem.as_bytes())?)?;
        let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let address = url.strip_prefix("https://").context("no https URL")?.to_owned();
        Ok(Self { address, connector: TlsConnector::from(Arc::new(config)) })
    }

    /// Sends a request on a connection of its own and reads the head of its answer: 200, or 101.
    pub(crate) async fn open(&self, method: &str, path: &str, headers: &str, token: &str) -> anyhow::Result<Stream> {
        let host = self.address.rsplit_once(':').context("no port")?.0.to_owned();
        let socket = TcpStream::connect(&self.address).await?;
        let tls = self.connector.connect(ServerName::try_from(host)?, socket).await?;
        let mut stream = Stream { tls, received: Vec::new() };
        let address = &self.address;
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\nContent-Length: 0\r\n{headers}\r\n"
        );
        stream.send(head.as_bytes()).await?;
        stream.expect(b"\r\n\r\n").await?;
        let head = String::from_utf8_lossy(&stream.received).into_owned();
        ensure!(head.starts_with("HTTP/1.1 200") || head.starts_with("HTTP/1.1 101"), "{head}");
        Ok(stream)
    }
}

impl Stream {
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.tls.write_all(bytes).await?;
        Ok(self.tls.flush().await?)
    }

    /// Reads until this has come, and forgets what came before it.
    pub(crate) async fn expect(&mut self, wanted: &[u8]) -> anyhow::Result<()> {
        let read = async {
            loop {
                if self.received.windows(wanted.len()).any(|window| window == wanted) {
                    return anyhow::Ok(());
                }
                ensure!(self.tls.read_buf(&mut self.received).await? > 0, "it ended");
            }
        };
        let read = timeout(PATIENCE, read).await.context("it does not come").and_then(|read| read);
        let wanted = String::from_utf8_lossy(wanted).into_owned();
        read.with_context(|| format!("no {wanted:?} in {:?}", String::from_utf8_lossy(&self.received)))?;
        if wanted != "\r\n\r\n" {
            self.received.clear();
        }
        Ok(())
    }

    /// Reads until it has ended, in order or not: for an orderly end the request has asked for the end of the connection.
    pub(crate) async fn end(&mut self) {
        let mut bytes = vec![0; 64 * 1024];
        while self.tls.read(&mut bytes).await.is_ok_and(|count| count > 0) {}
    }
}
