//! A management server of a few lines: real TLS, the CA setting, the WebSocket upgrade; everything after the upgrade is
//! the test's.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use cattle_tunnel::{Greeting, WebSocket, receive};
use rustls::ServerConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::support::soon;

pub(crate) type Agent = Greeting<TlsStream<TcpStream>>;

/// How the server answers.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// As it should.
    Upgrade,
    /// To `/v3/connect` with this head and no upgrade.
    Head(&'static str),
    /// Not at all, to the request whose path begins so.
    SilenceOn(&'static str),
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    /// Agents that have said `Hello`.
    pub(crate) agents: mpsc::Receiver<Agent>,
    /// The request heads that came, decrypted, up to `Hello`.
    heads: Arc<Mutex<Vec<String>>>,
    connections: mpsc::Receiver<()>,
    _tasks: JoinSet<()>,
}

impl Server {
    pub(crate) async fn start(tls: Arc<ServerConfig>, ca_pem: String, answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let heads = Arc::new(Mutex::new(Vec::new()));
        let (greeted, agents) = mpsc::channel(16);
        let (connected, connections) = mpsc::channel(1024);
        let mut tasks = JoinSet::new();
        let seen = Arc::clone(&heads);
        tasks.spawn(async move {
            let mut serving = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                connected.try_send(()).ok();
                let (tls, ca_pem, answer) = (Arc::clone(&tls), ca_pem.clone(), answer.clone());
                let (seen, greeted) = (Arc::clone(&seen), greeted.clone());
                serving.spawn(async move {
                    // An agent that does not trust the server ends the handshake.
                    if let Ok(stream) = TlsAcceptor::from(tls).accept(stream).await {
                        serve(stream, &ca_pem, answer, &seen, greeted).await;
                    }
                });
            }
        });
        Self { address, agents, heads, connections, _tasks: tasks }
    }

    pub(crate) fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// The next agent's greeting.
    pub(crate) async fn greeting(&mut self) -> Agent {
        soon(self.agents.recv()).await.unwrap()
    }

    pub(crate) fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }

    /// TCP connections since the last call.
    pub(crate) fn connections(&mut self) -> usize {
        std::iter::from_fn(|| self.connections.try_recv().ok()).count()
    }
}

async fn serve(
    mut stream: TlsStream<TcpStream>,
    ca_pem: &str,
    answer: Answer,
    seen: &Mutex<Vec<String>>,
    greeted: mpsc::Sender<Agent>,
) {
    let Some(head) = read_head(&mut stream).await else { return };
    seen.lock().unwrap().push(head.clone());
    let path = head.split(' ').nth(1).unwrap_or_default();
    match answer {
        Answer::SilenceOn(silent) if path.starts_with(silent) => {
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).await.ok();
        }
        _ if path == "/v3/settings/cacerts" => {
            let body = serde_json::json!({"id": "cacerts", "type": "setting", "value": ca_pem}).to_string();
            let head =
                format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", body.len());
            stream.write_all((head + &body).as_bytes()).await.ok();
            stream.shutdown().await.ok();
        }
        Answer::Head(answer) => {
            stream.write_all(answer.as_bytes()).await.ok();
            stream.shutdown().await.ok();
        }
        Answer::Upgrade | Answer::SilenceOn(_) => {
            let key = header(&head, "sec-websocket-key").unwrap();
            assert!(header(&head, "sec-websocket-protocol").unwrap().contains("cattle.v1"));
            let response = format!(
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Accept: {}\r\nSec-WebSocket-Protocol: cattle.v1\r\n\r\n",
                derive_accept_key(key.as_bytes())
            );
            stream.write_all(response.as_bytes()).await.unwrap();
            stream.flush().await.unwrap();
            if let Ok(greeting) = receive(WebSocket::server(stream).await).await {
                greeted.send(greeting).await.ok();
            }
        }
    }
}

pub(crate) async fn read_head(stream: &mut (impl AsyncReadExt + Unpin)) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    String::from_utf8(head).ok()
}

pub(crate) fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}
