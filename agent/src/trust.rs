//! How an agent comes to trust its server.
//!
//! With `CATTLE_CA_CHECKSUM` the agent fetches `/v3/settings/cacerts` over TLS whose certificate it does not trust
//! yet. That request carries nothing secret, and its answer is worth nothing until its SHA-256 equals the checksum: over
//! the PEM text of the JSON field `value`, with a line feed at its end (added when it is missing), as Rancher documents
//! it. From then on exactly these certificates are the roots. Without a checksum the system's roots are.
//!
//! There is no third way, and no switch that leaves a certificate unchecked.

use std::sync::Arc;

use cattle_trust::Recorder;
pub use cattle_trust::{CaChecksum, CaChecksumError};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

mod fetch;

pub(crate) use fetch::{CACERTS_PATH, fetch_ca_certificates, first_contact};

/// What the server's certificate is checked against.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Trust {
    /// The certificates that the system trusts (`SSL_CERT_FILE` and `SSL_CERT_DIR` are honoured).
    System,
    /// Exactly the certificates whose PEM text has this checksum.
    Checksum(CaChecksum),
}

/// Why there is nothing to check the server's certificate against.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrustError {
    /// The server's answer has another checksum: another server, or something between.
    #[error("the server's CA certificates have the checksum {found}, not {expected}")]
    Checksum {
        /// What the agent was told.
        expected: CaChecksum,
        /// What the server showed.
        found: CaChecksum,
    },
    /// The server has no CA of its own to show.
    #[error("the server names no CA certificates")]
    NoCa,
    /// Its answer is no PEM certificate.
    #[error("the server's CA certificates cannot be read")]
    Pem(#[source] BadCertificates),
    /// The server answered with another status.
    #[error("the server answered {status} to {CACERTS_PATH}")]
    Status {
        /// The status.
        status: u16,
    },
    /// The answer is not the one of this API, or far too large.
    #[error("the answer to {CACERTS_PATH} is not the expected JSON")]
    Answer,
    /// The request failed.
    #[error("{CACERTS_PATH} cannot be fetched")]
    Request(#[source] hyper::Error),
    /// It took longer than it may.
    #[error("the server did not answer {CACERTS_PATH} in time")]
    Timeout,
    /// The system trusts nobody.
    #[error("the system has no root certificates")]
    NoSystemRoots,
    /// TLS itself cannot be set up.
    #[error("TLS cannot be configured")]
    Tls(#[source] rustls::Error),
}

impl TrustError {
    /// The error's name for metrics and scripts.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Checksum { .. } => "ca_checksum_mismatch",
            Self::NoCa => "ca_absent",
            Self::Pem(_) => "ca_malformed",
            Self::Status { .. } => "ca_status",
            Self::Answer => "ca_answer",
            Self::Request(_) => "ca_request",
            Self::Timeout => "ca_timeout",
            Self::NoSystemRoots => "no_system_roots",
            Self::Tls(_) => "tls_setup",
        }
    }

    /// What an operator should do.
    pub fn next_step(&self) -> &'static str {
        match self {
            Self::Checksum { .. } => {
                "Nothing secret was sent. If the server's CA was replaced, apply a fresh import manifest; if not, \
                 something between agent and server answers in its place."
            }
            Self::NoCa => "The server's certificate chains to public roots: leave CATTLE_CA_CHECKSUM empty.",
            Self::Pem(_) => "Check the server's setting cacerts.",
            Self::Status { .. } | Self::Answer => "Check that CATTLE_SERVER is the management server itself.",
            Self::Request(_) | Self::Timeout => "Check the server's health and anything between that inspects TLS.",
            Self::NoSystemRoots => {
                "Set CATTLE_CA_CHECKSUM, or mount a bundle of root certificates and name it in SSL_CERT_FILE."
            }
            Self::Tls(_) => "This is a defect of the agent: report it with its log.",
        }
    }
}

/// A PEM text without certificates, or with a broken one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BadCertificates {
    /// No PEM.
    #[error("not PEM")]
    Pem(#[source] rustls_pki_types::pem::Error),
    /// A certificate that cannot be a root.
    #[error("not a certificate")]
    Certificate(#[source] rustls::Error),
    /// Nothing at all.
    #[error("no certificate in it")]
    None,
}

/// The roots that `pem` names, and nothing else.
pub(crate) fn roots_from_pem(pem: &str) -> Result<RootCertStore, BadCertificates> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        roots.add(certificate.map_err(BadCertificates::Pem)?).map_err(BadCertificates::Certificate)?;
    }
    if roots.is_empty() { Err(BadCertificates::None) } else { Ok(roots) }
}

/// The system's roots. Some of them may be unreadable for rustls; none at all is an error.
pub(crate) fn system_roots() -> Result<RootCertStore, TrustError> {
    let mut roots = RootCertStore::empty();
    let (added, ignored) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    tracing::debug!(added, ignored, "loaded the system's root certificates");
    if roots.is_empty() { Err(TrustError::NoSystemRoots) } else { Ok(roots) }
}

/// The TLS client for `roots`: HTTP/1.1 only, since the WebSocket is an HTTP/1.1 upgrade.
pub(crate) fn client_config(roots: RootCertStore) -> Result<(ClientConfig, Arc<Recorder>), TrustError> {
    let provider = provider();
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build();
    let verifier = verifier.map_err(|error| TrustError::Tls(rustls::Error::General(error.to_string())))?;
    // It decides as the roots do, and remembers, so that a refusal can say whose certificate it was.
    let recorder = Arc::new(Recorder::verifying(verifier));
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TrustError::Tls)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&recorder) as Arc<dyn ServerCertVerifier>)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok((config, recorder))
}

pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_are_what_the_text_names_or_an_error() {
        assert!(matches!(roots_from_pem(""), Err(BadCertificates::None)));
        assert!(matches!(
            roots_from_pem("-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n"),
            Err(BadCertificates::Pem(_))
        ));
        assert!(matches!(
            roots_from_pem("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
            Err(BadCertificates::Certificate(_))
        ));
    }
}
