//! The parts as this program's own subcommands.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Subcommand;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;

use super::{product, target, tlspair};

/// One process of a way.
#[derive(Subcommand)]
pub(crate) enum Role {
    /// What is behind the tunnel
    Target,
    /// The near end of tlspair
    TlspairServer { ca: PathBuf, agent: SocketAddr },
    /// The far end of tlspair
    TlspairAgent { certificate: PathBuf, key: PathBuf, target: SocketAddr },
    /// The server's end of the tunnel
    Server { certificate: PathBuf, key: PathBuf },
    /// The agent's end of the tunnel; the target may be `none`
    Agent { server: SocketAddr, token: PathBuf, target: String },
}

impl Role {
    /// Runs until the standard input ends. Agents have one thread, as they do in the product.
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let mut runtime = if matches!(self, Self::Agent { .. }) {
            tokio::runtime::Builder::new_current_thread()
        } else {
            tokio::runtime::Builder::new_multi_thread()
        };
        runtime.enable_all().build()?.block_on(async {
            let mut input = tokio::io::stdin();
            let mut nothing = Vec::new();
            tokio::select! {
                served = self.serve() => served,
                _ = input.read_to_end(&mut nothing) => Ok(()),
            }
        })
    }

    async fn serve(self) -> anyhow::Result<()> {
        match self {
            Self::Target => target::serve(bind("target").await?).await,
            Self::TlspairServer { ca, agent } => tlspair::server(bind("entry").await?, client(&ca)?, agent).await,
            Self::TlspairAgent { certificate, key, target } => {
                tlspair::agent(bind("tls").await?, server(&certificate, &key)?, target).await
            }
            Self::Server { certificate, key } => {
                let (agents, entry) = (bind("agents").await?, bind("entry").await?);
                product::server(agents, entry, server(&certificate, &key)?).await
            }
            Self::Agent { server, token, target } => product::agent(server, token, target.parse().ok()).await,
        }
    }
}

/// A listener whose address this part has said.
async fn bind(name: &str) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    writeln!(std::io::stdout(), "{name} {}", listener.local_addr()?)?;
    Ok(listener)
}

fn server(certificate: &Path, key: &Path) -> anyhow::Result<Arc<ServerConfig>> {
    let chain = CertificateDer::pem_file_iter(certificate)?.collect::<Result<_, _>>()?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(Arc::new(config.with_no_client_auth().with_single_cert(chain, PrivateKeyDer::from_pem_file(key)?)?))
}

fn client(ca: &Path) -> anyhow::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca)?)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}
