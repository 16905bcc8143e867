//! How the client comes to trust a server.
//!
//! A server is trusted either by the system's roots or by exactly the CA that was pinned at the first sign-in. What is
//! pinned was compared: by a program with `--ca-checksum`, or by a person with the checksum on the screen. There is no third
//! way, and no switch that leaves a certificate unchecked.
//!
//! To have something to compare, the CA is fetched from `/v3/settings/cacerts` before it is trusted. That request carries
//! nothing but its path, its answer is worth nothing until it was compared, and the certificate that was shown on that very
//! connection must chain to the answer. Then a new connection is made, which trusts the pinned CA and nothing else.

use std::sync::Arc;

use ::aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
pub use cattle_trust::{CaChecksum, CaChecksumError};
use cattle_trust::{Recorded, Recorder};
use rustls::client::WebPkiServerVerifier;
use rustls::crypto::{CryptoProvider, aws_lc_rs as provider_aws_lc_rs};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use url::Url;

use crate::api::{ApiError, Client};
use crate::exit::Exit;

/// Where a server shows its CA, to anybody.
const CACERTS_PATH: &str = "/v3/settings/cacerts";

/// What a server's certificate is checked against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// The certificates that the system trusts.
    System,
    /// Exactly these PEM certificates.
    Pinned(String),
}

/// Why a server is not trusted.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The certificate does not chain to a trusted root, and no CA was given to compare with.
    #[error("the server's certificate is not signed by an authority that this machine trusts")]
    Unknown {
        /// What the server shows.
        found: CaChecksum,
    },
    /// The server's CA has another checksum.
    #[error(
        "the server's CA has the checksum {found}, not {expected}: this is another server, or somebody is in between"
    )]
    Checksum {
        /// What was given.
        expected: CaChecksum,
        /// What the server shows.
        found: CaChecksum,
    },
    /// The person did not recognise the checksum.
    #[error("the server's CA was not confirmed")]
    NotConfirmed,
    /// The server shows no CA of its own.
    #[error("the server shows no CA that could be pinned")]
    NoCa,
    /// The server's CA is no PEM certificate.
    #[error("the CA certificates cannot be read")]
    Pem,
    /// The certificate of the connection does not chain to the CA that was sent over it, or is for another name.
    #[error("the server's certificate does not fit its CA or its name")]
    Chain(#[source] rustls::Error),
    /// The system's roots cannot be read.
    #[error("this machine's trusted certificates cannot be read")]
    NoRoots,
    /// The server cannot be asked.
    #[error(transparent)]
    Api(Box<ApiError>),
}

/// The CA that a server shows, not yet trusted.
pub struct Candidate {
    /// Its certificates, PEM.
    pub pem: String,
    /// What to compare.
    pub checksum: CaChecksum,
}

impl TrustError {
    /// The exit code.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Api(error) => error.exit(),
            Self::Unknown { .. }
            | Self::Checksum { .. }
            | Self::NotConfirmed
            | Self::NoCa
            | Self::Pem
            | Self::Chain(_)
            | Self::NoRoots => Exit::Unreachable,
        }
    }

    /// What the person can do now.
    #[must_use]
    pub fn next_step(&self) -> Option<String> {
        match self {
            Self::Unknown { found } => Some(format!(
                "get the checksum from whoever runs the server, compare it, and sign in with --ca-checksum {found}"
            )),
            Self::Checksum { .. } | Self::NotConfirmed => {
                Some("ask whoever runs the server for the checksum; nothing secret was sent".to_owned())
            }
            Self::NoCa => {
                Some("leave --ca-checksum out: the server's certificate must chain to public roots".to_owned())
            }
            Self::Chain(_) => {
                Some("use the name that the server was started with (--url); nothing secret was sent".to_owned())
            }
            Self::Api(error) => error.next_step(),
            Self::Pem | Self::NoRoots => None,
        }
    }
}

/// The TLS configuration of a trust.
///
/// # Errors
/// [`TrustError::Pem`] or [`TrustError::NoRoots`].
pub fn client_config(trust: &Trust) -> Result<ClientConfig, TrustError> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(TrustError::Chain)?
        .with_root_certificates(roots(trust)?)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// Asks a server that is not trusted yet for its CA, and checks that its certificate fits the answer. Nothing secret is
/// sent.
///
/// # Errors
/// Why there is nothing to compare.
pub async fn first_contact(server: &Url) -> Result<Candidate, TrustError> {
    let recorder = Arc::new(Recorder::first_contact(&provider()));
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(TrustError::Chain)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&recorder) as Arc<dyn rustls::client::danger::ServerCertVerifier>)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let api = |error| TrustError::Api(Box::new(error));
    let client = Client::anonymous(server.clone(), config).map_err(api)?;
    let answer = client.get(CACERTS_PATH).await.map_err(api)?;
    let pem = answer["value"].as_str().unwrap_or_default().to_owned();
    if pem.is_empty() {
        return Err(TrustError::NoCa);
    }
    let recorded = recorder.take().ok_or(TrustError::NoCa)?;
    check_chain(&pem, &recorded)?;
    Ok(Candidate { checksum: CaChecksum::of(&pem), pem })
}

/// `sha256//…` of the public key of a server's certificate, as curl's `--pinnedpubkey` wants it. The certificate was
/// verified by then.
///
/// # Errors
/// [`TrustError::Pem`] when it cannot be read.
pub fn key_pin(certificate: &[u8]) -> Result<String, TrustError> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).map_err(|_| TrustError::Pem)?;
    let key = digest::digest(&digest::SHA256, parsed.public_key().raw);
    Ok(format!("sha256//{}", STANDARD.encode(key.as_ref())))
}

fn check_chain(pem: &str, recorded: &Recorded) -> Result<(), TrustError> {
    let roots = Arc::new(roots(&Trust::Pinned(pem.to_owned()))?);
    let verifier =
        WebPkiServerVerifier::builder_with_provider(roots, provider()).build().map_err(|_| TrustError::Pem)?;
    recorded.verify(&*verifier).map_err(TrustError::Chain)
}

fn roots(trust: &Trust) -> Result<RootCertStore, TrustError> {
    let mut store = RootCertStore::empty();
    match trust {
        Trust::System => {
            let found = rustls_native_certs::load_native_certs();
            store.add_parsable_certificates(found.certs);
            if store.is_empty() {
                return Err(TrustError::NoRoots);
            }
        }
        Trust::Pinned(pem) => {
            for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
                let certificate = certificate.map_err(|_| TrustError::Pem)?;
                store.add(certificate).map_err(|_| TrustError::Pem)?;
            }
            if store.is_empty() {
                return Err(TrustError::Pem);
            }
        }
    }
    Ok(store)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(provider_aws_lc_rs::default_provider())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pinned_text_without_certificates_trusts_nothing() {
        for pem in ["", "nonsense", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            assert!(matches!(client_config(&Trust::Pinned(pem.to_owned())), Err(TrustError::Pem)), "{pem}");
        }
    }
}
