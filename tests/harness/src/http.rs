use std::sync::Once;
use std::time::Duration;

use crate::pki::Identity;

/// Makes the process's TLS provider the one that all of the project uses. Every entry of the harness that speaks TLS
/// calls it; calling it again does nothing.
pub(crate) fn install_tls_provider() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // A test may have installed it already, which is the same.
        rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    });
}

/// A client that trusts one CA and proves one identity.
pub(crate) fn client(ca: &str, identity: &Identity) -> anyhow::Result<reqwest::Client> {
    install_tls_provider();
    let pem = format!("{}{}", identity.certificate, identity.key);
    let client = reqwest::Client::builder()
        .tls_certs_only([reqwest::Certificate::from_pem(ca.as_bytes())?])
        .identity(reqwest::Identity::from_pem(pem.as_bytes())?)
        .no_proxy()
        .timeout(Duration::from_secs(30))
        .build()?;
    Ok(client)
}
