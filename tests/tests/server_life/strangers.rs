//! What somebody without an account can hold.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, ensure};
use cattle_harness::wait_for;
use cattle_tests::{Launch, Server};
use rustls::{
    ClientConfig, RootCertStore, pki_types::CertificateDer, pki_types::ServerName, pki_types::pem::PemObject as _,
};
use tokio::{io::AsyncReadExt as _, net::TcpStream, task::JoinSet};
use tokio_rustls::TlsConnector;

/// Twice what a connection may stand there without a request, on a loaded machine.
const GONE: Duration = Duration::from_secs(90);

#[tokio::test]
async fn connections_that_say_nothing_are_closed_and_nobody_waits_for_them() -> anyhow::Result<()> {
    // Few descriptors, so that few strangers are enough to take them all.
    let mut server = Server::launch(Launch { open_files: Some((96, 200)), ..Launch::default() }).await?;
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", server.process().id()))?;
    let line = limits.lines().find(|line| line.starts_with("Max open files")).context("no limit")?;
    let limits: Vec<_> = line.split_whitespace().filter_map(|word| word.parse::<u64>().ok()).collect();
    ensure!(limits == [200, 200], "the soft limit was not raised: {line}");
    ensure!(server.process().log().contains("few files may be open"), "an operator is not told");

    let mut strangers = Strangers::come(&server, 150).await?;
    wait_for("somebody else to be served", GONE, async || {
        Ok(server.http().get(format!("{}/ping", server.url())).send().await?.error_for_status()?)
    })
    .await?;
    tokio::time::timeout(GONE * 2, strangers.are_gone()).await.context("strangers stay for ever")?;

    // A stop waits for none of them, nor for a place that they hold.
    let _strangers = Strangers::come(&server, 150).await?;
    let status = server.process().stop(GONE).await?;
    ensure!(status.code() == Some(0), "it ended with {status}: {}", server.process().log_tail());
    Ok(())
}

#[tokio::test]
async fn a_process_without_descriptors_goes_on_when_there_are_some() -> anyhow::Result<()> {
    let mut server = Server::boot(&[]).await?;
    let used = std::fs::read_dir(format!("/proc/{}/fd", server.process().id()))?.count() as u64;
    server.process().kill().await?;
    // Half of the limit is more than what is left of it.
    let limit = used + 12;
    let mut server = Server::launch(Launch { open_files: Some((limit, limit)), ..Launch::default() }).await?;
    let strangers = Strangers::come(&server, 40).await?;
    wait_for("descriptors to run out", GONE, async || {
        ensure!(server.process().log().contains("no connection can be accepted"), "they did not");
        Ok(())
    })
    .await?;
    drop(strangers);
    wait_for("somebody to be served again", GONE, async || {
        Ok(server.http().get(format!("{}/ping", server.url())).send().await?.error_for_status()?)
    })
    .await?;
    let log = server.process().log();
    ensure!(log.contains("connections are accepted again"), "an operator is not told");
    let told = log.matches("no connection can be accepted").count();
    ensure!(told < 10, "the log says it {told} times");
    Ok(())
}

/// Connections that end their TLS handshake and then say nothing: half of them have agreed on HTTP/2.
struct Strangers(JoinSet<()>);

impl Strangers {
    async fn come(server: &Server, count: usize) -> anyhow::Result<Self> {
        let (address, mut strangers) = (server.url().trim_start_matches("https://").to_owned(), JoinSet::new());
        for number in 0..count {
            let tls = client(server, if number % 2 == 0 { b"h2" } else { b"http/1.1" })?;
            let stream = TcpStream::connect(&address).await?;
            let name = ServerName::try_from("127.0.0.1")?;
            strangers.spawn(async move {
                // Whoever is not accepted yet waits here.
                if let Ok(mut stream) = tls.connect(name, stream).await {
                    let mut greeting = Vec::new();
                    let _ = stream.read_to_end(&mut greeting).await;
                }
            });
        }
        Ok(Self(strangers))
    }

    async fn are_gone(&mut self) {
        while self.0.join_next().await.is_some() {}
    }
}

fn client(server: &Server, protocol: &[u8]) -> anyhow::Result<TlsConnector> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(server.ca_pem().as_bytes())?)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}
