//! Bytes over TLS, with no HTTP library in the way: what a hostile client can send.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// A server that has not answered by then waits for more, and will not get it.
const PATIENCE: Duration = Duration::from_secs(8);
/// After a first answer, how long to listen for a second one.
const SECOND: Duration = Duration::from_millis(700);

/// Where to connect.
#[derive(Clone)]
pub(crate) struct Wire {
    address: String,
    roots: Arc<RootCertStore>,
}

/// Name and value of a header field.
pub(crate) type Field = (String, String);

/// An HTTP/2 frame.
struct Frame {
    kind: u8,
    flags: u8,
    payload: Vec<u8>,
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

impl Wire {
    /// Of `https://host:port`, trusting this authority.
    pub(crate) fn new(url: &str, ca_pem: &str) -> anyhow::Result<Self> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(ca_pem.as_bytes())?)?;
        let address = url.strip_prefix("https://").context("no https URL")?.to_owned();
        Ok(Self { address, roots: Arc::new(roots) })
    }

    /// Host and port.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Sends the bytes and gives whatever comes back, on HTTP/1.1. Blocks.
    pub(crate) fn http1(&self, bytes: &[u8]) -> anyhow::Result<Vec<u8>> {
        let mut stream = self.connect(b"http/1.1")?;
        stream.write_all(bytes)?;
        stream.flush()?;
        let mut answer = Vec::new();
        let mut buffer = [0; 16 * 1024];
        stream.sock.set_read_timeout(Some(PATIENCE))?;
        loop {
            match stream.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => answer.extend_from_slice(&buffer[..count]),
                Err(error) if is_end(error.kind()) => break,
                Err(error) => return Err(error.into()),
            }
            stream.sock.set_read_timeout(Some(SECOND))?;
        }
        Ok(answer)
    }

    /// Sends one HTTP/2 request, its fields as they are given, and trailers if there are any. Gives the body of the answer;
    /// it is empty when the stream or the connection was refused. Blocks.
    pub(crate) fn http2(&self, fields: &[Field], body: &[u8], trailers: &[Field]) -> anyhow::Result<Vec<u8>> {
        let mut stream = self.connect(b"h2")?;
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        bytes.extend(frame(SETTINGS, 0, 0, &[]));
        bytes.extend(frame(HEADERS, END_HEADERS, 1, &hpack(fields)));
        bytes.extend(frame(DATA, if trailers.is_empty() { END_STREAM } else { 0 }, 1, body));
        if !trailers.is_empty() {
            bytes.extend(frame(HEADERS, END_HEADERS | END_STREAM, 1, &hpack(trailers)));
        }
        stream.write_all(&bytes)?;
        stream.flush()?;
        stream.sock.set_read_timeout(Some(PATIENCE))?;
        let mut received = VecDeque::new();
        let mut answer = Vec::new();
        let mut buffer = [0; 16 * 1024];
        loop {
            match stream.read(&mut buffer) {
                Ok(0) => return Ok(answer),
                Ok(count) => received.extend(&buffer[..count]),
                Err(error) if is_end(error.kind()) => return Ok(answer),
                Err(error) => return Err(error.into()),
            }
            while let Some(Frame { kind, flags, payload }) = take_frame(&mut received) {
                match kind {
                    DATA => answer.extend(payload),
                    RST_STREAM | GOAWAY => return Ok(answer),
                    _ => {}
                }
                if matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0 {
                    return Ok(answer);
                }
            }
        }
    }

    fn connect(&self, protocol: &[u8]) -> anyhow::Result<StreamOwned<ClientConnection, TcpStream>> {
        let mut config = ClientConfig::builder().with_root_certificates(Arc::clone(&self.roots)).with_no_client_auth();
        config.alpn_protocols = vec![protocol.to_vec()];
        let (host, _) = self.address.rsplit_once(':').context("no port")?;
        let name = ServerName::try_from(host.to_owned())?;
        let mut connection = ClientConnection::new(Arc::new(config), name)?;
        let mut socket = TcpStream::connect(&self.address)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        while connection.is_handshaking() {
            connection.complete_io(&mut socket)?;
        }
        ensure!(connection.alpn_protocol() == Some(protocol), "another protocol was chosen");
        Ok(StreamOwned::new(connection, socket))
    }
}

/// The peer is done, or waits.
fn is_end(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::WouldBlock
            | ErrorKind::TimedOut
            | ErrorKind::UnexpectedEof
            | ErrorKind::ConnectionReset
            | ErrorKind::BrokenPipe
    )
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

fn take_frame(received: &mut VecDeque<u8>) -> Option<Frame> {
    let length = received.iter().take(3).fold(0, |length, byte| length << 8 | usize::from(*byte));
    if received.len() < 9 + length {
        return None;
    }
    let frame: Vec<u8> = received.drain(..9 + length).collect();
    Some(Frame { kind: frame[3], flags: frame[4], payload: frame[9..].to_vec() })
}

/// RFC 7541 §6.2.2: literals without indexing and without Huffman code, so that any byte can stand anywhere.
fn hpack(fields: &[Field]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            length(&mut block, text.len());
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

/// RFC 7541 §5.1 with a prefix of seven bits.
fn length(block: &mut Vec<u8>, length: usize) {
    let Ok(short @ 0..127) = u8::try_from(length) else {
        block.push(127);
        let mut rest = length - 127;
        while rest >= 128 {
            block.push(u8::try_from(rest % 128).unwrap_or_default() | 128);
            rest /= 128;
        }
        block.push(u8::try_from(rest).unwrap_or_default());
        return;
    };
    block.push(short);
}
