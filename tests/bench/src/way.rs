//! One way to the API server, and requests on it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use reqwest::{Certificate, Client, Method, RequestBuilder, Url};
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use rustls::{ClientConfig, RootCertStore};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;

use crate::samples::Samples;

const DEADLINE: Duration = Duration::from_secs(60);

/// Directly or through the server, always as the same user.
pub(crate) struct Way {
    pub(crate) base: Url,
    pub(crate) headers: Vec<(String, String)>,
    /// For kubectl.
    pub(crate) kubeconfig: PathBuf,
    pub(crate) tls: TlsConnector,
    warm: Client,
    /// Keeps no connection.
    cold: Client,
}

/// Whether a request finds its connection open.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Connection {
    Warm,
    New,
}

impl Way {
    /// `base` is where the API's paths begin.
    pub(crate) fn new(
        base: &str,
        ca_pem: &str,
        headers: Vec<(String, String)>,
        kubeconfig: PathBuf,
    ) -> anyhow::Result<Self> {
        let client = || -> anyhow::Result<reqwest::ClientBuilder> {
            let root = Certificate::from_pem(ca_pem.as_bytes())?;
            Ok(Client::builder().tls_certs_only([root]).no_proxy().timeout(DEADLINE))
        };
        let (warm, cold) = (client()?.build()?, client()?.pool_max_idle_per_host(0).build()?);
        Ok(Self { base: base.parse()?, headers, kubeconfig, tls: tls(ca_pem)?, warm, cold })
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base.as_str().trim_end_matches('/'))
    }

    /// Reads an answer to its end; gives its length.
    pub(crate) async fn get(&self, path: &str, connection: Connection) -> anyhow::Result<usize> {
        let client = if connection == Connection::Warm { &self.warm } else { &self.cold };
        let answer = self.request(client, Method::GET, path).send().await?;
        ensure!(answer.status() == 200, "{} from {path}", answer.status());
        Ok(answer.bytes().await?.len())
    }

    /// `count` times, `parallel` of them at the same time.
    pub(crate) async fn gets(
        &self,
        path: &str,
        connection: Connection,
        count: usize,
        parallel: usize,
    ) -> anyhow::Result<Samples> {
        let timed = futures_util::stream::iter(0..count).map(|_| async {
            let begin = Instant::now();
            self.get(path, connection).await?;
            anyhow::Ok(begin.elapsed())
        });
        let mut timed = timed.buffer_unordered(parallel);
        let mut samples = Samples::default();
        while let Some(time) = timed.next().await {
            samples.push(time?);
        }
        Ok(samples)
    }

    pub(crate) async fn post(&self, path: &str, body: &serde_json::Value) -> anyhow::Result<serde_json::Value> {
        let answer = self.request(&self.warm, Method::POST, path).json(body).send().await?;
        let (status, text) = (answer.status(), answer.text().await?);
        ensure!(status.is_success(), "{status} from {path}: {text}");
        Ok(serde_json::from_str(&text)?)
    }

    pub(crate) async fn patch(&self, path: &str, patch: &serde_json::Value) -> anyhow::Result<()> {
        let request = self.request(&self.warm, Method::PATCH, path).body(patch.to_string());
        let answer = request.header("Content-Type", "application/merge-patch+json").send().await?;
        ensure!(answer.status() == 200, "{} from {path}", answer.status());
        answer.bytes().await?;
        Ok(())
    }

    /// A watch, event by event.
    pub(crate) async fn events(&self, path: &str) -> anyhow::Result<Events> {
        let request = self.request(&self.warm, Method::GET, path).timeout(Duration::from_secs(3600));
        let answer = request.send().await?;
        ensure!(answer.status() == 200, "{} from {path}", answer.status());
        Ok(Events { body: answer.bytes_stream().boxed(), rest: Vec::new() })
    }

    fn request(&self, client: &Client, method: Method, path: &str) -> RequestBuilder {
        let request = client.request(method, self.url(path));
        self.headers.iter().fold(request, |request, (name, value)| request.header(name, value))
    }
}

/// An open watch.
pub(crate) struct Events {
    body: BoxStream<'static, reqwest::Result<Bytes>>,
    rest: Vec<u8>,
}

impl Events {
    pub(crate) async fn next(&mut self) -> anyhow::Result<()> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                self.rest.drain(..=end);
                return Ok(());
            }
            let chunk = timeout(DEADLINE, self.body.next()).await.context("no event in time")?;
            self.rest.extend_from_slice(&chunk.context("the watch ended")??);
        }
    }
}

fn tls(ca_pem: &str) -> anyhow::Result<TlsConnector> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca_pem.as_bytes())?)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(TlsConnector::from(Arc::new(config.with_root_certificates(roots).with_no_client_auth())))
}
