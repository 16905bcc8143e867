//! What a listener presents.

use std::sync::Arc;

use anyhow::Context;
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// The certificate, DER, with which a listener at `address` proves itself as the host in it, verified.
///
/// # Errors
/// When it does not.
pub async fn presented(address: &str, authority: &str) -> anyhow::Result<Vec<u8>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.as_bytes())?)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let (host, _) = address.rsplit_once(':').context("no port")?;
    let stream = TcpStream::connect(address).await?;
    let stream = TlsConnector::from(Arc::new(config)).connect(ServerName::try_from(host.to_owned())?, stream).await?;
    let (_, connection) = stream.get_ref();
    Ok(connection.peer_certificates().and_then(<[_]>::first).context("no certificate")?.to_vec())
}
