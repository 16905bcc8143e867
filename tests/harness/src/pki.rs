use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::Context as _;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};

/// A certificate authority of a test: P-256, in memory.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate with its key, both PEM.
pub struct Identity {
    /// The certificate.
    pub certificate: String,
    /// The private key, PKCS#8.
    pub key: String,
}

impl Authority {
    /// A new one with this common name.
    ///
    /// # Errors
    /// When no key can be made.
    pub fn new(common_name: &str) -> anyhow::Result<Self> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages =
            vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        Ok(Self { issuer: CertifiedIssuer::self_signed(params, KeyPair::generate()?)? })
    }

    /// Its certificate.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// For a server with these DNS names and addresses.
    ///
    /// # Errors
    /// When a name is none.
    pub fn server(&self, common_name: &str, names: &[String]) -> anyhow::Result<Identity> {
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.issue(params)
    }

    /// For a client that Kubernetes knows as this user, in this group.
    ///
    /// # Errors
    /// When no key can be made.
    pub fn client(&self, user: &str, group: Option<&str>) -> anyhow::Result<Identity> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, user);
        if let Some(group) = group {
            params.distinguished_name.push(DnType::OrganizationName, group);
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(params)
    }

    fn issue(&self, mut params: CertificateParams) -> anyhow::Result<Identity> {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Identity { certificate: certificate.pem(), key: key.serialize_pem() })
    }
}

impl Identity {
    /// Writes `NAME.crt` and `NAME.key`.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write(&self, directory: &Path, name: &str) -> anyhow::Result<()> {
        write_private(&directory.join(format!("{name}.crt")), &self.certificate)?;
        write_private(&directory.join(format!("{name}.key")), &self.key)
    }
}

/// Writes a new key that signs service-account tokens (ES256): `NAME.key` signs, `NAME.pub` verifies.
pub(crate) fn write_signing_key(directory: &Path, name: &str) -> anyhow::Result<()> {
    let key = KeyPair::generate()?;
    write_private(&directory.join(format!("{name}.key")), &key.serialize_pem())?;
    write_private(&directory.join(format!("{name}.pub")), &key.public_key_pem())
}

/// Replaces a file that only its owner may read.
pub(crate) fn write_private(path: &Path, content: &str) -> anyhow::Result<()> {
    let mut file = fs::OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(file.write_all(content.as_bytes())?)
}
