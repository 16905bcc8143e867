//! The user's own certificate and key, read again when the files change.

use std::{os::unix::fs::MetadataExt, path::PathBuf, time::SystemTime};

use rustls::{crypto::aws_lc_rs::sign::any_supported_type, sign::CertifiedKey};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use super::CertificateError;

/// One state of both files: when each was modified, which file it is, and how long. A copy can keep the time, an editor the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version([(SystemTime, u64, u64); 2]);

/// `--tls-cert` and `--tls-key`: a chain, leaf first, and its private key, both PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The chain, leaf first.
    pub certificate: PathBuf,
    /// The leaf's private key.
    pub key: PathBuf,
}

impl CertificateFiles {
    /// Reads both files and checks that they belong together.
    ///
    /// # Errors
    /// Which file cannot be read or what is wrong with it. The caller keeps the certificate that it has.
    pub fn load(&self) -> Result<CertifiedKey, CertificateError> {
        let certificate = read(&self.certificate)?;
        let chain: Vec<_> = CertificateDer::pem_slice_iter(&certificate)
            .collect::<Result<_, _>>()
            .map_err(|_| self.pem(&self.certificate, "certificate"))?;
        if chain.is_empty() {
            return Err(self.pem(&self.certificate, "certificate"));
        }
        if let Some(bad) = chain.iter().find(|der| x509_parser::parse_x509_certificate(der).is_err()) {
            let position = chain.iter().position(|der| der == bad).unwrap_or_default();
            return Err(CertificateError::Malformed(format!("entry {position} of {}", self.certificate.display())));
        }
        let key = PrivateKeyDer::from_pem_slice(&read(&self.key)?).map_err(|_| self.pem(&self.key, "private key"))?;
        let signer = any_supported_type(&key).map_err(CertificateError::Key)?;
        let certified = CertifiedKey::new(chain, signer);
        certified.keys_match().map_err(|_| CertificateError::Mismatch)?;
        Ok(certified)
    }

    /// A value that changes when either file does, or is replaced; `None` while one is missing (being replaced).
    #[must_use]
    pub fn version(&self) -> Option<Version> {
        let of = |path: &PathBuf| {
            let metadata = std::fs::metadata(path).ok()?;
            Some((metadata.modified().ok()?, metadata.ino(), metadata.len()))
        };
        Some(Version([of(&self.certificate)?, of(&self.key)?]))
    }

    fn pem(&self, path: &std::path::Path, wanted: &'static str) -> CertificateError {
        CertificateError::Pem { what: path.display().to_string(), wanted }
    }
}

fn read(path: &PathBuf) -> Result<Vec<u8>, CertificateError> {
    std::fs::read(path).map_err(|source| CertificateError::Read { path: path.clone(), source })
}
