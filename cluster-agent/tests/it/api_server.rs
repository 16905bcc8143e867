//! An API server that knows one namespace and one service account.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use rustls::ServerConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::server::{header, read_head};

pub(crate) const UID: &str = "8c6a9f0e-57a7-4a2e-9b3e-1d2c3b4a5f60";
pub(crate) const NAMESPACE_PATH: &str = "/api/v1/namespaces/kube-system";
pub(crate) const TOKEN_PATH: &str = "/api/v1/namespaces/cattle-system/serviceaccounts/cattle/token";

/// A request as it came: its head and its body.
pub(crate) type Request = (String, String);

pub(crate) struct ApiServer {
    pub(crate) address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
    _task: JoinSet<()>,
}

impl ApiServer {
    /// `deny` is the status of every answer, or 0 for the right answers.
    pub(crate) async fn start(tls: Arc<ServerConfig>, deny: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut serving = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (tls, seen) = (Arc::clone(&tls), Arc::clone(&seen));
                serving.spawn(async move {
                    let Ok(mut stream) = TlsAcceptor::from(tls).accept(stream).await else { return };
                    while let Some(head) = read_head(&mut stream).await {
                        let length = header(&head, "content-length").map_or(0, |length| length.parse().unwrap());
                        let mut body = vec![0; length];
                        stream.read_exact(&mut body).await.unwrap();
                        let answer = answer(&head, deny);
                        seen.lock().unwrap().push((head, String::from_utf8(body).unwrap()));
                        stream.write_all(answer.as_bytes()).await.unwrap();
                    }
                });
            }
        });
        Self { address, requests, _task: task }
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

fn answer(head: &str, deny: u16) -> String {
    let path = head.split(' ').nth(1).unwrap_or_default();
    let path = path.split('?').next().unwrap_or_default();
    let (status, body) = match (deny, path) {
        (0, NAMESPACE_PATH) => (
            200,
            serde_json::json!({
                "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata",
                "metadata": {"name": "kube-system", "uid": UID},
            }),
        ),
        (0, TOKEN_PATH) => (
            201,
            serde_json::json!({
                "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
                "metadata": {"name": "cattle", "namespace": "cattle-system"},
                "spec": {"audiences": ["https://kubernetes.default.svc"], "expirationSeconds": 86400},
                "status": {"token": "header.payload.signature", "expirationTimestamp": "2030-01-01T00:00:00Z"},
            }),
        ),
        (code, _) => {
            let code = if code == 0 { 404 } else { code };
            (
                code,
                serde_json::json!({
                    "apiVersion": "v1", "kind": "Status", "status": "Failure", "code": code,
                    "reason": "Test", "message": "as the test wants it", "metadata": {},
                }),
            )
        }
    };
    let body = body.to_string();
    format!("HTTP/1.1 {status} Test\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}
