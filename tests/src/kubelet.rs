//! A node that is nothing but a log: for streams that run until somebody ends them, where no pods run.

use std::{net::SocketAddr, sync::Arc};

use anyhow::Context;
use cattle_harness::{Authority, ControlPlane, wait_for};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

/// What the log says at once.
const BEGINNING: &str = "begun\n";
/// What it says when it ends.
const END: &str = "done\n";

/// A node with one pod, whose log goes on until it is [ended](Self::end).
pub struct LogNode {
    ended: watch::Sender<bool>,
    _tasks: JoinSet<()>,
}

impl LogNode {
    /// Path of the log at the API server; it can be followed.
    pub const LOG: &'static str = "/api/v1/namespaces/default/pods/endless/log?follow=true";

    /// Makes the node and its pod.
    ///
    /// # Errors
    /// When the API server takes them not.
    pub async fn join(control_plane: &ControlPlane) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (ended, end) = watch::channel(false);
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(listener, acceptor()?, end));
        let apply = async |object: serde_json::Value| {
            control_plane.kubectl(["apply", "-f", "-"]).stdin(object.to_string()).ok().await
        };
        apply(node(address)).await?;
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "endless", "namespace": "default" },
            "spec": {
                "nodeName": "log", "automountServiceAccountToken": false,
                "containers": [{ "name": "endless", "image": "none" }],
                "tolerations": [{ "operator": "Exists" }],
            },
        });
        // The namespace's service account comes a moment after the namespace.
        let deadline = std::time::Duration::from_secs(60);
        wait_for("the pod to be taken", deadline, async || apply(pod.clone()).await).await?;
        Ok(Self { ended, _tasks: tasks })
    }

    /// The log says its last line; [`LogNode::is_whole`] then.
    pub fn end(&self) {
        self.ended.send_replace(true);
    }

    /// Logs that are asked for from now on go on again.
    pub fn begin(&self) {
        self.ended.send_replace(false);
    }

    /// Whether a log began and has ended by itself.
    #[must_use]
    pub fn is_whole(log: &[u8]) -> bool {
        log == format!("{BEGINNING}{END}").as_bytes()
    }
}

fn node(address: SocketAddr) -> serde_json::Value {
    json!({
        "apiVersion": "v1", "kind": "Node", "metadata": { "name": "log" },
        "status": {
            "addresses": [{ "type": "InternalIP", "address": address.ip().to_string() }],
            "daemonEndpoints": { "kubeletEndpoint": { "Port": address.port() } },
        },
    })
}

fn acceptor() -> anyhow::Result<TlsAcceptor> {
    let identity = Authority::new("kubelet")?.server("kubelet", &["127.0.0.1".to_owned()])?;
    let certificate = CertificateDer::from_pem_slice(identity.certificate.as_bytes())?;
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes())?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth();
    Ok(TlsAcceptor::from(Arc::new(config.with_single_cert(vec![certificate], key)?)))
}

async fn serve(listener: TcpListener, tls: TlsAcceptor, end: watch::Receiver<bool>) {
    let mut logs = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let (tls, end) = (tls.clone(), end.clone());
        logs.spawn(async move {
            if let Err(error) = log(stream, tls, end).await {
                tracing::debug!(%error, "a log was cut off");
            }
        });
    }
}

/// Answers whatever is asked with the log.
async fn log(stream: TcpStream, tls: TlsAcceptor, mut end: watch::Receiver<bool>) -> anyhow::Result<()> {
    let mut stream = tls.accept(stream).await?;
    let mut asked = Vec::new();
    while !asked.ends_with(b"\r\n\r\n") {
        asked.push(stream.read_u8().await.context("no request")?);
    }
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(format!("{head}{:x}\r\n{BEGINNING}\r\n", BEGINNING.len()).as_bytes()).await?;
    end.wait_for(|ended| *ended).await?;
    stream.write_all(format!("{:x}\r\n{END}\r\n0\r\n\r\n", END.len()).as_bytes()).await?;
    Ok(stream.shutdown().await?)
}
