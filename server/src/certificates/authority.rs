//! The server's own certificate authority and the leaf it signs for the server's names.

use std::{net::IpAddr, str::FromStr, time::SystemTime};

use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, DnValue, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
};
use rustls::{crypto::aws_lc_rs::sign::any_supported_type, sign::CertifiedKey};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject};

use super::{CertificateError, renew_at};

/// The authority lives ten years: agents pin its checksum, so replacing it touches every cluster.
const AUTHORITY_LIFE: SignedDuration = SignedDuration::from_hours(10 * 365 * 24);
/// A leaf lives ninety days and is renewed at two thirds of that.
const LEAF_LIFE: SignedDuration = SignedDuration::from_hours(90 * 24);
/// Clocks of agents and users may be behind by this much.
const BACKDATE: SignedDuration = SignedDuration::from_mins(60);

/// The server's own certificate authority (ECDSA P-256).
pub struct Authority {
    certificate_pem: String,
    key: KeyPair,
}

impl Authority {
    /// Makes a new authority, valid from an hour before `now`.
    ///
    /// # Errors
    /// When the operating system gives no randomness.
    pub fn generate(now: Timestamp) -> Result<Self, CertificateError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(CertificateError::Issue)?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::OrganizationName, "cattle");
        params
            .distinguished_name
            .push(DnType::CommonName, DnValue::Utf8String(format!("cattle-server-ca@{}", now.as_second())));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        set_validity(&mut params, now, AUTHORITY_LIFE);
        let certificate_pem = params.self_signed(&key).map_err(CertificateError::Issue)?.pem();
        Ok(Self { certificate_pem, key })
    }

    /// Takes an authority up again from its stored form.
    ///
    /// # Errors
    /// When the key is no PKCS#8 PEM.
    pub fn load(certificate_pem: &str, key_pem: &str) -> Result<Self, CertificateError> {
        let key = KeyPair::from_pem(key_pem).map_err(CertificateError::Issue)?;
        Ok(Self { certificate_pem: certificate_pem.to_owned(), key })
    }

    /// What agents and users trust: the setting `cacerts`.
    #[must_use]
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// The private key, to be sealed.
    #[must_use]
    pub fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }

    /// Signs a leaf for `host` (a DNS name or an IP address) with `key`.
    ///
    /// # Errors
    /// When `host` is neither, or signing fails.
    pub fn issue(&self, host: &str, key: &LeafKey, now: Timestamp) -> Result<Leaf, CertificateError> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, host);
        params.subject_alt_names = names(host)?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        set_validity(&mut params, now, LEAF_LIFE);
        let issuer = Issuer::from_ca_cert_pem(&self.certificate_pem, &self.key).map_err(CertificateError::Issue)?;
        let certificate = params.signed_by(&key.0, &issuer).map_err(CertificateError::Issue)?;
        Ok(Leaf { certificate_pem: certificate.pem() })
    }

    /// The chain and key in the form that the listener presents.
    ///
    /// # Errors
    /// When the leaf cannot be parsed or the key is not usable.
    pub fn certified(&self, leaf: &Leaf, key: &LeafKey) -> Result<CertifiedKey, CertificateError> {
        let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.0.serialize_der()));
        let signer = any_supported_type(&private).map_err(CertificateError::Key)?;
        Ok(CertifiedKey::new(vec![leaf.der()?, authority_der(&self.certificate_pem)?], signer))
    }
}

/// The leaf's private key, kept over renewals because users may pin it.
pub struct LeafKey(KeyPair);

impl LeafKey {
    /// Makes a new key (ECDSA P-256).
    ///
    /// # Errors
    /// When the operating system gives no randomness.
    pub fn generate() -> Result<Self, CertificateError> {
        KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map(Self).map_err(CertificateError::Issue)
    }

    /// Takes a sealed key up again.
    ///
    /// # Errors
    /// When it is no PKCS#8 PEM.
    pub fn load(pem: &str) -> Result<Self, CertificateError> {
        KeyPair::from_pem(pem).map(Self).map_err(CertificateError::Issue)
    }

    /// The private key, to be sealed.
    #[must_use]
    pub fn pem(&self) -> String {
        self.0.serialize_pem()
    }
}

/// A signed leaf in PEM form; public.
#[derive(Clone, Debug)]
pub struct Leaf {
    certificate_pem: String,
}

impl Leaf {
    /// Takes a stored leaf up again.
    #[must_use]
    pub fn load(certificate_pem: String) -> Self {
        Self { certificate_pem }
    }

    /// The stored form.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.certificate_pem
    }

    /// Whether the leaf still serves `host` at `now`: it names it, fits the authority and is not due for renewal.
    #[must_use]
    pub fn serves(&self, host: &str, now: Timestamp) -> bool {
        let (Ok(der), Ok(wanted)) = (self.der(), names(host)) else { return false };
        let Ok((_, parsed)) = x509_parser::parse_x509_certificate(&der) else { return false };
        let Ok(Some(present)) = parsed.subject_alternative_name() else { return false };
        let covered = wanted.iter().all(|name| present.value.general_names.iter().any(|entry| same_name(name, entry)));
        covered && self.renew_at().is_some_and(|at| now < at)
    }

    /// Two thirds of the leaf's life.
    #[must_use]
    pub fn renew_at(&self) -> Option<Timestamp> {
        renew_at(&self.der().ok()?)
    }

    fn der(&self) -> Result<CertificateDer<'static>, CertificateError> {
        authority_der(&self.certificate_pem)
    }
}

fn authority_der(pem: &str) -> Result<CertificateDer<'static>, CertificateError> {
    CertificateDer::from_pem_slice(pem.as_bytes())
        .map_err(|_| CertificateError::Pem { what: "the stored certificate".to_owned(), wanted: "certificate" })
}

/// The name that a leaf carries: the public host.
fn names(host: &str) -> Result<Vec<SanType>, CertificateError> {
    let name = match IpAddr::from_str(host) {
        Ok(address) => SanType::IpAddress(address),
        Err(_) => SanType::DnsName(host.try_into().map_err(CertificateError::Issue)?),
    };
    Ok(vec![name])
}

fn same_name(wanted: &SanType, present: &x509_parser::extensions::GeneralName<'_>) -> bool {
    use x509_parser::extensions::GeneralName;
    match (wanted, present) {
        (SanType::DnsName(name), GeneralName::DNSName(entry)) => name.as_str().eq_ignore_ascii_case(entry),
        (SanType::IpAddress(IpAddr::V4(address)), GeneralName::IPAddress(bytes)) => address.octets() == **bytes,
        (SanType::IpAddress(IpAddr::V6(address)), GeneralName::IPAddress(bytes)) => address.octets() == **bytes,
        _ => false,
    }
}

fn set_validity(params: &mut CertificateParams, now: Timestamp, life: SignedDuration) {
    let at = |timestamp: Timestamp| SystemTime::from(timestamp);
    params.not_before = at(now - BACKDATE).into();
    params.not_after = at(now + life).into();
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_leaf_verifies_against_its_authority_for_its_name_only() {
        let now = Timestamp::now();
        let authority = Authority::generate(now).unwrap();
        let key = LeafKey::generate().unwrap();
        for (host, other) in [("cattle.example.org", "evil.example.org"), ("10.1.2.3", "10.1.2.4"), ("fd00::1", "::1")]
        {
            let leaf = authority.issue(host, &key, now).unwrap();
            assert!(verify(&authority, &leaf, host).is_ok(), "{host}");
            assert!(verify(&authority, &leaf, other).is_err(), "{other}");
            assert!(leaf.serves(host, now));
            assert!(!leaf.serves(other, now));
        }
        let stranger = Authority::generate(now).unwrap();
        let leaf = stranger.issue("cattle.example.org", &key, now).unwrap();
        assert!(verify(&authority, &leaf, "cattle.example.org").is_err());
    }

    #[test]
    fn a_leaf_is_due_at_two_thirds_of_its_life() {
        let now = at("2026-01-01T00:00:00Z");
        let authority = Authority::generate(now).unwrap();
        let leaf = authority.issue("cattle.example.org", &LeafKey::generate().unwrap(), now).unwrap();
        assert!(leaf.serves("cattle.example.org", at("2026-02-28T00:00:00Z")));
        assert!(!leaf.serves("cattle.example.org", at("2026-03-03T00:00:00Z")));
    }

    #[test]
    fn authority_and_key_survive_storing() {
        let now = Timestamp::now();
        let authority = Authority::generate(now).unwrap();
        let key = LeafKey::generate().unwrap();
        let again = Authority::load(authority.certificate_pem(), &authority.key_pem()).unwrap();
        let key_again = LeafKey::load(&key.pem()).unwrap();
        let leaf = Leaf::load(again.issue("cattle.example.org", &key_again, now).unwrap().pem().to_owned());
        assert!(verify(&authority, &leaf, "cattle.example.org").is_ok());
        assert!(again.certified(&leaf, &key_again).unwrap().keys_match().is_ok());
    }

    #[expect(clippy::unwrap_in_result, reason = "only the verdict is a result")]
    fn verify(authority: &Authority, leaf: &Leaf, host: &str) -> Result<(), rustls::Error> {
        use rustls::client::{WebPkiServerVerifier, danger::ServerCertVerifier};
        let mut roots = rustls::RootCertStore::empty();
        roots.add(authority_der(authority.certificate_pem()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
        let name = rustls_pki_types::ServerName::try_from(host.to_owned()).unwrap();
        verifier
            .verify_server_cert(&leaf.der().unwrap(), &[], &name, &[], rustls_pki_types::UnixTime::now())
            .map(|_| ())
    }
}
