//! A server with a CA of its own that answers as it is told and remembers what it was asked, and a machine to run
//! commands on.

use std::collections::{HashMap, VecDeque};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cattle_cli::args::Cli;
use cattle_cli::console::Console;
use clap::Parser as _;
use parking_lot::Mutex;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// What the server was asked.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) authorization: Option<String>,
    pub(crate) body: Vec<u8>,
}

impl Asked {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// What the server answers.
#[derive(Clone)]
pub(crate) struct Answer {
    status: u16,
    headers: String,
    body: String,
}

impl Answer {
    pub(crate) fn json(status: u16, body: Value) -> Self {
        Self { status, headers: String::new(), body: body.to_string() }
    }

    pub(crate) fn text(status: u16, body: &str) -> Self {
        Self { status, headers: String::new(), body: body.to_owned() }
    }

    pub(crate) fn redirect(to: &str) -> Self {
        Self { status: 307, headers: format!("Location: {to}\r\n"), body: String::new() }
    }
}

#[derive(Default)]
struct Shared {
    /// What is answered in turn; the last of them for ever.
    answers: Mutex<HashMap<(String, String), VecDeque<Answer>>>,
    asked: Mutex<Vec<Asked>>,
}

impl Shared {
    fn next(&self, method: &str, path: &str) -> Option<Answer> {
        let mut answers = self.answers.lock();
        let turns = answers.get_mut(&(method.to_owned(), path.to_owned()))?;
        if turns.len() > 1 { turns.pop_front() } else { turns.front().cloned() }
    }
}

pub(crate) struct Server {
    url: String,
    ca_pem: String,
    shared: Arc<Shared>,
    _task: JoinSet<()>,
}

impl Server {
    pub(crate) async fn start() -> Self {
        let ca_key = KeyPair::generate().unwrap();
        let mut ca = CertificateParams::new(Vec::new()).unwrap();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
        let issuer = Issuer::new(ca, ca_key);
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        let leaf = params.signed_by(&key, &issuer).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], key)
            .unwrap();
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let url = format!("https://127.0.0.1:{}", listener.local_addr().unwrap().port());
        let shared = Arc::new(Shared::default());
        let mut task = JoinSet::new();
        task.spawn(accept(listener, TlsAcceptor::from(Arc::new(config)), Arc::clone(&shared)));
        let server = Self { url, ca_pem, shared, _task: task };
        server.show_ca(&server.ca_pem);
        server
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    pub(crate) fn show_ca(&self, pem: &str) {
        self.on("GET", "/v3/settings/cacerts", Answer::json(200, json!({ "name": "cacerts", "value": pem })));
    }

    pub(crate) fn on(&self, method: &str, path: &str, answer: Answer) {
        self.in_turn(method, path, [answer]);
    }

    pub(crate) fn in_turn<const N: usize>(&self, method: &str, path: &str, answers: [Answer; N]) {
        self.shared.answers.lock().insert((method.to_owned(), path.to_owned()), answers.into());
    }

    /// Until it was asked for this so many times.
    pub(crate) async fn asked(&self, path: &str, times: usize) {
        while self.requests().iter().filter(|request| request.path == path).count() < times {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(crate) fn requests(&self) -> Vec<Asked> {
        self.shared.asked.lock().clone()
    }
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let (acceptor, shared) = (acceptor.clone(), Arc::clone(&shared));
        connections.spawn(async move {
            // A client that goes away, or does not trust us, is what some tests are about.
            let _ = serve(stream, acceptor, &shared).await;
        });
    }
}

/// One request for each connection: HTTP/1.1 with a length, which is all that the client sends.
async fn serve(stream: TcpStream, acceptor: TlsAcceptor, shared: &Shared) -> io::Result<()> {
    let mut stream = acceptor.accept(stream).await?;
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Ok(());
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let header = |name: &str| {
        let mut lines = head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned())
    };
    let length: usize = header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    while bytes.len() < end + length {
        if stream.read_buf(&mut bytes).await? == 0 {
            return Ok(());
        }
    }
    let mut words = head.split_whitespace();
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    shared.asked.lock().push(Asked {
        method: method.to_owned(),
        path: path.to_owned(),
        authorization: header("authorization"),
        body: bytes[end..].to_vec(),
    });
    let answer = shared.next(method, path);
    let answer = answer.unwrap_or_else(|| Answer::json(404, json!({ "message": format!("no {method} {path}") })));
    let Answer { status, headers, body } = answer;
    let head = format!(
        "HTTP/1.1 {status} x\r\nContent-Type: application/json\r\nConnection: close\r\n{headers}Content-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    stream.shutdown().await
}

/// A home directory to run commands in.
pub(crate) struct Machine {
    directory: tempfile::TempDir,
}

/// How a command ended.
pub(crate) struct Done {
    pub(crate) code: u8,
    pub(crate) out: String,
    pub(crate) err: String,
}

#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Sink {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().clone()).unwrap()
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Machine {
    pub(crate) fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn config(&self) -> String {
        std::fs::read_to_string(self.path("config.yaml")).unwrap_or_default()
    }

    pub(crate) fn edit_config(&self, edit: impl FnOnce(String) -> String) {
        std::fs::write(self.path("config.yaml"), edit(self.config())).unwrap();
    }

    /// The program itself, with nothing of this machine's user.
    pub(crate) fn program(&self, args: &[&str]) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_cattle"));
        command.env_clear().env("HOME", self.directory.path()).env("PATH", "/usr/bin:/bin");
        command.env("CATTLE_CLI_CONFIG", self.path("config.yaml")).args(args).kill_on_drop(true);
        command
    }

    pub(crate) async fn run(&self, args: &[&str], input: &str) -> Done {
        let config = self.path("config.yaml");
        let line = ["cattle", "--config", config.to_str().unwrap()].into_iter().chain(args.iter().copied());
        let cli = Cli::try_parse_from(line).unwrap();
        let (out, err) = (Sink::default(), Sink::default());
        let input = Box::new(io::Cursor::new(input.as_bytes().to_vec()));
        let mut console = Console::new(input, Box::new(out.clone()), Box::new(err.clone()));
        let exit = cattle_cli::run(&cli, &mut console).await;
        Done { code: exit.code(), out: out.text(), err: err.text() }
    }
}
