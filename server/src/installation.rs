//! What the first start makes and every start takes up again: settings, roles, certificates, the administrator.
//!
//! All of it is in the store, secrets sealed beside the setting `cacerts`. A second start changes nothing but what it was
//! told to: another `--url`, other certificate files.

mod bootstrap_password;
mod roles;
mod settings;
mod tls;

use std::{net::SocketAddr, sync::Arc};

use cattle_api::management::setting::known;
use cattle_auth::{Passwords, bootstrap};
use cattle_store::{Store, StoreError};
use cattle_trust::CaChecksum;
use jiff::Timestamp;

use crate::{
    certificates::{CertificateError, ServingCertificate},
    config::Config,
    server_url::ServerUrl,
};

pub use bootstrap_password::BootstrapPassword;
pub use settings::Settings;
pub use tls::{Renewal, renewal};

/// What every part of the server needs to know of its installation.
pub struct Installation {
    /// The server's install id; part of the audience of every agent's token.
    pub server_id: String,
    /// What users and agents reach.
    pub url: ServerUrl,
    /// What they trust: PEM, empty when the certificate chains to public roots.
    pub ca_certs: String,
    /// What the listener presents.
    pub certificate: Arc<ServingCertificate>,
    /// Where the administrator's first password is, while it has to be changed.
    pub bootstrap_password: BootstrapPassword,
}

/// Why the server cannot start on this data directory.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// The store failed.
    #[error("the store failed")]
    Store(#[from] StoreError),
    /// A certificate cannot be made or used.
    #[error("no certificate to present")]
    Certificate(#[from] CertificateError),
    /// Nobody said what users and agents reach.
    #[error(
        "no --url: {listen} is not loopback, so say what users and agents reach, as in --url https://cattle.example.org"
    )]
    NoUrl {
        /// Where the server listens.
        listen: SocketAddr,
    },
    /// The stored address is not one (it was changed by hand).
    #[error("the stored setting server-url cannot be used: start once with --url")]
    StoredUrl,
    /// The user's certificate does not name the host of the address.
    #[error("{path} does not serve {host}: {reason}")]
    WrongCertificate {
        /// The certificate file.
        path: std::path::PathBuf,
        /// The host of the address.
        host: String,
        /// What verification says.
        reason: String,
    },
    /// The user's files come from another authority than the one that agents and users were told to trust.
    #[error(
        "the files are of another authority than the one that agents and users trust: restart to change the authority, and give it to everybody (a fresh manifest in each cluster, fresh kubeconfigs), since those who pin the present one refuse another"
    )]
    AnotherAuthority,
    /// The administrator could not be made.
    #[error("the first administrator could not be made")]
    Bootstrap(#[from] bootstrap::BootstrapError),
    /// The password file cannot be written.
    #[error("the administrator's first password cannot be written to {path}")]
    PasswordFile {
        /// Which file.
        path: std::path::PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// An object does not fit its kind; a defect.
    #[error("an object cannot be encoded")]
    Encode(#[from] serde_json::Error),
}

impl Installation {
    /// Makes what is missing. `listen` is the bound address, `server_id` the store's own. Not cancel safe: run it to its end, then serve.
    ///
    /// # Errors
    /// See [`InstallError`].
    pub async fn prepare(
        config: &Config,
        listen: SocketAddr,
        store: &Arc<dyn Store>,
        server_id: String,
        passwords: &Passwords,
    ) -> Result<Self, InstallError> {
        let settings = Settings::new(Arc::clone(store));
        settings.seed().await?;
        roles::seed(store).await?;
        settings.assign(known::INSTALL_UUID, &server_id).await?;
        let url = resolve_url(config, listen, &settings).await?;
        let now = Timestamp::now();
        let presented = tls::prepare(&config.tls, &url, store, now).await?;
        settings.assign(known::CA_CERTS, &presented.ca_certs).await?;
        settings.assign(known::SERVER_VERSION, env!("CARGO_PKG_VERSION")).await?;
        let admin = bootstrap::ensure_admin(&**store, passwords).await?;
        let bootstrap_password = BootstrapPassword::publish(admin, &config.data_dir)?;
        Ok(Self {
            server_id,
            url,
            ca_certs: presented.ca_certs,
            certificate: ServingCertificate::new(presented.certified),
            bootstrap_password,
        })
    }

    /// SHA-256 of what agents trust, in hex, as `CATTLE_CA_CHECKSUM` has it; `None` for public roots.
    #[must_use]
    pub fn ca_checksum(&self) -> Option<String> {
        checksum(&self.ca_certs)
    }
}

/// What agents compare; `None` for an empty text.
#[must_use]
pub fn checksum(ca_certs: &str) -> Option<String> {
    (!ca_certs.is_empty()).then(|| CaChecksum::of(ca_certs).to_string())
}

/// What this start was told, else what an earlier one was, else the listener when only this machine reaches it.
async fn resolve_url(config: &Config, listen: SocketAddr, settings: &Settings) -> Result<ServerUrl, InstallError> {
    if let Some(url) = &config.url {
        settings.assign(known::SERVER_URL, &url.to_string()).await?;
        return Ok(url.clone());
    }
    let stored = settings.value(known::SERVER_URL).await?;
    let stored: Option<ServerUrl> = Some(stored)
        .filter(|url| !url.is_empty())
        .map(|url| url.parse())
        .transpose()
        .map_err(|_| InstallError::StoredUrl)?;
    // An address of this machine only was not chosen by anybody: it follows the port.
    if let Some(url) = stored.filter(|url| !url.is_loopback()) {
        return Ok(url);
    }
    if !listen.ip().is_loopback() {
        return Err(InstallError::NoUrl { listen });
    }
    let url: ServerUrl = format!("https://{listen}").parse().map_err(|_| InstallError::StoredUrl)?;
    settings.assign(known::SERVER_URL, &url.to_string()).await?;
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_one_that_agents_compute_of_what_they_are_shown() {
        for text in ["x", "x\n", "x\n\n"] {
            assert_eq!(checksum(text), Some(CaChecksum::of(text).to_string()), "{text:?}");
        }
        assert_eq!(checksum(""), None);
    }
}
