//! The server's certificates: made by its own authority, or the user's files.
//!
//! Either way one [`ServingCertificate`] stands in the listener's TLS configuration and is exchanged while connections
//! are served: the own authority's leaf renews itself at two thirds of its life, the user's files are read again when
//! they change. The private key of the own leaf stays the same over renewals, since users may pin it.

mod age;
mod authority;
mod files;

use std::sync::Arc;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use rustls::{
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

pub use age::Certificates;
pub use authority::{Authority, Leaf, LeafKey};
pub use files::{CertificateFiles, Version};

/// Why a certificate cannot be made or used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The authority could not sign.
    #[error("the certificate could not be made")]
    Issue(#[source] rcgen::Error),
    /// The stored or given key does not fit rustls.
    #[error("the private key cannot be used")]
    Key(#[source] rustls::Error),
    /// A PEM text holds no certificate or no key.
    #[error("{what} holds no {wanted} in PEM form")]
    Pem {
        /// Which text or file.
        what: String,
        /// What was looked for.
        wanted: &'static str,
    },
    /// A certificate cannot be read as X.509.
    #[error("{0} is no X.509 certificate")]
    Malformed(String),
    /// The private key belongs to another certificate.
    #[error("the private key does not belong to the certificate")]
    Mismatch,
    /// A file cannot be read.
    #[error("{path} cannot be read")]
    Read {
        /// Which file.
        path: std::path::PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// The certificate that the listener presents, exchangeable while it serves.
pub struct ServingCertificate {
    current: ArcSwap<CertifiedKey>,
}

impl ServingCertificate {
    /// Starts with `key`.
    #[must_use]
    pub fn new(key: CertifiedKey) -> Arc<Self> {
        Arc::new(Self { current: ArcSwap::from_pointee(key) })
    }

    /// Presents `key` from the next handshake on; running connections keep theirs.
    pub fn replace(&self, key: CertifiedKey) {
        self.current.store(Arc::new(key));
    }

    /// The PEM-less chain being presented, leaf first.
    #[must_use]
    pub fn chain(&self) -> Vec<rustls_pki_types::CertificateDer<'static>> {
        self.current.load().cert.clone()
    }

    /// When the leaf being presented expires.
    #[must_use]
    pub fn not_after(&self) -> Option<Timestamp> {
        validity(self.current.load().cert.first()?).map(|(_, end)| end)
    }
}

impl std::fmt::Debug for ServingCertificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServingCertificate").field("not_after", &self.not_after()).finish_non_exhaustive()
    }
}

impl ResolvesServerCert for ServingCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }
}

/// When a certificate begins and ends to be valid, if it can be read.
pub(crate) fn validity(certificate: &[u8]) -> Option<(Timestamp, Timestamp)> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let at = |time: x509_parser::time::ASN1Time| Timestamp::from_second(time.timestamp()).ok();
    Some((at(parsed.validity().not_before)?, at(parsed.validity().not_after)?))
}

/// Two thirds of a certificate's life, if it can be read.
pub(crate) fn renew_at(certificate: &[u8]) -> Option<Timestamp> {
    let (start, end) = validity(certificate)?;
    start.checked_add(end.duration_since(start) * 2 / 3).ok()
}
