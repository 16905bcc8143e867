//! The certificate that the server presents, and its renewal.

use std::{path::Path, sync::Arc, time::Duration};

use cattle_api::{Secret, management::setting::known, resource};
use cattle_runtime::ErrorChain as _;
use cattle_store::{Key, Store, StoreError, Transaction, Write};
use jiff::{SignedDuration, Timestamp};
use rustls::{RootCertStore, client::WebPkiServerVerifier, client::danger::ServerCertVerifier, sign::CertifiedKey};
use rustls_pki_types::{CertificateDer, UnixTime, pem::PemObject};

use super::InstallError;
use crate::{
    certificates::{
        Authority, CertificateError, CertificateFiles, Certificates, Leaf, LeafKey, ServingCertificate, Version,
    },
    config::TlsSource,
    server_url::ServerUrl,
};

/// Sealed beside the setting `cacerts`.
const AUTHORITY_CERTIFICATE: &str = "authority-certificate";
const AUTHORITY_KEY: &str = "authority-key";
const LEAF_KEY: &str = "leaf-key";
const LEAF_CERTIFICATE: &str = "leaf-certificate";

/// How often files are looked at and the leaf's age is checked.
const CHECK_INTERVAL: Duration = Duration::from_secs(10);
/// How often an operator is told of a certificate that grows old.
const WARN_AGAIN: SignedDuration = SignedDuration::from_hours(24);

/// What is presented and what is to be trusted for it.
pub(super) struct Presented {
    pub(super) certified: CertifiedKey,
    pub(super) ca_certs: String,
}

/// Chooses the certificate of `source`; makes the own authority and leaf where they are missing or due.
pub(super) async fn prepare(
    source: &TlsSource,
    url: &ServerUrl,
    store: &Arc<dyn Store>,
    now: Timestamp,
) -> Result<Presented, InstallError> {
    match source {
        TlsSource::OwnAuthority => {
            let own = OwnCertificates::ensure(store, url, now).await?;
            Ok(Presented { certified: own.certified()?, ca_certs: own.authority.certificate_pem().to_owned() })
        }
        TlsSource::Files { files, authority } => from_files(files, authority.as_deref(), url, now),
    }
}

/// Keeps the presented certificate current; run it beside the listener.
pub struct Renewal {
    source: TlsSource,
    url: ServerUrl,
    store: Arc<dyn Store>,
    serving: Arc<ServingCertificate>,
    /// What others were told to trust at the start.
    ca_certs: String,
    /// The files that are presented.
    seen: Option<Version>,
    /// What was last said of a renewal that failed, so that it is said once.
    failed: Option<String>,
    warned: Option<Timestamp>,
}

/// The renewal of what `serving` presents, under the authority that others were told to trust.
#[must_use]
pub fn renewal(
    source: TlsSource,
    url: ServerUrl,
    store: Arc<dyn Store>,
    serving: Arc<ServingCertificate>,
    ca_certs: String,
) -> Renewal {
    Renewal { source, url, store, serving, ca_certs, seen: None, failed: None, warned: None }
}

impl Renewal {
    /// Renews the own leaf at two thirds of its life; reads the user's files again when they change. What cannot be used
    /// is reported and the certificate that is presented stays. Never ends. Cancel safe.
    pub async fn run(mut self) {
        loop {
            self.look(Timestamp::now()).await;
            tokio::time::sleep(CHECK_INTERVAL).await;
        }
    }

    /// One look at what is presented and what should be.
    async fn look(&mut self, now: Timestamp) {
        let version = self.version();
        let due = match &self.source {
            TlsSource::OwnAuthority => self.own_leaf_due(now),
            TlsSource::Files { .. } => version.is_some() && version != self.seen,
        };
        if due {
            match self.renewed(now).await {
                Ok(certified) => self.present(certified, version),
                Err(error) => self.report(&error),
            }
        }
        self.warn_of_age(now);
    }

    async fn renewed(&self, now: Timestamp) -> Result<CertifiedKey, InstallError> {
        let presented = prepare(&self.source, &self.url, &self.store, now).await?;
        // Agents and users pin what they were told. Another authority has to be announced first, which a start does.
        let same = presented.ca_certs == self.ca_certs;
        same.then_some(presented.certified).ok_or(InstallError::AnotherAuthority)
    }

    fn present(&mut self, certified: CertifiedKey, version: Option<Version>) {
        (self.seen, self.failed) = (version, None);
        if certified.cert == self.serving.chain() {
            return;
        }
        self.serving.replace(certified);
        let not_after = self.serving.not_after().map(tracing::field::display);
        tracing::info!(not_after, "a new certificate is presented");
    }

    fn report(&mut self, error: &InstallError) {
        let text = error.chain().to_string();
        if self.failed.as_ref() != Some(&text) {
            tracing::warn!(error = text, "the certificate could not be renewed; the present one stays");
            self.failed = Some(text);
        }
    }

    fn warn_of_age(&mut self, now: Timestamp) {
        let recently = self.warned.is_some_and(|at| now.duration_since(at) < WARN_AGAIN);
        match Certificates::new(Arc::clone(&self.serving), &self.ca_certs).warning(now) {
            Some(warning) if !recently => {
                tracing::warn!("{warning}");
                self.warned = Some(now);
            }
            Some(_) => {}
            None => self.warned = None,
        }
    }

    fn version(&self) -> Option<Version> {
        match &self.source {
            TlsSource::OwnAuthority => None,
            TlsSource::Files { files, .. } => files.version(),
        }
    }

    fn own_leaf_due(&self, now: Timestamp) -> bool {
        let chain = self.serving.chain();
        let renew_at = chain.first().and_then(|leaf| crate::certificates::renew_at(leaf));
        renew_at.is_none_or(|at| now >= at)
    }
}

struct OwnCertificates {
    authority: Authority,
    key: LeafKey,
    leaf: Leaf,
}

impl OwnCertificates {
    async fn ensure(store: &Arc<dyn Store>, url: &ServerUrl, now: Timestamp) -> Result<Self, InstallError> {
        let sealed = Sealed { store, key: Key::cluster(&resource::SETTING, known::CA_CERTS) };
        let (authority, key) = match (sealed.text(AUTHORITY_CERTIFICATE).await?, sealed.text(AUTHORITY_KEY).await?) {
            (Some(certificate), Some(private)) => {
                let key = sealed.text(LEAF_KEY).await?;
                let key = key.map_or_else(LeafKey::generate, |pem| LeafKey::load(&pem))?;
                (Authority::load(&certificate, &private)?, key)
            }
            _ => {
                let (authority, key) = (Authority::generate(now)?, LeafKey::generate()?);
                let texts = [
                    (AUTHORITY_CERTIFICATE, authority.certificate_pem().to_owned()),
                    (AUTHORITY_KEY, authority.key_pem()),
                    (LEAF_KEY, key.pem()),
                ];
                sealed.put(texts).await?;
                (authority, key)
            }
        };
        let host = url.host();
        let stored = sealed.text(LEAF_CERTIFICATE).await?.map(Leaf::load).filter(|leaf| leaf.serves(&host, now));
        let leaf = match stored {
            Some(leaf) => leaf,
            None => {
                let leaf = authority.issue(&host, &key, now)?;
                sealed.put([(LEAF_CERTIFICATE, leaf.pem().to_owned())]).await?;
                leaf
            }
        };
        Ok(Self { authority, key, leaf })
    }

    fn certified(&self) -> Result<CertifiedKey, CertificateError> {
        self.authority.certified(&self.leaf, &self.key)
    }
}

struct Sealed<'a> {
    store: &'a Arc<dyn Store>,
    key: Key,
}

impl Sealed<'_> {
    async fn text(&self, field: &str) -> Result<Option<String>, StoreError> {
        let value = self.store.unseal(&self.key, field).await?;
        Ok(value.and_then(|secret| secret.expose_str().map(str::to_owned)))
    }

    async fn put<const N: usize>(&self, texts: [(&str, String); N]) -> Result<(), StoreError> {
        let seal = |(field, text): (&str, String)| Write::Seal {
            key: self.key.clone(),
            field: field.to_owned(),
            value: Some(Secret::from(text)),
        };
        self.store.commit(Transaction::new(texts.into_iter().map(seal).collect())).await.map(drop)
    }
}

/// The user's files, if they serve the host under the authority that others will be told to trust.
fn from_files(
    files: &CertificateFiles,
    authority: Option<&Path>,
    url: &ServerUrl,
    now: Timestamp,
) -> Result<Presented, InstallError> {
    let certified = files.load()?;
    let (roots, ca_certs) = match authority {
        Some(path) => {
            let text = std::fs::read_to_string(path)
                .map_err(|source| CertificateError::Read { path: path.to_owned(), source })?;
            (roots_of(&text, path)?, text)
        }
        None => (public_roots(), String::new()),
    };
    verify(&certified, roots, url, now).map_err(|reason| InstallError::WrongCertificate {
        path: files.certificate.clone(),
        host: url.host(),
        reason: match authority {
            Some(_) => reason,
            None => format!("{reason}; name its private authority with --tls-ca"),
        },
    })?;
    Ok(Presented { certified, ca_certs })
}

fn roots_of(text: &str, path: &Path) -> Result<RootCertStore, CertificateError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(text.as_bytes()) {
        let certificate = certificate.map_err(|_| CertificateError::Malformed(path.display().to_string()))?;
        roots.add(certificate).map_err(|_| CertificateError::Malformed(path.display().to_string()))?;
    }
    if roots.is_empty() {
        return Err(CertificateError::Pem { what: path.display().to_string(), wanted: "certificate" });
    }
    Ok(roots)
}

fn public_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

fn verify(certified: &CertifiedKey, roots: RootCertStore, url: &ServerUrl, now: Timestamp) -> Result<(), String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|error| error.to_string())?;
    let name = url.server_name().ok_or_else(|| "the address has no host".to_owned())?;
    let (leaf, intermediates) = certified.cert.split_first().ok_or_else(|| "the chain is empty".to_owned())?;
    let now = Duration::try_from(now.as_duration()).map_err(|error| error.to_string())?;
    verifier
        .verify_server_cert(leaf, intermediates, &name, &[], UnixTime::since_unix_epoch(now))
        .map(drop)
        .map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests;
